"""Bytes at the end of an open file, held against what the file gives back.

They are read back block by block, while they are in the processor's cache: the whole file at its
end would come from memory, or from the disk, and cost a multiple.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fxfast.errors import WriteError
from fxfast.native import engine


class Appender:
    """Writes to the end of an open file, which was empty; ``end`` is its length in bytes."""

    # Whether what was written is looked at: benchmarks alone do without, to say what it costs.
    reads_back = True

    def __init__(self, fd: int, name: str) -> None:
        self._fd, self._name = fd, name
        self._engine = engine()
        self.end = 0

    def append(self, data: bytes | memoryview) -> None:
        """Write ``data`` at the descriptor's position, the end of the file, and read it back.

        Raises OSError where the system refuses, WriteError where other bytes come back.
        """
        if not self._engine.append(self._fd, data, self.end, self.reads_back):
            raise self._changed(len(data), self.end)
        self.end += len(data)

    def append_rows(self, appends: Callable[..., bool], x_ct: np.ndarray, count: int) -> None:
        """Write ``x_ct`` as ``appends`` encodes it (``SampleEncoder.appends``), ``count`` bytes.

        Raises as ``append``.
        """
        if not appends(self._fd, x_ct, self.end, self.reads_back):
            raise self._changed(count, self.end)
        self.end += count

    def hold_against(self, data: bytes, offset: int) -> None:
        """Raises WriteError unless the file holds ``data`` from ``offset``, OSError where it cannot
        be read."""
        if not self._engine.reads_back(self._fd, data, offset):
            raise self._changed(len(data), offset)

    def _changed(self, count: int, offset: int) -> WriteError:
        return WriteError(
            f"{self._name}: incomplete on the disk: expected at byte {offset} the {count} "
            "bytes that were written, found others"
        )
