"""Recurrent layers: LSTM and GRU, as PyTorch defines and orders them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, UnsupportedModelError
from fxfast.graph.checks import MAX_LAYERS, check_array, check_channels, check_shape
from fxfast.graph.node import Convolution, Node, check_depth

# Gates of each cell, in PyTorch's order: i, f, g, o and r, z, n.
CELL_GATES = {"lstm": 4, "gru": 3}


@dataclass(frozen=True, eq=False)
class RecurrentLayer:
    """One layer of ``units`` units over ``in_channels`` channels.

    With G gates of the cell: ``weight_ih`` is (G * units, in_channels), ``weight_hh``
    (G * units, units), both biases (G * units,). ``initial`` is (2, units): h and c before any
    sound (c is unused by a GRU); a stream then settles on silence from there.
    """

    cell: str
    weight_ih: np.ndarray
    weight_hh: np.ndarray
    bias_ih: np.ndarray
    bias_hh: np.ndarray
    initial: np.ndarray

    @property
    def in_channels(self) -> int:
        return int(self.weight_ih.shape[1])

    @property
    def units(self) -> int:
        return int(self.weight_hh.shape[1])


@dataclass(frozen=True, eq=False)
class Recurrent(Node):
    """Recurrent layers one after the other; what comes out is h of the last one."""

    layers: tuple[RecurrentLayer, ...]

    kind: ClassVar[str] = "recurrent"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def in_channels(self) -> int:
        return self.layers[0].in_channels

    @property
    def out_channels(self) -> int:
        return self.layers[-1].units

    @property
    def history_samples(self) -> int:
        """None that is finite: see ``is_recurrent``."""
        return 0

    @property
    def is_recurrent(self) -> bool:
        return True

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    def convolutions(self) -> Iterator[Convolution]:
        for layer in self.layers:
            yield Convolution(layer.weight_ih, layer.bias_ih, 1)
            yield Convolution(layer.weight_hh, layer.bias_hh, 1)

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        check_depth(depth, name)
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise ModelShapeError(
                f"{name}.layers: expected 1 to {MAX_LAYERS}, got {len(self.layers)}"
            )
        channels = in_channels
        for index, layer in enumerate(self.layers):
            _validate_layer(layer, f"{name}.layers[{index}]", channels)
            channels = layer.units


def _validate_layer(layer: RecurrentLayer, name: str, in_channels: int) -> None:
    if not isinstance(layer, RecurrentLayer):
        raise ModelError(f"{name}: expected a RecurrentLayer, got {type(layer).__name__}")
    if layer.cell not in CELL_GATES:
        raise UnsupportedModelError(
            f"{name}.cell: expected one of {', '.join(CELL_GATES)}, got {layer.cell!r}"
        )
    check_array(layer.weight_hh, f"{name}.weight_hh", 2)
    units, rows = layer.units, CELL_GATES[layer.cell] * layer.units
    check_channels(units, f"{name}.weight_hh", "units")
    check_shape(layer.weight_hh, f"{name}.weight_hh", (rows, units))
    check_shape(layer.weight_ih, f"{name}.weight_ih", (rows, in_channels))
    check_shape(layer.bias_ih, f"{name}.bias_ih", (rows,))
    check_shape(layer.bias_hh, f"{name}.bias_hh", (rows,))
    check_shape(layer.initial, f"{name}.initial", (2, units))
