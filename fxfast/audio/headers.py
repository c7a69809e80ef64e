"""What an audio file says about itself, read from its header alone and held against its bytes.

libsndfile opens a cut file without a word and reports what is left as its whole length, so
the promise has to be read from the header itself. A walk visits chunk headers only and stops
after ``MAX_CHUNKS``: a hostile file costs neither time nor memory.

What is broken beyond repair raises. What a reader could salvage (a cut file, a wrapped size)
is the header's ``problem``: strict readers raise it, lenient ones read the frames that are there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fxfast.audio.paths import reason
from fxfast.errors import (
    AudioFileError,
    ChannelsError,
    FormatError,
    RateError,
    ReadError,
    TruncatedError,
)
from fxfast.whole_file import read_at

MAX_CHUNKS = 4096
SIZE_UNKNOWN = 0xFFFFFFFF
MAX_FILE_RATE = (1 << 31) - 1
_WINDOW_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Coding:
    """Samples that are plain numbers: ``kind`` is "int", "unsigned" or "float"."""

    kind: str
    sample_bytes: int
    big_endian: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk: its name, where its body starts and the length its header claims."""

    name: bytes
    body_offset: int
    size_bytes: int


class Patch(NamedTuple):
    """Bytes that a decoder sees in place of those of the file."""

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A header, and what of its promise is there.

    ``format`` and ``subtype`` are libsndfile's names. ``coding`` is None where libsndfile has to
    decode; then rate, channels and frames may be 0 and None, for libsndfile to say. ``promised``
    and ``present`` are in frames, None where unknown. ``md5`` is FLAC's, of the decoded sound.
    """

    format: str
    subtype: str = ""
    sample_rate: int = 0
    channels: int = 0
    coding: Coding | None = None
    data_offset: int = 0
    promised: int | None = None
    present: int | None = None
    bits: int = 0
    channel_mask: int = 0
    md5: bytes | None = None
    flags: tuple[str, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    problem: AudioFileError | None = None
    patches: tuple[Patch, ...] = ()


class ByteWindow:
    """Small reads anywhere in an open file, of which one window is held in memory."""

    def __init__(self, fd: int, name: str, size: int) -> None:
        self.fd, self.name, self.size = fd, name, size
        self._start, self._held = 0, self._read(0, _WINDOW_BYTES)

    def at(self, offset: int, count: int) -> bytes:
        """``count`` bytes from ``offset``, fewer where the file ends."""
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._held):
            self._start, self._held = offset, self._read(offset, max(count, _WINDOW_BYTES))
            begin = 0
        return self._held[begin : begin + count]

    def _read(self, offset: int, count: int) -> bytes:
        try:
            return read_at(self.fd, count, offset) if offset < self.size else b""
        except OSError as error:
            raise ReadError(f"{self.name}: cannot be read: {reason(error)}") from error


def walk_chunks(
    window: ByteWindow, order: str, large: dict[bytes, int] | None = None
) -> Iterator[Chunk]:
    """The chunks of a RIFF-like file in file order; ``order`` is '<' (RIFF) or '>' (FORM).

    ``large`` has the sizes of chunks whose own size field says that 32 bits do not hold it.
    The walk ends where the file does or where no chunk name is. A chunk of odd size is followed
    by one byte of padding; where a name stands only without it, the writer forgot the byte.
    """
    unpack = struct.Struct(order + "4sI").unpack
    offset = 12
    for _ in range(MAX_CHUNKS):
        head = window.at(offset, 8)
        if len(head) < 8 or not is_chunk_name(head[:4]):
            return
        name, size_bytes = unpack(head)
        if size_bytes == SIZE_UNKNOWN and large:
            size_bytes = large.get(name, size_bytes)
        yield Chunk(name, offset + 8, size_bytes)
        offset += 8 + size_bytes
        if size_bytes % 2 and (
            is_chunk_name(window.at(offset + 1, 4)) or not is_chunk_name(window.at(offset, 4))
        ):
            offset += 1
    raise FormatError(f"{window.name}: damaged: expected at most {MAX_CHUNKS} chunks, found more")


def is_chunk_name(name: bytes) -> bool:
    return len(name) == 4 and name.isascii() and name.decode("ascii").isprintable()


def check_format_fields(name: str, sample_rate: float, channels: int) -> None:
    """Raise ChannelsError and RateError for what no file can have."""
    if channels < 1:
        raise ChannelsError(f"{name}: expected at least 1 channel, got 0", channels=channels)
    if not 1 <= sample_rate <= MAX_FILE_RATE:
        raise RateError(
            f"{name}: expected a sample rate of 1 to {MAX_FILE_RATE} Hz, got {sample_rate:.0f}",
            rate=sample_rate,
        )


def truncated(name: str, promised: int, present: int, unit: str = "frames") -> TruncatedError:
    return TruncatedError(
        f"{name}: truncated: its header promises {promised} {unit}, {present} are there",
        promised=promised,
        present=present,
        unit=unit,
    )


def damaged(name: str, text: str) -> FormatError:
    return FormatError(f"{name}: damaged: {text}")
