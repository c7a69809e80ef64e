"""Is the wet the dry times a gain that changes slowly, and what does that gain follow?

The gain of every frame of 5 ms is the regression of wet on dry, after a short filter that the
frames share (a colouration such as a transformer's). Where those gains leave little of the wet,
they are laid against the level of the dry, smoothed with many pairs of attack and release: the
pair whose level explains the gains best gives the time constants and the static curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxfast.identify.excerpt import Piece
from fxfast.identify.periodic import Sine, fit_sine

FRAME_SECONDS = 0.005
_EARLY_TAPS, _LATE_TAPS = 4, 48
_COLOUR_ROWS = 100_000
_COLOUR_ROUNDS = 2
_FLOOR_DB = -90.0
_SURE_COHERENCE = 0.9
_DEEPEST_DB = 60.0
_BIN_DB = 1.5
_RANGE_PERCENTILES = (0.1, 99.9)
# A swing of the gain is looked for in so many frames, each fourth.
_SWING_FRAMES, _SWING_STEP = 4000, 4
_ATTACKS_MS = (1.0, 5.0, 10.0, 20.0, 40.0, 80.0)
_RELEASES_MS = (5.0, 10.0, 25.0, 50.0, 100.0, 200.0, 400.0, 800.0)


@dataclass(frozen=True)
class GainFinding:
    """``esr`` of a gain per frame and ``share_quiet``, the same with every frame counted alike;
    ``constant_esr`` and ``constant_quiet`` are those of one gain for all.

    ``explained`` is the share of the gain's variance in dB that the level explains, with
    ``attack_ms`` and ``release_ms``; ``curve`` are its points (level_db, gain_db).
    ``expands`` says that quiet sound is turned down (a gate), not loud (a compressor).
    ``range_db`` is from the smallest to the largest gain. ``swing`` is a sine through the gains.
    """

    esr: float
    share_quiet: float
    constant_esr: float
    constant_quiet: float
    explained: float
    attack_ms: float
    release_ms: float
    curve: tuple[tuple[float, float], ...]
    expands: bool
    range_db: float
    swing: Sine


@dataclass(frozen=True, eq=False)
class _Frames:
    """Energies and products of dry (x) and wet (y) in every frame."""

    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    samples: int

    @property
    def rest(self) -> np.ndarray:
        """What a gain of its own leaves of each frame."""
        return np.asarray(np.maximum(self.yy - np.square(self.xy) / (self.xx + 1e-20), 0.0))

    def rest_of(self, gain: float) -> np.ndarray:
        return np.asarray(self.yy - 2.0 * gain * self.xy + gain * gain * self.xx)

    def share_of(self, rest: np.ndarray, gain: float) -> float:
        """Mean share of the rest in a frame, each frame counted alike, silence not at all."""
        floor = self.samples * 10.0 ** (_FLOOR_DB / 10.0)
        heard = self.xx > floor
        whole = np.maximum(self.yy, gain * gain * self.xx) + floor
        return float(np.mean((rest / whole)[heard])) if heard.any() else 0.0


def find_gain(looked: Sequence[Piece], all_of_it: Sequence[Piece], rate: float) -> GainFinding:
    """The colouration is found in ``looked``, the gain in ``all_of_it``; both at ``rate`` Hz."""
    samples = max(1, round(FRAME_SECONDS * rate))
    plain = _frames(all_of_it, None, samples)
    colour = _colour(looked, samples)
    frames = _frames(all_of_it, colour, samples)
    if frames.rest.sum() > 0.8 * plain.rest.sum():
        frames = plain
    gain = float(plain.xy.sum() / (plain.xx.sum() + 1e-20))
    energy = float(plain.yy.sum()) + 1e-20
    own_gain = float(frames.xy.sum() / (frames.xx.sum() + 1e-20))
    return GainFinding(
        esr=float(frames.rest.sum()) / energy,
        share_quiet=frames.share_of(frames.rest, own_gain),
        constant_esr=float(plain.rest_of(gain).sum()) / energy,
        constant_quiet=frames.share_of(frames.rest_of(own_gain), own_gain),
        **_follow(frames),
    )


def _frames(pieces: Sequence[Piece], colour: np.ndarray | None, samples: int) -> _Frames:
    sides = []
    for piece in pieces:
        count = len(piece.x) // samples * samples
        x = piece.x if colour is None else _coloured(piece.x, colour)
        sides.append((x[:count].reshape(-1, samples), piece.y[:count].reshape(-1, samples)))
    x, y = (np.concatenate(side) for side in zip(*sides, strict=True))
    return _Frames((x * x).sum(1), (x * y).sum(1), (y * y).sum(1), samples)


def _coloured(x: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.convolve(x, colour)[_EARLY_TAPS : _EARLY_TAPS + len(x)]


def _colour(pieces: Sequence[Piece], samples: int) -> np.ndarray:
    """The filter of a few taps before the gain, by turns with the gains of the frames."""
    x = np.concatenate([piece.x for piece in pieces])
    y = np.concatenate([piece.y for piece in pieces])
    count = len(x) // samples * samples
    rows = np.arange(_LATE_TAPS, count - _EARLY_TAPS, max(1, count // _COLOUR_ROWS))
    taps = np.arange(-_EARLY_TAPS, _LATE_TAPS)
    columns = x[rows[None, :] - taps[:, None]]
    whole = [Piece(x[:count], y[:count])]
    colour: np.ndarray | None = None
    for _ in range(_COLOUR_ROUNDS):
        frames = _frames(whole, colour, samples)
        gains = np.clip(frames.xy / (frames.xx + 1e-12), -1e3, 1e3)
        played = columns * gains[rows // samples]
        matrix = played @ played.T
        matrix += (1e-6 * np.trace(matrix) / len(matrix) + 1e-20) * np.eye(len(matrix))
        colour = np.linalg.solve(matrix, played @ y[rows])
    assert colour is not None
    return colour


def _follow(frames: _Frames) -> dict[str, Any]:
    """The fields of the finding that say what the gain follows."""
    floor = frames.samples * 10.0 ** (_FLOOR_DB / 10.0)
    power = frames.xx / frames.samples
    level_db = 10.0 * np.log10(power + 10.0 ** (_FLOOR_DB / 10.0))
    # A closed gate leaves nothing to regress on: its gain is that of the energies.
    closed = frames.yy < 1e-3 * frames.xx
    coherent = np.square(frames.xy) > _SURE_COHERENCE * frames.xx * frames.yy
    sure = (frames.xx > 10.0 * floor) & (coherent | closed)
    gain_db = 10.0 * np.log10((frames.yy + 1e-3 * floor) / (frames.xx + 1e-3 * floor))
    if np.count_nonzero(sure[:_SWING_FRAMES]) < 20:
        still = Sine(0.0, 0.0, 0.0, 0.0, 0.0)
        return {
            "explained": 0.0,
            "attack_ms": 0.0,
            "release_ms": 0.0,
            "curve": (),
            "expands": False,
            "range_db": 0.0,
            "swing": still,
        }
    gain_db = np.maximum(gain_db, np.percentile(gain_db[sure], 95) - _DEEPEST_DB)
    explained, attack, release, curve = _time_constants(level_db, gain_db, sure)
    levels, gains, counts = curve
    mean = np.average(levels, weights=counts)
    slope = float(counts @ ((levels - mean) * gains))
    chosen = np.flatnonzero(sure[:_SWING_FRAMES])[::_SWING_STEP]
    return {
        "explained": explained,
        "attack_ms": attack,
        "release_ms": release,
        "curve": tuple(zip(levels.round(1).tolist(), gains.round(1).tolist(), strict=True)),
        "expands": slope > 0,
        "range_db": float(np.ptp(np.percentile(gain_db[sure], _RANGE_PERCENTILES))),
        "swing": fit_sine(chosen * FRAME_SECONDS, gain_db[chosen], np.ones(len(chosen))),
    }


def _time_constants(
    level_db: np.ndarray, gain_db: np.ndarray, sure: np.ndarray
) -> tuple[float, float, float, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Share explained, attack and release in ms, and the curve: levels, gains, frames in each."""
    attacks, releases = (m.ravel() for m in np.meshgrid(_ATTACKS_MS, _RELEASES_MS))
    rising, falling = (1.0 - np.exp(-1000.0 * FRAME_SECONDS / t) for t in (attacks, releases))
    level = np.full(len(attacks), level_db[0])
    smooth = np.empty((len(level_db), len(attacks)))
    for row, value in enumerate(level_db):
        rise = value - level
        level = level + np.where(rise > 0, rising, falling) * rise
        smooth[row] = level
    variance = float(gain_db[sure].var()) + 1e-9
    found = []
    for column in range(len(attacks)):
        levels, gains, counts, rest = _curve(smooth[sure, column], gain_db[sure])
        found.append((1.0 - rest / variance, column, (levels, gains, counts)))
    explained, column, curve = max(found, key=lambda each: each[0])
    return explained, float(attacks[column]), float(releases[column]), curve


def _curve(
    level_db: np.ndarray, gain_db: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Mean gain in bins of level; centres, gains, counts, and the variance that is left."""
    bins = np.floor(level_db / _BIN_DB).astype(np.int64)
    first = int(bins.min())
    counts = np.bincount(bins - first)
    gains = np.bincount(bins - first, gain_db) / np.maximum(counts, 1)
    rest = float(np.mean(np.square(gain_db - gains[bins - first])))
    used = counts >= 5
    if not used.any():
        used = counts > 0
    centres = (np.arange(len(counts)) + first + 0.5) * _BIN_DB
    return centres[used], gains[used], counts[used].astype(np.float64), rest
