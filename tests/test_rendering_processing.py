"""What happens to the samples besides the model: channels, level, non-finite input."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_player import MODEL_RATE, FakePlayer, one_layer_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tolerances import TOLERANCES

from fxfast import Player
from fxfast.audio.files import probe, read_audio
from fxfast.audio.loudness import LoudnessMeter
from fxfast.cli import main
from fxfast.errors import ChannelsError, InputError, NonfiniteError, RateError
from fxfast.exchange import load, save
from fxfast.rendering import Processing, RenderedFile, render_file


def noise(channels: int, frames: int, peak: float = 0.4, seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.uniform(-peak, peak, (channels, frames)).astype(np.float32)


def write(path: Path, x_ct: np.ndarray, rate: int = MODEL_RATE) -> Path:
    soundfile.write(path, x_ct.T, rate, "FLOAT")
    return path


def render(
    tmp_path: Path, x_ct: np.ndarray, processing: Processing, **options: object
) -> tuple[np.ndarray, RenderedFile]:
    source = write(tmp_path / "in.wav", x_ct)
    player = FakePlayer(0.5, 0.25)
    out = tmp_path / "out.wav"
    done = render_file(
        player, source, out, processing=processing, overwrite=True, block_frames=777, **options
    )  # type: ignore[arg-type]
    return read_audio(out)[0], done


# --- channels ---------------------------------------------------------------------


def test_mid_and_side_go_through_states_of_their_own(tmp_path: Path) -> None:
    x_ct = noise(2, 3000)
    y_ct, done = render(tmp_path, x_ct, Processing(channels="mid-side"))
    half = x_ct / np.float32(2)
    mid, side = FakePlayer(0.5, 0.25).render(np.stack([half[0] + half[1], half[0] - half[1]]))
    assert done.channels == 2
    assert np.array_equal(y_ct, [mid + side, mid - side])


def test_mid_side_keeps_one_channel_and_refuses_three(tmp_path: Path) -> None:
    x_ct = noise(1, 500)
    y_ct, _ = render(tmp_path, x_ct, Processing(channels="mid-side"))
    assert np.array_equal(y_ct, FakePlayer(0.5, 0.25).render(x_ct))
    with pytest.raises(ChannelsError, match="at most 2 channels for mid-side, got 3"):
        render(tmp_path, noise(3, 500), Processing(channels="mid-side"))


@pytest.mark.parametrize("channels", [1, 2, 6, 64])
@pytest.mark.parametrize("policy", ["each", "mono-sum", "left"])
def test_channels_of_the_output_follow_the_policy(
    tmp_path: Path, policy: str, channels: int
) -> None:
    x_ct = noise(channels, 2000)
    y_ct, done = render(tmp_path, x_ct, Processing(channels=policy))
    mean_ct = np.mean(x_ct.astype(np.float64), axis=0, keepdims=True).astype(np.float32)
    wanted = {"each": x_ct, "mono-sum": mean_ct, "left": x_ct[:1]}[policy]
    assert done.channels == len(wanted) == probe(tmp_path / "out.wav").channels
    tolerance = TOLERANCES["mean_of_channels"].value
    assert np.abs(y_ct - FakePlayer(0.5, 0.25).render(wanted)).max() <= tolerance


def test_more_than_64_channels_are_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ChannelsError, match="64") as error:
        render(tmp_path, noise(65, 10), Processing())
    assert error.value.code == "E_CHANNELS"
    assert not (tmp_path / "out.wav").exists()


# --- level ------------------------------------------------------------------------


def test_gain_is_applied_after_the_model(tmp_path: Path) -> None:
    x_ct = noise(2, 1000)
    y_ct, done = render(tmp_path, x_ct, Processing(gain_db=-6.0))
    gain = np.float32(10 ** (-6 / 20))
    assert np.array_equal(y_ct, FakePlayer(0.5, 0.25).render(x_ct) * gain)
    assert done.gain_db == -6.0
    assert done.peak_dbfs == pytest.approx(20 * np.log10(np.abs(y_ct).max()))


@pytest.mark.parametrize("target", [None, -6.0])
def test_the_peak_comes_to_its_target(tmp_path: Path, target: float | None) -> None:
    y_ct, done = render(tmp_path, noise(2, 5000), Processing(normalize="peak", target_db=target))
    wanted_db = -1.0 if target is None else target
    tolerance = TOLERANCES["normalised_level_db"].value
    assert 20 * np.log10(np.abs(y_ct).max()) == pytest.approx(wanted_db, abs=tolerance)
    assert done.peak_dbfs == pytest.approx(wanted_db, abs=tolerance)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_loudness_comes_to_its_target(tmp_path: Path, channels: int) -> None:
    x_ct = noise(channels, 3 * MODEL_RATE)
    y_ct, done = render(tmp_path, x_ct, Processing(normalize="loudness"))
    meter = LoudnessMeter(MODEL_RATE, channels)
    meter.add(y_ct)
    assert done.loudness_lufs is not None
    assert done.gain_db == pytest.approx(-23.0 - done.loudness_lufs)
    tolerance = TOLERANCES["normalised_level_db"].value
    assert meter.integrated() == pytest.approx(-23.0, abs=tolerance)


@pytest.mark.parametrize("normalize", ["peak", "loudness"])
def test_silence_has_no_level_and_stays(tmp_path: Path, normalize: str) -> None:
    y_ct, done = render(
        tmp_path, np.zeros((1, MODEL_RATE), np.float32), Processing(normalize=normalize)
    )
    assert not y_ct.any()
    assert (done.gain_db, done.peak_dbfs, done.loudness_lufs) == (0.0, None, None)


def test_the_spool_has_no_name_and_leaves_nothing(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look() -> bool:
        seen.append(sorted(os.listdir(tmp_path)))
        return False

    render(tmp_path, noise(1, 5000), Processing(normalize="peak"), stopped=look)
    assert all(name == "in.wav" or name.endswith(".part") for name in seen[0])
    assert sorted(os.listdir(tmp_path)) == ["in.wav", "out.wav"]


def test_clipping_is_counted_with_the_peak_before_it(tmp_path: Path) -> None:
    x_ct = np.array([[0.1, 0.9, -0.8, 0.2, 0.0, 0.0]], np.float32)
    y_ct, done = render(tmp_path, x_ct, Processing(gain_db=12.0), subtype="pcm_16")
    loud = FakePlayer(0.5, 0.25).render(x_ct) * np.float32(10 ** (12 / 20))
    assert done.clipped == np.count_nonzero(np.abs(loud) > 1.0) > 0
    assert done.peak_dbfs == pytest.approx(20 * np.log10(np.abs(loud).max()))
    assert np.abs(y_ct).max() <= 1.0


# --- what is no number ------------------------------------------------------------


def test_samples_that_are_no_numbers_become_zero_where_asked(tmp_path: Path) -> None:
    x_ct = noise(2, 3000)
    x_ct[0, 1000], x_ct[1, 2000], x_ct[1, 2001] = np.nan, np.inf, -np.inf
    y_ct, done = render(tmp_path, x_ct, Processing(nonfinite="zero"))
    clean_ct = np.where(np.isfinite(x_ct), x_ct, np.float32(0))
    assert np.array_equal(y_ct, FakePlayer(0.5, 0.25).render(clean_ct))
    assert done.zeroed == 3


def test_a_model_that_leaves_the_range_of_float32_is_an_error(tmp_path: Path) -> None:
    x_ct = np.zeros((1, 100), np.float32)
    x_ct[0, 50] = 3e38
    source = write(tmp_path / "in.wav", x_ct)
    with np.errstate(over="ignore"), pytest.raises(NonfiniteError, match="frame 50"):
        render_file(FakePlayer(10.0), source, tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


# --- rates ------------------------------------------------------------------------


def test_a_rate_that_is_ignored_is_the_models(tmp_path: Path) -> None:
    x_ct = noise(1, 3000)
    source = write(tmp_path / "in.wav", x_ct, 44_100)
    with pytest.raises(RateError):
        render_file(FakePlayer(0.5, 0.25), source, tmp_path / "out.wav")
    ignoring = Processing(ignore_rate=True)
    render_file(FakePlayer(0.5, 0.25), source, tmp_path / "out.wav", processing=ignoring)
    y_ct, rate = read_audio(tmp_path / "out.wav")
    assert rate == 44_100
    assert np.array_equal(y_ct, FakePlayer(0.5, 0.25).render(x_ct))


# --- any cut ----------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    policy=st.sampled_from(["each", "mid-side", "mono-sum", "left"]),
    rate=st.sampled_from([MODEL_RATE, 44_100, 96_000]),
    level=st.sampled_from([{}, {"gain_db": 3.0}, {"normalize": "peak"}, {"normalize": "loudness"}]),
    subtype=st.sampled_from(["float", "pcm_16"]),
    dither=st.booleans(),
    grid=st.sampled_from([1, 96]),
    frames=st.integers(1, 30_000),
    block=st.integers(1, 40_000),
)
def test_any_block_size_gives_the_same_file(
    tmp_path: Path,
    policy: str,
    rate: int,
    level: dict[str, object],
    subtype: str,
    dither: bool,
    grid: int,
    frames: int,
    block: int,
) -> None:
    source = write(tmp_path / "in.wav", noise(2, frames), rate)
    processing = Processing(resample=True, channels=policy, dither=dither, **level)  # type: ignore[arg-type]
    outputs = []
    for block_frames in (max(block, 16), 4096):
        player = FakePlayer(0.5, 0.25, grid_samples=grid)
        out = tmp_path / "out.wav"
        render_file(
            player,
            source,
            out,
            processing=processing,
            subtype=subtype,
            overwrite=True,
            block_frames=block_frames,
        )
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]


# --- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"channels": "right"}, "channels: expected one of each, mid-side, mono-sum, left"),
        ({"normalize": "rms"}, "normalize: expected one of peak, loudness, got 'rms'"),
        ({"nonfinite": "keep"}, "nonfinite: expected one of error, zero"),
        ({"gain_db": float("nan")}, "gain: expected a number of decibels"),
        ({"gain_db": 121.0}, "gain: expected a number of decibels from -120 to 120, got 121"),
        ({"gain_db": True}, "gain: expected a number of decibels"),
        ({"gain_db": 1.0, "normalize": "peak"}, "gain: expected none beside normalize"),
        ({"target_db": -3.0}, "target: expected none without normalize"),
        ({"normalize": "peak", "target_db": "loud"}, "target: expected a number of decibels"),
        ({"resample": 1}, "resample: expected true or false, got 1"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Processing(**fields).check()  # type: ignore[arg-type]


# --- memory and the command --------------------------------------------------------


@pytest.mark.parametrize(
    "processing",
    [
        Processing(),
        Processing(normalize="loudness"),
        Processing(normalize="peak", channels="mid-side"),
        Processing(resample=True),
    ],
)
def test_memory_does_not_grow_with_the_length(tmp_path: Path, processing: Processing) -> None:
    rate = 44_100 if processing.resample else MODEL_RATE
    peaks = []
    for seconds in (4, 40):
        source = write(tmp_path / "in.wav", np.zeros((2, seconds * rate), np.float32), rate)
        tracemalloc.start()
        render_file(
            FakePlayer(0.5, 0.25),
            source,
            tmp_path / "out.wav",
            processing=processing,
            overwrite=True,
            block_frames=8192,
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Where blocks, hops and the collector's rounds fall together moves it by a block or two.
    assert peaks[1] <= peaks[0] + (256 << 10)


def test_the_command_takes_every_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.wav", noise(2, MODEL_RATE))
    model = tmp_path / "model.safetensors"
    save(one_layer_graph(0.25, 0.5), model)
    command = ["render", str(model), str(source), "--out"]
    peak = Processing(normalize="peak", target_db=-6.0)
    sides = Processing(channels="mid-side", gain_db=-3.0)
    zero = Processing(nonfinite="zero", ignore_rate=True)
    for name, options, wanted in (
        ("peak", ["--normalize", "peak", "--target", "-6"], peak),
        ("mid-side", ["--channels", "mid-side", "--gain", "-3"], sides),
        ("dither", ["--dither", "--subtype", "pcm_16"], Processing(dither=True)),
        ("zero", ["--nonfinite", "zero", "--ignore-rate"], zero),
    ):
        assert main([*command, str(tmp_path / name), *options]) == 0
        alone = tmp_path / f"{name}.wav"
        subtype = "pcm_16" if name == "dither" else "keep"
        render_file(
            Player(load(model), threads=1), source, alone, processing=wanted, subtype=subtype
        )
        assert (tmp_path / name / "in.wav").read_bytes() == alone.read_bytes()
    capsys.readouterr()
    for options, message in (
        (["--target", "-6"], "target: expected none without normalize"),
        (["--normalize", "peak", "--target", "nan"], "target: expected a number of decibels"),
    ):
        assert main([*command, str(tmp_path / "wrong"), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
