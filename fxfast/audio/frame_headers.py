"""Headers of AIFF, AIFF-C and CAF files.

Sources: Apple "Audio Interchange File Format 1.3", "AIFF-C draft 1991-08-26",
"Apple Core Audio Format Specification 1.0".
"""

from __future__ import annotations

import math
import struct

from fxfast.audio.headers import (
    MAX_CHUNKS,
    ByteWindow,
    Chunk,
    Coding,
    Header,
    check_format_fields,
    damaged,
    is_chunk_name,
    truncated,
    walk_chunks,
)
from fxfast.errors import AudioFileError, FormatError, TruncatedError

_AIFF_CODINGS = {
    b"NONE": ("int", True),
    b"twos": ("int", True),
    b"in24": ("int", True),
    b"in32": ("int", True),
    b"sowt": ("int", False),
    b"raw ": ("unsigned", True),
    b"fl32": ("float", True),
    b"FL32": ("float", True),
    b"fl64": ("float", True),
    b"FL64": ("float", True),
}
_AIFF_FLOAT_BYTES = {b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8}
_AIFF_BY_LIBSNDFILE = {b"ulaw": "ULAW", b"ULAW": "ULAW", b"alaw": "ALAW", b"ALAW": "ALAW"}
_CAF_BY_LIBSNDFILE = (b"alac", b"ulaw", b"alaw")


def read_aiff(window: ByteWindow) -> Header:
    """AIFF and AIFF-C. Raises as ``read_header``."""
    common: Chunk | None = None
    sound: Chunk | None = None
    chunks = tuple(walk_chunks(window, ">"))
    for chunk in chunks:
        if chunk.name == b"COMM":
            if common is not None:
                raise damaged(window.name, "expected one COMM chunk, found two")
            common = chunk
        elif chunk.name == b"SSND":
            if sound is not None:
                raise damaged(window.name, "expected one SSND chunk, found two")
            sound = chunk
    if common is None:
        raise damaged(window.name, "expected a COMM chunk, found none")
    body = window.at(common.body_offset, min(common.size_bytes, 22))
    if len(body) < 18:
        raise damaged(window.name, f"expected a COMM chunk of 18 bytes, got {len(body)}")
    channels, frames, bits = struct.unpack(">HIH", body[:8])
    rate = _extended(body[8:18])
    check_format_fields(window.name, rate, channels)
    # Some call a file with a compression AIFF.
    compression = body[18:22] if len(body) == 22 else b"NONE"
    subtype, coding = _aiff_coding(window.name, compression, bits)
    if sound is None:
        if frames:
            raise truncated(window.name, frames, 0)
        return Header("AIFF", subtype, round(rate), channels, coding, 0, 0, 0, bits, chunks=chunks)
    return _aiff_header(window, subtype, round(rate), channels, coding, bits, frames, sound, chunks)


def _aiff_header(
    window: ByteWindow,
    subtype: str,
    rate: int,
    channels: int,
    coding: Coding | None,
    bits: int,
    frames: int,
    sound: Chunk,
    chunks: tuple[Chunk, ...],
) -> Header:
    # The body starts with an offset and a block size of four bytes each.
    skip, align_bytes = struct.unpack(">II", window.at(sound.body_offset, 8).ljust(8, b"\0"))
    start = sound.body_offset + 8 + skip
    present_bytes = max(0, window.size - start)
    claimed_bytes = max(0, sound.size_bytes - 8 - skip)
    frame_bytes = channels * (coding.sample_bytes if coding else 1)
    flags: tuple[str, ...] = ()
    promised: int | None = frames
    follows_chunk = is_chunk_name(window.at(start + claimed_bytes, 4))
    if frames == 0 and claimed_bytes == 0 and present_bytes and not follows_chunk:
        # A recorder that could not go back to write the length.
        flags, promised, claimed_bytes = ("streamed",), None, present_bytes
    elif claimed_bytes > present_bytes and frames == 0:
        promised = claimed_bytes // frame_bytes
    present = min(claimed_bytes, present_bytes) // frame_bytes
    problem: AudioFileError | None = None
    if promised is not None and promised > present:
        problem = truncated(window.name, promised, present)
    elif claimed_bytes > present_bytes:
        problem = truncated(window.name, claimed_bytes, present_bytes, "bytes of sound")
    elif promised is not None:
        if not align_bytes and claimed_bytes // frame_bytes != promised:
            problem = damaged(
                window.name,
                f"its COMM chunk promises {promised} frames, its SSND chunk "
                f"{claimed_bytes // frame_bytes}",
            )
        present = promised
    return Header(
        *("AIFF", subtype, rate, channels, coding, start, promised, present, bits),
        flags=flags,
        chunks=chunks,
        problem=problem,
    )


