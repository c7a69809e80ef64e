"""Writes version 2 of the native file's graph: see ``node_format``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fxfast.errors import ModelError
from fxfast.exchange.node_format import (
    COMPRESSOR_KEYS,
    FORMAT_VERSION,
    GATE_KEYS,
    KNOB_VERSION,
    RECURRENT_TENSORS,
)
from fxfast.exchange.tensor_table import tensor_name
from fxfast.graph import (
    Activation,
    Compressor,
    Conv1x1,
    ConvStack,
    Delay,
    Film,
    Gate,
    LayerArray,
    Linear,
    ModelGraph,
    Node,
    Recurrent,
    Residual,
    Sequential,
    WaveNet,
    WaveNetLayer,
)


def contents(graph: ModelGraph) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The graph as JSON values, and its tensors."""
    tensors: dict[str, np.ndarray] = {}
    document: dict[str, Any] = {
        "format_version": KNOB_VERSION if graph.knobs else FORMAT_VERSION,
        "sample_rate": graph.sample_rate,
        "root": _write_node(graph.root, "root", tensors),
        "metadata": graph.metadata,
    }
    if graph.knobs:
        document["knobs"] = [asdict(knob) for knob in graph.knobs]
    return document, tensors


def _write_node(node: Node, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    put = _Putter(name, tensors)
    if isinstance(node, ConvStack):
        layers = [
            {
                **put.conv(f"layers[{index}]", layer.weight, layer.bias),
                "dilation": layer.dilation,
                "activation": put.activation(f"layers[{index}].activation", layer.activation),
            }
            for index, layer in enumerate(node.layers)
        ]
        return {"kind": node.kind, "layers": layers, "skip": node.skip}
    if isinstance(node, Sequential):
        children = [
            _write_node(child, f"{name}.children[{index}]", tensors)
            for index, child in enumerate(node.children)
        ]
        return {"kind": node.kind, "children": children}
    if isinstance(node, Residual):
        return {"kind": node.kind, "child": _write_node(node.child, f"{name}.child", tensors)}
    if isinstance(node, Linear):
        put.array("taps", node.taps)
        return {"kind": node.kind, "bias": node.bias}
    if isinstance(node, Compressor | Gate):
        return _write_gain(node, put)
    if isinstance(node, Recurrent):
        for index, recurrent in enumerate(node.layers):
            for key in RECURRENT_TENSORS:
                put.array(f"layers[{index}].{key}", getattr(recurrent, key))
        return {"kind": node.kind, "layers": [{"cell": layer.cell} for layer in node.layers]}
    if isinstance(node, Delay):
        return _write_delay(node, put)
    if isinstance(node, WaveNet):
        return _write_wavenet(node, name, tensors)
    raise ModelError(f"{name}: expected a node that the native file knows, got {node.kind}")


def _write_delay(node: Delay, put: _Putter) -> dict[str, Any]:
    voices = []
    for index, voice in enumerate(node.voices):
        put.array(f"voices[{index}].table", voice.table)
        voices.append({"gain": voice.gain, "base_samples": voice.base_samples,
                       "step": voice.step, "start": voice.start})  # fmt: skip
    numbers = {key: getattr(node, key) for key in ("dry", "wet", "wet_filtered", "feedback")}
    sections = put.array("sections", node.sections)
    return {
        "kind": node.kind,
        **numbers,
        "voices": voices,
        "sections": sections,
        "interpolation": node.interpolation,
    }


def _write_gain(node: Compressor | Gate, put: _Putter) -> dict[str, Any]:
    keys = COMPRESSOR_KEYS if isinstance(node, Compressor) else GATE_KEYS
    if isinstance(node, Compressor):
        put.array("curve", node.curve)
    return {"kind": node.kind, **{key: getattr(node, key) for key in keys}}


def _write_wavenet(net: WaveNet, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    put = _Putter(name, tensors)
    head = [
        {
            **put.conv(f"head[{index}]", conv.weight, conv.bias),
            "activation": put.activation(f"head[{index}].activation", conv.activation),
        }
        for index, conv in enumerate(net.head)
    ]
    condition = None
    if net.condition is not None:
        condition = _write_node(net.condition, f"{name}.condition", tensors)
    return {
        "kind": net.kind,
        "arrays": [
            _write_array(array, _Putter(f"{name}.arrays[{index}]", tensors))
            for index, array in enumerate(net.arrays)
        ],
        "head": head,
        "head_scale": net.head_scale,
        "condition": condition,
    }


def _write_array(array: LayerArray, put: _Putter) -> dict[str, Any]:
    put.array("rechannel", array.rechannel)
    put.array("head_weight", array.head_weight)
    layers = [
        _write_layer(layer, _Putter(f"{put.name}.layers[{index}]", put.tensors))
        for index, layer in enumerate(array.layers)
    ]
    found = {"layers": layers, "head_bias": put.array("head_bias", array.head_bias)}
    # Most files do without the key, so that every reader of version 2 takes them.
    return found if array.head_dilation == 1 else {**found, "head_dilation": array.head_dilation}


def _write_layer(layer: WaveNetLayer, put: _Putter) -> dict[str, Any]:
    put.array("conv_weight", layer.conv_weight)
    put.array("mixin_weight", layer.mixin_weight)
    secondary = layer.secondary
    return {
        "dilation": layer.dilation,
        "groups": layer.groups,
        "groups_mixin": layer.groups_mixin,
        "bias": put.array("conv_bias", layer.conv_bias),
        "mode": layer.mode,
        "activation": put.activation("activation", layer.activation),
        "secondary": None if secondary is None else put.activation("secondary", secondary),
        "layer1x1": put.conv1x1("layer1x1", layer.layer1x1),
        "head1x1": put.conv1x1("head1x1", layer.head1x1),
        "films": {place: put.conv1x1(f"films.{place}", f) for place, f in layer.films.items()},
    }


@dataclass(frozen=True)
class _Putter:
    """Puts the arrays of one part among the tensors and gives what the graph says of them."""

    name: str
    tensors: dict[str, np.ndarray]

    def array(self, key: str, array: np.ndarray | None) -> bool:
        if array is not None:
            self.tensors[tensor_name(f"{self.name}.{key}")] = np.ascontiguousarray(array)
        return array is not None

    def conv(self, key: str, weight: np.ndarray, bias: np.ndarray | None) -> dict[str, Any]:
        self.array(f"{key}.weight", weight)
        return {"bias": self.array(f"{key}.bias", bias)}

    def conv1x1(self, key: str, conv: Conv1x1 | Film | None) -> dict[str, Any] | None:
        if conv is None:
            return None
        return {**self.conv(key, conv.weight, conv.bias), "groups": conv.groups}

    def activation(self, key: str, activation: Activation) -> str:
        self.array(f"{key}.slopes", activation.slopes)
        self.array(f"{key}.limits", activation.limits)
        return activation.kind
