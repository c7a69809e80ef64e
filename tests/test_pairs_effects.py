"""The built-in effects: aligned, exact in length, silent for silence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from fxfast.audio.signals import guitar_like
from fxfast.errors import InputError
from fxfast.pairs.effects import EFFECTS, overdrive

RATE = 48000


def esr(target: np.ndarray, got: np.ndarray) -> float:
    t, y = target.astype(np.float64), got.astype(np.float64)
    return float(np.sum((t - y) ** 2) / np.sum(t**2))


@pytest.mark.parametrize("name", sorted(EFFECTS))
@pytest.mark.parametrize("frames", [0, 1, 7, 65, 1000, 65536, 70001])
def test_length_is_kept_and_silence_stays(name: str, frames: int) -> None:
    y = EFFECTS[name](np.zeros(frames, np.float32), RATE)
    assert y.shape == (frames,)
    assert y.dtype == np.float32
    assert not y.any()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_overdrive_is_worth_learning(seed: int) -> None:
    dry = guitar_like(60.0, RATE, seed)
    wet = overdrive(dry, RATE)
    best_gain = float(np.dot(wet, dry) / np.dot(dry, dry))
    assert esr(wet, best_gain * dry) > 0.3
    assert np.max(np.abs(wet)) < 1.0


def test_overdrive_is_odd() -> None:
    dry = guitar_like(3.0, RATE, 0)
    assert np.array_equal(overdrive(-dry, RATE), -overdrive(dry, RATE))


@pytest.mark.parametrize("amplitude", [1e-4, 1e-2, 0.1])
def test_overdrive_has_no_delay_and_a_short_memory(amplitude: float) -> None:
    x = np.zeros(4000, np.float32)
    x[2000] = amplitude
    power = overdrive(x, RATE).astype(np.float64) ** 2
    assert int(np.argmax(power)) == 2000
    assert power[:1992].sum() < 2e-3 * power.sum()
    assert power[2060:].sum() < 1.5e-4 * power.sum()


def test_overdrive_of_guitar_depends_on_64_samples() -> None:
    """Each block of 64 sounds the same when all but the 64 samples before it are silence."""
    dry = guitar_like(5.0, RATE, 3)
    wet = overdrive(dry, RATE)
    starts = range(6400, len(dry) - 128, 64 * 37)
    windows_ct = np.stack([dry[start : start + 128] for start in starts])
    windows_ct = np.pad(windows_ct, ((0, 0), (64, 0)))
    alone_ct = overdrive(windows_ct, RATE)[:, 128:]
    whole_ct = np.stack([wet[start + 64 : start + 128] for start in starts])
    assert esr(whole_ct[:, :48], alone_ct[:, :48]) < 1e-4


def test_overdrive_equals_its_formula_where_nothing_aliases() -> None:
    """A low, quiet sine makes no harmonics near the top: plain evaluation must agree."""
    x = 0.02 * np.sin(2 * np.pi * 220.0 * np.arange(RATE) / RATE)
    pole = np.exp(-2 * np.pi * 3000.0 / RATE)
    corner = np.tan(np.pi * 720.0 / RATE)
    current = lfilter([1.0, -1.0], [1.0 + corner, corner - 1.0], x)
    gain = np.sqrt(51.0 * 551.0) / 4.7
    driven = x + 0.0453 * np.arcsinh(gain * current / 0.0453)
    expected = 10 ** (-6 / 20) * lfilter([1 - pole], [1, -pole], driven)
    assert esr(expected[1000:-1000], overdrive(x, RATE)[1000:-1000]) < 1e-6


def test_overdrive_aliases_little() -> None:
    x = 0.5 * np.sin(2 * np.pi * 4999.0 * np.arange(RATE) / RATE)
    spectrum = np.abs(np.fft.rfft(overdrive(x, RATE) * np.hanning(RATE)))
    harmonic = np.zeros(len(spectrum), bool)
    for order in (1, 3):
        harmonic[4999 * order - 4 : 4999 * order + 5] = True
    assert np.max(spectrum[~harmonic]) < 10 ** (-45 / 20) * np.max(spectrum)


def test_chunks_leave_no_seam() -> None:
    dry = guitar_like(3.0, RATE, 1)
    shifted = np.concatenate([np.zeros(12345, np.float32), dry])
    np.testing.assert_allclose(overdrive(shifted, RATE)[12345:], overdrive(dry, RATE), atol=1e-7)


def test_channels_are_independent() -> None:
    x_ct = np.stack([guitar_like(1.0, RATE, seed) for seed in (0, 1)])
    y_ct = overdrive(x_ct, RATE)
    for channel in (0, 1):
        assert np.array_equal(y_ct[channel], overdrive(x_ct[channel], RATE))


def test_parameters_act() -> None:
    dry = guitar_like(5.0, RATE, 0)
    quiet = overdrive(dry, RATE, level_db=-26.0)
    np.testing.assert_allclose(10 * quiet, overdrive(dry, RATE, level_db=-6.0), atol=1e-6)
    soft, hard = (
        esr(wet, dry * (np.dot(wet, dry) / np.dot(dry, dry)))
        for wet in (overdrive(dry, RATE, drive=0.0), overdrive(dry, RATE, drive=1.0))
    )
    assert soft < hard


@pytest.mark.parametrize(
    ("x", "rate", "expected"),
    [
        (np.zeros((1, 1, 9), np.float32), RATE, r"expected shape \(T\) or \(C, T\), got"),
        (np.zeros(9, np.int16), RATE, "expected a float32 or float64 array, got int16"),
        (np.full(9, np.nan, np.float32), RATE, "expected finite samples"),
        (np.zeros(9, np.float32), 10, "sample_rate: expected at least 8000 Hz, got 10"),
    ],
)
def test_wrong_input_is_refused(x: np.ndarray, rate: int, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        overdrive(x, rate)


def test_wrong_parameters_are_refused() -> None:
    x = np.zeros(9, np.float32)
    with pytest.raises(InputError, match="drive: expected 0 to 1, got 2"):
        EFFECTS["overdrive"](x, RATE, drive=2.0)
    with pytest.raises(InputError, match="tone_hz: expected 720 to 20000 Hz, got nan"):
        overdrive(x, RATE, tone_hz=float("nan"))
    with pytest.raises(InputError, match="expected parameters of drive, tone_hz, level_db, got"):
        EFFECTS["overdrive"](x, RATE, gain=1.0)
