"""A WaveNet node as the shape and the config that ``.nam`` has for it, or why it has none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from fxfast.errors import ModelError
from fxfast.exchange.nam_activation import describe_activation, short_name
from fxfast.exchange.nam_layout import (
    ArrayShape,
    FilmShape,
    HeadShape,
    LayerShape,
    PointwiseShape,
    Tensor,
    WaveNetShape,
)
from fxfast.graph import FILM_PLACES, Conv1x1, LayerArray, WaveNet, WaveNetLayer


def wavenet_shape(net: WaveNet, name: str) -> WaveNetShape:
    """Raises ``ModelError`` when layers of one array differ where ``.nam`` has one value."""
    arrays = tuple(
        _array_shape(array, f"{name}.arrays[{index}]") for index, array in enumerate(net.arrays)
    )
    if not net.head:
        return WaveNetShape(arrays)
    for index, conv in enumerate(net.head):
        same = describe_activation(conv.activation, f"{name}.head[{index}].activation")
        if same != describe_activation(net.head[0].activation, f"{name}.head[0].activation"):
            _refuse(f"{name}.head[{index}].activation", "one activation for the whole head")
    channels = [int(conv.weight.shape[0]) for conv in net.head]
    for index, count in enumerate(channels[:-1]):
        if count != channels[0]:
            _refuse(f"{name}.head[{index}].weight", "one number of channels inside the head")
    taps = tuple(int(conv.weight.shape[2]) for conv in net.head)
    return WaveNetShape(arrays, HeadShape(channels[0], channels[-1], taps, net.head[0].activation))


def _refuse(name: str, has: str) -> None:
    raise ModelError(f"{name}: expected what .nam can hold, {has}, got others")


def _array_shape(array: LayerArray, name: str) -> ArrayShape:
    shapes = []
    for index, layer in enumerate(array.layers):
        shapes.append(_shared_shape(array, layer))
        if shapes[index] != shapes[0]:
            _refuse(
                f"{name}.layers[{index}]", "one bottleneck, groups, 1x1s and FiLMs for an array"
            )
    shared = shapes[0]
    if shared.layer1x1 is None and shared.bottleneck != shared.channels:
        _refuse(f"{name}.layers[0]", "as many conv channels as the array's without layer1x1")
    layers = tuple(
        LayerShape(layer.taps, layer.dilation, layer.mode, layer.activation, layer.secondary)
        for layer in array.layers
    )
    return ArrayShape(**{**vars(shared), "layers": layers})


def _shared_shape(array: LayerArray, layer: WaveNetLayer) -> ArrayShape:
    """What this layer wants of its array."""

    def pointwise(conv: Conv1x1 | None) -> PointwiseShape | None:
        return PointwiseShape(int(conv.weight.shape[0]), conv.groups) if conv else None

    shape = ArrayShape(
        input_size=int(array.rechannel.shape[1]),
        condition_size=int(layer.mixin_weight.shape[1]) * layer.groups_mixin,
        channels=array.channels,
        bottleneck=layer.bottleneck,
        groups=layer.groups,
        groups_mixin=layer.groups_mixin,
        layer1x1=pointwise(layer.layer1x1),
        head1x1=pointwise(layer.head1x1),
        head_channels=array.out_channels,
        head_taps=int(array.head_weight.shape[2]),
        head_bias=array.head_bias is not None,
        head_dilation=array.head_dilation,
    )
    own = LayerShape(1, 1, layer.mode, layer.activation, layer.secondary)
    films = {
        key: FilmShape(film.weight.shape[0] != shape.film_channels(key, own), film.groups)
        for key, film in layer.films.items()
    }
    return ArrayShape(**{**vars(shape), "films": films})


def tensor_in(net: WaveNet, tensor: Tensor, name: str) -> np.ndarray:
    """The array that the path ``tensor.name`` leads to; a bias that is absent is zeros."""
    found: Any = net
    for part in re.findall(r"[^.\[\]]+", tensor.name):
        if part.isdigit():
            found = found[int(part)]
        else:
            found = found[part] if isinstance(found, dict) else getattr(found, part)
    if found is None:
        return np.zeros(tensor.shape, np.float32)
    array = np.asarray(found, np.float32)
    if array.shape != tensor.shape:
        raise ModelError(f"{name}.{tensor.name}: expected {tensor.shape}, got {array.shape}")
    return array


# --- config ------------------------------------------------------------------------


def is_first_generation(shape: WaveNetShape) -> bool:
    """Whether readers of files before 0.6.0 know everything in it."""
    return shape.head is None and all(_is_first_generation(array) for array in shape.arrays)


def _is_first_generation(array: ArrayShape) -> bool:
    plain = (
        array.bottleneck == array.channels
        and array.groups == array.groups_mixin == array.head_taps == array.head_dilation == 1
        and array.layer1x1 == PointwiseShape(array.channels)
        and array.head1x1 is None
        and not array.films
    )
    if not plain or len({(layer.taps, layer.mode) for layer in array.layers}) != 1:
        return False
    names = {
        short_name(describe_activation(layer.activation, "activation")) for layer in array.layers
    }
    # Gates exist in old files too, but the trainer would take such a layer for an ungated one.
    return len(names) == 1 and None not in names and array.layers[0].mode == "none"


def first_generation_config(shape: WaveNetShape, head_scale: float) -> dict[str, Any]:
    """The keys that every reader knows, and ``head``, which today's trainer asks for."""
    layers = [
        {
            "input_size": array.input_size,
            "condition_size": array.condition_size,
            "head_size": array.head_channels,
            "channels": array.channels,
            "kernel_size": array.layers[0].taps,
            "dilations": [layer.dilation for layer in array.layers],
            "activation": short_name(describe_activation(array.layers[0].activation, "activation")),
            "gated": False,
            "head_bias": array.head_bias,
            "head": _array_head(array),
        }
        for array in shape.arrays
    ]
    return {"layers": layers, "head": None, "head_scale": head_scale}


