"""The smaller sizes of a slimmable WaveNet: its first channels, cut as NAM Core cuts them.

Of every tensor the first rows and columns stay, whatever they mean: half of the rows of a
gated layer are the first half, not half of the signal and half of the gate. The size of the
input, the condition, ``head1x1`` and the last head stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fxfast.errors import ModelShapeError, UnsupportedModelError
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.nam_fields import Section
from fxfast.exchange.nam_layout import (
    ArrayShape,
    LayerShape,
    PointwiseShape,
    WaveNetShape,
    wavenet_tensors,
)
from fxfast.graph import MAX_CHANNELS, Activation

KEY = "slimmable"
METHOD = "slice_channels_uniform"


def is_slimmable(arrays: list[Section]) -> bool:
    """Whether the file says of a layer array that it can be cut."""
    return any(isinstance(array.values.get(KEY), dict) for array in arrays)


def slim_shape(shape: WaveNetShape, arrays: list[Section], slim: float) -> WaveNetShape:
    """What ``slim`` from 0 to 1 leaves of ``shape``; ``arrays`` are the file's layer arrays.

    Raises ``ModelError`` where NAM Core cannot cut it either.
    """
    pairs = list(zip(arrays, shape.arrays, strict=True))
    sizes = [_chosen_channels(section, array.channels, slim) for section, array in pairs]
    if sizes == [array.channels for array in shape.arrays]:
        return shape
    if shape.head is not None:
        raise UnsupportedModelError("config.head: expected none in a WaveNet that is cut, got one")
    built = []
    for index, (section, array) in enumerate(pairs):
        _check_cuttable(section, array)
        last = index == len(pairs) - 1
        built.append(
            _slim_array(
                array,
                sizes[index],
                input_size=sizes[index - 1] if index else array.input_size,
                head_channels=array.head_channels if last else sizes[index + 1],
            )
        )
        if index and built[index].accumulator_channels != built[index - 1].head_channels:
            raise ModelShapeError(
                f"{section.where(KEY)}: expected {built[index - 1].head_channels} channels for the "
                f"head of the array before, got {built[index].accumulator_channels}"
            )
    return WaveNetShape(tuple(built))


def slim_tensors(shape: WaveNetShape, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The leading corner of every tensor that ``shape`` has."""
    return {
        tensor.name: found[tensor.name][tuple(slice(size) for size in tensor.shape)].copy()
        for tensor in wavenet_tensors(shape)
    }


def _chosen_channels(section: Section, channels: int, slim: float) -> int:
    """As many of the allowed sizes as ``slim`` spans; all channels of an array that has none."""
    if not isinstance(section.values.get(KEY), dict):
        return channels
    slimmable = section.section(KEY)
    if slimmable.required("method") != METHOD:
        got = shown(slimmable.values["method"])
        raise UnsupportedModelError(f"{slimmable.where('method')}: expected {METHOD}, got {got}")
    kwargs = slimmable.section("kwargs") if slimmable.has("kwargs") else None
    if kwargs is None or not kwargs.has("allowed_channels"):
        allowed = tuple(range(1, channels + 1))
    else:
        allowed = kwargs.integers("allowed_channels", MAX_CHANNELS, channels)
        if list(allowed) != sorted(set(allowed)) or allowed[-1] != channels:
            raise ModelShapeError(
                f"{kwargs.where('allowed_channels')}: expected sizes that rise to {channels}, "
                f"got {str(list(allowed))[:60]}"
            )
    return allowed[min(math.floor(slim * len(allowed)), len(allowed) - 1)]


def _check_cuttable(section: Section, array: ArrayShape) -> None:
    ones = {
        "groups_input": array.groups,
        "groups_input_mixin": array.groups_mixin,
        "layer1x1.groups": array.layer1x1.groups if array.layer1x1 else 1,
        "head1x1.groups": array.head1x1.groups if array.head1x1 else 1,
        "head.kernel_size": array.head_taps,
        **{f"{key}.groups": film.groups for key, film in array.films.items()},
    }
    for key, got in ones.items():
        if got != 1:
            raise UnsupportedModelError(
                f"{section.where(key)}: expected 1 in a WaveNet that is cut, got {got}"
            )


def _slim_array(
    array: ArrayShape, channels: int, *, input_size: int, head_channels: int
) -> ArrayShape:
    bottleneck = channels
    if array.layer1x1 is not None:
        bottleneck = max(1, array.bottleneck * channels // array.channels)
    return replace(
        array,
        input_size=input_size,
        channels=channels,
        bottleneck=bottleneck,
        layer1x1=array.layer1x1 and PointwiseShape(channels),
        head_channels=head_channels,
        layers=tuple(_slim_layer(layer, bottleneck) for layer in array.layers),
    )


def _slim_layer(layer: LayerShape, bottleneck: int) -> LayerShape:
    def cut(activation: Activation | None) -> Activation | None:
        if activation is None or activation.slopes is None:
            return activation
        return replace(activation, slopes=activation.slopes[:bottleneck].copy())

    activation = cut(layer.activation)
    assert activation is not None
    return replace(layer, activation=activation, secondary=cut(layer.secondary))
