"""Version 1 of the native file's graph: a plain stack of convolutions.

Tensors, all float32: ``layers.N.weight`` (out, in, taps), ``layers.N.bias`` (out,) and
``layers.N.slopes`` (1,) or (out,). The graph holds the sample rate in Hz, the skip, the
layers' sizes and activations, and the graph's own free metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, UnsupportedModelError
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.tensor_table import (
    GRAPH_KEY,
    TensorTable,
    check_keys,
    choice,
    flag,
    integer,
    metadata_of,
)
from fxfast.graph import (
    ACTIVATION_KINDS,
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_PARAMETERS,
    MAX_RECEPTIVE_FIELD,
    MAX_SAMPLE_RATE,
    Activation,
    ConvLayer,
    ConvStack,
    ModelGraph,
)

FORMAT_VERSION = 1
_GRAPH_KEYS = {"format_version", "sample_rate", "skip", "layers", "metadata"}
_LAYER_KEYS = {"kind", "in_channels", "out_channels", "taps", "dilation", "bias", "activation"}


def holds(graph: ModelGraph) -> bool:
    """Whether version 1 can say what ``graph`` is."""
    root = graph.root
    if not isinstance(root, ConvStack) or graph.knobs:
        return False
    # A skip over several channels to one is version 2's.
    if root.skip and root.in_channels != root.out_channels:
        return False
    return all(layer.activation.kind in ACTIVATION_KINDS for layer in root.layers)


@dataclass(frozen=True)
class _LayerHeader:
    """What the graph says of one layer before its weights are read."""

    in_channels: int
    out_channels: int
    taps: int
    dilation: int
    has_bias: bool
    activation: str


@dataclass(frozen=True)
class StackHeader:
    """A checked header: the graph in it fits the limits, the tensors fit the graph."""

    sample_rate: int
    skip: bool
    metadata: dict[str, Any]
    layers: tuple[_LayerHeader, ...]

    def build(self, arrays: dict[str, np.ndarray]) -> ModelGraph:
        """The graph with the weights that were read; takes them out of ``arrays``."""

        def take(name: str) -> np.ndarray | None:
            found = arrays.pop(name, None)
            return None if found is None else np.array(found, dtype=np.float32)

        layers = []
        for index, layer in enumerate(self.layers):
            weight = take(f"layers.{index}.weight")
            assert weight is not None  # TensorTable
            activation = Activation(layer.activation, take(f"layers.{index}.slopes"))
            layers.append(
                ConvLayer(weight, take(f"layers.{index}.bias"), layer.dilation, activation)
            )
        return ModelGraph(tuple(layers), self.sample_rate, self.skip, self.metadata)


def parse(graph: dict[str, Any], table: TensorTable) -> StackHeader:
    """Check a graph of version 1 and take its tensors from ``table``."""
    check_keys(graph, _GRAPH_KEYS, GRAPH_KEY)
    layers = graph["layers"]
    if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
        got = len(layers) if isinstance(layers, list) else shown(layers)
        raise ModelShapeError(f"layers: expected a list of 1 to {MAX_LAYERS}, got {got}")
    rate = integer(graph, "sample_rate", "", 1, MAX_SAMPLE_RATE)
    skip = flag(graph, "skip", "")
    metadata = metadata_of(graph)
    headers = tuple(_parse_layer(layer, f"layers[{i}]") for i, layer in enumerate(layers))
    _check_stack(headers)
    expected = dict(_expected_shapes(headers))
    check_keys(table.names, set(expected), "tensors")
    for name, shapes in expected.items():
        table.shape_of(name, len(shapes[0]), shapes)
    return StackHeader(rate, skip, metadata, headers)


def _parse_layer(layer: Any, name: str) -> _LayerHeader:
    if not isinstance(layer, dict):
        raise ModelError(f"{name}: expected an object, got {shown(layer)}")
    check_keys(layer, _LAYER_KEYS, name)
    if layer["kind"] != "conv1d":
        raise UnsupportedModelError(f"{name}.kind: expected 'conv1d', got {shown(layer['kind'])}")
    activation = choice(layer["activation"], f"{name}.activation", ACTIVATION_KINDS)
    has_bias = flag(layer, "bias", f"{name}.")
    sizes = {
        key: integer(layer, key, f"{name}.", 1, limit)
        for key, limit in (
            ("in_channels", MAX_CHANNELS),
            ("out_channels", MAX_CHANNELS),
            ("taps", MAX_RECEPTIVE_FIELD),
            ("dilation", MAX_RECEPTIVE_FIELD),
        )
    }
    return _LayerHeader(**sizes, has_bias=has_bias, activation=activation)


def _check_stack(layers: tuple[_LayerHeader, ...]) -> None:
    """The limits of the whole graph, from the sizes alone."""
    channels, weights, history = 1, 0, 0
    for index, layer in enumerate(layers):
        if layer.in_channels != channels:
            raise ModelShapeError(
                f"layers[{index}].in_channels: expected {channels}, got {layer.in_channels}"
            )
        channels = layer.out_channels
        weights += layer.in_channels * layer.out_channels * layer.taps
        history += (layer.taps - 1) * layer.dilation
    if channels != 1:
        raise ModelShapeError(f"layers[{len(layers) - 1}].out_channels: expected 1, got {channels}")
    if weights > MAX_PARAMETERS:
        raise ModelShapeError(
            f"parameters: expected at most {MAX_PARAMETERS}, got {weights} or more"
        )
    if history >= MAX_RECEPTIVE_FIELD:
        raise ModelShapeError(
            f"receptive field: expected at most {MAX_RECEPTIVE_FIELD} samples, got {history + 1}"
        )


def _expected_shapes(
    layers: tuple[_LayerHeader, ...],
) -> Iterator[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Every tensor's name with the shapes that it may have."""
    for index, layer in enumerate(layers):
        name = f"layers.{index}"
        yield f"{name}.weight", ((layer.out_channels, layer.in_channels, layer.taps),)
        if layer.has_bias:
            yield f"{name}.bias", ((layer.out_channels,),)
        if layer.activation == "leaky_relu":
            yield f"{name}.slopes", ((1,),)
        elif layer.activation == "prelu":
            yield f"{name}.slopes", tuple({(1,): None, (layer.out_channels,): None})


def document(graph: ModelGraph) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "sample_rate": graph.sample_rate,
        "skip": graph.skip,
        "layers": [
            {
                "kind": "conv1d",
                "in_channels": layer.in_channels,
                "out_channels": layer.out_channels,
                "taps": layer.taps,
                "dilation": layer.dilation,
                "bias": layer.bias is not None,
                "activation": layer.activation.kind,
            }
            for layer in graph.layers
        ],
        "metadata": graph.metadata,
    }


def tensors(graph: ModelGraph) -> dict[str, np.ndarray]:
    found = {}
    for index, layer in enumerate(graph.layers):
        arrays = {"weight": layer.weight, "bias": layer.bias, "slopes": layer.activation.slopes}
        for name, array in arrays.items():
            if array is not None:
                found[f"layers.{index}.{name}"] = np.ascontiguousarray(array)
    return found
