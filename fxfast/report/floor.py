"""The floor: the time that a model's arithmetic takes when nothing else does.

Its multiply-adds run at the measured peak. A tanh or a sigmoid of a vector of values takes as
long as ten fused multiply-adds of that vector, an activation made of comparisons as long as one;
nothing is hidden behind anything else.
"""

from __future__ import annotations

from collections.abc import Iterator

from fxfast.graph import (
    Activation,
    ConvStack,
    ModelGraph,
    Node,
    Recurrent,
    WaveNet,
    WaveNetLayer,
)

SLOTS_OF_TANH = 10
SLOTS_OF_RELU = 1
_FREE = ("none",)
_LIKE_TANH = ("tanh", "sigmoid", "silu", "fasttanh", "softsign")
# tanh and sigmoid of one unit and sample: i, f, g, o and tanh(c); r, z and n.
_VALUES_OF_CELL = {"lstm": 5, "gru": 3}


def activation_values(graph: ModelGraph) -> dict[str, int]:
    """Values that go through an activation for one sample: those as costly as tanh, the others."""
    found = {"tanh": 0, "relu": 0}
    for kind, values in _activations(graph.root):
        if kind not in _FREE:
            found["tanh" if kind in _LIKE_TANH else "relu"] += values
    return found


def floor_multiply_adds(graph: ModelGraph) -> int:
    """The work for one sample in multiply-adds, an activation counted as some of them."""
    values = activation_values(graph)
    return graph.macs_per_sample + SLOTS_OF_TANH * values["tanh"] + SLOTS_OF_RELU * values["relu"]


def floor_realtime(graph: ModelGraph, peak_flops: float) -> float:
    """How many times real time one stream runs at the floor."""
    return peak_flops / (2.0 * floor_multiply_adds(graph) * graph.sample_rate)


def _activations(node: Node) -> Iterator[tuple[str, int]]:
    """Kind and values for one sample, of this node and of those inside."""
    if isinstance(node, ConvStack):
        for layer in node.layers:
            yield layer.activation.kind, layer.out_channels
    elif isinstance(node, Recurrent):
        for cell in node.layers:
            yield "tanh", _VALUES_OF_CELL[cell.cell] * cell.units
    elif isinstance(node, WaveNet):
        for array in node.arrays:
            for wavenet_layer in array.layers:
                yield from _layer_activations(wavenet_layer)
        for conv in node.head:
            yield conv.activation.kind, int(conv.weight.shape[1])
    for child in node.children:
        yield from _activations(child)


def _layer_activations(layer: WaveNetLayer) -> Iterator[tuple[str, int]]:
    for activation in (layer.activation, layer.secondary):
        if isinstance(activation, Activation):
            yield activation.kind, layer.bottleneck
