"""A generated dry guitar: plucked strings in phrases, the same samples for the same seed.

Strings follow K. Karplus, A. Strong, "Digital Synthesis of Plucked-String and Drum Timbres",
Computer Music Journal 7(2), 1983: a burst of noise one period long runs round a delay line with
a low-pass filter. From D. Jaffe, J. Smith, "Extensions of the Karplus-Strong Plucked-String
Algorithm", same issue: fractional tuning, decay times, pick position (a comb on the burst) and
softer plucks with fewer high harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter

from fxfast.errors import InputError

LOWEST_HZ = 82.41
HIGHEST_HZ = 1300.0
PEAK = 0.85
LEVEL_RANGE_DB = 30.0

_LEVEL_STEPS = 4
_SCALE_SEMITONES = (0, 3, 5, 7, 10)
_OPEN_STRINGS_SEMITONES = (0, 5, 10, 15, 19, 24)
_TWO_TAP_VARIANCE = 0.25


@dataclass(frozen=True)
class Pluck:
    """One plucked string; ``damping`` is the variance, in samples squared, of the loop filter."""

    frequency_hz: float
    seconds: float
    gain: float = 1.0
    decay_seconds: float = 4.0
    damping: float = _TWO_TAP_VARIANCE
    pick_position: float = 0.2
    brightness: float = 0.7


def guitar_like(seconds: float, sample_rate: int, seed: int) -> np.ndarray:
    """Phrases of single notes, strummed chords and palm mutes with silences between them.

    Returns float32 (T), T = round(seconds * sample_rate), peak below 0.9. Phrase levels are
    spread over 30 dB, evenly within every four phrases. Raises InputError unless ``seconds`` is
    positive, ``sample_rate`` at least 8000 Hz and ``seed`` not negative.
    """
    if not seconds > 0 or not np.isfinite(seconds):
        raise InputError(f"seconds: expected more than 0, got {seconds}")
    if sample_rate < 8000:
        raise InputError(f"sample_rate: expected at least 8000 Hz, got {sample_rate}")
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, got {seed}")
    rng = np.random.Generator(np.random.PCG64(seed))
    y = np.zeros(round(seconds * sample_rate), np.float32)
    position = round(0.05 * sample_rate)
    levels_db: list[float] = []
    while position < len(y):
        levels_db = levels_db or _shuffled_levels_db(rng)
        phrase = _phrase(rng, sample_rate) * 10.0 ** (levels_db.pop() / 20.0)
        part = phrase[: len(y) - position]
        y[position : position + len(part)] = part
        position += len(phrase) + round(rng.uniform(0.1, 0.6) * sample_rate)
    return y


def pluck_string(rng: np.random.Generator, pluck: Pluck, sample_rate: int) -> np.ndarray:
    """One string, float64 (T), T = round(seconds * sample_rate), first burst at about +-gain.

    The loop filter has three taps with mean m (the fraction of the period) and variance v, so the
    string sounds at its frequency whatever its damping; m = 1/2, v = 1/4 is the two-tap average of
    Karplus and Strong. One turn of the loop needs only the turn before it, so a whole period is
    computed at once.
    """
    total = round(pluck.seconds * sample_rate)
    period = sample_rate / pluck.frequency_hz
    whole = int(np.floor(period + 0.5))
    mean = period - whole
    spread = pluck.damping + mean * mean
    gain = 10.0 ** (-3.0 / (pluck.decay_seconds * pluck.frequency_hz))
    earlier, centre, later = gain * np.array(
        [(spread - mean) / 2.0, 1.0 - spread, (spread + mean) / 2.0]
    )
    turn = whole - 1  # the earliest tap looks back this far
    y = np.zeros(total + whole + turn + 1)  # one period and one tap of history in front
    first = whole + 1
    burst = _burst(rng, pluck, whole)
    y[first : first + whole] = burst
    for start in range(first + whole, len(y), turn):
        stop = min(start + turn, len(y))
        y[start:stop] = (
            earlier * y[start - whole + 1 : stop - whole + 1]
            + centre * y[start - whole : stop - whole]
            + later * y[start - whole - 1 : stop - whole - 1]
        )
    return y[first : first + total]


def _burst(rng: np.random.Generator, pluck: Pluck, whole: int) -> np.ndarray:
    """One period of noise without DC: softened by the pluck's brightness, combed by its place."""
    noise = rng.uniform(-1.0, 1.0, whole)
    spectrum = np.fft.rfft(noise)
    harmonic = np.arange(len(spectrum))
    softness = 1.0 / (1.0 + (harmonic / (1.0 + 40.0 * pluck.brightness**2)) ** 2)
    comb = 2.0 * np.abs(np.sin(np.pi * harmonic * pluck.pick_position))
    burst = np.fft.irfft(spectrum * softness * comb, whole)
    burst -= burst.mean()
    return pluck.gain * burst / max(float(np.max(np.abs(burst))), 1e-9)


