"""Random WaveNets with every option, and the presets that people share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from fxfast.graph import (
    ALL_ACTIVATION_KINDS,
    Activation,
    Conv1x1,
    ConvLayer,
    ConvStack,
    Film,
    HeadConv,
    LayerArray,
    Node,
    WaveNet,
    WaveNetLayer,
)


@dataclass
class Noise:
    """Weights of unit gain from one seed."""

    seed: int
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def weight(self, *shape: int) -> np.ndarray:
        scale = 1 / np.sqrt(np.prod(shape[1:]))
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def bias(self, channels: int) -> np.ndarray:
        return (0.2 * self.rng.standard_normal(channels)).astype(np.float32)

    def conv1x1(self, out: int, channels: int, groups: int = 1) -> Conv1x1:
        return Conv1x1(self.weight(out, channels // groups), self.bias(out), groups)

    def film(self, size: int, condition: int, shift: bool, groups: int = 1) -> Film:
        rows = 2 * size if shift else size
        bias = self.bias(rows) + np.repeat([1, 0], size)[:rows].astype(np.float32)
        return Film(self.weight(rows, condition // groups), bias, groups)

    def activation(self, kind: str, channels: int) -> Activation:
        if kind in ("leaky_relu", "prelu"):
            count = 1 if kind == "leaky_relu" else channels
            return Activation(kind, self.rng.uniform(0, 0.5, count).astype(np.float32))
        if kind == "leaky_hardtanh":
            return Activation(kind, None, np.array([-0.8, 0.9, 0.03, 0.05], np.float32))
        return Activation(kind)


@dataclass
class Options:
    """One layer array; what is a list is one entry for each layer, repeated."""

    channels: int = 3
    bottleneck: int | None = None
    taps: Sequence[int] = (3, 2)
    dilations: Sequence[int] = (1, 4)
    modes: Sequence[str] = ("none",)
    kinds: Sequence[str] = ("tanh",)
    secondary_kinds: Sequence[str] = ("sigmoid",)
    groups: int = 1
    groups_mixin: int = 1
    groups_1x1: int = 1
    layer1x1: bool = True
    head1x1: int | None = None
    films: Sequence[str] = ()
    shift: bool = True
    film_groups: int = 1
    head_taps: int = 1
    head_bias: bool = True
    head_out: int = 1
    head_dilation: int = 1


def random_array(noise: Noise, options: Options, in_channels: int, condition: int) -> LayerArray:
    layers = [random_layer(noise, options, index, condition) for index in range(len(options.taps))]
    bottleneck = options.bottleneck or options.channels
    return LayerArray(
        noise.weight(options.channels, in_channels),
        tuple(layers),
        noise.weight(options.head_out, options.head1x1 or bottleneck, options.head_taps),
        noise.bias(options.head_out) if options.head_bias else None,
        options.head_dilation,
    )


def random_layer(noise: Noise, options: Options, index: int, condition: int) -> WaveNetLayer:
    def of_layer(values: Sequence[Any]) -> Any:
        return values[index % len(values)]

    channels, bottleneck = options.channels, options.bottleneck or options.channels
    mode = of_layer(options.modes)
    rows = bottleneck if mode == "none" else 2 * bottleneck
    sizes = {
        "conv_pre_film": channels,
        "conv_post_film": rows,
        "input_mixin_pre_film": condition,
        "input_mixin_post_film": rows,
        "activation_pre_film": rows,
        "activation_post_film": bottleneck,
        **({"layer1x1_post_film": channels} if options.layer1x1 else {}),
        **({"head1x1_post_film": options.head1x1} if options.head1x1 else {}),
    }
    films = {
        place: noise.film(size, condition, options.shift, options.film_groups)
        for place, size in sizes.items()
        if place in options.films
    }
    secondary = None
    if mode != "none":
        secondary = noise.activation(of_layer(options.secondary_kinds), bottleneck)
    groups = options.groups_1x1
    return WaveNetLayer(
        noise.weight(rows, channels // options.groups, of_layer(options.taps)),
        noise.bias(rows),
        int(of_layer(options.dilations)),
        options.groups,
        noise.weight(rows, condition // options.groups_mixin),
        options.groups_mixin,
        mode,
        noise.activation(of_layer(options.kinds), bottleneck),
        secondary,
        noise.conv1x1(channels, bottleneck, groups) if options.layer1x1 else None,
        noise.conv1x1(options.head1x1, bottleneck, groups) if options.head1x1 else None,
        films,
    )


def random_wavenet(
    seed: int,
    arrays: Sequence[Options],
    *,
    head: Sequence[tuple[str, int, int]] = (),
    head_scale: float = 0.3,
    condition: Node | None = None,
    in_channels: int = 1,
) -> WaveNet:
    """``head`` is the post-stack head as (activation, out channels, taps)."""
    noise = Noise(seed)
    condition_channels = in_channels if condition is None else condition.out_channels
    built, channels = [], in_channels
    for options in arrays:
        built.append(random_array(noise, options, channels, condition_channels))
        channels = options.channels
    convs, channels = [], arrays[-1].head_out
    for kind, out, taps in head:
        weight, bias = noise.weight(out, channels, taps), noise.bias(out)
        convs.append(HeadConv(noise.activation(kind, channels), weight, bias))
        channels = out
    return WaveNet(tuple(built), tuple(convs), head_scale, condition)


def random_stack(seed: int, channels: Sequence[int], kind: str = "tanh") -> ConvStack:
    """Two taps, dilation 3, in and out channels as listed."""
    noise = Noise(seed)
    layers = [
        ConvLayer(noise.weight(out, into, 2), noise.bias(out), 3, noise.activation(kind, out))
        for into, out in pairwise(channels)
    ]
    return ConvStack(tuple(layers))


def a1(channels: tuple[int, int], dilations: Sequence[Sequence[int]], seed: int = 1) -> WaveNet:
    """Two arrays of Tanh layers with three taps; head scale 0.02."""
    first, second = channels
    return random_wavenet(
        seed,
        [
            Options(first, None, [3] * len(dilations[0]), dilations[0], head_bias=False,
                    head_out=second),
            Options(second, None, [3] * len(dilations[1]), dilations[1]),
        ],
        head_scale=0.02,
    )  # fmt: skip


def a2(channels: int, seed: int = 1) -> WaveNet:
    """One array of 23 LeakyReLU layers and a head of 16 taps; head scale 0.01."""
    period = [1, 3, 7, 17, 41, 101, 239]
    taps = [6] * 14 + [15, 15] + [6] * 7
    options = Options(
        channels, None, taps, [*period, *period, 1, 13, *period], kinds=("leaky_relu",),
        head_taps=16,
    )  # fmt: skip
    return random_wavenet(seed, [options], head_scale=0.01)


_OCTAVES = [1 << n for n in range(10)]
_LITE = [_OCTAVES[:7], [128, 256, 512, *_OCTAVES]]
PRESETS = {
    "standard": lambda: a1((16, 8), [_OCTAVES, _OCTAVES]),
    "lite": lambda: a1((12, 6), _LITE),
    "feather": lambda: a1((8, 4), _LITE),
    "nano": lambda: a1((4, 2), _LITE),
    "a2-lite": lambda: a2(3),
    "a2-full": lambda: a2(8),
}
WEIGHT_KINDS = [kind for kind in ALL_ACTIVATION_KINDS if kind != "none"]
