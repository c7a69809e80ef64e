"""The limits of a graph, and the checks that every node is made of.

A check raises ``ModelError`` in one line: the name, what was expected, what came.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, ModelValueError

MAX_LAYERS = 1024
MAX_CHANNELS = 4096
MAX_PARAMETERS = 1 << 26
MAX_RECEPTIVE_FIELD = 1 << 24
MAX_SAMPLE_RATE = 1_000_000
# No net that plays has a weight near it: real ones stay below 100, folded norms below 1e4.
MAX_WEIGHT = 1e6
MAX_NODE_DEPTH = 8


def check_array(array: Any, name: str, dimensions: int) -> None:
    """A float32 array of so many non-empty dimensions, no value beyond ``MAX_WEIGHT``."""
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        got = getattr(array, "dtype", type(array).__name__)
        raise ModelError(f"{name}: expected a float32 array, got {got}")
    if array.ndim != dimensions or math.prod(array.shape) == 0:
        raise ModelShapeError(
            f"{name}: expected {dimensions} non-empty dimensions, got shape {array.shape}"
        )
    # One value repeated without memory stands for weights that a file only announces.
    seen = array if any(array.strides) else array[(slice(0, 1),) * dimensions]
    # Of NaN both are NaN, and no comparison holds.
    if not (seen.min() >= -MAX_WEIGHT and seen.max() <= MAX_WEIGHT):
        index = np.unravel_index(int(np.argmax(~(np.abs(seen) <= MAX_WEIGHT))), seen.shape)
        raise ModelValueError(
            f"{name}{[int(i) for i in index]}: expected finite values of at most {MAX_WEIGHT:g}, "
            f"got {seen[index]:g}"
        )


def check_shape(array: Any, name: str, shape: tuple[int, ...]) -> None:
    """A finite float32 array of exactly this shape."""
    check_array(array, name, len(shape))
    if array.shape != shape:
        raise ModelShapeError(f"{name}: expected shape {shape}, got {array.shape}")


def check_channels(count: int, name: str, what: str = "output channels") -> None:
    if count > MAX_CHANNELS:
        raise ModelShapeError(f"{name}: expected at most {MAX_CHANNELS} {what}, got {count}")


def check_integer(value: Any, name: str, high: int) -> None:
    if type(value) is not int or not 1 <= value <= high:
        raise ModelShapeError(f"{name}: expected an integer from 1 to {high}, got {value!r}")


def check_number(value: Any, name: str) -> None:
    if type(value) is not float or not math.isfinite(value):
        raise ModelValueError(f"{name}: expected a finite float, got {value!r}")


def check_bias(bias: Any, name: str, channels: int) -> None:
    """Absent, or one value per output channel."""
    if bias is not None:
        check_shape(bias, name, (channels,))


def check_grouped(weight: Any, groups: Any, name: str, in_channels: int) -> None:
    """``weight`` (out, in / groups, ...) reads ``in_channels`` channels in ``groups`` groups.

    ``name`` is that of the weight, which has been checked as an array.
    """
    check_integer(groups, f"{name} groups", MAX_CHANNELS)
    out = int(weight.shape[0])
    check_channels(out, name)
    if in_channels % groups or out % groups:
        raise ModelShapeError(
            f"{name} groups: expected a divisor of {in_channels} input and {out} output "
            f"channels, got {groups}"
        )
    if weight.shape[1] != in_channels // groups:
        raise ModelShapeError(
            f"{name}: expected {in_channels // groups} input channels"
            f"{' per group' if groups > 1 else ''}, got shape {weight.shape}"
        )


def as_float32(value: Any) -> Any:
    """A float rounded to float32; anything else as it is, for ``check_number`` to refuse."""
    if type(value) is not float:
        return value
    with np.errstate(over="ignore"):
        return float(np.float32(value))