def newest_config(shape: WaveNetShape, head_scale: float, name: str) -> dict[str, Any]:
    head = None
    if shape.head:
        described = describe_activation(shape.head.activation, f"{name}.head[0].activation")
        head = {
            "channels": shape.head.channels,
            "out_channels": shape.head.out_channels,
            "kernel_sizes": list(shape.head.taps),
            # The trainer reads a bare name here, NAM Core both.
            "activation": short_name(described) or described,
        }
    layers = [
        _newest_array(array, f"{name}.arrays[{index}]") for index, array in enumerate(shape.arrays)
    ]
    return {"layers": layers, "head": head, "head_scale": head_scale}


def _newest_array(array: ArrayShape, name: str) -> dict[str, Any]:
    def pointwise(shape: PointwiseShape | None) -> dict[str, Any]:
        # NAM Core reads the other values even when it is not active.
        used = shape or PointwiseShape(array.channels)
        return {"active": shape is not None, "groups": used.groups}

    head1x1 = array.head1x1 or PointwiseShape(array.channels)
    config: dict[str, Any] = {
        "input_size": array.input_size,
        "condition_size": array.condition_size,
        "channels": array.channels,
        "bottleneck": array.bottleneck,
        "dilations": [layer.dilation for layer in array.layers],
        "kernel_sizes": [layer.taps for layer in array.layers],
        "activation": _activations((layer.activation for layer in array.layers), name),
        "gating_mode": [layer.mode for layer in array.layers],
        "groups_input": array.groups,
        "groups_input_mixin": array.groups_mixin,
        "layer1x1": pointwise(array.layer1x1),
        "head1x1": {**pointwise(array.head1x1), "out_channels": head1x1.out_channels},
        # The trainer reads activations only where this list stands, if of nulls alone.
        "secondary_activation": _activations((layer.secondary for layer in array.layers), name),
        "head": _array_head(array),
    }
    for key in FILM_PLACES:
        if key in array.films:
            film = array.films[key]
            config[key] = {"active": True, "shift": film.shift, "groups": film.groups}
    return config


def _array_head(array: ArrayShape) -> dict[str, Any]:
    head = {
        "out_channels": array.head_channels,
        "kernel_size": array.head_taps,
        "bias": array.head_bias,
    }
    # NAM Core reads the key, the trainer does not know it.
    return head if array.head_dilation == 1 else {**head, "head_dilation": array.head_dilation}


def _activations(activations: Iterable[Any], name: str) -> list[Any]:
    return [
        None if one is None else describe_activation(one, f"{name}.layers[{index}].activation")
        for index, one in enumerate(activations)
    ]
