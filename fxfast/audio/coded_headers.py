"""Headers of files that libsndfile decodes: FLAC and MP3.

Sources: RFC 9639 (FLAC), ISO/IEC 11172-3 (MPEG audio), id3.org "ID3v2.4.0 Main
Structure"; the Xing/Info frame is described in the sources of LAME.
"""

from __future__ import annotations

import struct

from fxfast.audio.headers import (
    MAX_CHUNKS,
    ByteWindow,
    Chunk,
    Header,
    check_format_fields,
    damaged,
    truncated,
)
from fxfast.errors import TruncatedError

_STREAMINFO_BYTES = 34
# A frame of constant subframes: 6 bytes of header, 2 of subframe, 2 of checksum.
_SMALLEST_FLAC_FRAME_BYTES = 10
_MP3_TAIL_BYTES = 16384
_MP3_KBITS = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def after_id3(window: ByteWindow) -> int:
    """Where the sound starts: behind an ID3v2 tag, if there is one."""
    head = window.at(0, 10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def read_flac(window: ByteWindow, start: int) -> Header:
    """FLAC whose marker is at ``start``. Raises as ``read_header``."""
    blocks, info, offset = [], b"", start + 4
    for _ in range(MAX_CHUNKS):
        head = window.at(offset, 4)
        if len(head) < 4:
            raise TruncatedError(f"{window.name}: truncated in its metadata", present=0)
        size = int.from_bytes(head[1:4], "big")
        kind = head[0] & 0x7F
        blocks.append(Chunk(bytes([kind]), offset + 4, size))
        if kind == 0 and not info:
            info = window.at(offset + 4, min(size, _STREAMINFO_BYTES))
        offset += 4 + size
        if head[0] & 0x80:
            break
    else:
        raise damaged(window.name, f"expected at most {MAX_CHUNKS} metadata blocks, found more")
    if len(info) < _STREAMINFO_BYTES or blocks[0].name != b"\0":
        raise damaged(window.name, "expected a STREAMINFO block first")
    packed = int.from_bytes(info[10:18], "big")
    rate, channels = packed >> 44, (packed >> 41 & 7) + 1
    bits, frames = (packed >> 36 & 31) + 1, packed & ((1 << 36) - 1)
    check_format_fields(window.name, rate, channels)
    md5 = info[18:34]
    problem = None
    most = _most_flac_frames(window.size - offset, int.from_bytes(info[2:4], "big"))
    if frames == 0 and window.size > offset:
        problem = TruncatedError(
            f"{window.name}: expected a header that states the length, it does not "
            "(an encoder that did not finish?)",
            promised=None,
        )
    elif frames > most:
        problem = truncated(window.name, frames, most)
    return Header(
        *("FLAC", "PCM_S8" if bits <= 8 else f"PCM_{bits}", rate, channels),
        promised=frames,
        bits=bits,
        md5=md5 if any(md5) else None,
        chunks=tuple(blocks),
        problem=problem,
    )


def _most_flac_frames(sound_bytes: int, block_frames: int) -> int:
    """How many sound frames as many bytes can hold at most."""
    if sound_bytes <= 0:
        return 0
    return (sound_bytes // _SMALLEST_FLAC_FRAME_BYTES + 1) * (block_frames or 65535)


def _mp3_frame_bytes(head: bytes) -> int:
    """The length of a layer III frame from its four-byte header; 0 for what is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate == 3 or bitrate in (0, 15):
        return 0
    kbits = _MP3_KBITS[1 if version == 3 else 2][bitrate]
    slots = 144_000 if version == 3 else 72_000
    return int(slots * kbits // _MP3_RATES[version][rate]) + (head[2] >> 1 & 1)


def is_mp3(window: ByteWindow, start: int) -> bool:
    """Two layer III frames in a row, or one that ends the file."""
    length = _mp3_frame_bytes(window.at(start, 4))
    if not length:
        return False
    rest = window.at(start + length, 4)
    return len(rest) < 4 or _mp3_frame_bytes(rest) > 0


def read_mp3(window: ByteWindow, start: int) -> Header:
    """MPEG layer III; its length is checked by the Info frame, or by how the last frame ends."""
    head = window.at(start, 200)
    for tag in (b"Xing", b"Info"):
        at = head.find(tag)
        if at > 0 and len(head) >= at + 16:
            flags, *numbers = struct.unpack_from(">IIII", head[at + 4 :].ljust(16, b"\0"))
            if flags & 2:
                promised = numbers[1 if flags & 1 else 0]
                present = window.size - start
                problem = None
                if promised > present:
                    problem = truncated(window.name, promised, present, "bytes of sound")
                return Header("MP3", "MPEG_LAYER_III", problem=problem)
    problem = None
    if not _ends_whole(window, start):
        problem = TruncatedError(f"{window.name}: truncated: expected a whole last MP3 frame")
    return Header("MP3", "MPEG_LAYER_III", flags=("length_not_stated",), problem=problem)


def _ends_whole(window: ByteWindow, start: int) -> bool:
    """Whether a run of frames ends where the file, or a tag behind the sound, does."""
    begin = max(start, window.size - _MP3_TAIL_BYTES)
    tail = window.at(begin, _MP3_TAIL_BYTES)
    if len(tail) >= 128 and tail[-128:-125] == b"TAG":
        tail = tail[:-128]
    for offset in range(min(len(tail), 4096)):
        at, run = offset, 0
        while length := _mp3_frame_bytes(tail[at : at + 4]):
            at, run = at + length, run + 1
        if (run >= 1 and at == len(tail)) or run >= 3:
            return at == len(tail) or tail[at:].startswith((b"APETAGEX", b"LYRICSBEGIN"))
    return False