def _aiff_coding(name: str, compression: bytes, bits: int) -> tuple[str, Coding | None]:
    if compression in _AIFF_BY_LIBSNDFILE:
        return _AIFF_BY_LIBSNDFILE[compression], None
    if compression not in _AIFF_CODINGS:
        raise FormatError(f"{name}: expected a known coding, got AIFF-C {compression!r}")
    kind, big_endian = _AIFF_CODINGS[compression]
    sample_bytes = _AIFF_FLOAT_BYTES.get(compression, (bits + 7) // 8)
    if not 1 <= sample_bytes <= (8 if kind == "float" else 4):
        raise FormatError(f"{name}: expected integers of 1 to 32 bits, got {bits}")
    return _subtype(kind, sample_bytes), Coding(kind, sample_bytes, big_endian)


def _subtype(kind: str, sample_bytes: int) -> str:
    if kind == "float":
        return "FLOAT" if sample_bytes == 4 else "DOUBLE"
    if sample_bytes == 1:
        return "PCM_U8" if kind == "unsigned" else "PCM_S8"
    return f"PCM_{8 * sample_bytes}"


def _extended(body: bytes) -> float:
    """An 80-bit IEEE extended number; 0 for what is none."""
    exponent, mantissa = struct.unpack(">HQ", body)
    if exponent >= 0x4000 + 64:  # negative, infinite, or no rate that anybody uses
        return 0.0
    return math.ldexp(mantissa, exponent - 16383 - 63)


def read_caf(window: ByteWindow) -> Header:
    """Apple's Core Audio Format. Raises as ``read_header``."""
    offset, description = 8, b""
    for _ in range(MAX_CHUNKS):
        head = window.at(offset, 12)
        if len(head) < 12:
            break
        name, size_bytes = struct.unpack(">4sq", head)
        if name == b"desc":
            description = window.at(offset + 12, 32)
        elif name == b"data":
            if len(description) < 32:
                raise damaged(window.name, "expected a desc chunk before the data chunk")
            return _caf_header(window, description, offset + 12, size_bytes)
        if size_bytes < 0:
            raise damaged(window.name, "expected a chunk with a size")
        offset += 12 + size_bytes
    raise TruncatedError(
        f"{window.name}: truncated or damaged: expected a data chunk, found none", present=0
    )


def _caf_header(window: ByteWindow, description: bytes, body: int, size_bytes: int) -> Header:
    rate, coding_id, flags, packet_bytes, packet_frames, channels, bits = struct.unpack(
        ">d4sIIIII", description
    )
    check_format_fields(window.name, rate if math.isfinite(rate) else 0.0, channels)
    present_bytes = max(0, window.size - body - 4)  # behind the count of edits
    streamed = size_bytes == -1
    claimed_bytes = present_bytes if streamed else max(0, size_bytes - 4)
    if coding_id in _CAF_BY_LIBSNDFILE:
        problem = None
        if claimed_bytes > present_bytes:
            problem = truncated(window.name, claimed_bytes, present_bytes, "bytes of sound")
        return Header("CAF", "", round(rate), channels, problem=problem)
    if coding_id != b"lpcm":
        raise FormatError(f"{window.name}: expected a known coding, got CAF {coding_id!r}")
    kind, big_endian = ("float" if flags & 1 else "int"), not flags & 2
    sample_bytes, rest = divmod(packet_bytes, channels)
    wanted = (4, 8) if kind == "float" else (1, 2, 3, 4)
    if rest or packet_frames != 1 or sample_bytes not in wanted or 8 * sample_bytes < bits:
        raise damaged(
            window.name, f"expected packets of one frame, got {packet_bytes} bytes, {bits} bits"
        )
    present = min(claimed_bytes, present_bytes) // packet_bytes
    promised = None if streamed else claimed_bytes // packet_bytes
    problem = None
    if promised is not None and claimed_bytes > present_bytes:
        problem = truncated(window.name, promised, present)
    coding = Coding(kind, sample_bytes, big_endian)
    return Header(
        *("CAF", _subtype(kind, sample_bytes), round(rate), channels, coding, body + 4),
        *(promised, present, bits),
        flags=("streamed",) if streamed else (),
        problem=problem,
    )
