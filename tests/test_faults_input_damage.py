"""Faults 14 to 18 and 47: damaged codings, hostile headers, files that lie, files that are long."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_time import assert_takes_less
from fake_player import one_layer_graph
from fault_checks import Fault, memory_below, reset_peak, status_mib
from nam_documents import document
from wave_bytes import RATE, chunk, codes, encoded, floats, fmt, pack, riff, sound, wave

from fxfast.audio.files import AudioReader, open_audio, probe, read_audio, write_audio
from fxfast.audio.headers import MAX_CHUNKS
from fxfast.audio.metadata import MAX_METADATA_BYTES, read_metadata
from fxfast.errors import AudioFileError, FxfastError, PairError
from fxfast.exchange import load
from fxfast.pairs.manifest import read_manifest
from fxfast.rendering import Processing, render_library

# CPU seconds for the header and the metadata of any file.
HEADER_SECONDS = 0.05


def salvaged(path: Path) -> tuple[int, str | None]:
    with open_audio(path, lenient=True) as reader:
        for _ in reader:
            pass
        return reader.outcome.delivered, reader.outcome.problem


def test_fault_case_14_damaged_flac(tmp_path: Path) -> None:
    whole = encoded(sound(2, 60_000), "FLAC", "PCM_16")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    wrong_md5 = bytearray(whole)
    wrong_md5[26] ^= 1
    endless = bytearray(whole)
    endless[21] |= 0x0F  # the high bits of the 36-bit length in STREAMINFO
    files = {
        "cut.flac": (whole[: len(whole) // 2], "E_DECODE"),
        "flipped.flac": (bytes(flipped), "E_DECODE"),
        "md5.flac": (bytes(wrong_md5), "E_MD5"),
        "endless.flac": (bytes(endless), "E_TRUNCATED"),
        "header.flac": (whole[:30], "E_TRUNCATED"),
        "metadata.flac": (whole[:44], "E_TRUNCATED"),
    }
    case = Fault(tmp_path, {name: code for name, (_, code) in files.items()}, memory_mib=64)
    for name, (content, _) in files.items():
        (case.inputs / name).write_bytes(content)
    case.run()
    assert salvaged(case.inputs / "md5.flac") == (60_000, "E_MD5")
    frames, problem = salvaged(case.inputs / "cut.flac")
    assert problem == "E_DECODE"
    assert 0 < frames < 30_000
    frames, problem = salvaged(case.inputs / "endless.flac")
    assert (frames, problem) == (60_000, "E_TRUNCATED")
    # A lenient run renders as much, resampled or not.
    (tmp_path / "lenient").mkdir()
    lenient = Fault(
        tmp_path / "lenient",
        {"md5.flac": None, "cut.flac": None, "endless.flac": None},
        Processing(lenient=True),
        ["--lenient"],
    )
    for name in lenient.expect:
        (lenient.inputs / name).write_bytes(files[name][0])
    lines = lenient.run()
    assert lines["cut.flac"].fields["details"]["salvaged"] == "E_DECODE"
    wanted = read_audio(tmp_path / "lenient" / "out-api" / "md5.flac")[0]
    found = read_audio(tmp_path / "lenient" / "out-api" / "endless.flac")[0]
    assert np.array_equal(wanted, found)


def test_fault_case_14_any_bit_of_a_flac_is_missed_by_nobody(tmp_path: Path) -> None:
    """Whatever bit is flipped: the same samples, or an error."""
    x_ct = floats(codes(1, 3000), 16)
    whole = encoded(x_ct, "FLAC", "PCM_16")
    path, random = tmp_path / "a.flac", np.random.default_rng(0)
    for bit in random.integers(0, 8 * len(whole), 300):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(content)
        try:
            y_ct, _ = read_audio(path)
        except AudioFileError:
            continue
        assert np.array_equal(y_ct, x_ct), bit


def test_fault_case_15_cut_files_of_other_formats(tmp_path: Path) -> None:
    x_ct = sound(1, 96_000)
    whole = {
        "a.ogg": encoded(x_ct, "OGG", "VORBIS"),
        "b.ogg": encoded(x_ct, "OGG", "OPUS"),
        "c.mp3": encoded(x_ct, "MP3", "MPEG_LAYER_III"),
        "d.aiff": encoded(x_ct, "AIFF", "PCM_16"),
        "e.caf": encoded(x_ct, "CAF", "PCM_24"),
        "f.w64": encoded(x_ct, "W64", "FLOAT"),
        "g.caf": encoded(x_ct, "CAF", "ALAC_16"),
    }
    for name, content in whole.items():
        path = tmp_path / name
        path.write_bytes(content)
        y_ct, rate = read_audio(path)
        assert rate == RATE
        assert y_ct.shape[1] >= 96_000 - 1152, name
        for part in (0.2, 0.5, 0.67, 0.9, 0.99):
            path.write_bytes(content[: int(len(content) * part)])
            with pytest.raises(AudioFileError) as raised:
                read_audio(path)
            assert raised.value.code in ("E_TRUNCATED", "E_DECODE", "E_FORMAT"), (name, part)
            try:
                frames, problem = salvaged(path)
            except AudioFileError:
                continue
            assert problem is not None
            assert frames < y_ct.shape[1]


def test_fault_case_15_claims_of_2_to_the_32_frames(tmp_path: Path) -> None:
    x_ct = sound(1, 1000)
    aiff = bytearray(encoded(x_ct, "AIFF", "PCM_16"))
    aiff[22:26] = b"\xff" * 4
    caf = bytearray(encoded(x_ct, "CAF", "PCM_16"))
    at = caf.index(b"data") + 4
    caf[at : at + 8] = struct.pack(">q", 1 << 33)
    case = Fault(tmp_path, {"a.aiff": "E_TRUNCATED"}, memory_mib=32)
    (case.inputs / "a.aiff").write_bytes(aiff)
    case.run()
    (tmp_path / "b.caf").write_bytes(caf)
    with memory_below(16), pytest.raises(AudioFileError, match="promises 4294967294 frames"):
        read_audio(tmp_path / "b.caf")


SOUND = pack(codes(1, 500), 16)
DATA = chunk(b"data", SOUND)
TINY = b"".join(b"t%03d" % (n % 1000) + b"\0\0\0\0" for n in range(100_000))
HOSTILE: dict[str, tuple[bytes, str | None]] = {
    "100k-chunks.wav": (riff(fmt(), TINY, DATA), "E_FORMAT"),
    "100k-behind.wav": (riff(fmt(), DATA, TINY), "E_FORMAT"),
    "list-2-gib.wav": (riff(fmt(), chunk(b"LIST", b"INFO", 1 << 31), DATA), "E_TRUNCATED"),
    "list-2-gib-behind.wav": (riff(fmt(), DATA, chunk(b"LIST", b"INFO", 1 << 31)), None),
    "odd-no-pad.wav": (riff(chunk(b"junk", b"abc", pad=False), fmt(), DATA), None),
    "odd-with-pad.wav": (riff(chunk(b"junk", b"abc"), fmt(), DATA), None),
    "nested.wav": (riff(fmt(), chunk(b"LIST", b"adtl" + riff(fmt(), DATA)), DATA), None),
    "fmt-behind.wav": (riff(DATA, fmt()), "E_FORMAT"),
    "no-fmt.wav": (riff(DATA), "E_FORMAT"),
    "two-data.wav": (riff(fmt(), DATA, DATA), "E_FORMAT"),
    "two-fmt.wav": (riff(fmt(), fmt(), DATA), None),
    "two-fmt-that-differ.wav": (riff(fmt(), fmt(2), DATA), "E_FORMAT"),
    "short-fmt.wav": (riff(chunk(b"fmt ", b"\1\0\1\0"), DATA), "E_FORMAT"),
    "bext-10-mb.wav": (riff(fmt(), chunk(b"bext", bytes(10_000_000)), DATA), None),
    "ixml-10-mb.wav": (riff(fmt(), DATA, chunk(b"iXML", b"<x/>" * 2_500_000)), None),
    "garbage-behind.wav": (riff(fmt(), DATA, bytes(1000)), None),
}


def header_code(path: Path) -> str | None:
    """The code of what is wrong with a header and the metadata."""
    try:
        probe(path)
        read_metadata(path)
    except AudioFileError as error:
        return error.code
    return None


def test_fault_case_16_hostile_headers(tmp_path: Path) -> None:
    wanted = floats(np.frombuffer(SOUND, "<i2")[np.newaxis], 16)
    expect: dict[str, Any] = {
        n: wanted if code is None else code for n, (_, code) in HOSTILE.items()
    }
    case = Fault(tmp_path, expect)
    for name, (content, code) in HOSTILE.items():
        path = case.inputs / name
        path.write_bytes(content)
        assert header_code(path) == code, name
        with memory_below(16):
            assert_takes_less(HEADER_SECONDS, partial(header_code, path), name)
    case.run()
    assert len(TINY) // 8 > MAX_CHUNKS


def test_fault_case_16_metadata_beyond_the_limit_is_dropped(tmp_path: Path) -> None:
    content = riff(fmt(), chunk(b"bext", bytes(MAX_METADATA_BYTES + 1)), chunk(b"note", b"x"), DATA)
    (tmp_path / "a.wav").write_bytes(content)
    metadata = read_metadata(tmp_path / "a.wav")
    assert (metadata.dropped, metadata.before) == (("bext",), ((b"note", b"x"),))


def test_fault_case_17_files_that_are_not_what_their_name_says(tmp_path: Path) -> None:
    x_ct = floats(codes(1, 1000), 16)
    bad = {
        "text.wav": b"This is a letter.\n" * 100,
        "png.wav": b"\x89PNG\r\n\x1a\n" + bytes(2000),
        "elf.wav": b"\x7fELF\2\1\1" + bytes(2000),
        "zip.wav": b"PK\3\4" + bytes(2000),
        "zero.wav": bytes(2000),
        "avi.wav": b"RIFF" + struct.pack("<I", 2000) + b"AVI " + bytes(2000),
        "form.aiff": b"FORM" + struct.pack(">I", 2000) + b"ILBM" + bytes(2000),
        "text.flac": b"fLaC? No, only a letter.\n" * 100,
        "short.ogg": b"OggS",
    }
    good = {
        "flac.wav": encoded(x_ct, "FLAC", "PCM_16"),
        "wav.flac": wave(codes(1, 1000)),
        "wav.ogg": wave(codes(1, 1000)),
        "aiff.wav": encoded(x_ct, "AIFF", "PCM_16"),
    }
    expect: dict[str, Any] = dict.fromkeys(bad, "E_FORMAT") | dict.fromkeys(good, x_ct)
    expect["text.flac"] = expect["short.ogg"] = "E_TRUNCATED"
    # One output has one input.
    expect.pop("wav.ogg"), expect.pop("text.flac")
    case = Fault(tmp_path, expect)
    for name in expect:
        (case.inputs / name).write_bytes({**bad, **good}[name])
    lines = case.run()
    for name in ("flac.wav", "aiff.wav", "wav.flac"):
        assert "suffix_mismatch" in lines[name].fields["details"]["notes"], name
        assert "suffix_mismatch" in probe(case.inputs / name).flags
    for name in ("wav.ogg", "text.flac"):
        (tmp_path / name).write_bytes({**bad, **good}[name])
    assert read_audio(tmp_path / "wav.ogg")[0].shape == (1, 1000)
    with pytest.raises(AudioFileError):
        read_audio(tmp_path / "text.flac")


def sparse_wave(path: Path, channels: int, frames: int) -> None:
    """16-bit silence: a header, and a hole in the file. RF64 where 32 bits do not hold its size."""
    data_bytes = 2 * channels * frames
    large = data_bytes > 0xFFFFF000
    sizes = chunk(b"ds64", struct.pack("<QQQI", data_bytes + 72, data_bytes, frames, 0))
    claimed = 0xFFFFFFFF if large else data_bytes
    head = riff(
        *([sizes] if large else []),
        fmt(channels),
        b"data" + struct.pack("<I", claimed),
        size=0xFFFFFFFF if large else data_bytes + 36,
        magic=b"RF64" if large else b"RIFF",
    )
    path.write_bytes(head)
    os.truncate(path, len(head) + data_bytes)


LONG = os.environ.get("FXFAST_LONG_TESTS") == "1"
LENGTHS = [(1, 60, 24 * 3600), (64, 8, 600)] if LONG else [(1, 10, 300), (64, 4, 20)]


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "short_s", "long_s"), LENGTHS)
def test_fault_case_18_memory_does_not_grow_with_the_length(
    tmp_path: Path, channels: int, short_s: int, long_s: int
) -> None:
    if shutil.disk_usage(tmp_path).free < 3 * channels * long_s * RATE:
        pytest.skip(f"needs {3 * channels * long_s * RATE / 2**30:.1f} GiB of disk")

    def peak_mib(seconds: int) -> float:
        (tmp_path / "in").mkdir(exist_ok=True)
        sparse_wave(tmp_path / "in" / "a.wav", channels, seconds * RATE)
        reset_peak()
        report = render_library(
            one_layer_graph(1.0), [tmp_path / "in"], tmp_path / "out", overwrite=True, jobs=1
        )
        peak = status_mib("VmHWM")
        assert not report.failed
        assert probe(tmp_path / "out" / "a.wav").frames == seconds * RATE
        return peak

    peak_mib(short_s)
    grown = []
    # Buffers fill by chance of timing (up to 5 MiB): what is kept of a file is kept in every try.
    for _ in range(3):
        grown.append(peak_mib(long_s) - peak_mib(short_s))
        if grown[-1] < 12:
            break
    (tmp_path / "out" / "a.wav").unlink()
    # A byte kept for each sample would be over 13.
    assert min(grown) < 12


def test_fault_case_18_a_day_of_sound_is_read_in_flat_memory(tmp_path: Path) -> None:
    day = 24 * 3600 * RATE
    sparse_wave(tmp_path / "a.wav", 1, day)
    with open_audio(tmp_path / "a.wav") as reader:
        next(iter(reader))  # what is loaded and allocated once
    # The minute in float32 alone would be 11 MiB.
    with memory_below(8), open_audio(tmp_path / "a.wav") as reader:
        assert reader.info.frames == day
        reader.skip(day - 60 * RATE)
        assert sum(block_ct.shape[1] for block_ct in reader) == 60 * RATE
        assert reader.outcome.delivered == day


# --- 47: no path in a file is followed out of its folder -----------------------------------------

_OPENED: list[str] = []


def _note_opening(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        _OPENED.append(arguments[0])


def test_fault_case_47_no_path_in_a_model_is_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    write_audio(secret, np.ones(100, np.float32), RATE)
    linear = {"receptive_field": 2, "bias": False, "ir": str(secret), "file": "../secret.wav"}
    contents = document("Linear", linear, [0.5, 0.25])
    contents["metadata"] = {"ir": str(secret), "path": "/etc/passwd"}
    (tmp_path / "a.nam").write_text(json.dumps(contents))
    sys.addaudithook(_note_opening)
    _OPENED.clear()
    with suppress(FxfastError):
        load(tmp_path / "a.nam")
    opened = [name for name in _OPENED if "secret" in name or "passwd" in name]
    assert str(tmp_path / "a.nam") in _OPENED
    assert opened == []


@pytest.mark.parametrize(
    "wet",
    ["../secret.wav", "/etc/passwd", "a\0b.wav", "C:\\x.wav", "\\\\host\\x.wav", "wet/link.wav",
     "wet/up/secret.wav", ""],
)  # fmt: skip
def test_fault_case_47_no_path_in_a_manifest_leads_out(tmp_path: Path, wet: str) -> None:
    write_audio(tmp_path / "secret.wav", np.ones(100, np.float32), RATE)
    root = tmp_path / "pairs"
    (root / "wet").mkdir(parents=True)
    (root / "wet" / "link.wav").symlink_to(tmp_path / "secret.wav")
    (root / "wet" / "up").symlink_to(tmp_path)
    record = {"name": "a", "dry": "dry/a.wav", "wet": wet, "sample_rate": RATE, "frames": 1}
    (root / "pairs.jsonl").write_text(json.dumps(record) + "\n")
    with pytest.raises(PairError, match=r"inside the folder|expected a text"):
        read_manifest(root)


def test_readers_are_closed_by_their_block(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", sound(1, 1000), RATE)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with open_audio(tmp_path / "a.flac") as reader:
            next(iter(reader))
        assert isinstance(reader, AudioReader)
        with pytest.raises(AudioFileError):
            open_audio(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
