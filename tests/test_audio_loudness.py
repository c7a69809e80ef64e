"""Integrated loudness against ITU-R BS.1770-4 and the test signals of EBU Tech 3341."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tolerances import TOLERANCES

from fxfast.audio.loudness import LoudnessMeter, channel_weights, k_weighting
from fxfast.errors import InputError


def sine(seconds: float, level_dbfs: float, rate: int, hz: float = 1000.0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    return (10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def measure(x_ct: np.ndarray, rate: int, block: int = 4096) -> float:
    meter = LoudnessMeter(rate, len(x_ct))
    for start in range(0, x_ct.shape[1], block):
        meter.add(x_ct[:, start : start + block])
    loudness = meter.integrated()
    meter.close()
    return loudness


def test_the_filters_at_48_khz_are_those_of_the_recommendation() -> None:
    # Tables 1 and 2 of annex 1.
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285]
    shelf += [1.0, -1.69065929318241, 0.73248077421585]
    high_pass = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    tolerance = TOLERANCES["k_weighting"].value
    np.testing.assert_allclose(k_weighting(48_000), [shelf, high_pass], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
@pytest.mark.parametrize(
    ("levels", "seconds", "expected"),
    [  # EBU Tech 3341 (2016), table 1, cases 1 to 5
        ([-23.0], [20.0], -23.0),
        ([-33.0], [20.0], -33.0),
        ([-36.0, -23.0, -36.0], [10.0, 60.0, 10.0], -23.0),
        ([-72.0, -36.0, -23.0, -36.0, -72.0], [10.0, 10.0, 60.0, 10.0, 10.0], -23.0),
        ([-26.0, -20.0, -26.0], [20.0, 20.1, 20.0], -23.0),
    ],
)
def test_minimum_requirements_of_ebu_tech_3341(
    levels: list[float], seconds: list[float], expected: float, rate: int
) -> None:
    parts = [sine(s, level, rate) for s, level in zip(seconds, levels, strict=True)]
    x_ct = np.stack([np.concatenate(parts)] * 2)
    assert measure(x_ct, rate) == pytest.approx(expected, abs=TOLERANCES["ebu_3341"].value)


def test_surround_channels_weigh_as_case_6_says() -> None:
    # Case 6 of EBU Tech 3341: 5.0, L R C Ls Rs.
    levels = (-28.0, -28.0, -24.0, -30.0, -30.0)
    x_ct = np.stack([sine(20.0, level, 48_000) for level in levels])
    assert measure(x_ct, 48_000) == pytest.approx(-23.0, abs=TOLERANCES["ebu_3341"].value)
    with_effects_ct = np.insert(x_ct, 3, sine(20.0, 0.0, 48_000, 50.0), axis=0)
    assert measure(with_effects_ct, 48_000) == measure(x_ct, 48_000)
    assert channel_weights(8).tolist() == [1.0] * 8


@pytest.mark.parametrize("block", [1, 7, 4799, 4800, 4801, 1 << 20])
def test_any_split_gives_the_same_bits(block: int) -> None:
    x_ct = np.random.default_rng(3).uniform(-0.5, 0.5, (2, 24_000)).astype(np.float32)
    assert measure(x_ct, 48_000, block) == measure(x_ct, 48_000)


def test_silence_and_less_than_a_block_have_no_loudness() -> None:
    assert measure(np.zeros((1, 48_000), np.float32), 48_000) == -math.inf
    assert measure(sine(0.39, -10.0, 48_000)[np.newaxis], 48_000) == -math.inf
    assert math.isfinite(measure(sine(0.4, -10.0, 48_000)[np.newaxis], 48_000))


def test_refuses_a_rate_below_the_filters() -> None:
    with pytest.raises(InputError, match="at least 4000 Hz, got 3999"):
        LoudnessMeter(3999, 1)
    with pytest.raises(InputError, match="channels: expected at least 1, got 0"):
        LoudnessMeter(48_000, 0)
