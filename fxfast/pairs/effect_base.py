"""What all built-in effects share: parameters, checks, filters, envelopes, oversampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.signal import firwin, lfilter, upfirdn

from fxfast.errors import InputError

OVERSAMPLING = 8

_FIR_HALF_SAMPLES = 8
_CHUNK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Parameter:
    """One knob: its keyword, unit, default and the closed range that is accepted."""

    name: str
    unit: str
    default: float
    minimum: float
    maximum: float
    meaning: str


@dataclass(frozen=True)
class Effect:
    """A named effect with its knobs and the source of its model.

    Calling it checks the arguments: ``effect(x, sample_rate, **parameters)`` with a finite float
    array x of shape (T) or (C, T) in, float32 of the same shape out. Raises InputError. The
    function takes checked float64 of shape (C, T).
    """

    name: str
    summary: str
    source: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., np.ndarray]

    def __call__(self, x: np.ndarray, sample_rate: int, **parameters: float) -> np.ndarray:
        check_input(x, sample_rate)
        x_ct = np.atleast_2d(x).astype(np.float64)
        y_ct = self.function(x_ct, sample_rate, **self.settings(parameters))
        return np.ascontiguousarray(y_ct if x.ndim == 2 else y_ct[0], np.float32)

    def settings(self, given: Mapping[str, float]) -> dict[str, float]:
        """All parameters with defaults filled in; raises InputError for an unknown or bad one."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise InputError(
                    f"effect {self.name}: expected parameters of {', '.join(known)}, got {name!r}"
                )
        values = {name: float(given.get(name, knob.default)) for name, knob in known.items()}
        for name, value in values.items():
            knob = known[name]
            if not knob.minimum <= value <= knob.maximum:
                span = f"{knob.minimum:g} to {knob.maximum:g} {knob.unit}".rstrip()
                raise InputError(f"effect {self.name}: {name}: expected {span}, got {value:g}")
        return values


def check_input(x: np.ndarray, sample_rate: int) -> None:
    """Raises InputError unless x is finite float32 or float64, (T) or (C, T), at 8 kHz or more."""
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64):
        got = getattr(x, "dtype", type(x).__name__)
        raise InputError(f"x: expected a float32 or float64 array, got {got}")
    if x.ndim not in (1, 2):
        raise InputError(f"x: expected shape (T) or (C, T), got {tuple(x.shape)}")
    if sample_rate < 8000:
        raise InputError(f"sample_rate: expected at least 8000 Hz, got {sample_rate}")
    if not np.isfinite(x).all():
        raise InputError("x: expected finite samples, got NaN or infinity")


def high_pass(x: np.ndarray, sample_rate: int, corner_hz: float) -> np.ndarray:
    """First-order high-pass by the bilinear transform, its corner where the analogue one has it."""
    warped = np.tan(np.pi * corner_hz / sample_rate)
    return np.asarray(lfilter([1.0, -1.0], [1.0 + warped, warped - 1.0], x, axis=-1))


def low_pass(x: np.ndarray, sample_rate: int, corner_hz: float) -> np.ndarray:
    """One-pole low-pass whose impulse response is largest at once: y += a * (x - y)."""
    pole = np.exp(-2.0 * np.pi * corner_hz / sample_rate)
    return np.asarray(lfilter([1.0 - pole], [1.0, -pole], x, axis=-1))


def oversampled(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Apply a memoryless function at ``OVERSAMPLING`` times the rate, aligned and as long as x.

    Works in chunks with the filters' reach on either side, so memory stays flat.
    """
    reach = 2 * _FIR_HALF_SAMPLES
    half_taps = _FIR_HALF_SAMPLES * OVERSAMPLING
    taps = firwin(2 * half_taps + 1, 0.85 / OVERSAMPLING, window=("kaiser", 7.0))
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(reach, reach)])
    y = np.empty_like(x)
    total = x.shape[-1]
    for start in range(0, total, _CHUNK_SAMPLES):
        stop = min(start + _CHUNK_SAMPLES, total)
        chunk = padded[..., start : stop + 2 * reach]
        fast = function(upfirdn(OVERSAMPLING * taps, chunk, up=OVERSAMPLING, axis=-1))
        # both filters delay by half_taps fast samples: together 2 * _FIR_HALF_SAMPLES slow ones
        slow = upfirdn(taps, fast, down=OVERSAMPLING, axis=-1)
        y[..., start:stop] = slow[..., 2 * reach : 2 * reach + stop - start]
    return y


def falling_peak(x: np.ndarray, fall_samples: float) -> np.ndarray:
    """y[n] = max(x[n], y[n-1] exp(-1 / fall_samples)) along the last axis, x not negative.

    In logarithms the recursion is a running maximum of x on a rising line, so it needs no loop.
    """
    line = np.arange(x.shape[-1]) / fall_samples
    risen = np.log(np.maximum(x, 1e-30)) + line
    np.maximum.accumulate(risen, axis=-1, out=risen)
    risen -= line
    return np.asarray(np.maximum(np.exp(risen, out=risen), x))


def smoothed(x: np.ndarray, samples: float, start: float = 0.0) -> np.ndarray:
    """One-pole smoothing with a time constant in samples, from a settled ``start``."""
    pole = float(np.exp(-1.0 / max(samples, 1e-6)))
    state = np.full((*x.shape[:-1], 1), pole * start)
    return np.asarray(lfilter([1.0 - pole], [1.0, -pole], x, axis=-1, zi=state)[0])
