"""Where knobs stand and how they turn, as rows for the engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fxfast.errors import InputError
from fxfast.graph import ModelGraph

# A number or an array (T) for each knob, by name.
Knobs = Mapping[str, "float | np.ndarray"]


def knob_values(
    graph: ModelGraph,
    standing: np.ndarray,
    turned: Mapping[str, float] | None,
    more: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Where the knobs stand, in their own units: ``standing`` with those that are ``turned``."""
    names = [knob.name for knob in graph.knobs]
    for name in [*(turned or {}), *more]:
        if name not in names:
            known = ", ".join(names) if names else "none: the model has no knobs"
            raise InputError(f"knobs: expected {known}, got {name!r}")
    values = standing.astype(np.float64)
    for name, value in (turned or {}).items():
        index = names.index(name)
        graph.knobs[index].scaled(value)  # refuses what is out of range
        values[index] = value
    return values


def default_values(graph: ModelGraph, turned: Mapping[str, float] | None = None) -> np.ndarray:
    """Where the knobs stand from the start, with those that are ``turned``."""
    return knob_values(graph, np.array([knob.default for knob in graph.knobs]), turned)


def scaled(graph: ModelGraph, values: np.ndarray) -> np.ndarray:
    """Values (K) as the model takes them, float32."""
    found = [knob.scaled(value) for knob, value in zip(graph.knobs, values, strict=True)]
    return np.array(found, np.float32)


def knob_rows(
    graph: ModelGraph, knobs: Knobs | None, standing: np.ndarray, samples: int
) -> np.ndarray | None:
    """Values (K) or rows (K, samples) for the engine; none where the model has no knobs."""
    turned = {n: v for n, v in (knobs or {}).items() if np.ndim(v) > 0}
    held = {n: float(v) for n, v in (knobs or {}).items() if n not in turned}  # type: ignore[arg-type]
    values = knob_values(graph, standing, held, frozenset(turned))
    if not graph.knobs:
        return None
    steady = scaled(graph, values)
    if not turned:
        return steady
    rows = np.repeat(steady[:, np.newaxis], samples, axis=1)
    for index, knob in enumerate(graph.knobs):
        if knob.name in turned:
            row = knob.scaled(turned[knob.name])
            if row.shape != (samples,):
                raise InputError(
                    f"knob {knob.name}: expected {samples} values, got {_shape_text(row)}"
                )
            rows[index] = row
    return np.ascontiguousarray(rows)


def values_after(graph: ModelGraph, standing: np.ndarray, knobs: Knobs) -> np.ndarray:
    """Where the knobs stand after a block that turned them."""
    last = {name: float(np.ravel(value)[-1]) for name, value in knobs.items()}
    return knob_values(graph, standing, last)


def _shape_text(array: Any) -> str:
    return "(" + ", ".join(str(n) for n in array.shape) + ")"
