"""Element-wise functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, ModelValueError, UnsupportedModelError
from fxfast.graph.checks import check_array, check_shape

# What conv-stack models train, and what version 1 of the native file can hold.
ACTIVATION_KINDS = ("none", "relu", "leaky_relu", "tanh", "sigmoid", "prelu")
ALL_ACTIVATION_KINDS = (
    *ACTIVATION_KINDS,
    *("hardtanh", "fasttanh", "silu", "hardswish", "leaky_hardtanh", "softsign"),
)
SLOPE_KINDS = ("leaky_relu", "prelu")


@dataclass(frozen=True, eq=False)
class Activation:
    """An element-wise function after a layer.

    ``slopes`` is the factor for negative values: one value for ``leaky_relu``, one
    value or one per channel for ``prelu``, and absent for every other kind. ``limits``
    are the lowest and highest value that ``leaky_hardtanh`` leaves as they are and the
    slopes below and above: (min_val, max_val, min_slope, max_slope).

    ``fasttanh`` is the rational function of NAM Core's ``activations.h``.
    """

    kind: str = "none"
    slopes: np.ndarray | None = None
    limits: np.ndarray | None = None

    @property
    def parameters(self) -> int:
        return self.slopes.size if self.kind == "prelu" and self.slopes is not None else 0


def check_activation(activation: Activation, name: str, channels: int) -> None:
    """Raise ``ModelError`` unless ``activation`` can follow ``channels`` channels."""
    if not isinstance(activation, Activation):
        raise ModelError(f"{name}: expected an Activation, got {type(activation).__name__}")
    kind = activation.kind
    if kind not in ALL_ACTIVATION_KINDS:
        raise UnsupportedModelError(
            f"{name}: expected one of {', '.join(ALL_ACTIVATION_KINDS)}, got {kind!r}"
        )
    _check_slopes(activation, f"{name}.slopes", channels)
    _check_limits(activation, f"{name}.limits")


def _check_slopes(activation: Activation, name: str, channels: int) -> None:
    kind, slopes = activation.kind, activation.slopes
    if kind not in SLOPE_KINDS:
        if slopes is not None:
            raise ModelError(f"{name}: expected none for {kind}, got some")
        return
    if slopes is None:
        raise ModelError(f"{name}: expected an array for {kind}, got none")
    check_array(slopes, name, 1)
    allowed = {1} if kind == "leaky_relu" else {1, channels}
    if slopes.size not in allowed:
        expected = " or ".join(str(n) for n in sorted(allowed))
        raise ModelShapeError(f"{name}: expected {expected} values, got {slopes.size}")


def _check_limits(activation: Activation, name: str) -> None:
    kind, limits = activation.kind, activation.limits
    if kind != "leaky_hardtanh":
        if limits is not None:
            raise ModelError(f"{name}: expected none for {kind}, got some")
        return
    if limits is None:
        raise ModelError(f"{name}: expected an array for {kind}, got none")
    check_shape(limits, name, (4,))
    if limits[0] > limits[1]:
        raise ModelValueError(f"{name}: expected min_val <= max_val, got {limits[0]} > {limits[1]}")
