"""Fault case 15, Ogg: how streams end, and what follows them."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fault_checks import Fault
from wave_bytes import encoded, sound

from fxfast.audio.files import open_audio, probe, read_audio
from fxfast.errors import AudioFileError

ENDS = 4


def pages(content: bytes) -> list[tuple[int, int]]:
    """Offset and length of every page."""
    found, at = [], 0
    while at < len(content):
        assert content[at : at + 4] == b"OggS"
        count = content[at + 26]
        size = 27 + count + sum(content[at + 27 : at + 27 + count])
        found.append((at, size))
        at += size
    return found


def checksum(page: bytes) -> int:
    """RFC 3533, 6, page_checksum: bit by bit, with the field itself taken as 0."""
    rest = 0
    for at, byte in enumerate(page):
        rest ^= (0 if 22 <= at < 26 else byte) << 24
        for _ in range(8):
            rest = (rest << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if rest & 0x80000000 else 0)
    return rest


def said_to_end(content: bytes, numbers: tuple[int, ...]) -> bytes:
    """The same pages, of which those also say that they end the stream."""
    changed = bytearray(content)
    found = pages(content)
    for number in numbers:
        at, size = found[number]
        changed[at + 5] |= ENDS
        changed[at + 22 : at + 26] = struct.pack("<I", checksum(changed[at : at + size]))
    return bytes(changed)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("early", [(-2,), (-4, -3, -2), (4,)])
def test_fault_case_15_an_end_said_too_early_cuts_nothing(
    tmp_path: Path, subtype: str, early: tuple[int, ...]
) -> None:
    content = encoded(sound(2, 480_000), "OGG", subtype)
    assert len(pages(content)) > 8
    (tmp_path / "whole.ogg").write_bytes(content)
    wanted, _ = read_audio(tmp_path / "whole.ogg")
    path = tmp_path / "in" / "a.ogg"
    path.parent.mkdir()
    strange = said_to_end(content, early)
    path.write_bytes(strange)
    assert "pages_after_end" in probe(path).flags
    for block_frames in (1000, 65536):
        with open_audio(path, block_frames=block_frames) as reader:
            found = np.concatenate([block_ct.copy() for block_ct in reader], axis=1)
        assert np.array_equal(found, wanted)
    lines = Fault(tmp_path, {"a.ogg": None}).run()
    assert "pages_after_end" in lines["a.ogg"].fields["details"]["notes"]
    # Cut, it is refused as any other file: within its last page, and within the head of that.
    last = pages(content)[-1][0]
    for size in (len(strange) - 1, last + 40, last + 26, last + 4):
        path.write_bytes(strange[:size])
        with pytest.raises(AudioFileError, match="truncated"):
            read_audio(path)
    # A page whose checksum was wrong is not made right.
    flipped = bytearray(strange)
    flipped[pages(content)[early[0]][0] + 60] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(AudioFileError):
        read_audio(path)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
def test_fault_case_15_an_end_said_too_early_is_played_by_others(tmp_path: Path) -> None:
    """The same length as another decoder's: refusing or cutting would be our own doing."""
    content = encoded(sound(1, 480_000), "OGG", "VORBIS")
    path = tmp_path / "a.ogg"
    path.write_bytes(said_to_end(content, (-3, -2)))
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-ac", "1", "-"]
    decoded = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert read_audio(path)[0].shape[1] == len(decoded) // 4


def test_fault_case_15_streams_one_behind_another_are_refused(tmp_path: Path) -> None:
    """libsndfile plays the first and says nothing of the second."""
    content = encoded(sound(1, 96_000), "OGG", "VORBIS")
    renumbered = bytearray(content)
    for at, size in pages(content):
        renumbered[at + 14 : at + 18] = b"abcd"
        renumbered[at + 22 : at + 26] = struct.pack("<I", checksum(renumbered[at : at + size]))
    case = Fault(
        tmp_path,
        {"same.ogg": "E_FORMAT", "other.ogg": "E_FORMAT", "junk.ogg": None},
    )
    (case.inputs / "same.ogg").write_bytes(content + content)
    (case.inputs / "other.ogg").write_bytes(content + bytes(renumbered))
    # A tag behind the sound, as players of MP3 write it, and what is between pages, pass.
    second = pages(content)[2][0]
    junk = content[:second] + bytes(3) + content[second:] + b"TAG" + bytes(125)
    (case.inputs / "junk.ogg").write_bytes(junk)
    case.run()
    (tmp_path / "whole.ogg").write_bytes(content)
    wanted, _ = read_audio(tmp_path / "whole.ogg")
    assert np.array_equal(read_audio(case.inputs / "junk.ogg")[0], wanted)
