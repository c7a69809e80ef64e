"""Finds the voices of a chorus: where their delay swings, then all numbers by Gauss-Newton.

The delay of a copy of dry in what is left of wet is followed over time (``identify.modulation``).
A sine through it is near enough for Gauss-Newton, which moves the rate, the centre, the harmonics
of the swing and the gains together until the squared error of wet is smallest: first over some
seconds of the low frequencies, where a wrong delay is still a small part of a cycle, then over
more time and all frequencies (the coarse to fine of image registration: Lucas and Kanade, An
iterative image registration technique, IJCAI 1981).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import butter, resample_poly, sosfiltfilt
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import lsqr

from fxfast.data import Piece
from fxfast.identify.modulation import MAX_DELAY_SECONDS, find_swings
from fxfast.identify.periodic import Sine

_SEARCH_SECONDS = 20.0
_SEARCH_RATE = 16_000
# Seconds from the start, and the highest frequency in Hz, of each stage; 0 is all.
_STAGES = ((4.0, 300.0), (8.0, 1000.0), (16.0, 4000.0), (0.0, 0.0))
_STEPS = 8
_CHUNK = 1 << 16
_HARMONICS = (1, 3, 9)
MAX_CHORUS_VOICES = 3
# Another voice or more harmonics have to make validation so much better.
_WORTH = 0.8
# To take a chorus back: of the most that it can make louder, and the steps.
_DAMPING, _ITERATIONS = 0.03, 30


@dataclass(frozen=True, eq=False)
class Swing:
    """One voice: ``gain``, ``rate`` in cycles a sample, ``centre`` in samples, and ``waves``
    (H, 2), the sine and cosine of each harmonic in samples, at time 0 of the file."""

    gain: float
    rate: float
    centre: float
    waves: np.ndarray

    def delay(self, time: np.ndarray) -> np.ndarray:
        angles = 2 * np.pi * self.rate * np.outer(np.arange(1, len(self.waves) + 1), time)
        swing: np.ndarray = self.waves[:, 0] @ np.sin(angles) + self.waves[:, 1] @ np.cos(angles)
        return self.centre + swing

    def with_harmonics(self, count: int) -> Swing:
        waves = np.zeros((count, 2))
        kept = min(count, len(self.waves))
        waves[:kept] = self.waves[:kept]
        return replace(self, waves=waves)


@dataclass(frozen=True, eq=False)
class Chorus:
    """wet = dry_gain * dry + the voices; ``points`` of interpolation, 2 or 4."""

    dry_gain: float
    voices: tuple[Swing, ...]
    points: int = 2

    def predict(self, heard: np.ndarray, first: int) -> np.ndarray:
        """Of the samples of ``heard`` from ``first`` on."""
        made = np.empty(len(heard) - first)
        for start in range(first, len(heard), _CHUNK):
            time = np.arange(start, min(start + _CHUNK, len(heard)), dtype=np.float64)
            y = self.dry_gain * heard[start : start + len(time)]
            for voice in self.voices:
                y = y + voice.gain * read_between(heard, time - voice.delay(time), self.points)[0]
            made[start - first : start - first + len(time)] = y
        return made


def read_between(u: np.ndarray, place: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """u at places between its samples, and its slope there; silence before the first sample."""
    whole = np.ceil(place)
    f = whole - place

    def at(k: int) -> np.ndarray:
        index = whole.astype(np.int64) - k
        inside = (index >= 0) & (index < len(u))
        found: np.ndarray = np.where(inside, u[np.clip(index, 0, len(u) - 1)], 0.0)
        return found

    now, before = at(0), at(1)
    if points == 2:
        return now + f * (before - now), now - before
    after, older = at(-1), at(2)
    value = (-f * (f - 1) * (f - 2) / 6 * after + (f + 1) * (f - 1) * (f - 2) / 2 * now
             - (f + 1) * f * (f - 2) / 2 * before + (f + 1) * f * (f - 1) / 6 * older)  # fmt: skip
    slope = ((3 * f * f - 6 * f + 2) / 6 * after - (3 * f * f - 4 * f - 1) / 2 * now
             + (3 * f * f - 2 * f - 2) / 2 * before - (3 * f * f - 1) / 6 * older)  # fmt: skip
    return value, slope


def esr_of(chorus: Chorus, pieces: Sequence[Piece]) -> float:
    error = energy = 0.0
    for piece in pieces:
        wet = piece.wet.astype(np.float64)
        heard = piece.heard.astype(np.float64)
        made = chorus.predict(heard, len(heard) - len(wet))
        error += float(np.sum((made - wet) ** 2))
        energy += float(np.sum(wet**2))
    return error / energy


def find_chorus(
    training: Sequence[Piece],
    validation: Sequence[Piece],
    sample_rate: int,
    most: int,
    progress: Callable[[float, str], None],
    known: Chorus | None = None,
) -> Chorus:
    """Of up to ``most`` voices the chorus that predicts ``validation`` best; a plain gain where
    no voice is found. From one that is ``known`` for nearly the same sounds it goes on."""
    piece = max(training, key=lambda p: len(p.wet))
    if known is None:
        dry, wet = piece.dry.astype(np.float64), piece.wet.astype(np.float64)
        best = Chorus(float(dry @ wet) / max(float(dry @ dry), 1e-30), ())
    else:
        best = _refined(replace(known, points=2), piece, sample_rate, _STAGES[-1:])
    best_esr = esr_of(best, validation)
    for number in range(len(best.voices), most):
        share = number / most
        progress(share, f"voice {number + 1}, validation ESR {best_esr:.2g}")
        found = _with_another(best, piece, sample_rate)
        found_esr = esr_of(found, validation)
        if not found_esr < _WORTH * best_esr:
            break
        best, best_esr = found, found_esr
        for harmonics in _HARMONICS[1:]:
            progress(share + 0.1, f"{harmonics} harmonics, validation ESR {best_esr:.2g}")
            voices = tuple(voice.with_harmonics(harmonics) for voice in best.voices)
            found = _refined(replace(best, voices=voices), piece, sample_rate, _STAGES[-1:])
            found_esr = esr_of(found, validation)
            if found_esr < best_esr:
                best, best_esr = found, found_esr
        if best_esr < 1e-5:
            break
    if not best.voices:
        return best
    progress(0.9, f"interpolation, validation ESR {best_esr:.2g}")
    cubic = _refined(replace(best, points=4), piece, sample_rate, _STAGES[-1:])
    return cubic if esr_of(cubic, validation) < best_esr else best


def _with_another(chorus: Chorus, piece: Piece, sample_rate: int) -> Chorus:
    """With the voice that is in what the others leave."""
    first = len(piece.heard) - len(piece.wet)
    heard = piece.heard.astype(np.float64)
    rest = piece.wet - chorus.predict(heard, first)
    some = slice(0, round(_SEARCH_SECONDS * sample_rate))
    dry = piece.dry[some].astype(np.float64)
    if len(dry) < 4 * round(MAX_DELAY_SECONDS * sample_rate):
        return chorus
    # Slowed down, a delay moves by few samples from one look to the next.
    slower = max(1, round(sample_rate / _SEARCH_RATE))
    looked, left = (resample_poly(side, 1, slower) for side in (dry, rest[some]))
    voices = []
    for sine in find_swings(looked, left, sample_rate / slower):
        voice = _voice_of(sine, first, sample_rate)
        copy = read_between(heard, _times(piece) - voice.delay(_times(piece)), 2)[0]
        voice = replace(voice, gain=float(copy @ rest) / max(float(copy @ copy), 1e-30))
        voices.append((-voice.gain * float(copy @ rest), voice))
    voice = min(voices, key=lambda each: each[0])[1]
    wider = voice.with_harmonics(max([1, *(len(v.waves) for v in chorus.voices)]))
    return _refined(replace(chorus, voices=(*chorus.voices, wider)), piece, sample_rate, _STAGES)


def _voice_of(sine: Sine, first: int, sample_rate: int) -> Swing:
    """The sine of a piece that begins at sample ``first``, as sine and cosine at time 0 of the
    file."""
    at = np.array([float(sine.at(np.array([t]))[0]) for t in (0.0, 0.25 / sine.rate_hz)])
    at, per_ms = at - sine.centre, sample_rate / 1000.0
    turned = 2 * np.pi * sine.rate_hz * first / sample_rate
    waves = per_ms * np.array([[at[1] * np.cos(turned) + at[0] * np.sin(turned),
                                at[0] * np.cos(turned) - at[1] * np.sin(turned)]])  # fmt: skip
    return Swing(0.0, sine.rate_hz / sample_rate, sine.centre * per_ms, waves)


def _times(piece: Piece) -> np.ndarray:
    return np.arange(len(piece.heard) - len(piece.wet), len(piece.heard), dtype=np.float64)


def _refined(
    chorus: Chorus, piece: Piece, sample_rate: int, stages: Sequence[tuple[float, float]]
) -> Chorus:
    first = len(piece.heard) - len(piece.wet)
    for seconds, highest in stages:
        heard, wet = piece.heard.astype(np.float64), piece.wet.astype(np.float64)
        if seconds:
            samples = round(seconds * sample_rate)
            heard, wet = heard[: first + samples], wet[:samples]
        if 0 < highest < 0.4 * sample_rate:
            low = butter(2, highest / (sample_rate / 2), output="sos")
            heard, wet = sosfiltfilt(low, heard), sosfiltfilt(low, wet)
        chorus = _gauss_newton(chorus, heard, wet)
    return chorus


def _gauss_newton(chorus: Chorus, heard: np.ndarray, wet: np.ndarray) -> Chorus:
    """Levenberg's damped steps; a step that makes the error larger is tried again, shorter."""
    damping = 1e-6
    matrix, right, error = _equations(chorus, heard, wet)
    for _ in range(_STEPS):
        # Of the delay there is nothing to learn while a voice is silent.
        scale = np.sqrt(np.maximum(np.diag(matrix), 1e-12 * np.diag(matrix).max()))
        system = matrix / np.outer(scale, scale) + damping * np.eye(len(scale))
        step = np.linalg.solve(system, right / scale) / scale
        moved = _moved(chorus, step)
        found = _equations(moved, heard, wet)
        if found[2] < error:
            settled = found[2] > error * (1 - 1e-5)
            chorus, (matrix, right, error) = moved, found
            damping = max(damping / 10, 1e-9)
            if settled:
                break
        else:
            damping *= 100
            if damping > 1e3:
                break
    return chorus


