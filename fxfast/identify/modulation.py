"""Is there a copy of the dry in the wet whose delay swings?

What the best gain leaves of the wet is correlated with the dry in short frames, whitened as by
GCC-PHAT (C. Knapp, G. Carter, "The generalized correlation method for estimation of time delay",
IEEE Trans. ASSP 24(4), 1976); the best smooth path through the correlations (Viterbi) is the
delay over time. A sine through that path gives rate, depth and centre, and a fit of the wet by
the dry and the copy so delayed says whether it is true.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates

from fxfast.identify.excerpt import Piece, best_gain, held_out_esr
from fxfast.identify.periodic import Sine, fit_sine

MAX_DELAY_SECONDS = 0.064
_FRAME_SECONDS = 0.064
_HOP_SECONDS = 0.012
_WHITENING_FLOOR = 0.02
_MAX_STEP = 3
_STEP_COST = 0.002
_DRY_TAPS = 16
_COPY_TAPS = 8
# More than a filter of the dry, less than a chorus.
_CLEARLY_LATE_SECONDS = 0.001


@dataclass(frozen=True)
class ModulationFinding:
    """``esr`` of the dry plus a copy of the swinging delay, where no fit looked.

    ``rate_hz`` swings per second, ``centre_ms`` and ``depth_ms`` are the delay in the middle and
    how far it swings to either side; ``share`` is how much of the delay's track the sine is.
    """

    esr: float
    rate_hz: float
    centre_ms: float
    depth_ms: float
    share: float


class Swung(NamedTuple):
    """The piece that was looked at, the delay of its copy in milliseconds over seconds, and what
    dry and copy explain of its wet (T,)."""

    piece: Piece
    delay: Sine
    explained: np.ndarray


def find_modulation(pieces: Sequence[Piece], rate: float) -> tuple[ModulationFinding, Swung | None]:
    """Looks at the longest piece, for a phase is not carried from one to the next."""
    piece = max(pieces, key=lambda p: len(p.x))
    if len(piece.x) < 4 * round(MAX_DELAY_SECONDS * rate):
        return ModulationFinding(1.0, 0.0, 0.0, 0.0, 0.0), None
    tried = []
    for swing in find_swings(piece.x, piece.y - best_gain([piece]) * piece.x, rate):
        explained = _with_copy(piece, swing, rate)
        tried.append((held_out_esr([piece], [explained]), swing, explained))
    esr, swing, explained = min(tried, key=lambda each: each[0])
    found = ModulationFinding(
        esr=esr,
        rate_hz=swing.rate_hz,
        centre_ms=swing.centre,
        depth_ms=swing.depth,
        share=swing.share,
    )
    return found, Swung(piece, swing, explained)


def find_swings(x: np.ndarray, rest: np.ndarray, rate: float) -> list[Sine]:
    """What may be the delay, in milliseconds over seconds, of the copy of x that is in ``rest``.

    Where a curve or a gain has changed x, ``rest`` has most of it without any delay: so if the best
    delay is none, the best one that is clearly later is given too. Both (T,), of four times the
    longest delay or more.
    """
    starts, correlations = _correlations(x, rest, rate)
    found = [_swing_in(starts, correlations, 0, rate)]
    if found[0].centre < 1000.0 * _CLEARLY_LATE_SECONDS:
        least = round(_CLEARLY_LATE_SECONDS * rate)
        found.append(_swing_in(starts, correlations[:, least:], least, rate))
    return found


def _swing_in(starts: np.ndarray, correlations: np.ndarray, least: int, rate: float) -> Sine:
    """The sine through the best path of lags, the first of which is ``least``."""
    seconds = (starts + round(_FRAME_SECONDS * rate) // 2) / rate
    best = None
    for sign in (1.0, -1.0):
        path, score = _best_path(sign * correlations)
        if best is None or score > best[0]:
            values = sign * correlations[np.arange(len(path)), path]
            best = (score, path, np.square(np.maximum(values, 0.0)))
    assert best is not None
    return fit_sine(seconds, (best[1] + least) * (1000.0 / rate), best[2])


def _correlations(x: np.ndarray, rest: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Starts of the frames and their correlations (frames, lags), lag 0 first."""
    lags, frame = round(MAX_DELAY_SECONDS * rate), round(_FRAME_SECONDS * rate)
    starts = np.arange(lags, len(x) - frame, max(1, round(_HOP_SECONDS * rate)))
    size = fft.next_fast_len(lags + 2 * frame, real=True)
    window = np.hanning(frame)
    places = (np.arange(lags) - lags) % size
    found = np.empty((len(starts), lags), np.float32)
    for row, start in enumerate(starts):
        past = fft.rfft(x[start - lags : start + frame], size)
        now = fft.rfft(rest[start : start + frame] * window, size)
        strength = np.abs(past) * np.abs(now)
        cross = now * np.conj(past) / (strength + _WHITENING_FLOOR * strength.max() + 1e-20)
        found[row] = fft.irfft(cross, size)[places]
    return starts, found


def _best_path(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The path of lags with the largest sum of values less a cost of steps, and its mean."""
    frames, lags = values.shape
    score = values[0].copy()
    steps = np.zeros((frames, lags), np.int16)
    for row in range(1, frames):
        best, taken = score.copy(), steps[row]
        for step in range(-_MAX_STEP, _MAX_STEP + 1):
            if step == 0:
                continue
            to, origin = (
                slice(max(step, 0), lags + min(step, 0)),
                slice(max(-step, 0), lags + min(-step, 0)),
            )
            candidate = score[origin] - np.float32(_STEP_COST * step * step)
            better = candidate > best[to]
            best[to][better] = candidate[better]
            taken[to][better] = step
        score = best + values[row]
    path = np.empty(frames, np.int64)
    path[-1] = score.argmax()
    for row in range(frames - 1, 0, -1):
        path[row - 1] = path[row] - steps[row, path[row]]
    return path, float(score.max()) / frames


def _with_copy(piece: Piece, swing: Sine, rate: float) -> np.ndarray:
    """The least-squares sum of taps of the dry and of the copy."""
    time = np.arange(len(piece.x))
    delayed = time - swing.at(time / rate) * (rate / 1000.0)
    columns = [np.pad(piece.x, (tap, 0))[: len(time)] for tap in range(_DRY_TAPS)]
    columns += [
        map_coordinates(piece.x, [delayed - tap], order=3, mode="constant")
        for tap in range(-_COPY_TAPS, _COPY_TAPS + 1)
    ]
    a = np.stack(columns)
    known = a[:, : piece.border]
    matrix = known @ known.T
    matrix += 1e-6 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    made: np.ndarray = np.linalg.solve(matrix, known @ piece.y[: piece.border]) @ a
    return made
