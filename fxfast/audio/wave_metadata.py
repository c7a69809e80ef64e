"""The chunks of a WAV file beside its sound.

Sources: Microsoft/IBM "Multimedia Programming Interface and Data Specifications 1.0" (cue, LIST),
Microsoft "New Multimedia Data Types and Data Techniques 3.0" (smpl), EBU Tech 3285 (bext),
iXML 2.1.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from fractions import Fraction

RawChunk = tuple[bytes, bytes]

# What describes the old samples, and what only fills space.
_LEFT_OUT = {b"RIFF", b"fmt ", b"data", b"ds64", b"fact", b"PEAK", b"levl", b"slnt", b"wavl"}
_LEFT_OUT |= {b"JUNK", b"junk", b"PAD ", b"FLLR", b"filr"}
_INFO_OF_COMMENT = {
    "TITLE": b"INAM",
    "ARTIST": b"IART",
    "ALBUM": b"IPRD",
    "DATE": b"ICRD",
    "GENRE": b"IGNR",
    "COMMENT": b"ICMT",
    "DESCRIPTION": b"ICMT",
    "TRACKNUMBER": b"ITRK",
    "COPYRIGHT": b"ICOP",
    "ENCODER": b"ISFT",
}
_COMMENT_OF_INFO = {
    info: comment for comment, info in _INFO_OF_COMMENT.items() if comment != "DESCRIPTION"
}
_CUE_BYTES, _LOOP_BYTES, _SMPL_BYTES = 24, 24, 36
_BEXT_TIME, _BEXT_VERSION, _BEXT_LOUDNESS = 338, 346, 412
_NOT_MEASURED = struct.pack("<h", 0x7FFF)


def kept_chunk(chunk: RawChunk) -> RawChunk | None:
    """The chunk as it goes into a file with other samples; None when it does not."""
    name, body = chunk
    if name in _LEFT_OUT or (name == b"LIST" and body[:4] == b"wavl"):
        return None
    end = _BEXT_LOUDNESS + 10
    if name == b"bext" and len(body) >= end and body[_BEXT_VERSION] >= 2:
        return name, body[:_BEXT_LOUDNESS] + 5 * _NOT_MEASURED + body[end:]
    return chunk


def scale_chunk(chunk: RawChunk, old_rate: int, new_rate: int) -> RawChunk:
    """The chunk with every position that it is known to hold moved to the new rate."""
    name, body = chunk
    ratio = Fraction(new_rate, old_rate)
    if name == b"cue ":
        return name, _scale_cue(body, ratio)
    if name == b"smpl":
        return name, _scale_smpl(body, ratio, new_rate)
    if name == b"LIST" and body[:4] == b"adtl":
        return name, b"adtl" + b"".join(
            _joined(sub, _scaled_at(data, (4,), ratio) if sub == b"ltxt" else data)
            for sub, data in sub_chunks(body[4:])
        )
    if name == b"plst" and len(body) >= 4:
        offsets = range(8, len(body) - 7, 12)
        return name, _scaled_at(body, offsets, ratio)
    if name == b"bext" and len(body) >= _BEXT_TIME + 8:
        time = round(struct.unpack_from("<Q", body, _BEXT_TIME)[0] * ratio)
        stamp = struct.pack("<Q", min(time, (1 << 64) - 1))
        return name, body[:_BEXT_TIME] + stamp + body[_BEXT_TIME + 8 :]
    if name == b"iXML":
        rate = rb"\g<1>%d<" % new_rate
        return name, re.sub(rb"(<FILE_SAMPLE_RATE>)\s*\d+\s*<", rate, body)
    return chunk


def _scaled_at(body: bytes, offsets: Sequence[int], ratio: Fraction) -> bytes:
    scaled = bytearray(body)
    for offset in offsets:
        if offset + 4 <= len(body):
            value = round(struct.unpack_from("<I", body, offset)[0] * ratio)
            struct.pack_into("<I", scaled, offset, min(value, 0xFFFFFFFF))
    return bytes(scaled)


def _scale_cue(body: bytes, ratio: Fraction) -> bytes:
    starts = range(4, len(body) - _CUE_BYTES + 1, _CUE_BYTES)
    return _scaled_at(body, [start + field for start in starts for field in (4, 20)], ratio)


def _scale_smpl(body: bytes, ratio: Fraction, rate: int) -> bytes:
    """A loop ends with its last frame: what is scaled is the end behind it."""
    if len(body) < _SMPL_BYTES:
        return body
    scaled = bytearray(body)
    struct.pack_into("<I", scaled, 8, min(round(Fraction(10**9, rate)), 0xFFFFFFFF))
    for loop in range(_SMPL_BYTES, len(body) - _LOOP_BYTES + 1, _LOOP_BYTES):
        start, end = struct.unpack_from("<II", body, loop + 8)
        first, behind = round(start * ratio), round((end + 1) * ratio)
        last = max(first, behind - 1)
        struct.pack_into("<II", scaled, loop + 8, min(first, 0xFFFFFFFF), min(last, 0xFFFFFFFF))
    return bytes(scaled)


def sub_chunks(body: bytes) -> list[RawChunk]:
    """The chunks inside a LIST chunk, as far as they are whole."""
    found, offset = [], 0
    while offset + 8 <= len(body):
        name, size = struct.unpack_from("<4sI", body, offset)
        if offset + 8 + size > len(body):
            break
        found.append((name, body[offset + 8 : offset + 8 + size]))
        offset += 8 + size + size % 2
    return found


def _joined(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def list_chunk(kind: bytes, parts: Sequence[RawChunk]) -> RawChunk:
    return b"LIST", kind + b"".join(_joined(*part) for part in parts)


def info_tags(chunk: RawChunk) -> list[tuple[str, str]]:
    """A LIST/INFO chunk as Vorbis comments; nothing for any other chunk."""
    name, body = chunk
    if name != b"LIST" or body[:4] != b"INFO":
        return []
    tags = []
    for sub, data in sub_chunks(body[4:]):
        text = _text(data)
        if text:
            key = _COMMENT_OF_INFO.get(sub, sub.decode("ascii", "replace").strip())
            tags.append((key, text))
    return tags


def info_chunk(comments: Sequence[tuple[str, str]]) -> RawChunk | None:
    """Vorbis comments as a LIST/INFO chunk; those that it has no name for are left out."""
    parts: dict[bytes, bytes] = {}
    for key, text in comments:
        upper = key.upper()
        name = _INFO_OF_COMMENT.get(upper)
        if name is None and re.fullmatch(r"I[A-Z0-9]{3}", upper):
            name = upper.encode("ascii")
        if name is not None and name not in parts:
            parts[name] = text.encode("utf-8") + b"\0"
    return list_chunk(b"INFO", list(parts.items())) if parts else None


def _text(data: bytes) -> str:
    raw = data.split(b"\0", 1)[0]
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
