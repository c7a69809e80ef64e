"""A sine in a track that is known at moments, some better than others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_SLOWEST_HZ = 0.05
_FASTEST_HZ = 12.0


class Sine(NamedTuple):
    """``centre + cosine cos(2 pi rate_hz t) + sine sin(2 pi rate_hz t)``; ``share`` is how much
    of the weighted variance of the track it explains."""

    rate_hz: float
    centre: float
    cosine: float
    sine: float
    share: float

    @property
    def depth(self) -> float:
        """The amplitude of the swing."""
        return float(np.hypot(self.cosine, self.sine))

    def at(self, seconds: np.ndarray) -> np.ndarray:
        turn = 2.0 * np.pi * self.rate_hz * seconds
        return np.asarray(self.centre + self.cosine * np.cos(turn) + self.sine * np.sin(turn))


def fit_sine(seconds: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Sine:
    """The sine that is best by weighted least squares, of all rates from one swing in the whole
    time to 12 Hz."""
    span = max(float(seconds[-1] - seconds[0]), 1e-3)
    total = float(weights.sum())
    mean = float(weights @ values) / max(total, 1e-20)
    variance = float(weights @ np.square(values - mean))
    step = 0.25 / span
    rates = np.arange(max(1.0 / span, _SLOWEST_HZ), _FASTEST_HZ, step)
    coarse = [_fit(seconds, values, weights, rate, variance) for rate in rates]
    best = max(coarse, key=lambda found: found.share)
    near = best.rate_hz + step * np.linspace(-1.0, 1.0, 41)
    fine = [_fit(seconds, values, weights, rate, variance) for rate in near if rate > 0]
    return max([best, *fine], key=lambda found: found.share)


def _fit(
    seconds: np.ndarray, values: np.ndarray, weights: np.ndarray, rate: float, variance: float
) -> Sine:
    turn = (2.0 * np.pi * rate) * seconds
    columns = np.stack([np.ones_like(turn), np.cos(turn), np.sin(turn)])
    weighted = columns * weights
    matrix = weighted @ columns.T + 1e-9 * np.eye(3) * max(float(weights.sum()), 1e-20)
    factors = np.linalg.solve(matrix, weighted @ values)
    rest = float(weights @ np.square(factors @ columns - values))
    centre, cosine, sine = map(float, factors)
    return Sine(float(rate), centre, cosine, sine, 1.0 - rest / max(variance, 1e-20))
