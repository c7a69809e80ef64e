"""Resampling: exact length, no delay, any cut the same."""

from __future__ import annotations

import numpy as np
import pytest

from fxfast.audio.resample import Resampler, resample, resampled_length
from fxfast.errors import InputError

RATES = [
    (44100, 48000),
    (48000, 44100),
    (48000, 96000),
    (96000, 48000),
    (22050, 48000),
    (48000, 22050),
    (44101, 48000),
    (192000, 8000),
    (8000, 192000),
    (48000, 48000),
]


def noise(channels: int, frames: int) -> np.ndarray:
    rng = np.random.default_rng(channels + frames)
    return rng.uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
@pytest.mark.parametrize("frames", [0, 1, 7, 64, 999, 20011])
def test_length_is_exact(in_rate: int, out_rate: int, frames: int) -> None:
    y_ct = resample(noise(2, frames), in_rate, out_rate)
    assert y_ct.shape == (2, round(frames * out_rate / in_rate))
    assert y_ct.dtype == np.float32


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
@pytest.mark.parametrize("block", [1, 63, 4097, 20011])
def test_blocks_give_the_whole(in_rate: int, out_rate: int, block: int) -> None:
    frames = 20011 if block > 1 else 3000
    x_ct = noise(2, frames)
    whole_ct = resample(x_ct, in_rate, out_rate)
    resampler = Resampler(in_rate, out_rate, 2)
    parts = [
        resampler.process(x_ct[:, start : start + block], last=start + block >= frames)
        for start in range(0, frames, block)
    ]
    joined_ct = np.concatenate(parts, axis=1)
    assert joined_ct.shape == whole_ct.shape
    np.testing.assert_allclose(joined_ct, whole_ct, atol=1e-6)


def test_the_end_may_come_as_an_empty_block() -> None:
    x_ct = noise(1, 5000)
    resampler = Resampler(44100, 48000, 1)
    parts = [resampler.process(x_ct), resampler.process(x_ct[:, :0], last=True)]
    assert np.array_equal(np.concatenate(parts, axis=1), resample(x_ct, 44100, 48000))


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
def test_an_impulse_stays_where_it_is(in_rate: int, out_rate: int) -> None:
    x = np.zeros(in_rate, np.float32)
    x[in_rate // 2] = 1.0  # half a second: on the output grid at every rate here
    y = resample(x, in_rate, out_rate)
    expected = round(out_rate * (in_rate // 2) / in_rate)
    assert int(np.argmax(np.abs(y))) == expected
    reach = min(expected, len(y) - expected) - 1
    if in_rate % 2 == 0:  # the filter is linear-phase: symmetric about the impulse
        left, right = y[expected - reach : expected], y[expected + 1 : expected + reach + 1]
        np.testing.assert_allclose(left, right[::-1], atol=1e-6)


@pytest.mark.parametrize(("in_rate", "out_rate"), RATES)
def test_a_sine_keeps_phase_and_level(in_rate: int, out_rate: int) -> None:
    def sine(rate: int) -> np.ndarray:
        return np.sin(2 * np.pi * 1000.0 * np.arange(rate) / rate)

    y = resample(sine(in_rate).astype(np.float32), in_rate, out_rate)
    middle = slice(out_rate // 4, 3 * out_rate // 4)
    np.testing.assert_allclose(y[middle], sine(out_rate)[middle], atol=2e-6)


def test_channels_are_independent() -> None:
    x_ct = noise(3, 5000)
    y_ct = resample(x_ct, 44100, 48000)
    for channel in range(3):
        assert np.array_equal(y_ct[channel], resample(x_ct[channel], 44100, 48000))


def test_length_rounds_exactly_for_long_files() -> None:
    day_frames = 24 * 3600 * 44100 + 1
    assert resampled_length(day_frames, 44100, 48000) == 24 * 3600 * 48000 + 1


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (np.zeros((2, 10), np.float64), "expected a float32 array, got float64"),
        (np.zeros((3, 10), np.float32), r"expected shape \(2, T\), got \(3, 10\)"),
        (np.zeros(10, np.float32), r"got \(10,\)"),
        (np.full((2, 10), np.nan, np.float32), "expected finite samples"),
    ],
)
def test_wrong_blocks_are_refused(x: np.ndarray, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        Resampler(44100, 48000, 2).process(x)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="in_rate: expected a whole number of at least 1, got 0"):
        Resampler(0, 48000, 1)
    with pytest.raises(InputError, match="out_rate"):
        Resampler(48000, -1, 1)
    with pytest.raises(InputError, match="channels"):
        Resampler(44100, 48000, 0)
    with pytest.raises(InputError, match=r"got \(1, 1, 5\)"):
        resample(np.zeros((1, 1, 5), np.float32), 44100, 48000)
    resampler = Resampler(44100, 48000, 1)
    resampler.process(np.zeros((1, 5), np.float32), last=True)
    with pytest.raises(InputError, match="after the last"):
        resampler.process(np.zeros((1, 5), np.float32))
