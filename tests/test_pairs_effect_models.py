"""Each built-in effect against what its source says it does."""

from __future__ import annotations

import numpy as np
import pytest
from pair_audio import RATE, ZOO, guitar

from fxfast.errors import InputError
from fxfast.pairs.effect_base import falling_peak, smoothed
from fxfast.pairs.effects import EFFECTS, PRESETS

TIME = np.arange(2 * RATE) / RATE


def tone(hertz: float, level_db: float = 0.0, seconds: float = 2.0) -> np.ndarray:
    return 10 ** (level_db / 20) * np.sin(
        2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE
    )


def level_db(x: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt(np.mean(x.astype(np.float64) ** 2)) * np.sqrt(2) + 1e-12))


def impulse(size: int = 2 * RATE, at: int = 0) -> np.ndarray:
    x = np.zeros(size)
    x[at] = 1.0
    return x


# --- what all have in common -----------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_presets_render_in_place_of_one_another(name: str) -> None:
    preset = PRESETS[name]
    x = guitar(2.0, 1)
    y = EFFECTS[preset.effect](x, RATE, **preset.parameters)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    assert np.isfinite(y).all()
    # what comes later does not change what came before (the clippers' filters reach 16 samples)
    head = EFFECTS[preset.effect](x[:RATE], RATE, **preset.parameters)
    np.testing.assert_allclose(head[:-32], y[: RATE - 32], atol=2e-6)


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_channels_are_apart_and_rates_are_free(name: str) -> None:
    x_ct = np.stack([guitar(1.0, seed) for seed in (0, 1)])
    for rate in (8000, 44100, 96000):
        y_ct = EFFECTS[name](x_ct, rate)
        for channel in (0, 1):
            assert np.array_equal(y_ct[channel], EFFECTS[name](x_ct[channel], rate))


@pytest.mark.parametrize("name", sorted(EFFECTS))
def test_documented_and_checked(name: str) -> None:
    effect = EFFECTS[name]
    assert effect.source
    assert "Source" in (effect.function.__doc__ or "")
    for knob in effect.parameters:
        with pytest.raises(InputError, match=f"effect {name}: {knob.name}: expected"):
            effect(np.zeros(9), RATE, **{knob.name: 2 * knob.maximum + 1})


def test_envelopes_equal_their_recursions() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((2, 500)) ** 8
    peak, slow = falling_peak(x, 30.0), smoothed(x, 10.0, start=0.5)
    held, mean = np.zeros(2), np.full(2, 0.5)
    for n in range(x.shape[1]):
        held = np.maximum(x[:, n], held * np.exp(-1 / 30.0))
        mean += (1 - np.exp(-1 / 10.0)) * (x[:, n] - mean)
        np.testing.assert_allclose(peak[:, n], held, rtol=1e-9)
        np.testing.assert_allclose(slow[:, n], mean, rtol=1e-9)


# --- gate ------------------------------------------------------------------------------------


