"""Noise gate and compressor: a gain that follows the level."""

from __future__ import annotations

import numpy as np

from fxfast.pairs.effect_base import Effect, Parameter, falling_peak, smoothed

_DETECTOR_SECONDS = 0.01
_DB = 20.0 / np.log(10.0)


def gate(
    x: np.ndarray,
    sample_rate: int,
    threshold_db: float,
    hysteresis_db: float,
    attack_ms: float,
    hold_ms: float,
    decay_ms: float,
    range_db: float,
) -> np.ndarray:
    """A noise gate on float64 (C, T), channels apart.

    A peak detector that falls with 10 ms opens the gate at the threshold and closes it
    ``hysteresis_db`` below. The gate stays open for the hold time; its gain then falls with the
    decay's time constant to ``range_db`` and rises with that of the attack.

    Source: U. Zoelzer (ed.), "DAFX", 2nd edition, Wiley 2011, chapter 4.2 (noise gate with
    hysteresis, hold and smoothing).
    """
    per_ms = sample_rate / 1000.0
    level = falling_peak(np.abs(x), _DETECTOR_SECONDS * sample_rate)
    opening = 10.0 ** (threshold_db / 20.0)
    time = np.broadcast_to(np.arange(x.shape[-1]), x.shape)
    opened = _last(time, level >= opening)
    closed = _last(time, level < opening * 10.0 ** (-hysteresis_db / 20.0))
    is_open = opened > closed
    held = time - _last(time, is_open) <= hold_ms * per_ms
    floor = 10.0 ** (range_db / 20.0)
    target = np.where(held & (opened >= 0), 1.0, floor)
    falling = falling_peak(target, decay_ms * per_ms)
    return np.asarray(x * smoothed(falling, attack_ms * per_ms, start=floor))


def compressor(
    x: np.ndarray,
    sample_rate: int,
    threshold_db: float,
    ratio: float,
    knee_db: float,
    attack_ms: float,
    release_ms: float,
    makeup_db: float,
) -> np.ndarray:
    """A feed-forward compressor with a soft knee on float64 (C, T), channels apart.

    The static curve gives a gain reduction in dB for every sample; a decoupled peak detector
    smooths it: it falls with the release's time constant and follows a rise with the attack's.

    Source: D. Giannoulis, M. Massberg, J. Reiss, "Digital dynamic range compressor design - a
    tutorial and analysis", J. Audio Eng. Soc. 60(6), 2012 (soft knee, log-domain detector).
    """
    over = _DB * np.log(np.maximum(np.abs(x), 1e-10)) - threshold_db
    half = 0.5 * knee_db
    bent = np.square(np.clip(over + half, 0.0, knee_db)) / (2.0 * knee_db) if knee_db > 0 else 0.0
    reduction = (1.0 - 1.0 / ratio) * np.where(over > half, over, bent)
    held = falling_peak(np.maximum(reduction, 0.0), release_ms * sample_rate / 1000.0)
    slow = smoothed(held, attack_ms * sample_rate / 1000.0)
    return np.asarray(x * np.exp((makeup_db - slow) / _DB))


def _last(time: np.ndarray, happens: np.ndarray) -> np.ndarray:
    """When something last happened, -1 before the first time."""
    return np.asarray(np.maximum.accumulate(np.where(happens, time, -1), axis=-1))


GATE = Effect(
    name="gate",
    summary="noise gate with hysteresis and hold",
    source="Zoelzer, DAFX, 2nd edition 2011",
    parameters=(
        Parameter("threshold_db", "dBFS", -40.0, -90.0, 0.0, "peak level that opens"),
        Parameter("hysteresis_db", "dB", 3.0, 0.0, 24.0, "how far below it closes"),
        Parameter("attack_ms", "ms", 1.0, 0.01, 500.0, "time constant of opening"),
        Parameter("hold_ms", "ms", 30.0, 0.0, 2000.0, "open after the level fell"),
        Parameter("decay_ms", "ms", 30.0, 1.0, 4000.0, "time constant of closing"),
        Parameter("range_db", "dB", -90.0, -120.0, 0.0, "gain when closed"),
    ),
    function=gate,
)

COMPRESSOR = Effect(
    name="compressor",
    summary="feed-forward compressor with a soft knee",
    source="Giannoulis, Massberg, Reiss, JAES 60(6) 2012",
    parameters=(
        Parameter("threshold_db", "dBFS", -24.0, -80.0, 0.0, "level where it begins"),
        Parameter("ratio", "", 4.0, 1.0, 100.0, "dB in per dB out above it"),
        Parameter("knee_db", "dB", 6.0, 0.0, 40.0, "width of the knee"),
        Parameter("attack_ms", "ms", 5.0, 0.05, 500.0, "time constant of a rise"),
        Parameter("release_ms", "ms", 100.0, 1.0, 4000.0, "time constant of a fall"),
        Parameter("makeup_db", "dB", 0.0, -40.0, 60.0, "gain after it"),
    ),
    function=compressor,
)
