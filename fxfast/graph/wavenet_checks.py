"""Whether the parts of a WaveNet fit each other."""

from __future__ import annotations

from typing import Any

from fxfast.errors import ModelError, ModelShapeError, UnsupportedModelError
from fxfast.graph.activation import check_activation
from fxfast.graph.checks import (
    MAX_LAYERS,
    MAX_RECEPTIVE_FIELD,
    check_array,
    check_bias,
    check_channels,
    check_grouped,
    check_integer,
    check_number,
)
from fxfast.graph.node import check_depth, check_node
from fxfast.graph.wavenet import (
    FILM_PLACES,
    MODES,
    Conv1x1,
    Film,
    HeadConv,
    LayerArray,
    WaveNet,
    WaveNetLayer,
)


def validate_wavenet(net: WaveNet, name: str, in_channels: int, depth: int) -> None:
    """Raise ``ModelError`` that names the part unless ``net`` is whole."""
    check_depth(depth, name)
    _check_count(net.arrays, f"{name}.arrays", 1)
    _check_count(net.head, f"{name}.head", 0)
    check_number(net.head_scale, f"{name}.head_scale")
    condition_channels = in_channels
    if net.condition is not None:
        check_node(net.condition, f"{name}.condition")
        net.condition.validate(f"{name}.condition", in_channels, depth + 1)
        condition_channels = net.condition.out_channels
    channels, total = in_channels, 0
    for index, array in enumerate(net.arrays):
        _check_array(array, f"{name}.arrays[{index}]", channels, condition_channels, total)
        channels, total = array.channels, array.out_channels
    for index, conv in enumerate(net.head):
        _check_head(conv, f"{name}.head[{index}]", total)
        total = int(conv.weight.shape[0])


def _check_count(items: tuple[Any, ...], name: str, low: int) -> None:
    if not low <= len(items) <= MAX_LAYERS:
        raise ModelShapeError(f"{name}: expected {low} to {MAX_LAYERS}, got {len(items)}")


def _check_array(
    array: LayerArray, name: str, in_channels: int, condition_channels: int, start_channels: int
) -> None:
    """``start_channels`` has the sum that the array starts from, 0 for none."""
    _check_type(array, LayerArray, name)
    check_array(array.rechannel, f"{name}.rechannel", 2)
    check_channels(array.channels, f"{name}.rechannel")
    if array.rechannel.shape[1] != in_channels:
        raise ModelShapeError(
            f"{name}.rechannel: expected {in_channels} input channels, "
            f"got shape {array.rechannel.shape}"
        )
    _check_count(array.layers, f"{name}.layers", 1)
    total = start_channels
    for index, layer in enumerate(array.layers):
        layer_name = f"{name}.layers[{index}]"
        _check_type(layer, WaveNetLayer, layer_name)
        _check_layer(layer, layer_name, array.channels, condition_channels)
        if total and layer.head_channels != total:
            raise ModelShapeError(
                f"{layer_name}: expected {total} channels for the sum of the array, "
                f"got {layer.head_channels}"
            )
        total = layer.head_channels
    check_array(array.head_weight, f"{name}.head_weight", 3)
    check_grouped(array.head_weight, 1, f"{name}.head_weight", total)
    check_bias(array.head_bias, f"{name}.head_bias", array.out_channels)
    check_integer(array.head_dilation, f"{name}.head_dilation", MAX_RECEPTIVE_FIELD)


def _check_layer(layer: WaveNetLayer, name: str, channels: int, condition_channels: int) -> None:
    check_array(layer.conv_weight, f"{name}.conv_weight", 3)
    check_grouped(layer.conv_weight, layer.groups, f"{name}.conv_weight", channels)
    check_bias(layer.conv_bias, f"{name}.conv_bias", layer.rows)
    check_integer(layer.dilation, f"{name}.dilation", MAX_RECEPTIVE_FIELD)
    check_array(layer.mixin_weight, f"{name}.mixin_weight", 2)
    check_grouped(
        layer.mixin_weight, layer.groups_mixin, f"{name}.mixin_weight", condition_channels
    )
    _check_rows(layer.mixin_weight.shape[0], f"{name}.mixin_weight", layer.rows)
    _check_mode(layer, name)
    for key, rows in (("layer1x1", channels), ("head1x1", None)):
        conv = getattr(layer, key)
        if conv is not None:
            _check_1x1(conv, f"{name}.{key}", layer.bottleneck, rows)
    _check_films(layer, name, channels, condition_channels)


