"""Overdrive and fuzz: clipping between the filters of the circuit, at 8 times the rate."""

from __future__ import annotations

import numpy as np

from fxfast.pairs.effect_base import Effect, Parameter, high_pass, low_pass, oversampled, smoothed

GAIN_CORNER_HZ = 720.0
DIODE_VOLTS = 0.0453

_DRIVE_GAIN_MIN = 51e3 / 4.7e3
_DRIVE_GAIN_MAX = 551e3 / 4.7e3
_FUZZ_INPUT_HZ = 15.0
_FUZZ_OUTPUT_HZ = 32.0
_FUZZ_CHARGE_SECONDS = 0.022
_FUZZ_CHARGE = 0.5
_FUZZ_GAIN_DB = (20.0, 55.0)
_FUZZ_CEILING = 0.3
_FUZZ_FLOOR = 0.12


def overdrive(
    x: np.ndarray, sample_rate: int, drive: float, tone_hz: float, level_db: float
) -> np.ndarray:
    """A TS808-like overdrive of float64 (C, T), no delay.

    The clipping stage is a non-inverting amplifier with diodes in its feedback, so its output is
    the input plus the voltage over the diodes. The current into them is the input through a
    first-order high-pass at 720 Hz (4.7 kOhm, 47 nF). A diode pair obeys i = 2 Is sinh(v / nVt),
    hence v = nVt asinh(...): here with the slope at 0 that the feedback resistor gives,
    51 to 551 kOhm over 4.7 kOhm by ``drive`` in 0..1. Full scale stands for 1 V. A one-pole
    low-pass at ``tone_hz`` and a level follow. The clipper runs at 8 times the rate between
    linear-phase filters whose delay is taken out.

    Source: D. Yeh, J. Abel, J. Smith, "Simplified, physically-informed models of distortion and
    overdrive guitar effects pedals", DAFx 2007 (circuit, asinh law); 1N914 diode, n Vt = 45.3 mV.
    """
    gain = _DRIVE_GAIN_MIN * (_DRIVE_GAIN_MAX / _DRIVE_GAIN_MIN) ** drive
    current = high_pass(x, sample_rate, GAIN_CORNER_HZ)

    def diodes(u: np.ndarray) -> np.ndarray:
        return np.asarray(DIODE_VOLTS * np.arcsinh((gain / DIODE_VOLTS) * u))

    driven = x + oversampled(diodes, current)
    toned = low_pass(driven, sample_rate, tone_hz)
    return np.asarray(10.0 ** (level_db / 20.0) * toned)


def fuzz(x: np.ndarray, sample_rate: int, fuzz: float, level_db: float) -> np.ndarray:
    """A two-transistor fuzz of float64 (C, T), no delay.

    Two inverting stages, each clipping softly and not alike above and below: a stage biased off
    its middle reaches saturation sooner than cut-off. The input capacitor and the output
    capacitor (10 nF into 500 kOhm) are first-order high-passes at 15 and 32 Hz. The base rectifies
    the input and charges the input capacitor, which moves the middle with the level, in 22 ms:
    the pulses are narrower than the gaps. ``fuzz`` sets the gain before the clipping, 20 to
    55 dB. Full scale stands for 1 V.

    Sources: R. Keen, "The Technology of the Fuzz Face", geofex.com, 1998 (circuit); Yeh, Abel,
    Smith, DAFx 2007 (distortion as a curve between filters).
    """
    low_db, high_db = _FUZZ_GAIN_DB
    gain = 10.0 ** ((low_db + fuzz * (high_db - low_db)) / 40.0)

    def stages(u: np.ndarray) -> np.ndarray:
        first = _uneven_clip(-gain * u, _FUZZ_FLOOR, _FUZZ_CEILING)
        return _uneven_clip(-gain * first, _FUZZ_CEILING, _FUZZ_FLOOR)

    base = high_pass(x, sample_rate, _FUZZ_INPUT_HZ)
    charge = smoothed(np.abs(base), _FUZZ_CHARGE_SECONDS * sample_rate)
    driven = oversampled(stages, base - _FUZZ_CHARGE * charge)
    return np.asarray(10.0 ** (level_db / 20.0) * high_pass(driven, sample_rate, _FUZZ_OUTPUT_HZ))


def _uneven_clip(u: np.ndarray, floor: float, ceiling: float) -> np.ndarray:
    """Slope 1 at 0, bent towards ``ceiling`` above and ``-floor`` below."""
    bound = np.where(u > 0.0, ceiling, floor)
    return np.asarray(bound * np.tanh(u / bound))


OVERDRIVE = Effect(
    name="overdrive",
    summary="TS808-like overdrive with a 60-sample memory at 48 kHz",
    source="Yeh, Abel, Smith, DAFx 2007",
    parameters=(
        Parameter("drive", "", 0.5, 0.0, 1.0, "gain into the diodes, 21 to 41 dB"),
        Parameter("tone_hz", "Hz", 3000.0, 720.0, 20000.0, "corner of the low-pass"),
        Parameter("level_db", "dB", -6.0, -60.0, 20.0, "gain after the tone"),
    ),
    function=overdrive,
)

FUZZ = Effect(
    name="fuzz",
    summary="two-transistor fuzz",
    source="Keen, geofex.com 1998; Yeh, Abel, Smith, DAFx 2007",
    parameters=(
        Parameter("fuzz", "", 0.7, 0.0, 1.0, "gain into the clipping, 20 to 55 dB"),
        Parameter("level_db", "dB", 0.0, -60.0, 20.0, "gain after the clipping"),
    ),
    function=fuzz,
)
