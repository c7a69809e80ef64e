"""WAV and RF64 files, written by ourselves: any length, and every chunk that is to be kept.

A chunk of padding holds the place of the 64-bit sizes, so that a file that passes 4 GiB becomes
an RF64 file without being announced. Source: EBU Tech 3306.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

import numpy as np

from fxfast.audio.appending import Appender
from fxfast.audio.containers import read_header
from fxfast.audio.sample_codings import SAMPLE_BYTES, SampleEncoder, packed_24
from fxfast.errors import WriteError

RIFF_LIMIT_BYTES = 0xFFFFFFFF
_SIZE_UNKNOWN = 0xFFFFFFFF
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")

RawChunk = tuple[bytes, bytes]


class WaveSink:
    """Writes to an open descriptor what ``encoder`` makes of blocks (C, n) for ``subtype``.
    ``before`` and ``after`` are chunks around the sound.

    Raises OSError where the system refuses, WriteError where what is read back differs.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        sample_rate: int,
        channels: int,
        subtype: str,
        encoder: SampleEncoder,
        channel_mask: int = 0,
        before: Sequence[RawChunk] = (),
        after: Sequence[RawChunk] = (),
    ) -> None:
        self._fd, self._name, self._subtype, self._encoder = fd, name, subtype, encoder
        self._format = _format_chunk(sample_rate, channels, subtype, channel_mask)
        self._before, self._after = before, after
        self._data_bytes = 0
        self._out = Appender(fd, name)
        self._out.append(self._header(0, False))

    def write(self, x_ct: np.ndarray) -> None:
        appends = self._encoder.appends(x_ct)
        if appends is None:
            for codes_tc in self._encoder.pieces(x_ct):
                raw = packed_24(codes_tc) if self._subtype == "PCM_24" else codes_tc
                self._out.append(raw.reshape(-1).view(np.uint8).data)
        else:
            self._out.append_rows(appends, x_ct, x_ct.size * SAMPLE_BYTES[self._subtype])
        self._data_bytes += x_ct.size * SAMPLE_BYTES[self._subtype]

    def finish(self, frames: int) -> None:
        """Write what follows the sound, set the sizes and hold the file against what was sent."""
        self._out.append(b"\0" * (self._data_bytes % 2) + b"".join(map(_chunk, self._after)))
        total = self._out.end
        header = self._header(total, total - 8 > RIFF_LIMIT_BYTES, frames)
        view, done = memoryview(header), 0
        while done < len(header):
            done += os.pwrite(self._fd, view[done:], done)
        self._out.hold_against(header, 0)
        self._verify(frames)

    def _header(self, total: int, large: bool, frames: int = 0) -> bytes:
        riff_bytes, data_bytes = max(0, total - 8), self._data_bytes
        sizes = struct.pack("<QQQI", riff_bytes, data_bytes, frames, 0)
        parts = [
            b"RF64" if large else b"RIFF",
            struct.pack("<I", _SIZE_UNKNOWN if large else riff_bytes),
            b"WAVE",
            _chunk((b"ds64", sizes) if large else (b"JUNK", bytes(len(sizes)))),
            _chunk((b"fmt ", self._format)),
        ]
        if self._subtype == "FLOAT":
            count = struct.pack("<I", min(frames, _SIZE_UNKNOWN))
            parts.append(_chunk((b"fact", count)))
        parts += map(_chunk, self._before)
        parts += [b"data", struct.pack("<I", _SIZE_UNKNOWN if large else data_bytes)]
        return b"".join(parts)

    def _verify(self, frames: int) -> None:
        """Whoever opens the file finds what was written, and nothing else."""
        size = os.fstat(self._fd).st_size
        header = read_header(self._fd, self._name, size)
        if header.problem is not None:
            raise header.problem
        written = self._out.end
        if size != written or header.promised != frames:
            raise WriteError(
                f"{self._name}: incomplete on the disk: expected {frames} frames in {written} "
                f"bytes, found {header.promised} frames in {size}"
            )


def _chunk(chunk: RawChunk) -> bytes:
    name, body = chunk
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _format_chunk(sample_rate: int, channels: int, subtype: str, channel_mask: int) -> bytes:
    tag = 3 if subtype == "FLOAT" else 1
    sample_bytes = SAMPLE_BYTES[subtype]
    frame_bytes, bits = channels * sample_bytes, 8 * sample_bytes
    extensible = channels > 2 or channel_mask != 0
    byte_rate = min(sample_rate * frame_bytes, _SIZE_UNKNOWN)
    body = struct.pack(
        *("<HHIIHH", 0xFFFE if extensible else tag, channels, sample_rate, byte_rate),
        *(frame_bytes, bits),
    )
    if extensible:
        return body + struct.pack("<HHIH", 22, bits, channel_mask, tag) + _GUID_TAIL
    return body + (struct.pack("<H", 0) if tag == 3 else b"")