def _check_rows(rows: int, name: str, expected: int) -> None:
    if rows != expected:
        raise ModelShapeError(f"{name}: expected {expected} output channels, got {rows}")


def _check_mode(layer: WaveNetLayer, name: str) -> None:
    if layer.mode not in MODES:
        raise UnsupportedModelError(
            f"{name}.mode: expected one of {', '.join(MODES)}, got {layer.mode!r}"
        )
    if layer.mode != "none" and layer.rows % 2:
        raise ModelShapeError(
            f"{name}.conv_weight: expected an even number of output channels in mode "
            f"{layer.mode}, got {layer.rows}"
        )
    check_activation(layer.activation, f"{name}.activation", layer.bottleneck)
    if layer.mode == "none":
        if layer.secondary is not None:
            raise ModelError(f"{name}.secondary: expected none in mode none, got some")
    elif layer.secondary is None:
        raise ModelError(f"{name}.secondary: expected an Activation in mode {layer.mode}, got none")
    else:
        check_activation(layer.secondary, f"{name}.secondary", layer.bottleneck)


def _check_1x1(conv: Conv1x1 | Film, name: str, in_channels: int, rows: int | None) -> None:
    check_array(conv.weight, f"{name}.weight", 2)
    check_grouped(conv.weight, conv.groups, f"{name}.weight", in_channels)
    if rows is not None:
        _check_rows(conv.weight.shape[0], f"{name}.weight", rows)
    check_bias(conv.bias, f"{name}.bias", int(conv.weight.shape[0]))


def _check_films(layer: WaveNetLayer, name: str, channels: int, condition_channels: int) -> None:
    if not isinstance(layer.films, dict):
        raise ModelError(f"{name}.films: expected a dict, got {type(layer.films).__name__}")
    sizes = film_channels(layer, channels, condition_channels)
    for place, film in layer.films.items():
        if place not in sizes:
            raise ModelError(f"{name}.films: expected keys among {', '.join(sizes)}, got {place!r}")
        _check_type(film, Film, f"{name}.films.{place}")
        _check_1x1(film, f"{name}.films.{place}", condition_channels, None)
        rows, size = int(film.weight.shape[0]), sizes[place]
        if rows not in (size, 2 * size):
            raise ModelShapeError(
                f"{name}.films.{place}.weight: expected {size} or {2 * size} output channels, "
                f"got {rows}"
            )


def film_channels(layer: WaveNetLayer, channels: int, condition_channels: int) -> dict[str, int]:
    """The places that the layer has, each with the channels of the signal there."""
    rows = layer.rows
    sizes = (channels, rows, condition_channels, rows, rows, layer.bottleneck, channels)
    found = dict(zip(FILM_PLACES, (*sizes, layer.head_channels), strict=True))
    if layer.layer1x1 is None:
        del found["layer1x1_post_film"]
    if layer.head1x1 is None:
        del found["head1x1_post_film"]
    return found


def _check_head(conv: HeadConv, name: str, in_channels: int) -> None:
    _check_type(conv, HeadConv, name)
    check_activation(conv.activation, f"{name}.activation", in_channels)
    check_array(conv.weight, f"{name}.weight", 3)
    check_grouped(conv.weight, 1, f"{name}.weight", in_channels)
    check_bias(conv.bias, f"{name}.bias", int(conv.weight.shape[0]))


def _check_type(value: object, expected: type, name: str) -> None:
    if not isinstance(value, expected):
        raise ModelError(f"{name}: expected {expected.__name__}, got {type(value).__name__}")
