"""The generated guitar: repeatable, in tune, with level variation and silences."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fxfast.audio.signals import Pluck, guitar_like, pluck_string
from fxfast.errors import InputError


def test_the_seed_decides_every_bit() -> None:
    first = guitar_like(5.0, 48000, 7)
    assert np.array_equal(first, guitar_like(5.0, 48000, 7))
    assert not np.array_equal(first, guitar_like(5.0, 48000, 8))


@pytest.mark.parametrize("sample_rate", [8000, 44100, 48000, 96000])
@pytest.mark.parametrize("seconds", [0.01, 1.0, 3.3])
def test_shape_and_peak(seconds: float, sample_rate: int) -> None:
    x = guitar_like(seconds, sample_rate, 3)
    assert x.shape == (round(seconds * sample_rate),)
    assert x.dtype == np.float32
    assert np.isfinite(x).all()
    assert np.max(np.abs(x)) < 0.9


def test_a_longer_signal_starts_with_the_shorter_one() -> None:
    assert np.array_equal(guitar_like(6.0, 48000, 1)[:96000], guitar_like(2.0, 48000, 1))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_levels_spread_and_silences_occur(seed: int) -> None:
    x = guitar_like(60.0, 48000, seed)
    frames = x[: len(x) // 2400 * 2400].reshape(-1, 2400)  # 50 ms each
    peak_db = 20 * np.log10(np.max(np.abs(frames), axis=1) + 1e-12)
    loud, quiet = np.percentile(peak_db[peak_db > -60], (95, 10))
    assert loud - quiet > 20.0
    assert np.mean(peak_db < -120) > 0.02
    assert abs(float(np.mean(x))) < 1e-3


def test_energy_lies_where_a_guitar_has_it() -> None:
    x = guitar_like(30.0, 48000, 0)
    power = np.abs(np.fft.rfft(x)) ** 2
    hertz = np.fft.rfftfreq(len(x), 1 / 48000)
    share = power / power.sum()
    assert share[hertz < 60].sum() < 0.01
    assert share[(hertz > 80) & (hertz < 6000)].sum() > 0.98
    assert share[(hertz > 1000) & (hertz < 6000)].sum() > 0.05


@pytest.mark.parametrize("frequency_hz", [82.41, 110.3, 441.7, 987.8, 1299.0])
@pytest.mark.parametrize("damping", [0.25, 0.6])
def test_strings_are_in_tune_within_a_cent(frequency_hz: float, damping: float) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    pluck = Pluck(frequency_hz, 2.0, decay_seconds=2.0, damping=damping)
    string = pluck_string(rng, pluck, 48000)
    size = 1 << 20
    power = np.abs(np.fft.rfft(string * np.hanning(len(string)), size))
    hertz = np.fft.rfftfreq(size, 1 / 48000)
    near = (hertz > 0.9 * frequency_hz) & (hertz < 1.1 * frequency_hz)
    found = hertz[near][np.argmax(power[near])]
    assert abs(1200 * np.log2(found / frequency_hz)) < 1.0


def test_a_period_at_a_time_equals_sample_by_sample() -> None:
    pluck = Pluck(500.3, 0.05, damping=0.3)
    fast = pluck_string(np.random.Generator(np.random.PCG64(4)), pluck, 8000)
    period = 8000 / 500.3
    whole = round(period)
    mean = period - whole
    spread = 0.3 + mean * mean
    gain = 10 ** (-3 / (pluck.decay_seconds * 500.3))
    taps = {-1: (spread - mean) / 2, 0: 1 - spread, 1: (spread + mean) / 2}
    slow = fast.copy()
    for n in range(whole, len(slow)):
        slow[n] = sum(
            gain * weight * slow[n - whole - shift]
            for shift, weight in taps.items()
            if n - whole - shift >= 0
        )
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_a_minute_takes_less_than_two_seconds() -> None:
    start = time.process_time()
    guitar_like(60.0, 48000, 0)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("seconds", "rate", "seed", "expected"),
    [
        (0.0, 48000, 0, "seconds: expected more than 0, got 0.0"),
        (float("nan"), 48000, 0, "seconds"),
        (1.0, 100, 0, "sample_rate: expected at least 8000 Hz, got 100"),
        (1.0, 48000, -1, "seed: expected 0 or more, got -1"),
    ],
)
def test_wrong_arguments_are_refused(seconds: float, rate: int, seed: int, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        guitar_like(seconds, rate, seed)
