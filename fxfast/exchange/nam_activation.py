"""The activations of ``.nam``: names, parameters and their defaults, read and written."""

from __future__ import annotations

from typing import Any

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, UnsupportedModelError
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.nam_fields import Section, checked_number
from fxfast.graph import MAX_CHANNELS, Activation

_NAMES = {
    "tanh": "Tanh",
    "hardtanh": "Hardtanh",
    "fasttanh": "Fasttanh",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "sigmoid": "Sigmoid",
    "silu": "SiLU",
    "hardswish": "Hardswish",
    "leaky_hardtanh": "LeakyHardtanh",
    "softsign": "Softsign",
}
_KINDS = {name: kind for kind, name in _NAMES.items()} | {"LeakyHardTanh": "leaky_hardtanh"}
_LIMITS = {"min_val": -1.0, "max_val": 1.0, "min_slope": 0.01, "max_slope": 0.01}
# The trainer writes the limits of Hardtanh; NAM Core does not read them.
_HARD_LIMITS = {"min_val": -1.0, "max_val": 1.0}
_LEAKY_SLOPE = 0.01
_PARAMETERS = {
    "hardtanh": set(_HARD_LIMITS),
    "leaky_relu": {"negative_slope"},
    "prelu": {"negative_slope", "negative_slopes"},
    "leaky_hardtanh": set(_LIMITS),
}


def parse_activation(value: Any, name: str, channels: int) -> Activation:
    """Read ``"Tanh"`` or ``{"type": "Tanh", ...}`` after ``channels`` channels."""
    section = Section.of({"type": value} if isinstance(value, str) else value, name)
    kind_name = section.required("type")
    kind = _KINDS.get(kind_name) if isinstance(kind_name, str) else None
    if kind is None:
        raise UnsupportedModelError(
            f"{name}: expected one of {', '.join(_NAMES.values())}, got {shown(kind_name)}"
        )
    unknown = sorted(section.values.keys() - _PARAMETERS.get(kind, set()) - {"type"})
    if unknown:
        raise UnsupportedModelError(
            f"{name}: expected no such parameter of {kind_name}: {shown(unknown[0])}"
        )
    if kind == "hardtanh":
        for key, only in _HARD_LIMITS.items():
            if section.number(key, only) != only:
                got = shown(section.values[key])
                raise UnsupportedModelError(
                    f"{section.where(key)}: expected {only} for Hardtanh, got {got}"
                )
    if kind == "leaky_relu":
        slope = section.number("negative_slope", _LEAKY_SLOPE)
        return Activation(kind, np.array([slope], np.float32))
    if kind == "prelu":
        return Activation(kind, _slopes(section, channels))
    if kind == "leaky_hardtanh":
        limits = [section.number(key, default) for key, default in _LIMITS.items()]
        return Activation(kind, limits=np.array(limits, np.float32))
    return Activation(kind)


def _slopes(section: Section, channels: int) -> np.ndarray:
    """The slopes of PReLU stand in the config, not in the weights: one, or one a channel."""
    if not section.has("negative_slopes"):
        return np.array([section.number("negative_slope")], np.float32)
    name = section.where("negative_slopes")
    values = section.items("negative_slopes", MAX_CHANNELS)
    if len(values) not in (1, channels):
        raise ModelShapeError(f"{name}: expected 1 or {channels} values, got {len(values)}")
    slopes = [checked_number(value, f"{name}[{i}]") for i, value in enumerate(values)]
    return np.array(slopes, np.float32)


def describe_activation(activation: Activation, name: str) -> dict[str, Any]:
    """The object that ``parse_activation`` reads as ``activation``."""
    kind = activation.kind
    if kind not in _NAMES:
        raise ModelError(f"{name}: expected an activation, for .nam has none for {kind!r}")
    described: dict[str, Any] = {"type": _NAMES[kind]}
    if kind == "leaky_relu":
        described["negative_slope"] = _values(activation.slopes)[0]
    elif kind == "prelu":
        slopes = _values(activation.slopes)
        described |= (
            {"negative_slopes": slopes} if len(slopes) > 1 else {"negative_slope": slopes[0]}
        )
    elif kind == "leaky_hardtanh":
        described |= dict(zip(_LIMITS, _values(activation.limits), strict=True))
    return described


def short_name(described: dict[str, Any]) -> str | None:
    """The bare name that files before 0.6.0 know, or None when parameters matter."""
    if described["type"] == _NAMES["leaky_relu"]:
        slope = np.float32(described["negative_slope"])
        return described["type"] if slope == np.float32(_LEAKY_SLOPE) else None
    plain = len(described) == 1 and described["type"] != _NAMES["softsign"]
    return described["type"] if plain else None


def _values(array: np.ndarray | None) -> list[float]:
    assert array is not None  # the graph is valid
    values: list[float] = array.astype(np.float64).tolist()
    return values
