"""Names, markers and instruments of AIFF files, as the chunks of a WAV file.

Source: Apple "Audio Interchange File Format 1.3".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from fxfast.audio.wave_metadata import RawChunk, list_chunk

_INFO_NAMES = {b"NAME": b"INAM", b"AUTH": b"IART", b"(c) ": b"ICOP", b"ANNO": b"ICMT"}
_INSTRUMENT_BYTES = 20
_LOOP_TYPES = {1: 0, 2: 1}  # forward, back and forth


def wave_chunks_of_aiff(chunks: Sequence[RawChunk], sample_rate: int) -> list[RawChunk]:
    """LIST/INFO, cue with labels, smpl and ID3 of what the AIFF chunks say."""
    texts: dict[bytes, bytes] = {}
    markers: dict[int, tuple[int, bytes]] = {}
    instrument = b""
    made: list[RawChunk] = []
    for name, body in chunks:
        if name in _INFO_NAMES:
            texts.setdefault(_INFO_NAMES[name], body.rstrip(b"\0") + b"\0")
        elif name == b"MARK":
            markers = _markers(body)
        elif name == b"INST" and len(body) >= _INSTRUMENT_BYTES:
            instrument = body
        elif name == b"ID3 ":
            made.append((b"id3 ", body))
    if texts:
        made.append(list_chunk(b"INFO", list(texts.items())))
    if markers:
        made += [_cue(markers), _labels(markers)]
    if instrument:
        made.append(_sampler(instrument, markers, sample_rate))
    return made


def _markers(body: bytes) -> dict[int, tuple[int, bytes]]:
    """Position and name of every marker that is whole, by its number."""
    found: dict[int, tuple[int, bytes]] = {}
    count = struct.unpack(">H", body[:2])[0] if len(body) >= 2 else 0
    offset = 2
    for _ in range(count):
        if offset + 7 > len(body):
            break
        number, position, size = struct.unpack_from(">HIB", body, offset)
        found[number] = (position, body[offset + 7 : offset + 7 + size])
        offset += 7 + size + (size + 1) % 2
    return found


def _cue(markers: dict[int, tuple[int, bytes]]) -> RawChunk:
    points = [
        struct.pack("<II4sIII", number, position, b"data", 0, 0, position)
        for number, (position, _) in markers.items()
    ]
    return b"cue ", struct.pack("<I", len(points)) + b"".join(points)


def _labels(markers: dict[int, tuple[int, bytes]]) -> RawChunk:
    labels = [
        (b"labl", struct.pack("<I", number) + name + b"\0") for number, (_, name) in markers.items()
    ]
    return list_chunk(b"adtl", labels)


def _sampler(
    instrument: bytes, markers: dict[int, tuple[int, bytes]], sample_rate: int
) -> RawChunk:
    """The base note and the sustain loop; its markers stand between frames."""
    note, detune = struct.unpack_from(">Bb", instrument)
    mode, begin, end = struct.unpack_from(">hHH", instrument, 8)
    loops = []
    if mode in _LOOP_TYPES and begin in markers and end in markers:
        first, behind = markers[begin][0], markers[end][0]
        if behind > first:
            loops.append(struct.pack("<6I", 0, _LOOP_TYPES[mode], first, behind - 1, 0, 0))
    # A fraction of 2^32 is one semitone up; below the note it counts from the one beneath.
    fraction = round(detune / 100 * (1 << 32)) if note or detune > 0 else 0
    head = struct.pack(
        *("<9I", 0, 0, round(1e9 / max(1, sample_rate)), note - (fraction < 0)),
        *(fraction % (1 << 32), 0, 0, len(loops), 0),
    )
    return b"smpl", head + b"".join(loops)