def test_the_gate_opens_holds_and_closes() -> None:
    x = np.concatenate([tone(500, -50, 0.5), tone(500, -10, 0.5), tone(500, -50, 1.0)])
    settings = {"threshold_db": -30, "attack_ms": 1, "hold_ms": 100, "decay_ms": 20}
    gain = np.abs(EFFECTS["gate"](x, RATE, **settings)) / np.maximum(np.abs(x), 1e-9)
    loud = np.abs(np.sin(2 * np.pi * 500 * np.arange(len(x)) / RATE)) > 0.5
    gain = np.where(loud, gain, np.nan)
    assert np.nanmax(gain[: RATE // 2]) < 1e-3
    assert np.nanmin(gain[RATE // 2 + 480 : RATE]) > 0.999
    held = RATE + round(0.09 * RATE)
    assert np.nanmin(gain[RATE:held]) > 0.999
    assert np.nanmax(gain[RATE + round(0.4 * RATE) :]) < 1e-2


def test_hysteresis_keeps_the_gate_open() -> None:
    x = np.concatenate([tone(500, -20, 0.5), tone(500, -33, 1.0)])
    open_for = {"threshold_db": -30, "hold_ms": 0, "decay_ms": 5}
    tight = EFFECTS["gate"](x, RATE, hysteresis_db=1, **open_for)
    loose = EFFECTS["gate"](x, RATE, hysteresis_db=6, **open_for)
    assert level_db(tight[RATE:]) < -70
    assert level_db(loose[RATE:]) == pytest.approx(-33, abs=0.2)


# --- compressor ------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [-40.0, -24.0, -12.0, -3.0])
@pytest.mark.parametrize("ratio", [2.0, 10.0])
def test_the_compressor_follows_its_curve(level: float, ratio: float) -> None:
    settings = {"threshold_db": -24, "ratio": ratio, "knee_db": 0, "attack_ms": 0.05}
    y = EFFECTS["compressor"](tone(1000, level), RATE, release_ms=2000, **settings)
    expected = level if level <= -24 else -24 + (level + 24) / ratio
    assert level_db(y[RATE:]) == pytest.approx(expected, abs=0.15)


def test_the_knee_is_soft_and_meets_the_lines() -> None:
    settings = {"threshold_db": -20, "ratio": 4, "attack_ms": 0.05, "release_ms": 2000}
    levels = np.arange(-30.0, -10.0, 1.0)
    gains = [
        level_db(EFFECTS["compressor"](tone(1000, v), RATE, knee_db=10, **settings)[RATE:]) - v
        for v in levels
    ]
    assert gains[0] == pytest.approx(0.0, abs=0.05)
    assert gains[10] == pytest.approx(-0.75 * 5**2 / 20, abs=0.1)  # at the threshold
    assert gains[-1] == pytest.approx(-0.75 * 9, abs=0.2)
    assert (np.diff(gains, 2) < 0.1).all()


def test_attack_and_release_take_their_time() -> None:
    x = np.concatenate([tone(2000, -40, 0.5), tone(2000, -6, 0.5), tone(2000, -40, 1.0)])
    y = EFFECTS["compressor"](
        x, RATE, threshold_db=-30, ratio=4, knee_db=0, attack_ms=20, release_ms=200
    )
    reduction = [level_db(y[n : n + 480]) - level_db(x[n : n + 480])
                 for n in range(0, len(x) - 480, 480)]  # fmt: skip
    full = reduction[95]
    assert full == pytest.approx(-18.0, abs=0.5)
    after_attack = reduction[50 + 2]  # 20 ms: 63 %
    assert after_attack == pytest.approx(0.63 * full, abs=3.5)
    assert reduction[100 + 20] == pytest.approx(full / np.e, abs=2.0)


# --- fuzz ------------------------------------------------------------------------------------


def test_fuzz_is_uneven_and_bounded() -> None:
    y = EFFECTS["fuzz"](tone(220), RATE, fuzz=1.0)
    spectrum = np.abs(np.fft.rfft(y[RATE:] * np.hanning(RATE)))
    assert spectrum[440] > 0.05 * spectrum[220]  # even harmonics: not alike above and below
    assert np.abs(y).max() < 1.0
    assert abs(float(np.mean(y[RATE:]))) < 1e-3


# The fuzz makes a square wave of any tone, whose overtones fall by 6 dB an octave only.
@pytest.mark.parametrize(("name", "limit_db"), [("overdrive", -45), ("fuzz", -34)])
def test_clipping_aliases_little(name: str, limit_db: float) -> None:
    y = EFFECTS[name](tone(4999.0, -6.0, 1.0), RATE)
    spectrum = np.abs(np.fft.rfft(y * np.hanning(RATE)))
    harmonic = np.zeros(len(spectrum), bool)
    for order in range(1, 5):
        harmonic[4999 * order - 4 : 4999 * order + 5] = True
    harmonic[:50] = True  # the high-passes settle
    assert np.max(spectrum[~harmonic]) < 10 ** (limit_db / 20) * np.max(spectrum)


# --- delay, chorus, reverb -------------------------------------------------------------------


def test_echoes_come_on_time_and_fall() -> None:
    y = EFFECTS["delay"](impulse(), RATE, time_ms=100, feedback=0.5, level=0.8)
    echoes = [float(np.sum(y[n - 2 : n + 40])) for n in range(4800, 5 * 4800, 4800)]
    assert y[0] == 1.0
    assert not y[1:4800].any()
    np.testing.assert_allclose(echoes, 0.8 * 0.5 ** np.arange(4), rtol=0.02)


def test_the_loop_of_the_delay_equals_its_recursion() -> None:
    x = guitar(0.2, 2).astype(np.float64)
    settings = {"time_ms": 5.0, "feedback": 0.7, "level": 0.6, "low_cut_hz": 200.0,
                "high_cut_hz": 3000.0}  # fmt: skip
    y = EFFECTS["delay"](x, RATE, **settings)
    pole, warped = np.exp(-2 * np.pi * 3000 / RATE), np.tan(np.pi * 200 / RATE)
    echo, low, high, last = np.zeros(len(x)), 0.0, 0.0, 0.0
    for n in range(240, len(x)):
        low += (1 - pole) * (x[n - 240] + 0.7 * echo[n - 240] - low)
        high = (low - last - (warped - 1) * high) / (1 + warped)
        last, echo[n] = low, high
    np.testing.assert_allclose(y, x + 0.6 * echo, atol=1e-6)


def test_the_chorus_swings_round_its_delay() -> None:
    settings = {"rate_hz": 1.0, "depth": 0.5, "delay_ms": 10.0, "level": 1.0}
    for seconds, expected_ms in ((0.25, 15.0), (0.5, 10.0), (0.75, 5.0)):
        at = round(seconds * RATE)
        y = EFFECTS["chorus"](impulse(at=at), RATE, **settings)
        copy = np.flatnonzero(np.abs(y) > 0.3)
        assert copy[0] == at
        # the delay changes on the way: it is the one at the time of reading
        read = (copy[-1] - at) / RATE
        swing = 10.0 * (1 + 0.5 * np.sin(2 * np.pi * (seconds + read)))
        assert 1e3 * read == pytest.approx(swing, abs=0.05)
        assert 1e3 * read == pytest.approx(expected_ms, abs=0.7)


def test_the_chorus_reads_between_the_samples() -> None:
    x = tone(1000.0)
    y = EFFECTS["chorus"](x, RATE, rate_hz=0.01, depth=0.0, delay_ms=10.01, level=1.0)
    copy = np.sin(2 * np.pi * 1000.0 * (TIME - 0.01001))
    np.testing.assert_allclose((y - x)[RATE:], copy[RATE:], atol=1e-4)


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_the_reverb_decays_in_its_time(seconds: float) -> None:
    x = impulse(round(2.0 * seconds * RATE))
    y = EFFECTS["reverb"](x, RATE, decay_seconds=seconds, high_decay=0.99, predelay_ms=0, mix=1.0)
    energy = np.cumsum(y[::-1].astype(np.float64) ** 2)[::-1]
    curve = 10 * np.log10(energy / energy[0])  # M. Schroeder's integral
    begin, end = (int(np.argmax(curve < limit)) for limit in (-5.0, -35.0))
    assert 2.0 * (end - begin) / RATE == pytest.approx(seconds, rel=0.1)


def test_the_reverb_damps_high_frequencies() -> None:
    y = EFFECTS["reverb"](impulse(), RATE, decay_seconds=2.0, high_decay=0.1, mix=1.0)
    early, late = (np.abs(np.fft.rfft(y[n : n + RATE // 2])) ** 2 for n in (0, RATE))
    low, high = slice(50, 250), slice(5000, 8000)
    assert late[high].sum() / early[high].sum() < 1e-3 * late[low].sum() / early[low].sum()


def test_the_reverb_is_dense_and_stable() -> None:
    x = impulse(8 * RATE)
    y = EFFECTS["reverb"](x, RATE, decay_seconds=20.0, high_decay=1.0, mix=1.0)
    assert np.abs(y).max() < 1.0
    assert np.mean(np.abs(y[RATE : RATE + 4800]) > 1e-5) > 0.9
    dry = EFFECTS["reverb"](guitar(1.0), RATE, mix=0.0)
    np.testing.assert_allclose(dry, guitar(1.0), atol=1e-7)


@pytest.mark.parametrize("frames", [1, 1054, 1055, 1056, 65535, 65537, 140000])
def test_the_blocks_of_the_reverb_leave_no_seam(frames: int) -> None:
    x = np.concatenate([guitar(3.0, 1), guitar(1.0, 2)])
    whole = EFFECTS["reverb"](x, RATE)
    np.testing.assert_allclose(EFFECTS["reverb"](x[:frames], RATE), whole[:frames], atol=1e-6)