def _equations(
    chorus: Chorus, heard: np.ndarray, wet: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """The normal equations of a step from here, and the squared error."""
    first, size = len(heard) - len(wet), 1 + sum(3 + v.waves.size for v in chorus.voices)
    matrix, right, error = np.zeros((size, size)), np.zeros(size), 0.0
    for start in range(0, len(wet), _CHUNK):
        stop = min(start + _CHUNK, len(wet))
        time = np.arange(first + start, first + stop, dtype=np.float64)
        rows = [heard[first + start : first + stop]]
        rest = wet[start:stop] - chorus.dry_gain * rows[0]
        for voice in chorus.voices:
            value, columns = _columns(voice, heard, time, chorus.points)
            rest = rest - voice.gain * value
            rows += columns
        stacked = np.stack(rows)
        matrix += stacked @ stacked.T
        right += stacked @ rest
        error += float(rest @ rest)
    return matrix, right, error


def _columns(
    voice: Swing, heard: np.ndarray, time: np.ndarray, points: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a voice hears, and how wet changes with its gain, rate, centre and waves."""
    orders = np.arange(1, len(voice.waves) + 1)
    angles = 2 * np.pi * voice.rate * np.outer(orders, time)
    sines, cosines = np.sin(angles), np.cos(angles)
    delay = voice.centre + voice.waves[:, 0] @ sines + voice.waves[:, 1] @ cosines
    value, slope = read_between(heard, time - delay, points)
    late = -voice.gain * slope
    turning = (orders * voice.waves[:, 0]) @ cosines - (orders * voice.waves[:, 1]) @ sines
    waves = [late * wave for pair in zip(sines, cosines, strict=True) for wave in pair]
    return value, [value, late * 2 * np.pi * time * turning, late, *waves]


def _moved(chorus: Chorus, step: np.ndarray) -> Chorus:
    voices, place = [], 1
    for voice in chorus.voices:
        own = step[place : place + 3 + voice.waves.size]
        voices.append(Swing(voice.gain + own[0], voice.rate + own[1], voice.centre + own[2],
                            voice.waves + own[3:].reshape(voice.waves.shape)))  # fmt: skip
        place += own.size
    return replace(chorus, dry_gain=chorus.dry_gain + step[0], voices=tuple(voices))


def without_swing(chorus: Chorus, wet: np.ndarray, first: int) -> np.ndarray:
    """What the chorus makes wet of, near enough: float32 of the length of wet, which begins at
    sample ``first`` of its file.

    Where copies cancel the dry there is nothing to bring back: so damped least squares (C. Paige,
    M. Saunders, LSQR, ACM Trans. Mathematical Software 8, 1982)."""
    time = np.arange(len(wet), dtype=np.float64)
    places, weights = [time.astype(np.int64)], [np.full(len(wet), chorus.dry_gain)]
    for voice in chorus.voices:
        late = voice.delay(time + first)
        whole = np.floor(late)
        for k, share in ((0, 1.0 - (late - whole)), (1, late - whole)):
            place = (time - whole).astype(np.int64) - k
            inside = (place >= 0) & (place < len(wet))
            places.append(np.where(inside, place, 0))
            weights.append(np.where(inside, voice.gain * share, 0.0))
    rows = np.tile(np.arange(len(wet)), len(places))
    made = (np.concatenate(weights), (rows, np.concatenate(places)))
    matrix = csr_matrix(made, shape=(len(wet), len(wet)))
    loudest = abs(chorus.dry_gain) + sum(abs(voice.gain) for voice in chorus.voices)
    found = lsqr(matrix, wet.astype(np.float64), damp=_DAMPING * loudest, iter_lim=_ITERATIONS)[0]
    result: np.ndarray = found.astype(np.float32)
    return result
