"""The audio that is looked at: a few seconds of each pair, for every look has its price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.signal import resample_poly

from fxfast.errors import PairError

MIN_SECONDS = 1.0
# A stretch shorter than this tells nothing of slow things.
_SHARE_SECONDS = 2.5
_TRAIN_SHARE = 0.75
_SLOW_RATE = 16_000
_SILENCE = 1e-5


@dataclass(frozen=True, eq=False)
class Piece:
    """One stretch of dry and wet, float64 (T) each, from the start of its file."""

    x: np.ndarray
    y: np.ndarray

    @property
    def border(self) -> int:
        """Where what is held out begins: fits use what is before it."""
        return round(_TRAIN_SHARE * len(self.x))


def excerpt(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], sample_rate: int, seconds: float
) -> list[Piece]:
    """Up to ``seconds`` of the pairs in all, from the start of each: equal shares, of few long
    pairs rather than of many short ones.

    Raises PairError where dry and wet are too short, or either is silent.
    """
    budget = round(seconds * sample_rate)
    order = sorted(range(len(pairs)), key=lambda i: -len(pairs[i][0]))
    most = max(1, round(seconds / _SHARE_SECONDS))
    pieces = []
    for left, index in enumerate(reversed(order[:most]), -min(most, len(order))):
        dry, wet = pairs[index]
        count = min(len(dry), budget // -left)
        budget -= count
        pieces.append(Piece(dry[:count].astype(np.float64), wet[:count].astype(np.float64)))
    _require_sound(pieces, sample_rate)
    return pieces


def _require_sound(pieces: Sequence[Piece], sample_rate: int) -> None:
    seconds = sum(len(piece.x) for piece in pieces) / sample_rate
    if seconds < MIN_SECONDS:
        raise PairError(
            f"pairs: expected {MIN_SECONDS:g} s or more to tell an effect from, got {seconds:.2f} s"
        )
    for side in ("dry", "wet"):
        peak = max(np.abs(piece.x if side == "dry" else piece.y).max(initial=0) for piece in pieces)
        if peak < _SILENCE:
            raise PairError(f"{side}: expected a signal to tell an effect from, got silence")


def slowed(pieces: Sequence[Piece], sample_rate: int) -> tuple[list[Piece], float]:
    """The pieces at about 16 kHz, where the long fits are three times cheaper, and their rate."""
    factor = max(1, round(sample_rate / _SLOW_RATE))
    if factor == 1:
        return list(pieces), float(sample_rate)
    slow = [Piece(resample_poly(p.x, 1, factor), resample_poly(p.y, 1, factor)) for p in pieces]
    return slow, sample_rate / factor


def best_gain(pieces: Sequence[Piece]) -> float:
    """The gain of dry that comes nearest to wet, where fits look."""
    over = sum(float(p.x[: p.border] @ p.y[: p.border]) for p in pieces)
    under = sum(float(p.x[: p.border] @ p.x[: p.border]) for p in pieces)
    return over / max(under, 1e-20)


def held_out_esr(pieces: Sequence[Piece], predictions: Sequence[np.ndarray]) -> float:
    """Energy of the error over that of wet, where no fit looked."""
    error = energy = 0.0
    for piece, prediction in zip(pieces, predictions, strict=True):
        y = piece.y[piece.border :]
        error += float(np.square(y - prediction[piece.border :]).sum())
        energy += float(y @ y)
    return error / max(energy, 1e-20)
