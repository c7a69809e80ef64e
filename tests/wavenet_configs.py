"""Random configs of WaveNets that use every option."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fxfast.graph import ALL_ACTIVATION_KINDS, FILM_PLACES, MODES
from fxfast.models.wavenet_config import (
    ActivationConfig,
    Conv1x1Config,
    FilmConfig,
    HeadConvConfig,
    LayerArrayConfig,
    WaveNetConfig,
    WaveNetLayerConfig,
)


def random_activation(rng: np.random.Generator, channels: int, kind: str = "") -> ActivationConfig:
    kind = kind or str(rng.choice(ALL_ACTIVATION_KINDS))
    count = int(rng.choice([1, channels])) if kind == "prelu" else 1
    slopes = tuple(float(np.float32(s)) for s in rng.uniform(-0.5, 0.5, count))
    return ActivationConfig(kind, slopes, (-0.5, 0.75, 0.125, 0.25))


def random_layer(
    rng: np.random.Generator, channels: int, condition: int, total: int
) -> WaveNetLayerConfig:
    def flag() -> bool:
        return bool(rng.integers(2))

    def groups(*sizes: int) -> int:
        return int(rng.choice([g for g in (1, 2, 4) if all(size % g == 0 for size in sizes)]))

    mode = str(rng.choice(MODES))
    has_head1x1 = flag()
    bottleneck = int(rng.choice([2, 4, 6])) if has_head1x1 else total
    rows = bottleneck if mode == "none" else 2 * bottleneck
    layer = WaveNetLayerConfig(
        bottleneck=bottleneck,
        kernel_size=int(rng.integers(1, 5)),
        dilation=int(rng.integers(1, 8)),
        activation=random_activation(rng, bottleneck),
        mode=mode,
        secondary=None if mode == "none" else random_activation(rng, bottleneck),
        bias=flag(),
        groups=groups(channels, rows),
        groups_mixin=groups(condition, rows),
        layer1x1=Conv1x1Config(channels, groups(channels, bottleneck), flag())
        if rng.integers(4)
        else None,
        head1x1=Conv1x1Config(total, groups(total, bottleneck), flag()) if has_head1x1 else None,
    )
    lacking = {name for name in ("layer1x1", "head1x1") if getattr(layer, name) is None}
    films = tuple(
        FilmConfig(place, flag(), groups(condition, channels, total, bottleneck), flag())
        for place in FILM_PLACES
        if place.split("_")[0] not in lacking and not rng.integers(3)
    )
    return replace(layer, films=films)


def random_config(
    rng: np.random.Generator, out_channels: int = 1, nested: bool = True
) -> WaveNetConfig:
    condition = None
    if nested and rng.integers(2):
        condition = random_config(rng, int(rng.choice([1, 2])), nested=False)
    condition_channels = 1 if condition is None else condition.out_channels
    has_head = bool(rng.integers(2))
    count = int(rng.integers(1, 4))
    arrays, total = [], int(rng.choice([2, 4]))
    for index in range(count):
        channels = int(rng.choice([2, 4, 8]))
        layers = tuple(
            random_layer(rng, channels, condition_channels, total)
            for _ in range(int(rng.integers(1, 4)))
        )
        last = index == count - 1 and not has_head
        total_after = out_channels if last else int(rng.choice([2, 4]))
        taps = int(rng.integers(1, 4))
        arrays.append(
            LayerArrayConfig(channels, layers, total_after, taps, bool(rng.integers(2)), taps + 1)
        )
        total = total_after
    head = (
        (
            HeadConvConfig(3, 2, random_activation(rng, total), bool(rng.integers(2))),
            HeadConvConfig(out_channels, 4, random_activation(rng, 3), bool(rng.integers(2))),
        )
        if has_head
        else ()
    )
    return WaveNetConfig(tuple(arrays), head, float(np.float32(rng.uniform(0.2, 2))), condition)
