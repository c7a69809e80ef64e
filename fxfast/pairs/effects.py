"""Built-in effects: functions of an array and a sample rate, found by name in ``EFFECTS``.

An effect keeps the length, adds no delay, gives silence for silence and has no memory of earlier
calls, so a wet file made by it is aligned with its dry file sample by sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.signal import firwin, lfilter, upfirdn

from fxfast.errors import InputError

OVERSAMPLING = 8
GAIN_CORNER_HZ = 720.0
DIODE_VOLTS = 0.0453

_DRIVE_GAIN_MIN = 51e3 / 4.7e3
_DRIVE_GAIN_MAX = 551e3 / 4.7e3
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
    array x of shape (T) or (C, T) in, float32 of the same shape out. Raises InputError.
    """

    name: str
    summary: str
    source: str
    parameters: tuple[Parameter, ...]
    function: Callable[..., np.ndarray]

    def __call__(self, x: np.ndarray, sample_rate: int, **parameters: float) -> np.ndarray:
        return self.function(x, sample_rate, **self.settings(parameters))

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


def overdrive(
    x: np.ndarray,
    sample_rate: int,
    drive: float = 0.5,
    tone_hz: float = 3000.0,
    level_db: float = -6.0,
) -> np.ndarray:
    """A tube-screamer-like overdrive of (T) or (C, T); float32 of the same shape, no delay.

    The clipping stage is a non-inverting amplifier with diodes in its feedback, so its output is
    the input plus the voltage over the diodes. The current into them is the input through a
    first-order high-pass at 720 Hz (4.7 kOhm, 47 nF). A diode pair obeys i = 2 Is sinh(v / nVt),
    hence v = nVt asinh(...): here with the slope at 0 that the feedback resistor gives,
    51 to 551 kOhm over 4.7 kOhm by ``drive`` in 0..1. Full scale stands for 1 V. A one-pole
    low-pass at ``tone_hz`` and a level follow. The clipper runs at 8 times the rate between
    linear-phase filters whose delay is taken out.

    Sources: D. Yeh, J. Abel, J. Smith, "Simplified, physically-informed models of distortion and
    overdrive guitar effects pedals", DAFx 2007 (circuit, asinh law); 1N914 diode, n Vt = 45.3 mV.

    Raises InputError for a wrong shape, dtype, rate or parameter, or NaN and infinity.
    """
    _check_input(x, sample_rate)
    EFFECTS["overdrive"].settings({"drive": drive, "tone_hz": tone_hz, "level_db": level_db})
    dry = x.astype(np.float64)
    gain = _DRIVE_GAIN_MIN * (_DRIVE_GAIN_MAX / _DRIVE_GAIN_MIN) ** drive
    current = _high_pass(dry, sample_rate, GAIN_CORNER_HZ)

    def diodes(u: np.ndarray) -> np.ndarray:
        return np.asarray(DIODE_VOLTS * np.arcsinh((gain / DIODE_VOLTS) * u))

    driven = dry + _oversampled(diodes, current)
    toned = _low_pass(driven, sample_rate, tone_hz)
    level = 10.0 ** (level_db / 20.0)
    return np.asarray(level * toned, np.float32)


def _check_input(x: np.ndarray, sample_rate: int) -> None:
    if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64):
        got = getattr(x, "dtype", type(x).__name__)
        raise InputError(f"x: expected a float32 or float64 array, got {got}")
    if x.ndim not in (1, 2):
        raise InputError(f"x: expected shape (T) or (C, T), got {tuple(x.shape)}")
    if sample_rate < 8000:
        raise InputError(f"sample_rate: expected at least 8000 Hz, got {sample_rate}")
    if not np.isfinite(x).all():
        raise InputError("x: expected finite samples, got NaN or infinity")


def _high_pass(x: np.ndarray, sample_rate: int, corner_hz: float) -> np.ndarray:
    """First-order high-pass by the bilinear transform, its corner where the analogue one has it."""
    warped = np.tan(np.pi * corner_hz / sample_rate)
    return np.asarray(lfilter([1.0, -1.0], [1.0 + warped, warped - 1.0], x, axis=-1))


def _low_pass(x: np.ndarray, sample_rate: int, corner_hz: float) -> np.ndarray:
    """One-pole low-pass whose impulse response is largest at once: y += a * (x - y)."""
    pole = np.exp(-2.0 * np.pi * corner_hz / sample_rate)
    return np.asarray(lfilter([1.0 - pole], [1.0, -pole], x, axis=-1))


def _oversampled(function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
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


EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "overdrive": Effect(
            name="overdrive",
            summary="tube-screamer-like overdrive with a 60-sample memory at 48 kHz",
            source="Yeh, Abel, Smith, DAFx 2007",
            parameters=(
                Parameter("drive", "", 0.5, 0.0, 1.0, "gain into the diodes, 21 to 41 dB"),
                Parameter("tone_hz", "Hz", 3000.0, 720.0, 20000.0, "corner of the low-pass"),
                Parameter("level_db", "dB", -6.0, -60.0, 20.0, "gain after the tone"),
            ),
            function=overdrive,
        )
    }
)
