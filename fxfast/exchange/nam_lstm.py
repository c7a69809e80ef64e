"""The LSTM of ``.nam``: layers of one size from one channel, and a dense layer at the end.

Each layer has the matrix of input and state side by side, one bias (the sum of PyTorch's
two), and the state that the exporter left after silence: h, then c.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fxfast.errors import ModelShapeError
from fxfast.exchange.nam_fields import Section
from fxfast.exchange.nam_layout import Tensor
from fxfast.graph import (
    MAX_CHANNELS,
    MAX_LAYERS,
    ConvLayer,
    ConvStack,
    Node,
    Recurrent,
    RecurrentLayer,
    Sequential,
)

# As long as the trainer's exporter lets its models settle.
_SETTLING_SAMPLES = 48_000
CONFIG_KEYS = {"input_size", "hidden_size", "num_layers", "in_channels", "out_channels"}
_GATES = 4


def parse_lstm(config: Section) -> tuple[int, int]:
    """The number of layers and of units."""
    for key in ("input_size", "in_channels", "out_channels"):
        default = None if key == "input_size" else 1
        if config.integer(key, MAX_CHANNELS, default) != 1:
            raise ModelShapeError(f"{config.where(key)}: expected 1, got {config.values[key]}")
    return config.integer("num_layers", MAX_LAYERS), config.integer("hidden_size", MAX_CHANNELS)


def lstm_tensors(layers: int, units: int) -> Iterator[Tensor]:
    """Every array of the flat list, in its order."""
    inputs = 1
    for index in range(layers):
        name = f"layers[{index}]"
        yield Tensor(f"{name}.weight", (_GATES * units, inputs + units))
        yield Tensor(f"{name}.bias", (_GATES * units,))
        yield Tensor(f"{name}.initial", (2, units))
        inputs = units
    yield Tensor("head.weight", (1, units, 1))
    yield Tensor("head.bias", (1,))


def build_lstm(layers: int, units: int, found: Mapping[str, np.ndarray]) -> Node:
    built = []
    for index in range(layers):
        weight = found[f"layers[{index}].weight"]
        bias = found[f"layers[{index}].bias"]
        inputs = weight.shape[1] - units
        built.append(
            RecurrentLayer(
                cell="lstm",
                weight_ih=weight[:, :inputs].copy(),
                weight_hh=weight[:, inputs:].copy(),
                bias_ih=bias,
                bias_hh=np.zeros_like(bias),
                initial=found[f"layers[{index}].initial"],
            )
        )
    head = ConvLayer(found["head.weight"], found["head.bias"])
    return Sequential((Recurrent(tuple(built)), ConvStack((head,))))


def lstm_arrays(node: Node) -> tuple[int, int, dict[str, np.ndarray]] | None:
    """Layers, units and the arrays by name if ``.nam`` has an LSTM for ``node``."""
    if not isinstance(node, Sequential) or len(node.children) != 2:
        return None
    cells, stack = node.children
    if not isinstance(cells, Recurrent) or not isinstance(stack, ConvStack):
        return None
    head, units = stack.layers[0], cells.layers[0].units
    dense = (
        len(stack.layers) == 1
        and not stack.skip
        and (head.taps, head.out_channels, head.activation.kind) == (1, 1, "none")
    )
    alike = all(layer.cell == "lstm" and layer.units == units for layer in cells.layers)
    if not dense or not alike or cells.in_channels != 1:
        return None
    found: dict[str, np.ndarray] = {"head.weight": head.weight}
    found["head.bias"] = np.zeros(1, np.float32) if head.bias is None else head.bias
    for index, layer in enumerate(cells.layers):
        found[f"layers[{index}].weight"] = np.hstack([layer.weight_ih, layer.weight_hh])
        found[f"layers[{index}].bias"] = layer.bias_ih + layer.bias_hh
        found[f"layers[{index}].initial"] = layer.initial
    return len(cells.layers), units, found


def settled(cells: Recurrent, level: float) -> list[np.ndarray]:
    """The state (2, units) of every layer after a long input of ``level``.

    Players of ``.nam`` start an LSTM from the state in the file and not all let it settle.
    """
    parts = [
        (
            layer.weight_ih.astype(np.float64),
            layer.weight_hh.astype(np.float64),
            layer.bias_ih.astype(np.float64) + layer.bias_hh,
        )
        for layer in cells.layers
    ]
    states = [layer.initial.astype(np.float64) for layer in cells.layers]
    for _ in range(_SETTLING_SAMPLES):
        before, x = [state.copy() for state in states], np.array([level])
        for state, (weight_ih, weight_hh, bias) in zip(states, parts, strict=True):
            gates = (weight_ih @ x + weight_hh @ state[0] + bias).reshape(_GATES, -1)
            i, f, o = 0.5 + 0.5 * np.tanh(0.5 * gates[[0, 1, 3]])
            state[1] = f * state[1] + i * np.tanh(gates[2])
            x = state[0] = o * np.tanh(state[1])
        if all(np.array_equal(*pair) for pair in zip(before, states, strict=True)):
            break
    return [state.astype(np.float32) for state in states]
