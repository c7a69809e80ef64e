"""The pages of an Ogg file, walked from the first to the last (RFC 3533).

libsndfile stops at the first page that says it ends the stream. Some writers say so on several
pages in a row, and every other decoder plays on, so the decoder is shown those pages as ordinary
ones: two patches for each, for the flag is covered by the checksum of its page. Of streams one
behind another (or side by side) libsndfile plays the first without a word; those are refused.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple

from fxfast.audio.headers import ByteWindow, Header, Patch, damaged
from fxfast.errors import AudioFileError, TruncatedError

_PIECE_BYTES = 1 << 18
_HEAD_BYTES = 27
_FIRST_OF_STREAM, _LAST_OF_STREAM = 2, 4
_HEAD = struct.Struct("<4sBBqIIIB")
# Real files have a handful; a hostile one could have its checksums computed for minutes.
_MAX_EARLY_ENDS = 64
_POLYNOMIAL = 0x04C11DB7


class _Page(NamedTuple):
    offset: int
    flags: int
    checksum: int
    size: int


def read_ogg(window: ByteWindow) -> Header:
    """Any file of one Ogg stream: its last page must be whole and say that it ends the stream."""
    early: list[_Page] = []
    last, serial, end = None, None, 0
    problem: AudioFileError | None = None
    pieces = _Pieces(window)
    while (found := pieces.page_at(end)) is not None:
        page, of_stream = found
        if last is not None and (of_stream not in (serial, None) or page.flags & _FIRST_OF_STREAM):
            problem = damaged(
                window.name, f"expected one Ogg stream, found another at byte {page.offset}"
            )
            break
        if last is not None and last.flags & _LAST_OF_STREAM:
            early.append(last)
        last, serial, end = page, of_stream, page.offset + page.size
    if problem is None and (last is None or not last.flags & _LAST_OF_STREAM or end > window.size):
        problem = TruncatedError(
            f"{window.name}: truncated: expected a last page that ends the Ogg stream"
        )
    if not early or len(early) > _MAX_EARLY_ENDS or problem is not None:
        return Header("OGG", problem=problem)
    return Header("OGG", flags=("pages_after_end",), patches=_not_ends(early))


class _Pieces:
    """The file in pieces that hold many pages: a read for each page would take its time."""

    def __init__(self, window: ByteWindow) -> None:
        self._window, self._start, self._held = window, 0, b""

    def page_at(self, offset: int) -> tuple[_Page, int | None] | None:
        """The next page at or behind ``offset`` and the number of its stream, None for both where
        the file ends and for the number where it ends within the head of the page."""
        while True:
            data, at = self._of(offset)
            if data[at : at + 4] == b"OggS":
                break
            found = data.find(b"OggS", at)
            if found < 0 and self._start + len(data) >= self._window.size:
                return None
            offset = self._start + (found if found >= 0 else len(data) - 3)
        if len(data) < at + _HEAD_BYTES:
            return _Page(offset, 0, 0, _HEAD_BYTES), None
        _, _, flags, _, stream, _, checksum, count = _HEAD.unpack_from(data, at)
        lacing = data[at + _HEAD_BYTES : at + _HEAD_BYTES + count]
        return _Page(offset, flags, checksum, _HEAD_BYTES + count + sum(lacing)), stream

    def _of(self, offset: int) -> tuple[bytes, int]:
        """A piece that holds the head of a page at ``offset``, and where in it."""
        at = offset - self._start
        if at < 0 or at + _HEAD_BYTES + 255 > len(self._held):
            self._start, at = offset, 0
            self._held = self._window.at(offset, _PIECE_BYTES)
        return self._held, at


def _not_ends(pages: list[_Page]) -> tuple[Patch, ...]:
    patches = []
    for page in pages:
        checksum = page.checksum ^ _checksum_of_flag(page.size)
        patches.append(Patch(page.offset + 5, bytes([page.flags & ~_LAST_OF_STREAM])))
        patches.append(Patch(page.offset + 22, struct.pack("<I", checksum)))
    return tuple(patches)


def _checksum_of_flag(page_bytes: int) -> int:
    """What the flag adds to the checksum of a page: checksums are linear, so the page's own bytes
    need not be read, and one that was wrong stays wrong."""
    table = _table()
    rest = table[_LAST_OF_STREAM]
    for _ in range(page_bytes - 6):
        rest = (rest << 8 & 0xFFFFFFFF) ^ table[rest >> 24]
    return rest


@cache
def _table() -> tuple[int, ...]:
    """The checksum of each byte."""

    def entry(byte: int) -> int:
        rest = byte << 24
        for _ in range(8):
            rest = (rest << 1 & 0xFFFFFFFF) ^ (_POLYNOMIAL if rest & 0x80000000 else 0)
        return rest

    return tuple(entry(byte) for byte in range(256))
