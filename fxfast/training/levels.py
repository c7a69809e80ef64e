"""How loud the training part is, found span by span: a dataset may be larger than memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fxfast.data import Data


@dataclass(frozen=True)
class Levels:
    """Root mean square of dry and of wet, and the mean square of the targets as the loss filters
    them; ``longest`` is the number of samples of the longest span, ``has_signal`` whether any
    target is not zero."""

    dry_rms: float
    wet_rms: float
    target_energy: float
    longest: int
    has_signal: bool


def measure_levels(data: Data, receptive_field: int, pre_emphasis: float = 0.0) -> Levels:
    """Of the spans that hold a target of a model with this receptive field."""
    sums = np.zeros(3)
    samples = targets = longest = 0
    for piece in data.pieces():
        longest = max(longest, len(piece.dry))
        if len(piece.dry) < receptive_field:
            continue
        target = piece.wet[receptive_field - 1 :]
        if pre_emphasis:
            target = target[1:] - np.float32(pre_emphasis) * target[:-1]
        sums += [_energy(piece.dry), _energy(piece.wet), _energy(target)]
        samples += len(piece.dry)
        targets += len(target)
    dry, wet = (math.sqrt(energy / max(samples, 1)) for energy in sums[:2])
    energy = max(float(sums[2]) / max(targets, 1), 1e-12)
    return Levels(dry, wet, energy, longest, bool(sums[2] > 0))


def _energy(samples: np.ndarray) -> float:
    """The sum of squares, of a million samples at a time in float64."""
    parts = np.split(samples, range(1 << 20, len(samples), 1 << 20))
    return math.fsum(float(np.sum(np.square(part, dtype=np.float64))) for part in parts)
