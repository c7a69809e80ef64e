"""One JSON object of a ``.nam`` file, read key by key with errors that name the place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fxfast.errors import ModelError, ModelShapeError, ModelValueError
from fxfast.exchange.bounded_json import shown

# What is closer to 0 rounds to a finite float32.
FLOAT32_BOUND = 2.0**128 - 2.0**103


@dataclass(frozen=True)
class Section:
    """An object and its place, ``config.layers[0]``; a key that is null counts as absent."""

    values: dict[str, Any]
    name: str

    @classmethod
    def of(cls, value: Any, name: str) -> Section:
        if not isinstance(value, dict):
            raise ModelError(f"{name or 'file'}: expected an object, got {shown(value)}")
        return cls(value, name)

    def where(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def section(self, key: str) -> Section:
        return Section.of(self.required(key), self.where(key))

    def required(self, key: str) -> Any:
        if not self.has(key):
            raise ModelError(f"{self.where(key)}: expected a value, got none")
        return self.values[key]

    def integer(self, key: str, high: int, default: int | None = None) -> int:
        """An integer from 1 to ``high``."""
        if default is not None and not self.has(key):
            return default
        return checked_integer(self.required(key), self.where(key), high)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        if default is not None and not self.has(key):
            return default
        value = self.required(key)
        if type(value) is not bool:
            raise ModelError(f"{self.where(key)}: expected true or false, got {shown(value)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        if default is not None and not self.has(key):
            return default
        return checked_number(self.required(key), self.where(key))

    def items(self, key: str, high: int) -> list[Any]:
        """A list of 1 to ``high`` values."""
        value = self.required(key)
        if not isinstance(value, list) or not 1 <= len(value) <= high:
            got = len(value) if isinstance(value, list) else shown(value)
            raise ModelShapeError(f"{self.where(key)}: expected a list of 1 to {high}, got {got}")
        return value

    def integers(self, key: str, count: int, high: int) -> tuple[int, ...]:
        """A list of 1 to ``count`` integers, each from 1 to ``high``."""
        return tuple(
            checked_integer(value, f"{self.where(key)}[{index}]", high)
            for index, value in enumerate(self.items(key, count))
        )

    def per_layer(self, key: str, layers: int) -> list[Any]:
        """One value for every layer: a list of that length, or one value that all share."""
        value = self.values.get(key)
        if not isinstance(value, list):
            return [value] * layers
        if len(value) != layers:
            raise ModelShapeError(
                f"{self.where(key)}: expected one value or a list of {layers}, one for each "
                f"dilation, got {len(value)}"
            )
        return value


def checked_integer(value: Any, name: str, high: int) -> int:
    """``value`` if it is an integer from 1 to ``high``: no bool, and no float even if whole."""
    if type(value) is not int or not 1 <= value <= high:
        raise ModelShapeError(f"{name}: expected an integer from 1 to {high}, got {shown(value)}")
    return value


def checked_number(value: Any, name: str) -> float:
    """``value`` as a float if it is a number that float32 can hold."""
    if type(value) not in (int, float) or not abs(value) < FLOAT32_BOUND:
        raise ModelValueError(f"{name}: expected a finite float32 number, got {shown(value)}")
    return float(value)
