"""What else is in a wet whose delay swings: a curve or a gain, in front of the swing or behind it.

Each hypothesis is a sum of known sounds with unknown factors, so each is one least squares fit: a
static curve is a sum of curves (as of Hammerstein and Wiener systems: S. Billings, Nonlinear System
Identification, Wiley 2013, chapter 2), a gain that follows the level a sum of gains, each for some
levels. In front of the swing both the sound and its late copy come from them, behind it they come
from the sum that the best filters of dry and copy make.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.signal import lfilter

from fxfast.identify.excerpt import Piece, held_out_esr
from fxfast.identify.modulation import Swung

# Of the loudest tenth of the sound: where curves bend.
_BENDS = (0.5, 1.5, 4.0, 12.0)
_LOUD_PERCENTILE = 90.0
_LEVEL_SECONDS = (0.01, 0.1)
_LEVEL_DB = 9.0
_LEVELS = 6
_DRY_TAPS, _COPY_TAPS = 4, 2
_BEHIND_TAPS = 3


@dataclass(frozen=True)
class BesideFinding:
    """What each hypothesis leaves, where no fit looked, and ``still`` the better of a curve and a
    gain without any swing; ``pressed_db`` is by how much the gain in front of the swing is larger
    for quiet sound than for loud."""

    still: float
    curve_in_front: float
    curve_behind: float
    gain_in_front: float
    gain_behind: float
    pressed_db: float

    @property
    def curve(self) -> float:
        """What is left by a curve, on the better side."""
        return min(self.curve_in_front, self.curve_behind)

    @property
    def gain(self) -> float:
        """What is left by a gain, on the better side."""
        return min(self.gain_in_front, self.gain_behind)


def find_beside(swung: Swung, rate: float) -> BesideFinding:
    """Four fits to the piece in which the swing was found, of ``rate`` Hz."""
    piece, explained = swung.piece, swung.explained
    time = np.arange(len(piece.x))
    late = time - swung.delay.at(time / rate) * (rate / 1000.0)

    def in_front(sound: np.ndarray) -> list[np.ndarray]:
        return _both(sound, late)

    curve_in_front, _ = _left(piece, _curves(piece.x), in_front)
    gain_in_front, factors = _left(piece, _gains(piece.x, rate), in_front)
    by_level = factors.reshape(-1, _DRY_TAPS + 2 * _COPY_TAPS + 1).sum(1)
    by_level = np.abs(by_level.reshape(len(_LEVEL_SECONDS), _LEVELS).sum(0))
    still = [_left(piece, sounds, _near)[0] for sounds in (_curves(piece.x), _gains(piece.x, rate))]
    return BesideFinding(
        still=min(still),
        curve_in_front=curve_in_front,
        curve_behind=_left(piece, _curves(explained), _near)[0],
        gain_in_front=gain_in_front,
        gain_behind=_left(piece, _gains(explained, rate), _near)[0],
        pressed_db=float(20.0 * np.log10((by_level[-3] + 1e-9) / (by_level[-1] + 1e-9))),
    )


def _curves(x: np.ndarray) -> list[np.ndarray]:
    loud = max(float(np.percentile(np.abs(x), _LOUD_PERCENTILE)), 1e-9)
    curves = [x / loud, *(np.tanh(x * (bend / loud)) for bend in _BENDS)]
    return [*curves, np.square(np.tanh(x / loud))]


def _gains(x: np.ndarray, rate: float) -> list[np.ndarray]:
    """x where its level is about each of some, for a fast and a slow level."""
    found = []
    for seconds in _LEVEL_SECONDS:
        share = 1.0 - np.exp(-1.0 / (seconds * rate))
        power = lfilter([share], [1.0, share - 1.0], np.square(x))
        level_db = 10.0 * np.log10(np.maximum(power, 1e-12))
        top = float(np.percentile(level_db, 98.0))
        place = np.clip((level_db - top) / _LEVEL_DB + _LEVELS - 1, 0, _LEVELS - 1)
        found += [x * np.maximum(0.0, 1.0 - np.abs(place - level)) for level in range(_LEVELS)]
    return found


def _both(sound: np.ndarray, late: np.ndarray) -> list[np.ndarray]:
    columns = [np.pad(sound, (tap, 0))[: len(sound)] for tap in range(_DRY_TAPS)]
    return columns + [
        map_coordinates(sound, [late - tap], order=3, mode="constant")
        for tap in range(-_COPY_TAPS, _COPY_TAPS + 1)
    ]


def _near(sound: np.ndarray) -> list[np.ndarray]:
    return [np.roll(sound, tap) for tap in range(-_BEHIND_TAPS, _BEHIND_TAPS + 1)]


def _left(
    piece: Piece, sounds: list[np.ndarray], columns: Callable[[np.ndarray], list[np.ndarray]]
) -> tuple[float, np.ndarray]:
    """The held-out ESR of the best sum, and its factors in the order of the columns."""
    a = np.stack([column for sound in sounds for column in columns(sound)])
    known = a[:, : piece.border]
    matrix = known @ known.T
    matrix += 1e-6 * np.trace(matrix) / len(matrix) * np.eye(len(matrix))
    factors = np.linalg.solve(matrix, known @ piece.y[: piece.border])
    return held_out_esr([piece], [factors @ a]), factors
