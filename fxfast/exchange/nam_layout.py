"""Where a ``.nam`` keeps the weights of a WaveNet: one walk, used to read and to write.

A ``WaveNetShape`` says everything of the model but the weights. ``wavenet_tensors`` walks
it in the order of the file's flat list; each tensor's name is its path in the graph, so
that reading fills a table by name and writing looks the same names up in the graph.
Tensors are ``(out, in / groups, taps)`` flattened, tap 0 the oldest, then the bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fxfast.errors import ModelError, ModelShapeError, ModelValueError
from fxfast.exchange.nam_text import WeightText
from fxfast.graph import FILM_PLACES, MAX_PARAMETERS, MAX_WEIGHT, Activation


@dataclass(frozen=True)
class Tensor:
    """One array of the flat list; ``name`` is its path in the graph."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class FilmShape:
    shift: bool = True
    groups: int = 1


@dataclass(frozen=True)
class PointwiseShape:
    """A convolution of one tap, with bias."""

    out_channels: int
    groups: int = 1


@dataclass(frozen=True)
class LayerShape:
    taps: int
    dilation: int
    mode: str
    activation: Activation
    secondary: Activation | None

    def conv_channels(self, bottleneck: int) -> int:
        return bottleneck if self.mode == "none" else 2 * bottleneck


@dataclass(frozen=True)
class ArrayShape:
    """A layer array; what its layers share stands here, for ``.nam`` has it once."""

    input_size: int
    condition_size: int
    channels: int
    bottleneck: int
    groups: int
    groups_mixin: int
    layer1x1: PointwiseShape | None
    head1x1: PointwiseShape | None
    head_channels: int
    head_taps: int
    head_bias: bool
    head_dilation: int = 1
    films: Mapping[str, FilmShape] = field(default_factory=dict)
    layers: tuple[LayerShape, ...] = ()

    @property
    def accumulator_channels(self) -> int:
        """What each layer adds to the head."""
        return self.head1x1.out_channels if self.head1x1 else self.bottleneck

    def film_channels(self, key: str, layer: LayerShape) -> int:
        """How many channels the FiLM of this place scales."""
        middle = layer.conv_channels(self.bottleneck)
        return {
            "conv_pre_film": self.channels,
            "input_mixin_pre_film": self.condition_size,
            "activation_post_film": self.bottleneck,
            "layer1x1_post_film": self.channels,
            "head1x1_post_film": self.accumulator_channels,
        }.get(key, middle)


@dataclass(frozen=True)
class HeadShape:
    """The convolutions after all arrays: ``channels`` between them, activation before each."""

    channels: int
    out_channels: int
    taps: tuple[int, ...]
    activation: Activation


@dataclass(frozen=True)
class WaveNetShape:
    arrays: tuple[ArrayShape, ...]
    head: HeadShape | None = None


def wavenet_tensors(shape: WaveNetShape) -> Iterator[Tensor]:
    """Every array of the flat list, in its order; the last one is the head scale."""
    for index, array in enumerate(shape.arrays):
        name = f"arrays[{index}]"
        yield Tensor(f"{name}.rechannel", (array.channels, array.input_size))
        for number, layer in enumerate(array.layers):
            yield from _layer_tensors(array, layer, f"{name}.layers[{number}]")
        head_shape = (array.head_channels, array.accumulator_channels, array.head_taps)
        yield Tensor(f"{name}.head_weight", head_shape)
        if array.head_bias:
            yield Tensor(f"{name}.head_bias", (array.head_channels,))
    channels = shape.arrays[-1].head_channels
    for index, taps in enumerate(shape.head.taps if shape.head else ()):
        assert shape.head is not None
        last = index == len(shape.head.taps) - 1
        out_channels = shape.head.out_channels if last else shape.head.channels
        yield Tensor(f"head[{index}].weight", (out_channels, channels, taps))
        yield Tensor(f"head[{index}].bias", (out_channels,))
        channels = out_channels
    yield Tensor("head_scale", ())


def _layer_tensors(array: ArrayShape, layer: LayerShape, name: str) -> Iterator[Tensor]:
    middle = layer.conv_channels(array.bottleneck)
    yield Tensor(f"{name}.conv_weight", (middle, array.channels // array.groups, layer.taps))
    yield Tensor(f"{name}.conv_bias", (middle,))
    yield Tensor(f"{name}.mixin_weight", (middle, array.condition_size // array.groups_mixin))
    for key, pointwise in (("layer1x1", array.layer1x1), ("head1x1", array.head1x1)):
        if pointwise:
            out = pointwise.out_channels
            yield Tensor(f"{name}.{key}.weight", (out, array.bottleneck // pointwise.groups))
            yield Tensor(f"{name}.{key}.bias", (out,))
    for key in FILM_PLACES:
        if key in array.films:
            film = array.films[key]
            out = (2 if film.shift else 1) * array.film_channels(key, layer)
            yield Tensor(f"{name}.films.{key}.weight", (out, array.condition_size // film.groups))
            yield Tensor(f"{name}.films.{key}.bias", (out,))


def take_tensors(
    tensors: Iterable[Tensor],
    weights: Any,
    name: str,
    read: Callable[[WeightText, str], np.ndarray],
) -> dict[str, np.ndarray]:
    """Cut the flat list ``weights`` into float32 arrays by name; ``read`` reads it from the file.

    The count is compared before a number is read; the error names the expected and the
    actual count and the first tensor that does not fit.
    """
    tensors = list(tensors)
    if isinstance(weights, WeightText):
        _check_count(tensors, weights.count, name)
        flat = read(weights, name)
    else:
        _check_count(tensors, len(weights), name)
        flat = _float32_values(weights, name)
    found, start = {}, 0
    for tensor in tensors:
        part = flat[start : start + tensor.size]
        _check_magnitude(part, tensor, name, start)
        found[tensor.name] = part.reshape(tensor.shape).copy()
        start += tensor.size
    return found


def _check_magnitude(part: np.ndarray, tensor: Tensor, name: str, start: int) -> None:
    if part.min() >= -MAX_WEIGHT and part.max() <= MAX_WEIGHT:
        return
    index = int(np.argmax(~(np.abs(part) <= MAX_WEIGHT)))
    place = np.unravel_index(index, tensor.shape)
    raise ModelValueError(
        f"{name}[{start + index}]: expected a magnitude of at most {MAX_WEIGHT:g} in "
        f"{tensor.name}{[int(i) for i in place]}, got {part[index]:g}"
    )


def _check_count(tensors: list[Tensor], count: int, name: str) -> None:
    expected = sum(tensor.size for tensor in tensors)
    if expected > MAX_PARAMETERS:
        raise ModelShapeError(f"{name}: expected at most {MAX_PARAMETERS} values, got {expected}")
    if expected == count:
        return
    start, reason = 0, f"{count - expected} are left after {tensors[-1].name}"
    for tensor in tensors:
        if start + tensor.size > count:
            reason = f"{tensor.name} {tensor.shape} needs {tensor.size}, {count - start} are left"
            break
        start += tensor.size
    raise ModelShapeError(f"{name}: expected {expected} values, got {count}; {reason}")


def _float32_values(weights: list[Any], name: str) -> np.ndarray:
    for index, value in enumerate(weights):
        if type(value) not in (int, float):
            kind = type(value).__name__
            raise ModelError(f"{name}[{index}]: expected a number, got {kind}")
    # An integer may have more digits than a float can hold.
    limit = 2 * MAX_WEIGHT
    return np.array([min(max(value, -limit), limit) for value in weights], np.float32)
