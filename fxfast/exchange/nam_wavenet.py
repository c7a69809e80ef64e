"""The WaveNet of ``.nam``: its config as a shape, and the shape with weights as a graph node.

Key presence decides, not the version: files of every version mix old and new keys.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, UnsupportedModelError
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.nam_activation import parse_activation
from fxfast.exchange.nam_fields import Section
from fxfast.exchange.nam_layout import (
    ArrayShape,
    FilmShape,
    HeadShape,
    LayerShape,
    PointwiseShape,
    WaveNetShape,
)
from fxfast.graph import (
    FILM_PLACES,
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_RECEPTIVE_FIELD,
    MODES,
    Conv1x1,
    Film,
    HeadConv,
    LayerArray,
    Node,
    WaveNet,
    WaveNetLayer,
)

CONFIG_KEYS = {"layers", "head", "head_scale", "in_channels", "condition_dsp"}
HEAD_KEYS = {"channels", "out_channels", "kernel_sizes", "activation", "in_channels"}
# ``slimmable`` says how to cut the model down; at full size it is only kept.
ARRAY_KEYS = {
    *("input_size", "condition_size", "channels", "dilations", "kernel_size", "kernel_sizes"),
    *("activation", "gating_mode", "gated", "secondary_activation", "bottleneck"),
    *("groups_input", "groups_input_mixin", "layer1x1", "head1x1", "head"),
    *("head_size", "head_bias", *FILM_PLACES),
}


def parse_wavenet(config: Section, condition_channels: int) -> WaveNetShape:
    """Read the config of a WaveNet; ``condition_channels`` come from its condition model."""
    in_channels = config.integer("in_channels", MAX_CHANNELS, 1)
    if in_channels != 1:
        raise ModelShapeError(f"{config.where('in_channels')}: expected 1, got {in_channels}")
    arrays: list[ArrayShape] = []
    layers = 0
    for index, value in enumerate(config.items("layers", MAX_LAYERS)):
        section = Section.of(value, f"{config.where('layers')}[{index}]")
        arrays.append(_parse_array(section))
        _check_chain(section, arrays, condition_channels)
        layers += len(arrays[-1].layers)
    if layers > MAX_LAYERS:
        raise ModelShapeError(
            f"{config.where('layers')}: expected at most {MAX_LAYERS}, got {layers}"
        )
    config.number("head_scale", 1.0)
    head = None
    if config.has("head"):
        head = _parse_head(config.section("head"), arrays[-1].head_channels)
    return WaveNetShape(tuple(arrays), head)


def _check_chain(section: Section, arrays: list[ArrayShape], condition_channels: int) -> None:
    """The last array takes what the one before it gives."""
    last = arrays[-1]
    expected_input = arrays[-2].channels if len(arrays) > 1 else 1
    pairs = [
        ("input_size", expected_input, last.input_size),
        ("condition_size", condition_channels, last.condition_size),
    ]
    if len(arrays) > 1:
        key = "head1x1.out_channels" if last.head1x1 else "bottleneck"
        pairs.append((key, arrays[-2].head_channels, last.accumulator_channels))
    for key, expected, got in pairs:
        if got != expected:
            raise ModelError(f"{section.where(key)}: expected {expected}, got {got}")


def _parse_array(section: Section) -> ArrayShape:
    channels = section.integer("channels", MAX_CHANNELS)
    bottleneck = section.integer("bottleneck", MAX_CHANNELS, channels)
    layer1x1 = _parse_pointwise(section, "layer1x1", True, channels)
    if layer1x1 is None and bottleneck != channels:
        raise ModelShapeError(
            f"{section.where('bottleneck')}: expected {channels} without layer1x1, got {bottleneck}"
        )
    head_channels, head_taps, head_bias, head_dilation = _parse_array_head(section)
    array = ArrayShape(
        input_size=section.integer("input_size", MAX_CHANNELS),
        condition_size=section.integer("condition_size", MAX_CHANNELS),
        channels=channels,
        bottleneck=bottleneck,
        groups=section.integer("groups_input", MAX_CHANNELS, 1),
        groups_mixin=section.integer("groups_input_mixin", MAX_CHANNELS, 1),
        layer1x1=layer1x1,
        head1x1=_parse_pointwise(section, "head1x1", False, channels),
        head_channels=head_channels,
        head_taps=head_taps,
        head_bias=head_bias,
        head_dilation=head_dilation,
        films=_parse_films(section),
        layers=_parse_layers(section, bottleneck),
    )
    _check_groups(section, array)
    return array


def _parse_pointwise(
    section: Section, key: str, active: bool, channels: int
) -> PointwiseShape | None:
    if not section.has(key) or section.values[key] is False:
        return PointwiseShape(channels) if active and not section.has(key) else None
    inner = section.section(key)
    out_channels = channels
    if key == "head1x1":
        out_channels = inner.integer("out_channels", MAX_CHANNELS, channels)
    groups = inner.integer("groups", MAX_CHANNELS, 1)
    return PointwiseShape(out_channels, groups) if inner.boolean("active", active) else None


def _parse_array_head(section: Section) -> tuple[int, int, bool, int]:
    """Channels, taps, bias and dilation: the object ``head``, or the older pair of keys."""
    if not section.has("head"):
        size = section.integer("head_size", MAX_CHANNELS)
        return size, 1, section.boolean("head_bias"), 1
    head = section.section("head")
    dilation = head.integer("head_dilation", MAX_RECEPTIVE_FIELD, 1)
    size, bias = head.integer("out_channels", MAX_CHANNELS), head.boolean("bias")
    if section.integer("head_size", MAX_CHANNELS, size) != size:
        got = section.values["head_size"]
        raise ModelError(f"{section.where('head_size')}: expected {size} as in head, got {got}")
    if section.boolean("head_bias", bias) != bias:
        raise ModelError(
            f"{section.where('head_bias')}: expected {bias} as in head, got {not bias}"
        )
    return size, head.integer("kernel_size", MAX_RECEPTIVE_FIELD), bias, dilation


def _parse_films(section: Section) -> dict[str, FilmShape]:
    films = {}
    for key in FILM_PLACES:
        if not section.has(key) or section.values[key] is False:
            continue
        inner = section.section(key)
        film = FilmShape(inner.boolean("shift", True), inner.integer("groups", MAX_CHANNELS, 1))
        if inner.boolean("active", True):
            films[key] = film
    return films


def _parse_layers(section: Section, bottleneck: int) -> tuple[LayerShape, ...]:
    dilations = section.integers("dilations", MAX_LAYERS, MAX_RECEPTIVE_FIELD)
    count = len(dilations)
    taps = _parse_taps(section, count)
    modes = _parse_modes(section, count)
    activations = section.per_layer("activation", count)
    secondaries = section.per_layer("secondary_activation", count)
    layers = []
    for index in range(count):
        secondary = None
        if modes[index] != "none":
            # Trap: absent, null and "" all mean Sigmoid.
            described = secondaries[index] or "Sigmoid"
            name = f"{section.where('secondary_activation')}[{index}]"
            secondary = parse_activation(described, name, bottleneck)
        name = f"{section.where('activation')}[{index}]"
        activation = parse_activation(activations[index], name, bottleneck)
        layers.append(
            LayerShape(taps[index], dilations[index], modes[index], activation, secondary)
        )
    return tuple(layers)


def _parse_taps(section: Section, layers: int) -> tuple[int, ...]:
    if section.has("kernel_size") == section.has("kernel_sizes"):
        got = "both" if section.has("kernel_size") else "none"
        raise ModelError(
            f"{section.where('kernel_size')}: expected either kernel_size or kernel_sizes, "
            f"got {got}"
        )
    if section.has("kernel_size"):
        return (section.integer("kernel_size", MAX_RECEPTIVE_FIELD),) * layers
    taps = section.integers("kernel_sizes", MAX_LAYERS, MAX_RECEPTIVE_FIELD)
    if len(taps) != layers:
        raise ModelShapeError(
            f"{section.where('kernel_sizes')}: expected {layers} values, one for each dilation, "
            f"got {len(taps)}"
        )
    return taps


def _parse_modes(section: Section, layers: int) -> list[str]:
    if not section.has("gating_mode"):
        return ["gated" if section.boolean("gated", False) else "none"] * layers
    modes = section.per_layer("gating_mode", layers)
    for mode in modes:
        if mode not in MODES:
            raise UnsupportedModelError(
                f"{section.where('gating_mode')}: expected one of {', '.join(MODES)}, "
                f"got {shown(mode)}"
            )
    return modes


def _check_groups(section: Section, array: ArrayShape) -> None:
    """Every number of groups divides the channels on both sides."""
    pointwise = [
        (key, shape.groups, (array.bottleneck, shape.out_channels))
        for key, shape in (("layer1x1", array.layer1x1), ("head1x1", array.head1x1))
        if shape
    ]
    for layer in array.layers:
        middle = layer.conv_channels(array.bottleneck)
        groups = [
            ("groups_input", array.groups, (array.channels, middle)),
            ("groups_input_mixin", array.groups_mixin, (array.condition_size, middle)),
            *pointwise,
        ]
        for key, film in array.films.items():
            out = (2 if film.shift else 1) * array.film_channels(key, layer)
            groups.append((key, film.groups, (array.condition_size, out)))
        for key, count, channels in groups:
            if any(n % count for n in channels):
                raise ModelShapeError(
                    f"{section.where(key)}: expected groups that divide {channels[0]} and "
                    f"{channels[1]} channels, got {count}"
                )
    for key, needed, shape in (
        ("layer1x1_post_film", "layer1x1", array.layer1x1),
        ("head1x1_post_film", "head1x1", array.head1x1),
    ):
        if key in array.films and shape is None:
            raise ModelError(f"{section.where(key)}: expected an active {needed}, got none")


def _parse_head(section: Section, in_channels: int) -> HeadShape:
    if section.integer("in_channels", MAX_CHANNELS, in_channels) != in_channels:
        raise ModelShapeError(
            f"{section.where('in_channels')}: expected {in_channels}, "
            f"got {section.values['in_channels']}"
        )
    taps = section.integers("kernel_sizes", MAX_LAYERS, MAX_RECEPTIVE_FIELD)
    channels = section.integer("channels", MAX_CHANNELS)
    out_channels = section.integer("out_channels", MAX_CHANNELS)
    # One activation for all: a slope for each channel needs the same channels before each.
    same = len(taps) == 1 or channels == in_channels
    activation = parse_activation(
        section.required("activation"), section.where("activation"), in_channels if same else 1
    )
    return HeadShape(channels, out_channels, taps, activation)


# --- the node --------------------------------------------------------------------


def build_wavenet(
    shape: WaveNetShape, found: Mapping[str, np.ndarray], condition: Node | None
) -> WaveNet:
    """The graph node of ``shape`` with the weights that ``found`` holds by name."""
    arrays = tuple(
        LayerArray(
            rechannel=found[f"arrays[{index}].rechannel"],
            layers=tuple(
                _build_layer(array, layer, f"arrays[{index}].layers[{number}]", found)
                for number, layer in enumerate(array.layers)
            ),
            head_weight=found[f"arrays[{index}].head_weight"],
            head_bias=found.get(f"arrays[{index}].head_bias"),
            head_dilation=array.head_dilation,
        )
        for index, array in enumerate(shape.arrays)
    )
    head = tuple(
        HeadConv(shape.head.activation, found[f"head[{i}].weight"], found[f"head[{i}].bias"])
        for i in range(len(shape.head.taps) if shape.head else 0)
        if shape.head
    )
    return WaveNet(arrays, head, float(found["head_scale"]), condition)


def _build_layer(
    array: ArrayShape, layer: LayerShape, name: str, found: Mapping[str, np.ndarray]
) -> WaveNetLayer:
    def pointwise(key: str, shape: PointwiseShape | None) -> Conv1x1 | None:
        if shape is None:
            return None
        weight, bias = found[f"{name}.{key}.weight"], found[f"{name}.{key}.bias"]
        return Conv1x1(weight, bias, shape.groups)

    films = {
        key: Film(
            found[f"{name}.films.{key}.weight"], found[f"{name}.films.{key}.bias"], film.groups
        )
        for key, film in array.films.items()
    }
    return WaveNetLayer(
        conv_weight=found[f"{name}.conv_weight"],
        conv_bias=found[f"{name}.conv_bias"],
        dilation=layer.dilation,
        groups=array.groups,
        mixin_weight=found[f"{name}.mixin_weight"],
        groups_mixin=array.groups_mixin,
        mode=layer.mode,
        activation=layer.activation,
        secondary=layer.secondary,
        layer1x1=pointwise("layer1x1", array.layer1x1),
        head1x1=pointwise("head1x1", array.head1x1),
        films=films,
    )
