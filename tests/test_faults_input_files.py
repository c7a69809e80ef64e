"""Faults 1 to 8: what audio libraries hold, and what becomes of it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fault_checks import Fault
from wave_bytes import RATE, chunk, codes, floats, fmt, pack, riff, wave

from fxfast.audio.files import open_audio, probe, read_audio
from fxfast.errors import AudioFileError, EmptyFileError, SizeWrapError, TruncatedError
from fxfast.rendering import Processing
from fxfast.rendering.rendered_file import BLOCK_FRAMES

GIB = 1 << 30


def error_of(path: Path) -> AudioFileError:
    with pytest.raises(AudioFileError) as raised, open_audio(path) as reader:
        list(reader)
    return raised.value


def read(path: Path, **settings: Any) -> tuple[np.ndarray, Any]:
    """The whole sound, and how it went."""
    with open_audio(path, **settings) as reader:
        blocks = [block_ct.copy() for block_ct in reader]
        empty = np.zeros((reader.info.channels, 0), np.float32)
        return np.concatenate([empty, *blocks], axis=1), reader.outcome


def test_fault_case_01_no_bytes(tmp_path: Path) -> None:
    case = Fault(tmp_path, {"a.wav": "E_EMPTY", "b.flac": "E_EMPTY"})
    (case.inputs / "a.wav").touch()
    (case.inputs / "b.flac").touch()
    case.run()
    assert isinstance(error_of(case.inputs / "a.wav"), EmptyFileError)


def test_fault_case_02_no_frames(tmp_path: Path) -> None:
    none_ct = np.zeros((2, 0), np.float32)
    case = Fault(tmp_path, {"a.wav": none_ct, "b.wav": none_ct, "c.aiff": none_ct})
    (case.inputs / "a.wav").write_bytes(wave(np.zeros((2, 0), np.int64)))
    info = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"none\0"))
    (case.inputs / "b.wav").write_bytes(riff(fmt(2), chunk(b"data", b""), info))
    soundfile.write(case.inputs / "c.aiff", none_ct.T, RATE)
    case.run()
    for name in ("a", "b", "c"):
        info_out = probe(tmp_path / "out-api" / f"{name}.wav")
        assert (info_out.frames, info_out.channels, info_out.flags) == (0, 2, ())
    refused = Fault(
        tmp_path,
        dict.fromkeys(("a.wav", "b.wav", "c.aiff"), "E_EMPTY"),
        Processing(no_empty=True),
    )
    for folder in ("out-api", "out-command"):
        for path in (tmp_path / folder).iterdir():
            path.unlink()
    refused.run_api()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_fault_case_03_lengths_around_blocks(tmp_path: Path, suffix: str) -> None:
    lengths = [1, 2, 7, *(BLOCK_FRAMES + d for d in (-1, 0, 1)), *(65536 + d for d in (-1, 0, 1))]
    sounds = {f"{n}{suffix}": codes(1, n, seed=n) for n in lengths}
    case = Fault(tmp_path, {name: floats(x_ct, 16) for name, x_ct in sounds.items()})
    for name, x_ct in sounds.items():
        soundfile.write(case.inputs / name, x_ct[0].astype(np.int16), RATE, "PCM_16")
    case.run()


def test_fault_case_04_cut_in_half(tmp_path: Path) -> None:
    x_ct = codes(2, 48_000)
    case = Fault(tmp_path, {"a.wav": "E_TRUNCATED", "odd.wav": "E_TRUNCATED"})
    whole = wave(x_ct)
    (case.inputs / "a.wav").write_bytes(whole[: 44 + 4 * 24_000])
    (case.inputs / "odd.wav").write_bytes(whole[: 44 + 4 * 1000 + 3])
    lines = case.run()
    assert "promises 48000 frames, 24000 are there" in str(lines["a.wav"].message)
    error = error_of(case.inputs / "odd.wav")
    assert isinstance(error, TruncatedError)
    assert (error.details["promised"], error.details["present"]) == (48_000, 1000)
    salvaged = Fault(
        tmp_path / "lenient",
        {"a.wav": floats(x_ct[:, :24_000], 16), "odd.wav": floats(x_ct[:, :1000], 16)},
        Processing(lenient=True),
    )
    (tmp_path / "lenient").mkdir()
    for path in case.inputs.iterdir():
        (salvaged.inputs / path.name).write_bytes(path.read_bytes())
    salvaged.run_api()
    _, outcome = read(case.inputs / "odd.wav", lenient=True)
    assert (outcome.salvaged, outcome.problem) == (True, "E_TRUNCATED")
    assert (outcome.promised, outcome.delivered) == (48_000, 1000)


def test_fault_case_05_claims_of_gigabytes(tmp_path: Path) -> None:
    sound = pack(codes(1, 1000), 16)
    files = {
        f"{claim:x}.wav": riff(fmt(), chunk(b"data", sound, claim))
        for claim in (0xFFFFFFFF, 1 << 31, (1 << 31) - 1, 0xFFFFFFFE, 2002)
    }
    sizes = chunk(b"ds64", struct.pack("<QQQI", 1 << 63, 1 << 63, 1 << 62, 0))
    files["rf64.wav"] = riff(sizes, fmt(), chunk(b"data", sound, 0xFFFFFFFF), magic=b"RF64")
    case = Fault(tmp_path, dict.fromkeys(files, "E_TRUNCATED"), memory_mib=16)
    for name, content in files.items():
        (case.inputs / name).write_bytes(content)
    case.run()


def test_fault_case_06_streamed_files(tmp_path: Path) -> None:
    x_ct = codes(2, 24_000)
    sound = pack(x_ct, 16)
    files = {
        "zero.wav": riff(fmt(2), chunk(b"data", sound, 0), size=0),
        "crashed.wav": riff(fmt(2), chunk(b"data", sound, 0), size=36),
        "piped.wav": riff(fmt(2), chunk(b"data", sound, 0xFFFFFFFF), size=0xFFFFFFFF),
        "partial.wav": riff(fmt(2), chunk(b"data", sound + b"abc", 0, pad=False), size=0),
    }
    case = Fault(tmp_path, dict.fromkeys(files, floats(x_ct, 16)), memory_mib=32)
    for name, content in files.items():
        (case.inputs / name).write_bytes(content)
        assert "streamed" in probe(case.inputs / name).flags
        y_ct, outcome = read(case.inputs / name)
        assert np.array_equal(y_ct, floats(x_ct, 16))
        assert (outcome.promised, outcome.problem) == (None, None)
    case.run()


def sparse(path: Path, head: bytes, tail: bytes, data_bytes: int) -> None:
    """A file with a hole of gigabytes between its header and its last second."""
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + data_bytes - len(tail))
        file.write(tail)


def w64(data_bytes: int) -> bytes:
    """The header of a W64 file of 32-bit floats."""
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    body = fmt(1, 32, 3)[8:]
    fmt_chunk = b"fmt " + tail + struct.pack("<Q", 24 + len(body)) + body
    data = b"data" + tail + struct.pack("<Q", 24 + data_bytes)
    total = 40 + len(fmt_chunk) + 24 + data_bytes
    riff_guid = bytes.fromhex("726966662e91cf11a5d628db04c10000")
    return riff_guid + struct.pack("<Q", total) + b"wave" + tail + fmt_chunk + data


def large_header(magic: bytes, data_bytes: int, claimed: int) -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", data_bytes + 72, data_bytes, data_bytes // 4, 0))
    parts = [sizes] if magic != b"RIFF" else []
    data = b"data" + struct.pack("<I", claimed)
    return riff(*parts, fmt(1, 32, 3), data, size=claimed, magic=magic)


@pytest.mark.parametrize("kind", ["RF64", "BW64", "W64", "wrapped", "streamed"])
def test_fault_case_07_five_gibibytes(tmp_path: Path, kind: str) -> None:
    data_bytes = 5 * GIB
    last_t = np.random.default_rng(0).uniform(-1, 1, RATE).astype(np.float32)
    head = {
        "RF64": large_header(b"RF64", data_bytes, 0xFFFFFFFF),
        "BW64": large_header(b"BW64", data_bytes, 0xFFFFFFFF),
        "W64": w64(data_bytes),
        "wrapped": large_header(b"RIFF", data_bytes, data_bytes & 0xFFFFFFFF),
        "streamed": large_header(b"RIFF", data_bytes, 0xFFFFFFFF),
    }[kind]
    path = tmp_path / "a.wav"
    sparse(path, head, last_t.tobytes(), data_bytes)
    if kind == "wrapped":
        error = error_of(path)
        assert isinstance(error, SizeWrapError)
        assert error.details["present"] == data_bytes // 4
    info = probe(path, lenient=kind == "wrapped")
    assert info.frames == data_bytes // 4
    with open_audio(path, lenient=kind == "wrapped") as reader:
        # Skip the hole: reading five gibibytes of zeros would only take time.
        reader.skip(info.frames - 2 * RATE)
        assert not reader.read(RATE).any()
        assert np.array_equal(reader.read(RATE)[0], last_t)
        assert reader.read(1).shape == (1, 0)


def test_fault_case_08_sample_layouts(tmp_path: Path) -> None:
    x_ct = codes(2, 3000)
    sound = pack(x_ct, 16)
    good: dict[str, tuple[bytes, np.ndarray]] = {}
    for bits in (8, 16, 24, 32):
        y_ct = codes(2, 3000, bits, seed=bits)
        good[f"int{bits}.wav"] = (wave(y_ct, bits), floats(y_ct, bits))
    twenty_ct = codes(2, 3000, 24) & ~0xF
    packed = chunk(b"data", pack(twenty_ct, 24))
    good["20in24.wav"] = (riff(fmt(2, 20, frame_bytes=6), packed), floats(twenty_ct, 24))
    doubles = np.random.default_rng(1).uniform(-1, 1, (2, 3000))
    good["double.wav"] = (
        riff(fmt(2, 64, 3), chunk(b"data", doubles.T.astype("<f8").tobytes())),
        doubles.astype(np.float32),
    )
    for mask in [0, *(1 << bit for bit in range(18)), 0x3, 0x3F, 0x60F, 0x3FFFF, 0x80000000]:
        content = riff(fmt(2, 16, extensible=(16, mask)), chunk(b"data", sound))
        good[f"mask{mask:x}.wav"] = (content, floats(x_ct, 16))
    bad = {
        "partial.wav": riff(fmt(2), chunk(b"data", sound + b"ab")),
        "align.wav": riff(fmt(2, frame_bytes=3), chunk(b"data", sound)),
        "align0.wav": riff(fmt(2, frame_bytes=0), chunk(b"data", sound)),
        "24in32.wav": riff(fmt(2, 24, frame_bytes=8), chunk(b"data", sound)),
        "bits0.wav": riff(fmt(2, 0), chunk(b"data", sound)),
        "bits64.wav": riff(fmt(2, 64), chunk(b"data", sound)),
        "half.wav": riff(fmt(2, 16, 3), chunk(b"data", sound)),
        "tag.wav": riff(fmt(2, tag=0x1234), chunk(b"data", sound)),
    }
    expect: dict[str, Any] = {name: None if "32" in name else x for name, (_, x) in good.items()}
    case = Fault(tmp_path, {**expect, **dict.fromkeys(bad, "E_FORMAT")})
    for name, content in {**{n: c for n, (c, _) in good.items()}, **bad}.items():
        (case.inputs / name).write_bytes(content)
    case.settings = {"subtype": "float"}
    case.options = ["--subtype", "float"]
    case.run()
    for name, (_, wanted_ct) in good.items():
        assert np.array_equal(read_audio(case.inputs / name)[0], wanted_ct), name
