"""``.nam`` files written: first-generation models as 0.5.4, everything newer as 0.7.0.

What the format cannot express is refused with the reason. What ``fxfast.exchange.nam``
kept of a file that was read goes back to its place, as long as the place is still there.

An LSTM that came from a file keeps the state it came with; any other is written with its state
after long silence, as the trainer writes it.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.errors import ModelError
from fxfast.exchange import bounded_json, model_file, nam
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.nam_activation import describe_activation, short_name
from fxfast.exchange.nam_layout import wavenet_tensors
from fxfast.exchange.nam_lstm import lstm_arrays, lstm_tensors, settled
from fxfast.exchange.nam_shape import (
    first_generation_config,
    is_first_generation,
    newest_config,
    tensor_in,
    wavenet_shape,
)
from fxfast.graph import ConvStack, Linear, ModelGraph, Node, Sequential, WaveNet
from fxfast.player import Player
from fxfast.whole_file import whole_file

FIRST_GENERATION_VERSION = "0.5.4"
NEWEST_VERSION = "0.7.0"


@dataclass(frozen=True)
class _Kept:
    """What a read file said beyond the graph, and the sample rate to write, if any."""

    is_from_file: bool
    sample_rate: int | None
    metadata: Any
    unknown: dict[str, dict[str, Any]]

    def at(self, place: str, key: str) -> Any:
        return self.unknown.get(place.lstrip("."), {}).get(key)


def save(graph: ModelGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to ``path``: complete under a temporary name, then renamed.

    Raises ``ModelError`` that names the path when it cannot be written there or when
    ``.nam`` cannot hold the graph.
    """
    with model_file.naming(path):
        content = dumps(graph).encode("ascii")
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(content)


