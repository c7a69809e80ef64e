"""Figures of merit on whole signals, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fxfast.errors import InputError


def esr(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """Error-to-signal ratio sum((y - p)^2) / sum(y^2) over all signals together.

    Each prediction has the shape of its target. Raises ``InputError`` when shapes differ
    or the targets are silent.
    """
    error_energy = target_energy = 0.0
    for prediction, target in zip(predictions, targets, strict=True):
        if prediction.shape != target.shape:
            raise InputError(
                f"prediction: expected the target's shape {target.shape}, got {prediction.shape}"
            )
        wanted = target.astype(np.float64)
        error_energy += float(np.sum((prediction - wanted) ** 2))
        target_energy += float(np.sum(wanted**2))
    if target_energy == 0.0:
        raise InputError("target: expected a signal, got silence")
    return error_energy / target_energy


def best_gain(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """The factor that brings the inputs nearest to the targets in least squares."""
    cross = sum(
        float(np.dot(x.astype(np.float64), y.astype(np.float64)))
        for x, y in zip(inputs, targets, strict=True)
    )
    energy = sum(float(np.sum(x.astype(np.float64) ** 2)) for x in inputs)
    return cross / energy if energy else 0.0


def esr_of_best_gain(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """ESR of the best plain gain: what a model has to beat to have learnt anything."""
    gain = best_gain(inputs, targets)
    return esr([gain * x.astype(np.float64) for x in inputs], targets)
