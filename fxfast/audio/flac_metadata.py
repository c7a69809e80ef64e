"""The metadata blocks of a FLAC file. Source: RFC 9639, 8."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction

from fxfast.audio.wave_metadata import RawChunk, scale_chunk

APPLICATION, VORBIS_COMMENT, CUESHEET, PICTURE = 2, 4, 5, 6

RawBlock = tuple[int, bytes]

_VENDOR = b"fxfast"
_FOREIGN = b"riff"
_POSITION_COMMENTS = ("LOOPSTART", "LOOPEND", "LOOPLENGTH")
_SHEET_BYTES, _TRACK_BYTES, _INDEX_BYTES = 396, 36, 12


def parse_comments(body: bytes) -> list[tuple[str, str]]:
    """Name and text of every comment that is whole."""
    found: list[tuple[str, str]] = []
    offset = 4 + struct.unpack_from("<I", body.ljust(4, b"\0"))[0] + 4
    while offset + 4 <= len(body):
        size = struct.unpack_from("<I", body, offset)[0]
        if offset + 4 + size > len(body):
            break
        key, _, text = (
            body[offset + 4 : offset + 4 + size].decode("utf-8", "replace").partition("=")
        )
        found.append((key, text))
        offset += 4 + size
    return found


def vorbis_comment(comments: Sequence[tuple[str, str]], vendor: bytes = _VENDOR) -> bytes:
    entries = [f"{key}={text}".encode() for key, text in comments]
    return b"".join(
        [
            struct.pack("<I", len(vendor)) + vendor + struct.pack("<I", len(entries)),
            *(struct.pack("<I", len(entry)) + entry for entry in entries),
        ]
    )


def scale_block(block: RawBlock, old_rate: int, new_rate: int) -> RawBlock:
    """The block with its positions moved to the new rate."""
    kind, body = block
    ratio = Fraction(new_rate, old_rate)
    if kind == VORBIS_COMMENT:
        comments = parse_comments(body)
        if any(_is_position(key, text) for key, text in comments):
            vendor_bytes = struct.unpack_from("<I", body)[0]
            scaled = [
                (key, str(round(int(text) * ratio)) if _is_position(key, text) else text)
                for key, text in comments
            ]
            return kind, vorbis_comment(scaled, body[4 : 4 + vendor_bytes])
    if kind == CUESHEET:
        return kind, _scale_sheet(body, ratio)
    if (chunk := foreign_chunk(block)) is not None:
        return foreign_block(scale_chunk(chunk, old_rate, new_rate))
    return block


def _is_position(key: str, text: str) -> bool:
    return key.upper() in _POSITION_COMMENTS and text.isascii() and text.isdigit()


def _scale_sheet(body: bytes, ratio: Fraction) -> bytes:
    """Tracks are counted from the start of the sound, their indices from the track."""
    scaled, offset = bytearray(body), _SHEET_BYTES

    def scale(at: int) -> None:
        value = round(struct.unpack_from(">Q", body, at)[0] * ratio)
        struct.pack_into(">Q", scaled, at, min(value, (1 << 64) - 1))

    while offset + _TRACK_BYTES <= len(body):
        scale(offset)
        indices = body[offset + _TRACK_BYTES - 1]
        offset += _TRACK_BYTES
        for _ in range(indices):
            if offset + _INDEX_BYTES > len(body):
                break
            scale(offset)
            offset += _INDEX_BYTES
    return bytes(scaled)


def foreign_block(chunk: RawChunk) -> RawBlock:
    """A chunk of a WAV file as the reference encoder keeps it in FLAC."""
    name, body = chunk
    pad = b"\0" * (len(body) % 2)
    return APPLICATION, _FOREIGN + name + struct.pack("<I", len(body)) + body + pad


def foreign_chunk(block: RawBlock) -> RawChunk | None:
    """The chunk in such a block; None when it holds none."""
    kind, body = block
    if kind != APPLICATION or body[:4] != _FOREIGN or len(body) < 12:
        return None
    name, size = struct.unpack_from("<4sI", body, 4)
    return (name, body[12 : 12 + size]) if 12 + size <= len(body) else None