def dumps(graph: ModelGraph) -> str:
    """The text of the file. It has been read again before it is returned."""
    if not isinstance(graph, ModelGraph):
        raise ModelError(f"graph: expected a ModelGraph, got {type(graph).__name__}")
    if graph.knobs:
        raise ModelError(f"knobs: expected none in a .nam file, got {len(graph.knobs)}")
    kept = _kept(graph)
    document = _model_document(graph.root, "root", "", kept)
    for place, values in kept.unknown.items():
        target = _find(document, place)
        if target is not None:
            for key, value in values.items():
                target.setdefault(key, value)
    if kept.metadata is not None:
        document = {"version": document.pop("version"), "metadata": kept.metadata, **document}
    text = json.dumps(document, allow_nan=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nam.parse(text.encode("ascii"))
    return text


def _kept(graph: ModelGraph) -> _Kept:
    found = graph.metadata.get(nam.METADATA_KEY, {})
    if not isinstance(found, dict):
        raise ModelError(f"metadata.nam: expected an object, got {shown(found)}")
    bounded_json.check(found, "metadata.nam")
    unknown = found.get("unknown", {})
    if not isinstance(unknown, dict) or not all(isinstance(v, dict) for v in unknown.values()):
        raise ModelError("metadata.nam.unknown: expected an object of objects, got others")
    # A file that does not say its rate stays so, unless the graph says another.
    silent = "sample_rate" in found and found["sample_rate"] is None
    assumed = silent and graph.sample_rate == nam.DEFAULT_SAMPLE_RATE
    rate = None if assumed else graph.sample_rate
    return _Kept("version" in found, rate, found.get("metadata"), unknown)


def _find(document: dict[str, Any], place: str) -> dict[str, Any] | None:
    """The object at a place such as ``config.layers[0]``, or None."""
    found: Any = document
    for part in re.findall(r"[^.\[\]]+", place):
        if isinstance(found, list):
            inside = part.isdecimal() and int(part) < len(found)
            found = found[int(part)] if inside else None
        else:
            found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _model_document(
    node: Node, name: str, place: str, kept: _Kept, level: float = 0.0
) -> dict[str, Any]:
    """A complete model; ``name`` is its path in the graph, ``place`` its place in the file.

    ``level`` is what it hears when the whole file hears silence.
    """
    lstm = lstm_arrays(node)
    if lstm is not None:
        parts = _lstm(node, *lstm, None if kept.is_from_file else level)
    elif isinstance(node, WaveNet):
        parts = _wavenet(node, name, place, kept)
    elif isinstance(node, ConvStack):
        parts = _convnet(node, name)
    elif isinstance(node, Linear):
        parts = _linear(node, place, kept)
    elif isinstance(node, Sequential):
        parts = _sequential(node, name, place, kept)
    else:
        raise ModelError(
            f"{name}: expected wavenet, conv_stack, linear, sequential or an LSTM with one dense "
            f"layer for .nam, got {node.kind}"
        )
    version, architecture, config, weights = parts
    document = {
        "version": version,
        "architecture": architecture,
        "config": config,
        # A float32 as the float64 of the same value: its text gives the same float32 back.
        "weights": np.concatenate([np.zeros(0), *weights]).astype(np.float64).tolist(),
    }
    if kept.sample_rate is not None:
        document["sample_rate"] = kept.sample_rate
    return document


_Parts = tuple[str, str, dict[str, Any], list[np.ndarray]]


def _wavenet(net: WaveNet, name: str, place: str, kept: _Kept) -> _Parts:
    shape = wavenet_shape(net, name)
    with np.errstate(over="ignore"):
        head_scale = float(np.float32(net.head_scale))
    slimmable = any(
        kept.at(f"{place}.config.layers[{index}]", "slimmable") is not None
        for index in range(len(shape.arrays))
    )
    first = net.condition is None and not slimmable and is_first_generation(shape)
    if first:
        config = first_generation_config(shape, head_scale)
    else:
        config = newest_config(shape, head_scale, name)
    if net.condition is not None:
        config["condition_dsp"] = _model_document(
            net.condition, f"{name}.condition", f"{place}.config.condition_dsp", kept
        )
    weights = [tensor_in(net, tensor, name).ravel() for tensor in wavenet_tensors(shape)]
    version = FIRST_GENERATION_VERSION if first else NEWEST_VERSION
    return version, "WaveNet", config, weights


def _convnet(stack: ConvStack, name: str) -> _Parts:
    _check_convnet(stack, name)
    *blocks, last = stack.layers
    described = describe_activation(blocks[0].activation, f"{name}.layers[0].activation")
    short = short_name(described)
    config = {
        "channels": blocks[0].out_channels,
        "dilations": [layer.dilation for layer in blocks],
        "batchnorm": False,
        "activation": short or described,
    }
    weights = []
    for layer in (*blocks, last):
        bias = np.zeros(layer.out_channels, np.float32) if layer.bias is None else layer.bias
        weights += [layer.weight.ravel(), bias]
    return FIRST_GENERATION_VERSION if short else NEWEST_VERSION, "ConvNet", config, weights


def _check_convnet(stack: ConvStack, name: str) -> None:
    """The ConvNet of ``.nam`` is narrow: refuse all else with the reason."""
    *blocks, last = stack.layers

    def refuse(place: str, expected: str, got: object) -> None:
        raise ModelError(f"{name}{place}: expected {expected} for a ConvNet in .nam, got {got}")

    if stack.skip:
        refuse(".skip", "no skip", "one")
    if not blocks:
        refuse(".layers", "at least 2 layers", 1)
    if (last.taps, last.out_channels, last.activation.kind) != (1, 1, "none"):
        refuse(
            f".layers[{len(blocks)}]",
            "a last layer of 1 tap and 1 channel without activation",
            f"{last.taps} taps, {last.out_channels} channels, {last.activation.kind}",
        )
    first = describe_activation(blocks[0].activation, f"{name}.layers[0].activation")
    for index, layer in enumerate(blocks):
        place = f".layers[{index}]"
        if layer.taps != 2:
            refuse(f"{place}.weight", "2 taps", layer.taps)
        if layer.out_channels != blocks[0].out_channels:
            refuse(f"{place}.weight", f"{blocks[0].out_channels} channels", layer.out_channels)
        if describe_activation(layer.activation, f"{name}{place}.activation") != first:
            refuse(f"{place}.activation", "the activation of layers[0]", "another")


def _lstm(
    node: Node, layers: int, units: int, found: dict[str, np.ndarray], level: float | None
) -> _Parts:
    """``level`` is what it settles on, None where its state stays."""
    if level is not None:
        states = settled(node.children[0], level)  # type: ignore[arg-type]
        found |= {f"layers[{index}].initial": state for index, state in enumerate(states)}
    config = {"input_size": 1, "hidden_size": units, "num_layers": layers}
    weights = [found[tensor.name].ravel() for tensor in lstm_tensors(layers, units)]
    return FIRST_GENERATION_VERSION, "LSTM", config, weights


def _linear(node: Linear, place: str, kept: _Kept) -> _Parts:
    bias = node.bias != 0 or kept.at(f"{place}.config", "bias") is True
    config = {"receptive_field": int(node.taps.size), "bias": bias}
    with np.errstate(over="ignore"):
        weights = [node.taps, np.array([node.bias] * bias, np.float32)]
    return FIRST_GENERATION_VERSION, "Linear", config, weights


def _sequential(node: Sequential, name: str, place: str, kept: _Kept) -> _Parts:
    models = []
    for index, child in enumerate(node.children):
        level = _level_after(node.children[:index])
        child_place = f"{place}.config.models[{index}]"
        models.append(_model_document(child, f"{name}.children[{index}]", child_place, kept, level))
    return NEWEST_VERSION, "Sequential", {"models": models}, []


def _level_after(nodes: tuple[Node, ...]) -> float:
    """What comes out of a chain that has heard silence for ever."""
    if not nodes or nodes[-1].out_channels != 1:
        return 0.0
    graph = ModelGraph(Sequential(nodes), nam.DEFAULT_SAMPLE_RATE)
    return float(Player(graph, threads=1).render(np.zeros(1, np.float32))[0])
