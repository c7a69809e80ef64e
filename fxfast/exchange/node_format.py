"""Version 2 of the native file's graph: a tree of nodes of every kind.

The graph holds the sample rate in Hz, the root node, and the graph's own free metadata. A
node is an object with its kind, its numbers and choices, and flags that say which optional
tensors there are. Tensors, all float32, have the names of the node's fields
(``root.arrays.0.layers.3.conv_weight``); sizes stand in their shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    tensor_name,
)
from fxfast.graph import (
    ALL_ACTIVATION_KINDS,
    CELL_GATES,
    CYCLE,
    DETECTORS,
    FILM_PLACES,
    MAX_CHANNELS,
    MAX_HOLD_SAMPLES,
    MAX_KNOBS,
    MAX_LAYERS,
    MAX_NODE_DEPTH,
    MAX_RECEPTIVE_FIELD,
    MAX_SAMPLE_RATE,
    MAX_VOICES,
    MODES,
    POINTS,
    RAMPS,
    SLOPE_KINDS,
    Activation,
    Compressor,
    Conv1x1,
    ConvLayer,
    ConvStack,
    Delay,
    DelayVoice,
    Film,
    Gate,
    HeadConv,
    Knob,
    LayerArray,
    Linear,
    ModelGraph,
    Node,
    Recurrent,
    RecurrentLayer,
    Residual,
    Sequential,
    WaveNet,
    WaveNetLayer,
)

FORMAT_VERSION = 2
# Version 3 is version 2 with knobs.
KNOB_VERSION = 3
_GRAPH_KEYS = {"format_version", "sample_rate", "root", "metadata"}
_KNOB_KEYS = {"name", "minimum", "maximum", "default"}
_STACK_KEYS = {"dilation", "bias", "activation"}
_LAYER_KEYS = {
    *("dilation", "groups", "groups_mixin", "bias", "mode", "activation", "secondary"),
    *("layer1x1", "head1x1", "films"),
}

# The tensors of a recurrent layer in the order of its fields, with their dimensions.
RECURRENT_TENSORS = {"weight_ih": 2, "weight_hh": 2, "bias_ih": 1, "bias_hh": 1, "initial": 2}

# The numbers and choices of the gains that follow the level.
_GAIN_KEYS = (
    *("detector", "detector_average", "detector_rise", "detector_fall"),
    *("gain_rise", "gain_fall"),
)
COMPRESSOR_KEYS = (*_GAIN_KEYS, "first_level", "points_per_level")
GATE_KEYS = (
    *_GAIN_KEYS,
    *("open_level", "close_level", "hold_samples", "range_gain", "ramps"),
)

# A tensor by its name and its number of dimensions.
Take = Callable[[str, int], np.ndarray]


@dataclass(frozen=True)
class NodeHeader:
    """A checked header: with the shapes that the file announces, the graph is valid."""

    sample_rate: int
    metadata: dict[str, Any]
    root: dict[str, Any]
    knobs: tuple[Knob, ...] = ()

    def build(self, arrays: dict[str, np.ndarray]) -> ModelGraph:
        """The graph with the weights that were read; takes them out of ``arrays``."""

        def take(name: str, dimensions: int) -> np.ndarray:
            return np.array(arrays.pop(tensor_name(name)), dtype=np.float32)

        root = _read_node(self.root, "root", take)
        return ModelGraph(root, self.sample_rate, metadata=self.metadata, knobs=self.knobs)


def parse(graph: dict[str, Any], table: TensorTable) -> NodeHeader:
    """Check a graph of version 2 or 3 and take its tensors from ``table``."""
    has_knobs = graph["format_version"] == KNOB_VERSION
    check_keys(graph, _GRAPH_KEYS | ({"knobs"} if has_knobs else set()), GRAPH_KEY)
    knobs = _read_knobs(graph["knobs"]) if has_knobs else ()
    rate = integer(graph, "sample_rate", "", 1, MAX_SAMPLE_RATE)
    metadata = metadata_of(graph)

    def announced(name: str, dimensions: int) -> np.ndarray:
        """Zeros of the shape that the file claims; they take no memory."""
        shape = table.shape_of(tensor_name(name), dimensions)
        return np.broadcast_to(np.float32(0), shape)

    ModelGraph(_read_node(graph["root"], "root", announced), rate, knobs=knobs)
    return NodeHeader(rate, metadata, graph["root"], knobs)


def _read_knobs(found: Any) -> tuple[Knob, ...]:
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_KNOBS:
        got = len(found) if isinstance(found, list) else shown(found)
        raise ModelShapeError(f"knobs: expected a list of 1 to {MAX_KNOBS}, got {got}")
    for index, knob in enumerate(found):
        if not isinstance(knob, dict):
            raise ModelError(f"knobs[{index}]: expected an object, got {shown(knob)}")
        check_keys(knob, _KNOB_KEYS, f"knobs[{index}]")
    return tuple(Knob(**knob) for knob in found)


def _read_node(found: Any, name: str, take: Take, depth: int = 0) -> Node:
    if depth >= MAX_NODE_DEPTH:
        raise UnsupportedModelError(
            f"{name}: expected at most {MAX_NODE_DEPTH} nested nodes, got more"
        )
    if not isinstance(found, dict):
        raise ModelError(f"{name}: expected an object, got {shown(found)}")
    kind = choice(found.get("kind"), f"{name}.kind", tuple(_READERS))
    keys, read = _READERS[kind]
    check_keys(found, {"kind", *keys}, name)
    return read(found, name, take, depth)


def _read_stack(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    layers = []
    for index, layer in enumerate(_list(found, "layers", name)):
        layer_name = f"{name}.layers[{index}]"
        _check_object(layer, _STACK_KEYS, layer_name)
        weight, bias = _weight_and_bias(layer, layer_name, take, 3)
        dilation = integer(layer, "dilation", f"{layer_name}.", 1, MAX_RECEPTIVE_FIELD)
        activation = _read_activation(layer["activation"], f"{layer_name}.activation", take)
        layers.append(ConvLayer(weight, bias, dilation, activation))
    return ConvStack(tuple(layers), flag(found, "skip", f"{name}."))


def _read_sequential(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    return Sequential(
        tuple(
            _read_node(child, f"{name}.children[{index}]", take, depth + 1)
            for index, child in enumerate(_list(found, "children", name))
        )
    )


def _read_residual(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    return Residual(_read_node(found["child"], f"{name}.child", take, depth + 1))


def _read_linear(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    return Linear(take(f"{name}.taps", 1), _number(found, "bias", name))


def _read_gain(found: dict[str, Any], name: str) -> dict[str, Any]:
    numbers = {key: _number(found, key, name) for key in _GAIN_KEYS if key != "detector"}
    return {"detector": choice(found["detector"], f"{name}.detector", DETECTORS), **numbers}


def _read_compressor(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    return Compressor(
        **_read_gain(found, name),
        first_level=_number(found, "first_level", name),
        points_per_level=_number(found, "points_per_level", name),
        curve=take(f"{name}.curve", 1),
    )


def _read_gate(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    return Gate(
        **_read_gain(found, name),
        open_level=_number(found, "open_level", name),
        close_level=_number(found, "close_level", name),
        hold_samples=integer(found, "hold_samples", f"{name}.", 0, MAX_HOLD_SAMPLES),
        range_gain=_number(found, "range_gain", name),
        ramps=choice(found["ramps"], f"{name}.ramps", RAMPS),
    )


def _read_recurrent(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    layers = []
    for index, layer in enumerate(_list(found, "layers", name)):
        layer_name = f"{name}.layers[{index}]"
        _check_object(layer, {"cell"}, layer_name)
        cell = choice(layer["cell"], f"{layer_name}.cell", tuple(CELL_GATES))
        arrays = (take(f"{layer_name}.{key}", size) for key, size in RECURRENT_TENSORS.items())
        layers.append(RecurrentLayer(cell, *arrays))
    return Recurrent(tuple(layers))


_DELAY_NUMBERS = ("dry", "wet", "wet_filtered", "feedback")


def _read_delay(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    voices = []
    listed = _list(found, "voices", name)
    if len(listed) > MAX_VOICES:
        raise ModelError(f"{name}.voices: expected at most {MAX_VOICES}, got {len(listed)}")
    for index, voice in enumerate(listed):
        voice_name = f"{name}.voices[{index}]"
        _check_object(voice, {"gain", "base_samples", "step", "start"}, voice_name)
        base, step, start = (
            integer(voice, key, f"{voice_name}.", 0, high)
            for key, high in (("base_samples", MAX_RECEPTIVE_FIELD), ("step", CYCLE - 1),
                              ("start", CYCLE - 1))
        )  # fmt: skip
        table = take(f"{voice_name}.table", 1)
        voices.append(DelayVoice(_number(voice, "gain", voice_name), base, table, step, start))
    sections = take(f"{name}.sections", 2) if flag(found, "sections", f"{name}.") else None
    interpolation = choice(found["interpolation"], f"{name}.interpolation", tuple(POINTS))
    numbers = {key: _number(found, key, name) for key in _DELAY_NUMBERS}
    return Delay(tuple(voices), **numbers, sections=sections, interpolation=interpolation)


def _read_wavenet(found: dict[str, Any], name: str, take: Take, depth: int) -> Node:
    condition = None
    if found["condition"] is not None:
        condition = _read_node(found["condition"], f"{name}.condition", take, depth + 1)
    arrays = tuple(
        _read_array(array, f"{name}.arrays[{index}]", take)
        for index, array in enumerate(_list(found, "arrays", name))
    )
    head = []
    for index, conv in enumerate(_list(found, "head", name)):
        conv_name = f"{name}.head[{index}]"
        _check_object(conv, {"activation", "bias"}, conv_name)
        activation = _read_activation(conv["activation"], f"{conv_name}.activation", take)
        head.append(HeadConv(activation, *_weight_and_bias(conv, conv_name, take, 3)))
    return WaveNet(arrays, tuple(head), _number(found, "head_scale", name), condition)


def _read_array(found: Any, name: str, take: Take) -> LayerArray:
    dilation = 1
    if isinstance(found, dict) and "head_dilation" in found:
        dilation = integer(found, "head_dilation", f"{name}.", 1, MAX_RECEPTIVE_FIELD)
        found = {key: value for key, value in found.items() if key != "head_dilation"}
    _check_object(found, {"layers", "head_bias"}, name)
    layers = tuple(
        _read_layer(layer, f"{name}.layers[{index}]", take)
        for index, layer in enumerate(_list(found, "layers", name))
    )
    has_bias = flag(found, "head_bias", f"{name}.")
    return LayerArray(
        take(f"{name}.rechannel", 2),
        layers,
        take(f"{name}.head_weight", 3),
        take(f"{name}.head_bias", 1) if has_bias else None,
        dilation,
    )


def _read_layer(found: Any, name: str, take: Take) -> WaveNetLayer:
    _check_object(found, _LAYER_KEYS, name)
    secondary = found["secondary"]
    if secondary is not None:
        secondary = _read_activation(secondary, f"{name}.secondary", take)
    return WaveNetLayer(
        take(f"{name}.conv_weight", 3),
        take(f"{name}.conv_bias", 1) if flag(found, "bias", f"{name}.") else None,
        integer(found, "dilation", f"{name}.", 1, MAX_RECEPTIVE_FIELD),
        integer(found, "groups", f"{name}.", 1, MAX_CHANNELS),
        take(f"{name}.mixin_weight", 2),
        integer(found, "groups_mixin", f"{name}.", 1, MAX_CHANNELS),
        choice(found["mode"], f"{name}.mode", MODES),
        _read_activation(found["activation"], f"{name}.activation", take),
        secondary,
        _read_1x1(found["layer1x1"], f"{name}.layer1x1", take),
        _read_1x1(found["head1x1"], f"{name}.head1x1", take),
        _read_films(found["films"], f"{name}.films", take),
    )


def _read_1x1(found: Any, name: str, take: Take) -> Conv1x1 | None:
    if found is None:
        return None
    _check_object(found, {"groups", "bias"}, name)
    groups = integer(found, "groups", f"{name}.", 1, MAX_CHANNELS)
    return Conv1x1(*_weight_and_bias(found, name, take, 2), groups)


def _read_films(found: Any, name: str, take: Take) -> dict[str, Film]:
    if not isinstance(found, dict):
        raise ModelError(f"{name}: expected an object, got {shown(found)}")
    films = {}
    for place, value in found.items():
        choice(place, f"{name} key", FILM_PLACES)
        conv = _read_1x1(value, f"{name}.{place}", take)
        if conv is None:
            raise ModelError(f"{name}.{place}: expected an object, got None")
        films[place] = Film(*conv)
    return films


def _read_activation(found: Any, name: str, take: Take) -> Activation:
    kind = choice(found, name, ALL_ACTIVATION_KINDS)
    slopes = take(f"{name}.slopes", 1) if kind in SLOPE_KINDS else None
    return Activation(kind, slopes, take(f"{name}.limits", 1) if kind == "leaky_hardtanh" else None)


def _weight_and_bias(
    found: dict[str, Any], name: str, take: Take, dimensions: int
) -> tuple[np.ndarray, np.ndarray | None]:
    weight = take(f"{name}.weight", dimensions)
    return weight, take(f"{name}.bias", 1) if flag(found, "bias", f"{name}.") else None


def _check_object(found: Any, keys: set[str], name: str) -> None:
    if not isinstance(found, dict):
        raise ModelError(f"{name}: expected an object, got {shown(found)}")
    check_keys(found, keys, name)


def _list(found: dict[str, Any], key: str, name: str) -> list[Any]:
    value = found[key]
    if not isinstance(value, list) or len(value) > MAX_LAYERS:
        got = len(value) if isinstance(value, list) else shown(value)
        raise ModelShapeError(f"{name}.{key}: expected a list of at most {MAX_LAYERS}, got {got}")
    return value


def _number(found: dict[str, Any], key: str, name: str) -> float:
    value = found[key]
    if type(value) is not float or not math.isfinite(value):
        raise ModelError(f"{name}.{key}: expected a number with a point, got {shown(value)}")
    return value


_READERS: dict[str, tuple[tuple[str, ...], Callable[[dict[str, Any], str, Take, int], Node]]] = {
    ConvStack.kind: (("layers", "skip"), _read_stack),
    WaveNet.kind: (("arrays", "head", "head_scale", "condition"), _read_wavenet),
    Sequential.kind: (("children",), _read_sequential),
    Linear.kind: (("bias",), _read_linear),
    Recurrent.kind: (("layers",), _read_recurrent),
    Residual.kind: (("child",), _read_residual),
    Delay.kind: ((*_DELAY_NUMBERS, "voices", "sections", "interpolation"), _read_delay),
    Compressor.kind: (COMPRESSOR_KEYS, _read_compressor),
    Gate.kind: (GATE_KEYS, _read_gate),
}
