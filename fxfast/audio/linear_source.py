"""Sound of plain numbers, read and decoded by ourselves: any length, known to the byte."""

from __future__ import annotations

import numpy as np

from fxfast.audio.headers import Header
from fxfast.audio.paths import reason
from fxfast.audio.sample_codings import SampleDecoder
from fxfast.errors import ChangedError, ReadError


class LinearSource:
    """Blocks of float32 from the ``present`` frames of a header with a ``coding``."""

    checksum = "absent"

    def __init__(self, fd: int, name: str, size: int, header: Header) -> None:
        assert header.coding is not None
        self._fd, self._name = fd, name
        self.frames = header.present or 0
        self._decoder = SampleDecoder(header.coding, header.channels)
        self._frame_bytes = header.channels * header.coding.sample_bytes
        self._position = header.data_offset
        self._left = self.frames

    def read_into(self, out_ct: np.ndarray) -> int:
        """As many frames as ``out_ct`` (C, n) has or are left. Raises ReadError, ChangedError."""
        frames = min(out_ct.shape[1], self._left)
        wanted = frames * self._frame_bytes
        try:
            got = self._decoder.read(self._fd, out_ct[:, :frames], self._position)
        except OSError as error:
            raise ReadError(f"{self._name}: cannot be read: {reason(error)}") from error
        self._position += got
        if got < wanted:  # the bytes were there when the file was opened
            raise ChangedError(
                f"{self._name}: changed while it was read: it ends at byte {self._position}"
            )
        self._left -= frames
        return int(frames)

    def skip(self, frames: int) -> int:
        """Leave out as many of the next frames as there are; returns how many."""
        skipped = min(max(0, frames), self._left)
        self._position += skipped * self._frame_bytes
        self._left -= skipped
        return skipped

    def check_end(self) -> None:
        return None
