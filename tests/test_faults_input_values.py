"""Faults 9 to 13: samples, channels and rates that come out right or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_player import one_layer_graph
from families import FAMILIES
from fault_checks import Fault
from wave_bytes import RATE, chunk, codes, floats, fmt, riff, wave

from fxfast.audio.files import BlockWriter, read_audio, write_audio
from fxfast.errors import ChannelsError, NonfiniteError
from fxfast.graph import ModelGraph
from fxfast.player import Player
from fxfast.rendering import Processing, render_file, render_library


def float_wave(x_ct: np.ndarray) -> bytes:
    return riff(fmt(len(x_ct), 32, 3), chunk(b"data", x_ct.T.astype("<f4").tobytes()))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_fault_case_09_every_code_comes_back(tmp_path: Path, suffix: str) -> None:
    all_16 = np.arange(-(1 << 15), 1 << 15)[np.newaxis]
    random_24 = codes(1, 1_000_000, 24)
    random_24[0, :4] = (-(1 << 23), (1 << 23) - 1, 0, -1)
    sounds = {"16": (all_16, "PCM_16"), "24": (random_24, "PCM_24")}
    case = Fault(tmp_path, {f"{n}{suffix}": floats(x, int(n)) for n, (x, _) in sounds.items()})
    for bits, (x_ct, subtype) in sounds.items():
        shifted = (x_ct[0] << (32 - int(bits))).astype(np.int32)
        soundfile.write(case.inputs / f"{bits}{suffix}", shifted, RATE, subtype)
    case.run()
    for bits, (x_ct, subtype) in sounds.items():
        path = tmp_path / "out-api" / f"{bits}{suffix}"
        found, _ = soundfile.read(path, dtype="int32")
        assert soundfile.info(path).subtype == subtype
        assert np.array_equal(found >> (32 - int(bits)), x_ct[0])


def test_fault_case_10_channels(tmp_path: Path) -> None:
    sounds = {f"{c}.wav": codes(c, 500, 8, seed=c) for c in (1, 2, 6, 8, 64)}
    expect: dict[str, Any] = {name: floats(x_ct, 8) for name, x_ct in sounds.items()}
    many = {"65.wav": 65, "1024.wav": 1024, "65535.wav": 65535}
    case = Fault(tmp_path, {**expect, "0.wav": "E_CHANNELS", **dict.fromkeys(many, "E_CHANNELS")})
    for name, x_ct in sounds.items():
        (case.inputs / name).write_bytes(wave(x_ct, 8))
    for name, channels in many.items():
        (case.inputs / name).write_bytes(riff(fmt(channels, 8), chunk(b"data", bytes(channels))))
    (case.inputs / "0.wav").write_bytes(riff(fmt(0, 8), chunk(b"data", bytes(100))))
    lines = case.run()
    assert "expected at most 64 channels, got 65535" in str(lines["65535.wav"].message)


def test_fault_case_10_every_channel_has_a_state_of_its_own(tmp_path: Path) -> None:
    """A recurrent model hears each channel as if it were a file."""
    graph = ModelGraph(FAMILIES["lstm"](), RATE)
    x_ct = np.random.default_rng(0).uniform(-1, 1, (6, 3000)).astype(np.float32)
    write_audio(tmp_path / "six.wav", x_ct, RATE)
    player = Player(graph, threads=1)
    render_file(player, tmp_path / "six.wav", tmp_path / "six-out.wav")
    together = read_audio(tmp_path / "six-out.wav")[0]
    for index in range(6):
        alone = tmp_path / f"{index}.wav"
        write_audio(alone, x_ct[index], RATE)
        render_file(player, alone, tmp_path / f"{index}-out.wav")
        assert np.array_equal(read_audio(tmp_path / f"{index}-out.wav")[0][0], together[index])


RATES = {0: False, 1: True, 8000: True, 44_101: True, 192_000: True, (1 << 31) - 1: True}
RATES[4_000_000_000] = False


def test_fault_case_11_rates(tmp_path: Path) -> None:
    x_ct = codes(1, 700)
    case = Fault(tmp_path, {f"{rate}.wav": "E_RATE" for rate in RATES})
    case.expect = {**case.expect, "48000.wav": floats(x_ct, 16)}
    for rate in (*RATES, RATE):
        (case.inputs / f"{rate}.wav").write_bytes(wave(x_ct, 16, rate=rate))
    case.run()
    # Asked for, the rate is not looked at; one that no file can have stays an error.
    (tmp_path / "ignored").mkdir()
    ignored = Fault(
        tmp_path / "ignored",
        {f"{r}.wav": floats(x_ct, 16) if valid else "E_RATE" for r, valid in RATES.items()},
        Processing(ignore_rate=True),
        ["--ignore-rate"],
    )
    for rate in RATES:
        (ignored.inputs / f"{rate}.wav").write_bytes(wave(x_ct, 16, rate=rate))
    ignored.run()
    # Converted, it must be in a range that can be.
    (tmp_path / "converted").mkdir()
    wanted = {"8000.wav": None, "44101.wav": None, "192000.wav": None}
    converted = Fault(
        tmp_path / "converted",
        {f"{rate}.wav": wanted.get(f"{rate}.wav", "E_RATE") for rate in RATES if rate != 1},
        Processing(resample=True),
        ["--resample"],
    )
    for rate in RATES:
        if rate != 1:
            (converted.inputs / f"{rate}.wav").write_bytes(wave(x_ct, 16, rate=rate))
    converted.run()
    for name in wanted:
        assert read_audio(tmp_path / "converted" / "out-api" / name)[0].shape == (1, 700)


STRANGE = {
    "nan": np.float32(np.nan),
    "inf": np.float32(np.inf),
    "minus-inf": np.float32(-np.inf),
    "denormal": np.float32(1e-41),
    "huge": np.float32(1e30),
    "loud": np.float32(-5.0),
}


def test_fault_case_12_strange_floats(tmp_path: Path) -> None:
    sounds, expect = {}, {}
    for name, value in STRANGE.items():
        x_ct = floats(codes(2, 2000), 16)
        x_ct[1, 1234] = value
        sounds[f"{name}.wav"] = x_ct
        expect[f"{name}.wav"] = x_ct if np.isfinite(value) else "E_NONFINITE"
    # The engine treats denormal numbers as zero.
    expect["denormal.wav"] = None
    case = Fault(tmp_path, expect)
    for name, x_ct in sounds.items():
        (case.inputs / name).write_bytes(float_wave(x_ct))
    lines = case.run()
    assert "at frame 1234" in str(lines["nan.wav"].message)
    (tmp_path / "zeroed").mkdir()
    zeroed = {name: np.where(np.isfinite(x_ct), x_ct, 0.0) for name, x_ct in sounds.items()}
    zeroed["denormal.wav"] = None
    again = Fault(
        tmp_path / "zeroed", zeroed, Processing(nonfinite="zero"), ["--nonfinite", "zero"]
    )
    for name, x_ct in sounds.items():
        (again.inputs / name).write_bytes(float_wave(x_ct))
    again.run()


@pytest.mark.parametrize("family", ["lstm", "gru of two layers", "gru with skip"])
def test_fault_case_12_a_zeroed_nan_leaves_no_trace_in_a_state(tmp_path: Path, family: str) -> None:
    player = Player(ModelGraph(FAMILIES[family](), RATE), threads=1)
    x_ct = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 4000)).astype(np.float32)
    zero_ct = x_ct.copy()
    x_ct[0, 1000:1100], zero_ct[0, 1000:1100] = np.nan, 0.0
    (tmp_path / "nan.wav").write_bytes(float_wave(x_ct))
    (tmp_path / "zero.wav").write_bytes(float_wave(zero_ct))
    done = render_file(
        player,
        tmp_path / "nan.wav",
        tmp_path / "a.wav",
        processing=Processing(nonfinite="zero"),
    )
    render_file(player, tmp_path / "zero.wav", tmp_path / "b.wav")
    assert done.zeroed == 100
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


@pytest.mark.parametrize("subtype", ["pcm_16", "pcm_24"])
def test_fault_case_13_clipping_is_counted(tmp_path: Path, subtype: str) -> None:
    x_ct = np.array([[0.5, 1.5, -2.0, 1.0, -1.0, 0.999]], np.float32)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(float_wave(x_ct))
    report = render_library(
        one_layer_graph(1.0), [tmp_path / "in"], tmp_path / "out", subtype=subtype
    )
    (line,) = report.files
    assert (line.status, line.clipped, report.clipped) == ("rendered", 2, 2)
    assert line.details["peak_dbfs"] == pytest.approx(6.0206, abs=1e-3)
    top = 1.0 - 2.0 ** -(int(subtype[4:]) - 1)
    y_ct, _ = read_audio(tmp_path / "out" / "a.wav")
    assert y_ct.max() == np.float32(top)
    assert y_ct.min() == -1.0
    floats_out = render_library(
        one_layer_graph(1.0), [tmp_path / "in"], tmp_path / "float", subtype="float"
    )
    assert floats_out.clipped == 0
    assert np.array_equal(read_audio(tmp_path / "float" / "a.wav")[0], x_ct)


def test_fault_case_13_what_overflows_in_the_model_is_not_written(tmp_path: Path) -> None:
    x_ct = np.zeros((1, 500), np.float32)
    x_ct[0, 321] = 1e36
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(float_wave(x_ct))
    for subtype in ("float", "pcm_16"):
        report = render_library(
            one_layer_graph(1e6), [tmp_path / "in"], tmp_path / subtype, subtype=subtype
        )
        assert [line.code for line in report.files] == ["E_NONFINITE"]
        assert not (tmp_path / subtype / "a.wav").exists()
    with (
        pytest.raises(NonfiniteError) as raised,
        BlockWriter(tmp_path / "b.wav", RATE, 1, None, "PCM_16") as writer,
    ):
        writer.write(np.array([0.0, np.nan], np.float32))
    assert raised.value.details["frame"] == 1
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_fault_case_13_dither_is_noise_that_does_not_depend_on_the_blocks(
    tmp_path: Path, subtype: str
) -> None:
    step = 2.0 ** -(int(subtype[4:]) - 1)
    x_ct = (0.3 * step * np.sin(np.arange(200_000) / 50))[np.newaxis].astype(np.float32)
    contents = set()
    for block in (200_000, 1, 777, 65537):
        size = 2000 if block == 1 else 200_000
        path = tmp_path / f"{block}.wav"
        with BlockWriter(path, RATE, 1, None, subtype, dither=5) as writer:
            for start in range(0, size, block):
                writer.write(x_ct[:, start : min(size, start + block)])
        contents.add(path.read_bytes()[-2000:] if block != 1 else None)
        if block == 1:
            short, whole = path.read_bytes(), (tmp_path / "200000.wav").read_bytes()
            assert short[80:] == whole[80 : len(short)]
    assert len(contents) == 2
    y_ct, _ = read_audio(tmp_path / "777.wav")
    error = (y_ct - x_ct) / step
    # TPDF before rounding: no bias, a quarter of a square step, unrelated to the sound.
    assert abs(error.mean()) < 0.01
    assert error.var() == pytest.approx(0.25, rel=0.03)
    assert abs(np.corrcoef(error[0], x_ct[0])[0, 1]) < 0.01
    write_audio(tmp_path / "plain.wav", x_ct, RATE, subtype)
    assert not read_audio(tmp_path / "plain.wav")[0].any()


def test_fault_case_14_nine_channels_do_not_start_a_flac(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.wav").write_bytes(wave(codes(9, 100)))
    for dry_run in (True, False):
        report = render_library(
            one_layer_graph(1.0), [tmp_path / "in"], tmp_path / "out", format="flac",
            dry_run=dry_run,
        )  # fmt: skip
        assert [line.code for line in report.files] == ["E_CHANNELS"]
        assert "expected 1 to 8 channels, got 9" in str(report.files[0].message)
    with pytest.raises(ChannelsError):
        BlockWriter(tmp_path / "a.flac", RATE, 9)
