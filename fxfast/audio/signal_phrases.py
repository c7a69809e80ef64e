"""The phrases of generated test signals, each with everything that was drawn for it.

A phrase is float64 (T) with a peak of 1 and a record of its parameters. Strings follow
``signals``; a bend changes the length of the string while it sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.signal import butter, lfilter

from fxfast.audio.signals import Pluck, pluck_string

Phrase = tuple[np.ndarray, dict[str, Any]]

_SCALE_SEMITONES = (0, 3, 5, 7, 10)
_RANGE_DB = 60.0


@dataclass(frozen=True)
class Instrument:
    """The range of an instrument: fundamentals in Hz, open strings in semitones above the low one,
    and the corner of its pick-up's low-pass.
    """

    name: str
    lowest_hz: float
    highest_hz: float
    strings: tuple[int, ...]
    pickup_hz: float


INSTRUMENTS: Mapping[str, Instrument] = MappingProxyType(
    {
        "guitar": Instrument("guitar", 82.41, 1300.0, (0, 5, 10, 15, 19, 24), 5000.0),
        "bass": Instrument("bass", 41.2, 400.0, (0, 5, 10, 15), 3500.0),
    }
)


def melody(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """Single notes of a pentatonic scale, each stopped by the next."""
    beat = rng.uniform(0.12, 0.4)
    root = int(rng.integers(0, 12))
    parts, notes = [], []
    for _ in range(int(rng.integers(4, 9))):
        semitones = root + 12 * int(rng.integers(0, 4)) + int(rng.choice(_SCALE_SEMITONES))
        pluck = _pluck(rng, instrument, semitones, beat * int(rng.choice((1, 1, 2, 3))))
        parts.append(_stopped(pluck_string(rng, pluck, rate), rate))
        notes.append(asdict(pluck))
    return _picked_up(np.concatenate(parts), rate, instrument), {"notes": notes}


def bends(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """Notes that are pulled up by up to three semitones, held or let back, some with vibrato."""
    parts, notes = [], []
    for _ in range(int(rng.integers(2, 5))):
        pluck = _pluck(rng, instrument, int(rng.integers(7, 30)), rng.uniform(0.5, 1.5))
        bend = Bend(
            semitones=float(rng.choice((0.5, 1.0, 2.0, 3.0))),
            start_seconds=rng.uniform(0.05, 0.3),
            rise_seconds=rng.uniform(0.05, 0.4),
            back=bool(rng.random() < 0.4),
            vibrato_hz=rng.uniform(4.0, 7.0),
            vibrato_cents=float(rng.choice((0.0, rng.uniform(10.0, 60.0)))),
        )
        top = instrument.highest_hz / 2.0 ** (bend.semitones / 12.0)
        pluck = replace(pluck, frequency_hz=min(pluck.frequency_hz, top))
        parts.append(_stopped(bend_string(rng, pluck, bend, rate), rate))
        notes.append({**asdict(pluck), "bend": asdict(bend)})
    return _picked_up(np.concatenate(parts), rate, instrument), {"notes": notes}


def chords(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """Strings plucked together, ringing out."""
    return _strings_together(rng, rate, instrument, (0.0, 0.002), (1, 3), (0.8, 2.0))


def strums(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """Strings one after the other, down and up, in steady time."""
    return _strings_together(rng, rate, instrument, (0.004, 0.03), (4, 9), (0.2, 0.5))


def mutes(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """Short damped notes on the low strings in steady time."""
    beat = rng.uniform(0.1, 0.22)
    low = int(rng.integers(0, 8))
    parts, notes = [], []
    for _ in range(int(rng.integers(6, 13))):
        pluck = replace(
            _pluck(rng, instrument, low + int(rng.choice((0, 0, 0, 1, 3, 5))), beat),
            decay_seconds=rng.uniform(0.12, 0.35),
            damping=rng.uniform(0.35, 0.6),
        )
        parts.append(_stopped(pluck_string(rng, pluck, rate), rate))
        notes.append(asdict(pluck))
    return _picked_up(np.concatenate(parts), rate, instrument), {"notes": notes}


def sweep(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """A sine whose frequency rises or falls by the same factor in equal times."""
    seconds = rng.uniform(1.0, 4.0)
    low = rng.uniform(0.5, 1.0) * instrument.lowest_hz
    high = min(rng.uniform(8000.0, 20000.0), 0.45 * rate)
    up = bool(rng.random() < 0.7)
    time = np.arange(round(seconds * rate)) / rate
    growth = np.log(high / low) / seconds
    phase = 2.0 * np.pi * low / growth * np.expm1(growth * time)
    sound = np.sin(phase if up else phase[::-1])
    record = {"seconds": seconds, "low_hz": low, "high_hz": high, "up": up}
    return _faded(sound, rate, 0.01), record


def steps(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """One tone or noise at levels over 60 dB, rising, falling or mixed, without a gap."""
    count = int(rng.integers(6, 13))
    levels = np.linspace(0.0, -_RANGE_DB, count) + rng.uniform(-2.0, 0.0, count)
    order = str(rng.choice(("up", "down", "mixed")))
    levels = {"down": levels, "up": levels[::-1], "mixed": rng.permutation(levels)}[order]
    seconds = rng.uniform(0.1, 0.4)
    size = round(seconds * rate)
    sound, source = _steady(rng, rate, instrument, count * size)
    sound *= np.repeat(10.0 ** (levels / 20.0), size)
    record = {"seconds_each": seconds, "levels_db": levels.tolist(), "order": order, **source}
    return _faded(sound, rate, 0.002), record


def bursts(rng: np.random.Generator, rate: int, instrument: Instrument) -> Phrase:
    """Short tones or noises over 60 dB with silence between: for attacks, gates and tails."""
    parts, rows = [], []
    for _ in range(int(rng.integers(4, 10))):
        seconds, gap = rng.uniform(0.005, 0.25), rng.uniform(0.05, 0.5)
        level_db = rng.uniform(-_RANGE_DB, 0.0)
        sound, source = _steady(rng, rate, instrument, max(8, round(seconds * rate)))
        parts += [
            10.0 ** (level_db / 20.0) * _faded(sound, rate, 0.001),
            np.zeros(round(gap * rate)),
        ]
        rows.append({"seconds": seconds, "gap_seconds": gap, "level_db": level_db, **source})
    return np.concatenate(parts), {"bursts": rows}


PHRASES: Mapping[str, Callable[[np.random.Generator, int, Instrument], Phrase]] = MappingProxyType(
    {
        "melody": melody,
        "bends": bends,
        "chords": chords,
        "strums": strums,
        "mutes": mutes,
        "sweep": sweep,
        "steps": steps,
        "bursts": bursts,
    }
)


@dataclass(frozen=True)
class Bend:
    """How the pitch of a string moves after the pluck."""

    semitones: float
    start_seconds: float
    rise_seconds: float
    back: bool = False
    vibrato_hz: float = 5.0
    vibrato_cents: float = 0.0

    def ratio(self, seconds: np.ndarray) -> np.ndarray:
        """The frequency over that of the pluck at some times."""
        share = np.clip((seconds - self.start_seconds) / self.rise_seconds, 0.0, 2.0)
        if self.back:
            share = np.minimum(share, np.maximum(2.0 - share, 0.0))
        share = np.minimum(share, 1.0)
        smooth = share * share * (3.0 - 2.0 * share)
        vibrato = self.vibrato_cents / 100.0 * np.sin(2.0 * np.pi * self.vibrato_hz * seconds)
        return np.asarray(2.0 ** ((self.semitones * smooth + vibrato * smooth) / 12.0))


def bend_string(rng: np.random.Generator, pluck: Pluck, bend: Bend, sample_rate: int) -> np.ndarray:
    """A plucked string whose length changes while it sounds, float64 (T).

    The loop of ``pluck_string`` with another delay at every sample: the filter's mean is what the
    delay lacks to the nearest whole number of samples.
    """
    total = round(pluck.seconds * sample_rate)
    period = sample_rate / pluck.frequency_hz / bend.ratio(np.arange(total) / sample_rate)
    whole = np.floor(period + 0.5).astype(np.int64)
    mean = period - whole
    spread = pluck.damping + mean * mean
    gain = 10.0 ** (-3.0 / (pluck.decay_seconds * pluck.frequency_hz))
    turn = max(1, int(whole.min()) - 1)
    history = int(whole.max()) + 1
    start = replace(pluck, seconds=(whole[0] + 0.5) / sample_rate)
    first_turn = pluck_string(rng, start, sample_rate)[: whole[0]]
    y = np.zeros(history + total)
    begin = min(len(first_turn), total)
    y[history : history + begin] = first_turn[:begin]
    for at in range(begin, total, turn):
        part = slice(at, min(at + turn, total))
        back = np.arange(part.start, part.stop) + history - whole[part]
        m, s = mean[part], spread[part]
        y[history + part.start : history + part.stop] = gain * (
            (s - m) / 2.0 * y[back + 1] + (1.0 - s) * y[back] + (s + m) / 2.0 * y[back - 1]
        )
    return y[history:]


def _strings_together(
    rng: np.random.Generator,
    rate: int,
    instrument: Instrument,
    delay_range: tuple[float, float],
    counts: tuple[int, int],
    seconds_range: tuple[float, float],
) -> Phrase:
    parts, rows = [], []
    seconds = rng.uniform(*seconds_range)
    for number in range(int(rng.integers(*counts)) + 1):
        fret = int(rng.integers(0, 8))
        size = int(rng.integers(min(3, len(instrument.strings)), len(instrument.strings) + 1))
        strings = instrument.strings[:size] if number % 2 == 0 else instrument.strings[:size][::-1]
        delay = rng.uniform(*delay_range)
        mixed = np.zeros(round(seconds * rate))
        notes = []
        for index, semitones in enumerate(strings):
            onset = min(round(index * delay * rate), len(mixed) - 1)
            voiced = semitones + fret + int(rng.integers(0, 2))
            pluck = _pluck(rng, instrument, voiced, (len(mixed) - onset) / rate)
            string = pluck_string(rng, pluck, rate)[: len(mixed) - onset]
            mixed[onset : onset + len(string)] += string
            notes.append(asdict(pluck))
        parts.append(_stopped(mixed, rate))
        rows.append({"seconds": seconds, "delay_seconds": delay, "strings": notes})
    return _picked_up(np.concatenate(parts), rate, instrument), {"chords": rows}


def _pluck(
    rng: np.random.Generator, instrument: Instrument, semitones: int, seconds: float
) -> Pluck:
    cents = rng.normal(0.0, 5.0)
    hertz = instrument.lowest_hz * 2.0 ** ((semitones + cents / 100.0) / 12.0)
    return Pluck(
        frequency_hz=float(np.clip(hertz, instrument.lowest_hz, instrument.highest_hz)),
        seconds=seconds,
        gain=10.0 ** (rng.uniform(-9.0, 0.0) / 20.0),
        decay_seconds=rng.uniform(1.0, 5.0),
        damping=rng.uniform(0.25, 0.4),
        pick_position=rng.uniform(0.07, 0.35),
        brightness=rng.uniform(0.3, 1.0),
    )


def _steady(
    rng: np.random.Generator, rate: int, instrument: Instrument, size: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """A sine of the instrument's range, or noise below a corner; peak 1."""
    if rng.random() < 0.6:
        hertz = instrument.lowest_hz * 2.0 ** rng.uniform(
            0.0, np.log2(instrument.highest_hz / instrument.lowest_hz)
        )
        return np.sin(2.0 * np.pi * hertz / rate * np.arange(size)), {"tone_hz": float(hertz)}
    corner = min(rng.uniform(2000.0, 12000.0), 0.4 * rate)
    numerator, denominator = butter(1, corner, fs=rate)
    noise = np.asarray(lfilter(numerator, denominator, rng.uniform(-1.0, 1.0, size)))
    return noise / max(float(np.max(np.abs(noise))), 1e-9), {"noise_corner_hz": float(corner)}


def _picked_up(dry: np.ndarray, rate: int, instrument: Instrument) -> np.ndarray:
    """Through the pick-up's low-pass, peak at 1, the end faded."""
    numerator, denominator = butter(2, min(instrument.pickup_hz, 0.4 * rate), fs=rate)
    dry = np.asarray(lfilter(numerator, denominator, dry))
    fade = min(len(dry), round(0.03 * rate))
    dry[len(dry) - fade :] *= 0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, fade))
    return dry / max(float(np.max(np.abs(dry))), 1e-9)


def _stopped(note: np.ndarray, rate: int) -> np.ndarray:
    """The last 5 ms faded, as by a finger that stops the string."""
    fade = min(len(note), round(0.005 * rate))
    note[len(note) - fade :] *= np.linspace(1.0, 0.0, fade)
    return note


def _faded(sound: np.ndarray, rate: int, seconds: float) -> np.ndarray:
    fade = min(len(sound) // 2, max(1, round(seconds * rate)))
    ramp = (np.arange(fade) + 0.5) / fade
    sound = sound.copy()
    sound[:fade] *= ramp
    sound[len(sound) - fade :] *= ramp[::-1]
    return sound
