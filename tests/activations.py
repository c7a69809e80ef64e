"""The activations in numpy, with every operation in the dtype of the input."""

from __future__ import annotations

import numpy as np

from fxfast.graph import Activation


def activate(activation: Activation, h_ct: np.ndarray) -> np.ndarray:
    dtype = h_ct.dtype
    kind = activation.kind
    if kind in ("leaky_relu", "prelu"):
        assert activation.slopes is not None
        return np.where(h_ct > 0, h_ct, h_ct * activation.slopes.astype(dtype)[:, None])
    if kind == "leaky_hardtanh":
        assert activation.limits is not None
        low, high, low_slope, high_slope = activation.limits.astype(dtype)
        below, above = (h_ct - low) * low_slope + low, (h_ct - high) * high_slope + high
        return np.where(h_ct < low, below, np.where(h_ct > high, above, h_ct))
    return _PLAIN[kind](h_ct).astype(dtype)


def _sigmoid(h: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(h, -80, None)))


def _fasttanh(x: np.ndarray) -> np.ndarray:
    """``Activation::fast_tanh`` of NAM Core's activations.h."""
    size, square = np.abs(x), x * x
    top = 2.45550750702956 + 2.45550750702956 * size
    top = top + (0.893229853513558 + 0.821226666969744 * size) * square
    bottom = (2.44506634652299 + square) * np.abs(x + 0.814642734961073 * x * size)
    return x * top / (2.44506634652299 + bottom)


_PLAIN = {
    "none": lambda h: h,
    "relu": lambda h: np.maximum(h, 0),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hardtanh": lambda h: np.clip(h, -1, 1),
    "fasttanh": _fasttanh,
    "silu": lambda h: h * _sigmoid(h),
    "hardswish": lambda h: h * np.clip(h + 3, 0, 6) / 6,
    "softsign": lambda h: h / (1 + np.abs(h)),
}
