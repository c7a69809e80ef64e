"""WaveNets between config, named arrays and graph nodes.

The names are those of the state dict of ``wavenet_layers.Net``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from fxfast.errors import ModelError
from fxfast.graph import (
    Activation,
    Conv1x1,
    Film,
    HeadConv,
    LayerArray,
    ModelGraph,
    Node,
    WaveNet,
    WaveNetLayer,
)
from fxfast.models.wavenet_config import (
    ActivationConfig,
    Conv1x1Config,
    FilmConfig,
    HeadConvConfig,
    LayerArrayConfig,
    WaveNetConfig,
    WaveNetLayerConfig,
)

# The array of a name, in a shape.
Source = Callable[[str, tuple[int, ...]], np.ndarray]


def skeleton(config: WaveNetConfig) -> ModelGraph:
    """The graph of a config with zeros for weights: it has the sizes and takes no memory.

    Raises ``ModelError`` that names the part when the config is impossible.
    """

    def zeros(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if min(shape, default=1) < 1:
            raise ModelError(f"{name}: expected sizes of at least 1, got shape {shape}")
        return np.broadcast_to(np.float32(0.0), shape)

    return ModelGraph(net_node(config, zeros, 1 + len(config.knobs)), 1, knobs=config.knobs)


# --- config and arrays to nodes ----------------------------------------------------


def net_node(
    config: WaveNetConfig, source: Source, in_channels: int = 1, prefix: str = ""
) -> WaveNet:
    """The node of a config, with the arrays of ``source``."""
    condition, condition_channels = None, in_channels
    if config.condition is not None:
        condition = net_node(config.condition, source, in_channels, f"{prefix}condition.")
        condition_channels = config.condition.out_channels
    arrays, channels = [], in_channels
    for index, array in enumerate(config.arrays):
        name = f"{prefix}arrays.{index}"
        arrays.append(_array_node(array, source, name, channels, condition_channels))
        channels = array.channels
    head = []
    channels = config.arrays[-1].head_channels if config.arrays else 0
    for index, conv in enumerate(config.head):
        name = f"{prefix}head.{index}"
        shape = (conv.channels, channels, conv.kernel_size)
        activation = _activation_node(conv.activation, source, f"{name}.activation")
        weight = source(f"{name}.conv.weight", shape)
        head.append(HeadConv(activation, weight, _bias(conv, source, f"{name}.conv")))
        channels = conv.channels
    return WaveNet(tuple(arrays), tuple(head), config.head_scale, condition)


def _array_node(
    config: LayerArrayConfig, source: Source, name: str, in_channels: int, condition_channels: int
) -> LayerArray:
    layers = tuple(
        _layer_node(layer, source, f"{name}.layers.{index}", config.channels, condition_channels)
        for index, layer in enumerate(config.layers)
    )
    total = config.layers[-1].head_channels if config.layers else 0
    shape = (config.head_channels, total, config.head_kernel_size)
    return LayerArray(
        rechannel=source(f"{name}.rechannel.weight", (config.channels, in_channels)),
        layers=layers,
        head_weight=source(f"{name}.head.weight", shape) if layers else np.zeros(0, np.float32),
        head_bias=source(f"{name}.head.bias", shape[:1]) if config.head_bias else None,
        head_dilation=config.head_dilation,
    )


def _layer_node(
    config: WaveNetLayerConfig, source: Source, name: str, channels: int, condition_channels: int
) -> WaveNetLayer:
    rows, groups = config.rows, config.groups
    conv_shape = (rows, _share(channels, groups), config.kernel_size)
    mixin_shape = (rows, _share(condition_channels, config.groups_mixin))
    films = {}
    for film in config.films:
        made = config.film_rows(film, channels, condition_channels)
        conv = Conv1x1Config(made, film.groups, film.bias)
        at = f"{name}.films.{film.place}"
        # A place that a layer lacks has no size: the graph refuses its name.
        found = _conv1x1_node(conv, source, at, condition_channels) if made else Conv1x1(_EMPTY)
        films[film.place] = Film(*found)
    return WaveNetLayer(
        conv_weight=source(f"{name}.conv.weight", conv_shape),
        conv_bias=source(f"{name}.conv.bias", (rows,)) if config.bias else None,
        dilation=config.dilation,
        groups=groups,
        mixin_weight=source(f"{name}.mixin.weight", mixin_shape),
        groups_mixin=config.groups_mixin,
        mode=config.mode,
        activation=_activation_node(config.activation, source, f"{name}.activation"),
        secondary=None
        if config.secondary is None
        else _activation_node(config.secondary, source, f"{name}.secondary"),
        layer1x1=_optional_1x1(config.layer1x1, source, f"{name}.layer1x1", config.bottleneck),
        head1x1=_optional_1x1(config.head1x1, source, f"{name}.head1x1", config.bottleneck),
        films=films,
    )


_EMPTY = np.zeros((0, 0), np.float32)


def _share(channels: int, groups: int) -> int:
    """Channels of a group; a number of groups that does not fit is for the graph to refuse."""
    return channels // groups if 1 <= groups <= channels else channels


def _bias(config: Conv1x1Config | HeadConvConfig, source: Source, name: str) -> np.ndarray | None:
    return source(f"{name}.bias", (config.channels,)) if config.bias else None


def _conv1x1_node(config: Conv1x1Config, source: Source, name: str, in_channels: int) -> Conv1x1:
    shape = (config.channels, _share(in_channels, config.groups))
    weight = source(f"{name}.weight", shape)
    return Conv1x1(weight, _bias(config, source, name), config.groups)


def _optional_1x1(
    config: Conv1x1Config | None, source: Source, name: str, in_channels: int
) -> Conv1x1 | None:
    return None if config is None else _conv1x1_node(config, source, name, in_channels)


def _activation_node(config: ActivationConfig, source: Source, name: str) -> Activation:
    if config.kind == "prelu":
        return Activation("prelu", source(f"{name}.weight", (len(config.slopes),)))
    if config.kind == "leaky_relu":
        return Activation("leaky_relu", np.array(config.slopes, np.float32))
    if config.kind == "leaky_hardtanh":
        return Activation("leaky_hardtanh", limits=np.array(config.limits, np.float32))
    return Activation(config.kind)


# --- nodes to config and arrays ----------------------------------------------------


def net_config(node: Node, name: str = "root") -> WaveNetConfig:
    """The config of a node. Raises ``ModelError`` unless it and its condition are WaveNets."""
    if not isinstance(node, WaveNet):
        raise ModelError(f"{name}: expected wavenet to train as a WaveNet, got {node.kind}")
    condition = node.condition
    return WaveNetConfig(
        arrays=tuple(
            LayerArrayConfig(
                channels=array.channels,
                layers=tuple(
                    _layer_config(layer, array.channels, node.condition_channels)
                    for layer in array.layers
                ),
                head_channels=array.out_channels,
                head_kernel_size=int(array.head_weight.shape[2]),
                head_bias=array.head_bias is not None,
                head_dilation=array.head_dilation,
            )
            for array in node.arrays
        ),
        head=tuple(
            HeadConvConfig(
                channels=int(conv.weight.shape[0]),
                kernel_size=int(conv.weight.shape[2]),
                activation=_activation_config(conv.activation),
                bias=conv.bias is not None,
            )
            for conv in node.head
        ),
        head_scale=node.head_scale,
        condition=None if condition is None else net_config(condition, f"{name}.condition"),
    )


def _layer_config(
    layer: WaveNetLayer, channels: int, condition_channels: int
) -> WaveNetLayerConfig:
    def one_tap(conv: Conv1x1 | None) -> Conv1x1Config | None:
        if conv is None:
            return None
        return Conv1x1Config(int(conv.weight.shape[0]), conv.groups, conv.bias is not None)

    config = WaveNetLayerConfig(
        bottleneck=layer.bottleneck,
        kernel_size=layer.taps,
        dilation=layer.dilation,
        activation=_activation_config(layer.activation),
        mode=layer.mode,
        secondary=None if layer.secondary is None else _activation_config(layer.secondary),
        bias=layer.conv_bias is not None,
        groups=layer.groups,
        groups_mixin=layer.groups_mixin,
        layer1x1=one_tap(layer.layer1x1),
        head1x1=one_tap(layer.head1x1),
    )

    def film_config(place: str, film: Film) -> FilmConfig:
        plain = FilmConfig(place, False, film.groups, film.bias is not None)
        scales = config.film_rows(plain, channels, condition_channels)
        return replace(plain, shift=int(film.weight.shape[0]) == 2 * scales)

    return replace(config, films=tuple(film_config(*item) for item in layer.films.items()))


def _activation_config(activation: Activation) -> ActivationConfig:
    found = {
        name: tuple(float(value) for value in values)
        for name, values in (("slopes", activation.slopes), ("limits", activation.limits))
        if values is not None
    }
    return ActivationConfig(activation.kind, **found)  # type: ignore[arg-type]


def named_arrays(net: WaveNet, prefix: str = "") -> dict[str, np.ndarray]:
    """Every array of a node by the name that ``net_node`` asks for it by."""
    return {f"{prefix}{name}": array for name, array in _arrays(net) if array is not None}


_Named = Iterator[tuple[str, np.ndarray | None]]


def _arrays(net: WaveNet) -> _Named:
    if isinstance(net.condition, WaveNet):
        yield from named_arrays(net.condition, "condition.").items()
    for number, array in enumerate(net.arrays):
        name = f"arrays.{number}"
        yield f"{name}.rechannel.weight", array.rechannel
        for index, layer in enumerate(array.layers):
            for key, value in _layer_arrays(layer):
                yield f"{name}.layers.{index}.{key}", value
        yield from _pair(f"{name}.head", array.head_weight, array.head_bias)
    for index, conv in enumerate(net.head):
        yield from _slopes(f"head.{index}.activation", conv.activation)
        yield from _pair(f"head.{index}.conv", conv.weight, conv.bias)


def _layer_arrays(layer: WaveNetLayer) -> _Named:
    yield from _pair("conv", layer.conv_weight, layer.conv_bias)
    yield "mixin.weight", layer.mixin_weight
    yield from _slopes("activation", layer.activation)
    yield from _slopes("secondary", layer.secondary)
    named: Mapping[str, Conv1x1 | Film | None] = {
        "layer1x1": layer.layer1x1,
        "head1x1": layer.head1x1,
        **{f"films.{place}": film for place, film in layer.films.items()},
    }
    for name, conv in named.items():
        if conv is not None:
            yield from _pair(name, conv.weight, conv.bias)


def _pair(name: str, weight: np.ndarray, bias: np.ndarray | None) -> _Named:
    yield f"{name}.weight", weight
    yield f"{name}.bias", bias


def _slopes(name: str, activation: Activation | None) -> _Named:
    if activation is not None and activation.kind == "prelu":
        yield f"{name}.weight", activation.slopes
