"""Outputs are held against what was written, block by block: a bit that the disk changes shows."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fxfast.audio import appending
from fxfast.audio.files import write_audio
from fxfast.audio.sample_codings import SampleEncoder
from fxfast.errors import InputError, WriteError
from fxfast.native import engine

RATE = 48000


def noise(channels: int, frames: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.9, 0.9, (channels, frames)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.999])
def test_what_the_disk_changes_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, place: float
) -> None:
    """A bit is another one in the file than in the call that wrote it."""
    path = tmp_path / f"a{suffix}"
    write_audio(path, noise(1, 200_000), RATE, "PCM_16")
    at, written = int(place * path.stat().st_size), 0
    path.unlink()

    def damaging(fd: int, data: memoryview, offset: int, read_back: bool = True) -> bool:
        nonlocal written
        begin, written = written, written + len(data)
        damaged = bytearray(data)
        if begin <= at < written:
            damaged[at - begin] ^= 1
        os.write(fd, damaged)
        return bool(engine().reads_back(fd, data, offset))

    def damaging_rows(fd: int, rows_ct: np.ndarray, offset: int, read_back: bool) -> bool:
        return damaging(fd, SampleEncoder("PCM_16").encode(rows_ct).tobytes(), offset)

    disk = SimpleNamespace(append=damaging, reads_back=engine().reads_back)
    monkeypatch.setattr(appending, "engine", lambda: disk)
    monkeypatch.setattr(SampleEncoder, "appends", lambda *_: damaging_rows)
    with pytest.raises(WriteError, match="incomplete on the disk"):
        write_audio(path, noise(1, 200_000), RATE, "PCM_16")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_header_that_the_disk_changes_gets_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The header is written over when the length is known."""
    path, real = tmp_path / f"a{suffix}", os.pwrite

    def damaging(fd: int, data: bytes, offset: int) -> int:
        damaged = bytearray(data)
        damaged[len(damaged) // 2] ^= 1
        return real(fd, damaged, offset)

    monkeypatch.setattr(os, "pwrite", damaging)
    with pytest.raises(WriteError, match="incomplete on the disk"):
        write_audio(path, noise(1, 2000), RATE, "PCM_16")
    assert os.listdir(tmp_path) == []


def test_what_reads_back_is_told_from_what_does_not(tmp_path: Path) -> None:
    """Beside plain reading, at the ends of the pieces that are compared at a time."""
    content = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()
    with (tmp_path / "a").open("w+b", buffering=0) as file:
        file.write(content)
        fd = file.fileno()
        for offset, count in ((0, 40_000), (1, 16_384), (16_384, 16_385), (39_999, 1), (7, 0)):
            data = content[offset : offset + count]
            assert engine().reads_back(fd, data, offset)
            for changed in {0, count // 2, count - 1} if count else ():
                other = bytearray(data)
                other[changed] ^= 128
                assert not engine().reads_back(fd, other, offset)
                assert os.pread(fd, count, offset) != other
        assert not engine().reads_back(fd, content + b"x", 0)  # the file ends before
        assert not engine().reads_back(fd, content, 1 << 40)
        assert engine().reads_back(fd, np.frombuffer(content, "<f4").reshape(-1, 2), 0)
        assert engine().append(fd, content, 40_000)
        assert engine().append(fd, content, 123, read_back=False)  # it went to 80,000
        os.lseek(fd, 80_000, os.SEEK_SET)
        assert not engine().append(fd, content + b"x", 40_000)  # it went to 80,000
        with pytest.raises(InputError, match="in one piece"):
            engine().reads_back(fd, np.zeros(10, np.float32)[::2], 0)
    for use in (engine().reads_back, engine().append):
        with pytest.raises(OSError, match="descriptor"):
            use(fd, content, 0)
    rows_ct = noise(2, 40_000)
    with open("/dev/null", "r+b", buffering=0) as nothing:
        assert not engine().append(nothing.fileno(), content, 0)
        assert not engine().append_int16(nothing.fileno(), rows_ct, 0)
        assert engine().append_int16(nothing.fileno(), rows_ct, 0, read_back=False)
    with (tmp_path / "b").open("w+b", buffering=0) as file:
        assert engine().append_int16(file.fileno(), rows_ct, 0)
        assert not engine().append_int16(file.fileno(), -rows_ct, 0)  # it went to 160,000
