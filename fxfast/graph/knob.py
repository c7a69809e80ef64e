"""The knobs of a conditioned model: inputs beside the audio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxfast.errors import InputError, ModelError, ModelShapeError

MAX_KNOBS = 32
_MAX_NAME = 64


@dataclass(frozen=True)
class Knob:
    """A control that a model was trained with, from ``minimum`` to ``maximum``.

    The model gets a channel of input for it, after the audio, which goes from 0 at ``minimum`` to 1
    at ``maximum``. ``default`` is where it stands when nobody turns it.
    """

    name: str
    minimum: float = 0.0
    maximum: float = 1.0
    default: float = 0.5

    def validate(self, place: str) -> None:
        """Raise ``ModelError`` that begins with ``place`` unless the knob is whole."""
        name = self.name
        if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME or not name.isprintable():
            raise ModelError(
                f"{place}.name: expected 1 to {_MAX_NAME} printable characters, got {name!r:.80}"
            )
        if "=" in name or name != name.strip():
            raise ModelError(f"{place}.name: expected no '=' and no space around it, got {name!r}")
        for field in ("minimum", "maximum", "default"):
            value = getattr(self, field)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or abs(value) > 1e9:
                raise ModelError(f"{place}.{field}: expected a number, got {value!r:.80}")
        if not self.minimum <= self.default <= self.maximum or self.minimum == self.maximum:
            raise ModelError(
                f"{place}: expected minimum <= default <= maximum over a range, "
                f"got {self.minimum}, {self.default}, {self.maximum}"
            )

    def scaled(self, values: Any) -> np.ndarray:
        """What the model gets for ``values``: a number or an array of any shape, as float32.

        Raises ``InputError`` for what is no number, not finite or out of the range.
        """
        try:
            array = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise InputError(f"knob {self.name}: expected numbers, got {values!r:.80}") from None
        low, high = float(self.minimum), float(self.maximum)
        if array.size and not bool(np.all((array >= low) & (array <= high))):
            bad = array[~((array >= low) & (array <= high))].flat[0]
            raise InputError(
                f"knob {self.name}: expected values from {low:g} to {high:g}, got {bad:g}"
            )
        return ((array - low) / (high - low)).astype(np.float32)


def check_knobs(knobs: tuple[Knob, ...]) -> None:
    """Raise ``ModelError`` unless these can be the knobs of one model."""
    if len(knobs) > MAX_KNOBS:
        raise ModelShapeError(f"knobs: expected at most {MAX_KNOBS}, got {len(knobs)}")
    for index, knob in enumerate(knobs):
        if not isinstance(knob, Knob):
            raise ModelError(f"knobs[{index}]: expected a Knob, got {type(knob).__name__}")
        knob.validate(f"knobs[{index}]")
    names = [knob.name for knob in knobs]
    if len(set(names)) != len(names):
        raise ModelError(f"knobs: expected different names, got {', '.join(names)}")
