"""Headers of WAV, RF64, BW64 and W64 files.

Choices where files disagree with the specifications:

- A data chunk of size 0 or 2^32-1 whose RIFF size is no better (0, 2^32-1, or an end before the
  sound) was written by a recorder that could not go back: it reaches to the end of the file
  ("streamed"). With an honest RIFF size, 2^32-1 is a promise and 0 an empty file.
- A RIFF file with more sound than 32 bits can count has a size that wrapped ("size_wrap").
- fmt must stand before data; a second fmt chunk must say the same; two data chunks are refused.
- Bits that do not fill their bytes (20 in 24) stand at the top of the bytes, as the standard says.

Sources: Microsoft/IBM "Multimedia Programming Interface and Data Specifications 1.0" (RIFF),
Microsoft "Multiple Channel Audio Data and WAVE Files" (WAVE_FORMAT_EXTENSIBLE), EBU Tech 3306
(RF64), ITU-R BS.2088 (BW64), Sony "Wave64 File Format".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fxfast.audio.headers import (
    MAX_CHUNKS,
    SIZE_UNKNOWN,
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
from fxfast.errors import AudioFileError, FormatError, SizeWrapError, TruncatedError

W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
_W64_TAIL = _W64_WAVE[4:]
_EXTENSIBLE = 0xFFFE
_GUID_TAILS = (
    bytes.fromhex("000000001000800000aa00389b71"),
    bytes.fromhex("00002107d3118644c8c1ca000000"),  # ambisonic B-format
)
_BY_LIBSNDFILE = {
    0x0002: "MS_ADPCM",
    0x0006: "ALAW",
    0x0007: "ULAW",
    0x0011: "IMA_ADPCM",
    0x0031: "GSM610",
}
_FLOATS = {4: "FLOAT", 8: "DOUBLE"}
_LARGE_SIZES_BYTES = 28


@dataclass(frozen=True, slots=True)
class _WaveFormat:
    tag: int
    channels: int
    sample_rate: int
    frame_bytes: int
    bits: int
    channel_mask: int
    extensible: bool


@dataclass(slots=True)
class _Data:
    """The data chunk: the bytes it claims, those in the file, and how far to trust the claim."""

    offset: int
    claimed_bytes: int
    present_bytes: int
    streamed: bool = False
    wrapped: bool = False


def read_wave(window: ByteWindow) -> Header:
    """RIFF, RIFX, RF64 and BW64. Raises as ``read_header``."""
    container = window.at(0, 4)
    order = ">" if container == b"RIFX" else "<"
    riff_bytes = struct.unpack(order + "I", window.at(4, 4))[0]
    large: dict[bytes, int] = {}
    wave: _WaveFormat | None = None
    data: _Data | None = None
    chunks = []
    for chunk in walk_chunks(window, order, large):
        chunks.append(chunk)
        if chunk.name == b"ds64" and container in (b"RF64", b"BW64"):
            large.update(_large_sizes(window, chunk))
        elif chunk.name == b"fmt ":
            wave = _same_format(window, wave, _wave_format(window, chunk, order))
        elif chunk.name == b"data":
            if wave is None:
                raise damaged(window.name, "expected a fmt chunk before the data chunk")
            if data is not None:
                raise damaged(window.name, "expected one data chunk, found two")
            data = _data(window, chunk, riff_bytes, container)
            if data.streamed or data.wrapped:
                break
    if wave is None or data is None:
        raise _no_data(window, chunks, riff_bytes + 8)
    format = "RF64" if container in (b"RF64", b"BW64") else "WAVEX" if wave.extensible else "WAV"
    return _header(window, format, wave, data, tuple(chunks), order == ">")


def _large_sizes(window: ByteWindow, chunk: Chunk) -> dict[bytes, int]:
    body = window.at(chunk.body_offset, _LARGE_SIZES_BYTES)
    if len(body) < _LARGE_SIZES_BYTES:
        return {}
    _, data_bytes, _, count = struct.unpack("<QQQI", body)
    sizes = {b"data": data_bytes}
    table = window.at(chunk.body_offset + _LARGE_SIZES_BYTES, 12 * min(count, 64))
    for start in range(0, len(table) - 11, 12):
        sizes[table[start : start + 4]] = struct.unpack_from("<Q", table, start + 4)[0]
    return sizes


def _data(window: ByteWindow, chunk: Chunk, riff_bytes: int, container: bytes) -> _Data:
    present = max(0, window.size - chunk.body_offset)
    data = _Data(chunk.body_offset, chunk.size_bytes, present)
    if container in (b"RF64", b"BW64"):
        return data
    riff_is_vague = (
        riff_bytes in (0, SIZE_UNKNOWN) or riff_bytes + 8 <= chunk.body_offset + chunk.size_bytes
    )
    if chunk.size_bytes == SIZE_UNKNOWN:
        data.streamed = riff_bytes in (0, SIZE_UNKNOWN) or present >= SIZE_UNKNOWN
    elif chunk.size_bytes == 0 and present:
        follows_chunk = is_chunk_name(window.at(chunk.body_offset, 4))
        data.streamed = riff_is_vague or not follows_chunk
    elif present > SIZE_UNKNOWN:
        data.wrapped = True
    return data


def _same_format(window: ByteWindow, first: _WaveFormat | None, found: _WaveFormat) -> _WaveFormat:
    if first is not None and first != found:
        raise damaged(window.name, "expected one fmt chunk, found two that differ")
    return found


def _wave_format(window: ByteWindow, chunk: Chunk, order: str) -> _WaveFormat:
    body = window.at(chunk.body_offset, min(chunk.size_bytes, 40))
    if len(body) < 16:
        raise damaged(window.name, f"expected a fmt chunk of 16 bytes, got {len(body)}")
    tag, channels, rate, _, frame_bytes, bits = struct.unpack(order + "HHIIHH", body[:16])
    mask, extensible = 0, tag == _EXTENSIBLE
    if extensible:
        if len(body) < 40:
            raise damaged(window.name, f"expected an extensible fmt chunk of 40, got {len(body)}")
        mask, tag = struct.unpack(order + "IH", body[20:26])
        if body[26:40] not in _GUID_TAILS:
            raise FormatError(f"{window.name}: expected a known coding, got GUID {body[24:].hex()}")
    check_format_fields(window.name, rate, channels)
    return _WaveFormat(tag, channels, rate, frame_bytes, bits, mask, extensible)


def _no_data(window: ByteWindow, chunks: list[Chunk], claimed_bytes: int) -> AudioFileError:
    if chunks and chunks[-1].body_offset + chunks[-1].size_bytes > window.size:
        last = chunks[-1]
        return TruncatedError(
            f"{window.name}: truncated: its chunk {last.name!r} promises "
            f"{last.size_bytes} bytes, {max(0, window.size - last.body_offset)} are there",
            promised=last.size_bytes,
            present=max(0, window.size - last.body_offset),
            unit="bytes",
        )
    kind = TruncatedError if claimed_bytes > window.size else FormatError
    return kind(f"{window.name}: truncated or damaged: expected a data chunk, found none")


def _header(
    window: ByteWindow,
    format: str,
    wave: _WaveFormat,
    data: _Data,
    chunks: tuple[Chunk, ...],
    big_endian: bool,
) -> Header:
    subtype, coding = _coding(window.name, wave, big_endian)
    frame_bytes = wave.frame_bytes if coding is None else wave.channels * coding.sample_bytes
    flags: tuple[str, ...] = ("streamed",) if data.streamed else ()
    counted = coding is not None or subtype in ("ALAW", "ULAW")
    promised: int | None = None
    present: int | None = None
    if counted:
        frame_bytes = max(1, frame_bytes)
        promised = None if data.streamed else data.claimed_bytes // frame_bytes
        inside = data.present_bytes
        if promised is not None and not data.wrapped:
            inside = min(inside, data.claimed_bytes)
        present = inside // frame_bytes
    return Header(
        format,
        subtype,
        wave.sample_rate,
        wave.channels,
        coding,
        data.offset,
        promised,
        present,
        wave.bits,
        wave.channel_mask,
        None,
        flags,
        chunks,
        _problem(window.name, data, frame_bytes, counted, promised, present),
    )


def _problem(
    name: str,
    data: _Data,
    frame_bytes: int,
    counted: bool,
    promised: int | None,
    present: int | None,
) -> AudioFileError | None:
    if data.wrapped:
        return SizeWrapError(
            f"{name}: damaged: a RIFF header cannot describe {data.present_bytes} bytes of sound, "
            f"it promises {data.claimed_bytes} (expected RF64)",
            promised=promised,
            present=present,
        )
    if data.streamed or data.claimed_bytes <= data.present_bytes:
        if counted and not data.streamed and data.claimed_bytes % frame_bytes:
            return damaged(
                name,
                f"{data.claimed_bytes} bytes of sound are not a whole number of frames "
                f"of {frame_bytes} bytes",
            )
        return None
    if promised is None or present is None or promised == present:
        return truncated(name, data.claimed_bytes, data.present_bytes, "bytes of sound")
    return truncated(name, promised, present)


def _coding(name: str, wave: _WaveFormat, big_endian: bool) -> tuple[str, Coding | None]:
    if wave.tag in _BY_LIBSNDFILE:
        return _BY_LIBSNDFILE[wave.tag], None
    if wave.tag not in (1, 3):
        raise FormatError(f"{name}: expected a known coding, got format tag 0x{wave.tag:04x}")
    sample_bytes, rest = divmod(wave.frame_bytes, wave.channels)
    if rest or sample_bytes != (wave.bits + 7) // 8:
        raise damaged(
            name,
            f"expected frames of {wave.channels} x {(wave.bits + 7) // 8} bytes for "
            f"{wave.bits} bits, got {wave.frame_bytes} bytes",
        )
    if wave.tag == 3:
        if sample_bytes not in _FLOATS:
            raise FormatError(f"{name}: expected floats of 32 or 64 bits, got {wave.bits}")
        return _FLOATS[sample_bytes], Coding("float", sample_bytes, big_endian)
    if not 1 <= sample_bytes <= 4:
        raise FormatError(f"{name}: expected integers of 1 to 32 bits, got {wave.bits}")
    subtype = "PCM_U8" if sample_bytes == 1 else f"PCM_{8 * sample_bytes}"
    kind = "unsigned" if sample_bytes == 1 else "int"
    return subtype, Coding(kind, sample_bytes, big_endian)


def read_w64(window: ByteWindow) -> Header:
    """Sony Wave64. Raises as ``read_header``."""
    if window.at(24, 16) != _W64_WAVE:
        raise FormatError(f"{window.name}: expected a WAVE in the W64 file")
    wave: _WaveFormat | None = None
    offset, chunks = 40, []
    for _ in range(MAX_CHUNKS):
        head = window.at(offset, 24)
        if len(head) < 24:
            break
        size_bytes = struct.unpack("<Q", head[16:])[0] - 24
        if size_bytes < 0:
            raise damaged(window.name, "expected a chunk of at least 24 bytes")
        name = head[:4] if head[4:16] == _W64_TAIL else b"????"
        chunk = Chunk(name, offset + 24, size_bytes)
        chunks.append(chunk)
        if name == b"fmt ":
            wave = _same_format(window, wave, _wave_format(window, chunk, "<"))
        elif name == b"data":
            if wave is None:
                raise damaged(window.name, "expected a fmt chunk before the data chunk")
            present = max(0, window.size - chunk.body_offset)
            data = _Data(chunk.body_offset, size_bytes, present)
            data.streamed = size_bytes == 0 and present > 0
            return _header(window, "W64", wave, data, (), False)
        offset += (24 + size_bytes + 7) // 8 * 8
    raise _no_data(window, chunks, struct.unpack("<Q", window.at(16, 8))[0])