def _phrase(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """One phrase through the pick-up's low-pass, peak at PEAK, both ends at silence."""
    kinds = (_melody, _chords, _palm_mutes)
    dry = kinds[int(rng.choice(len(kinds), p=(0.45, 0.35, 0.2)))](rng, sample_rate)
    numerator, denominator = butter(2, min(5000.0, 0.4 * sample_rate), fs=sample_rate)
    dry = np.asarray(lfilter(numerator, denominator, dry))
    fade = min(len(dry), round(0.03 * sample_rate))
    dry[len(dry) - fade :] *= 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, fade))
    return (PEAK / max(float(np.max(np.abs(dry))), 1e-9) * dry).astype(np.float32)


def _melody(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Single notes of a pentatonic scale, each stopped by the next."""
    beat_seconds = rng.uniform(0.16, 0.4)
    root = int(rng.integers(0, 12))
    notes = []
    for _ in range(int(rng.integers(4, 9))):
        octave = 12 * int(rng.integers(0, 4))
        pluck = _random_pluck(
            rng,
            root + octave + int(rng.choice(_SCALE_SEMITONES)),
            seconds=beat_seconds * int(rng.choice((1, 1, 2, 3))),
        )
        notes.append(_released(pluck_string(rng, pluck, sample_rate), sample_rate))
    return np.concatenate(notes)


def _chords(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Three to six strings, strummed up or down, ringing together."""
    chords = []
    for _ in range(int(rng.integers(1, 4))):
        seconds = rng.uniform(0.6, 1.4)
        fret = int(rng.integers(0, 8))
        strings = list(_OPEN_STRINGS_SEMITONES[: int(rng.integers(3, 7))])
        if rng.random() < 0.3:
            strings.reverse()
        mixed = np.zeros(round(seconds * sample_rate))
        delay_seconds = rng.uniform(0.004, 0.025)
        for index, semitones in enumerate(strings):
            onset = min(round(index * delay_seconds * sample_rate), len(mixed) - 1)
            ringing = (len(mixed) - onset) / sample_rate
            voiced = semitones + fret + int(rng.integers(0, 2))
            string = pluck_string(rng, _random_pluck(rng, voiced, ringing), sample_rate)
            mixed[onset:] += string[: len(mixed) - onset]
        chords.append(_released(mixed, sample_rate))
    return np.concatenate(chords)


def _palm_mutes(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """Short damped notes on the low strings in steady time."""
    beat_seconds = rng.uniform(0.12, 0.22)
    low = int(rng.integers(0, 8))
    notes = []
    for _ in range(int(rng.integers(6, 13))):
        pluck = Pluck(
            frequency_hz=_frequency_hz(low + int(rng.choice((0, 0, 0, 1, 3, 5))), rng),
            seconds=beat_seconds,
            gain=rng.uniform(0.6, 1.0),
            decay_seconds=rng.uniform(0.12, 0.35),
            damping=rng.uniform(0.35, 0.6),
            pick_position=rng.uniform(0.08, 0.2),
            brightness=rng.uniform(0.4, 0.8),
        )
        notes.append(_released(pluck_string(rng, pluck, sample_rate), sample_rate))
    return np.concatenate(notes)


def _random_pluck(rng: np.random.Generator, semitones: int, seconds: float) -> Pluck:
    return Pluck(
        frequency_hz=_frequency_hz(semitones, rng),
        seconds=seconds,
        gain=10.0 ** (rng.uniform(-9.0, 0.0) / 20.0),
        decay_seconds=rng.uniform(1.0, 5.0),
        damping=rng.uniform(_TWO_TAP_VARIANCE, 0.4),
        pick_position=rng.uniform(0.07, 0.35),
        brightness=rng.uniform(0.3, 1.0),
    )


def _frequency_hz(semitones: int, rng: np.random.Generator) -> float:
    """Semitones above the low E, a few cents out of tune as on a real neck."""
    cents = rng.normal(0.0, 5.0)
    frequency_hz = LOWEST_HZ * 2.0 ** ((semitones + cents / 100.0) / 12.0)
    return float(np.clip(frequency_hz, LOWEST_HZ, HIGHEST_HZ))


def _released(note: np.ndarray, sample_rate: int) -> np.ndarray:
    """Fade the last 5 ms, as a finger that stops the string."""
    fade = min(len(note), round(0.005 * sample_rate))
    note[len(note) - fade :] *= np.linspace(1.0, 0.0, fade)
    return note


def _shuffled_levels_db(rng: np.random.Generator) -> list[float]:
    """One level from each equal step of the range, in random order."""
    step_db = LEVEL_RANGE_DB / _LEVEL_STEPS
    return [float(-step_db * (step + rng.random())) for step in rng.permutation(_LEVEL_STEPS)]
