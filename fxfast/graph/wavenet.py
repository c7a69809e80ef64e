"""WaveNet as neural amp modellers build it: layer arrays, each with a sum of its layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np

from fxfast.graph.activation import Activation
from fxfast.graph.checks import as_float32
from fxfast.graph.node import Convolution, Node

MODES = ("none", "gated", "blended")
FILM_PLACES = (
    "conv_pre_film",
    "conv_post_film",
    "input_mixin_pre_film",
    "input_mixin_post_film",
    "activation_pre_film",
    "activation_post_film",
    "layer1x1_post_film",
    "head1x1_post_film",
)


class Conv1x1(NamedTuple):
    """A convolution of one tap: ``weight`` is (out, in / groups)."""

    weight: np.ndarray
    bias: np.ndarray | None = None
    groups: int = 1


class Film(NamedTuple):
    """``y = x * scale(c) + shift(c)``, both made from the condition by one 1x1 convolution.

    ``weight`` is (rows, condition / groups). With as many rows as ``x`` has channels
    there is no shift; with twice as many the first half is the scale.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    groups: int = 1


@dataclass(frozen=True, eq=False)
class WaveNetLayer:
    """One layer of an array of C channels with a condition of D channels.

    ``z = conv(h) + mixin(c)`` has ``rows`` channels; ``a`` has ``bottleneck`` channels: all
    of ``rows`` in mode "none", half of them in the others, whose lower half is the gate:
    ``a = activation(top) * secondary(gate)`` in mode "gated" and, in mode "blended",
    ``a = alpha * activation(top) + (1 - alpha) * top`` with ``alpha = secondary(gate)``.
    Then ``head1x1(a)``, or ``a``, is added to the array's sum, and ``layer1x1(a)`` to ``h``;
    without ``layer1x1`` the next layer gets ``h`` as it is.

    ``conv_weight`` is (rows, C / groups, taps), ``mixin_weight`` (rows, D / groups_mixin).
    ``films`` are keyed by ``FILM_PLACES``.
    """

    conv_weight: np.ndarray
    conv_bias: np.ndarray | None
    dilation: int
    groups: int
    mixin_weight: np.ndarray
    groups_mixin: int = 1
    mode: str = "none"
    activation: Activation = field(default_factory=Activation)
    secondary: Activation | None = None
    layer1x1: Conv1x1 | None = None
    head1x1: Conv1x1 | None = None
    films: dict[str, Film] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("layer1x1", "head1x1"):
            value = getattr(self, name)
            if type(value) is tuple and len(value) == 3:
                object.__setattr__(self, name, Conv1x1(*value))

    @property
    def rows(self) -> int:
        return int(self.conv_weight.shape[0])

    @property
    def taps(self) -> int:
        return int(self.conv_weight.shape[2])

    @property
    def bottleneck(self) -> int:
        return self.rows if self.mode == "none" else self.rows // 2

    @property
    def head_channels(self) -> int:
        """Channels that the layer adds to the array's sum."""
        return self.bottleneck if self.head1x1 is None else int(self.head1x1.weight.shape[0])

    @property
    def history_samples(self) -> int:
        """How many samples of ``h`` before the current one the layer reads."""
        return (self.taps - 1) * self.dilation

    @property
    def slopes(self) -> int:
        """Parameters of the activations."""
        return sum(a.parameters for a in (self.activation, self.secondary) if a is not None)

    def convolutions(self) -> Iterator[Convolution]:
        yield Convolution(self.conv_weight, self.conv_bias, self.groups)
        yield Convolution(self.mixin_weight, None, self.groups_mixin)
        for conv in (self.layer1x1, self.head1x1):
            if conv is not None:
                yield Convolution(*conv)
        for film in self.films.values():
            yield Convolution(*film)


@dataclass(frozen=True, eq=False)
class LayerArray:
    """Layers between a 1x1 convolution and the convolution of their sum.

    ``rechannel`` is (C, in) and has no bias. ``head_weight`` is (out, sum channels, taps),
    its taps ``head_dilation`` samples apart.
    """

    rechannel: np.ndarray
    layers: tuple[WaveNetLayer, ...]
    head_weight: np.ndarray
    head_bias: np.ndarray | None = None
    head_dilation: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def channels(self) -> int:
        return int(self.rechannel.shape[0])

    @property
    def out_channels(self) -> int:
        return int(self.head_weight.shape[0])

    @property
    def head_history_samples(self) -> int:
        """How many samples of the sum before the current one its convolution reads."""
        return (int(self.head_weight.shape[2]) - 1) * self.head_dilation

    def convolutions(self) -> Iterator[Convolution]:
        yield Convolution(self.rechannel, None, 1)
        for layer in self.layers:
            yield from layer.convolutions()
        yield Convolution(self.head_weight, self.head_bias, 1)


@dataclass(frozen=True, eq=False)
class HeadConv:
    """After the stack: the activation first, then a convolution (out, in, taps)."""

    activation: Activation
    weight: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class WaveNet(Node):
    """Layer arrays, one behind the other, then a head.

    The first array reads the input, every other the ``h`` of the array before; the
    convolved sum of an array is where the sum of the next one starts, and that of the last
    one times ``head_scale`` goes through ``head``. The condition of every layer is
    ``condition`` of the input, or the input itself. ``head_scale`` is rounded to float32.
    """

    arrays: tuple[LayerArray, ...]
    head: tuple[HeadConv, ...] = ()
    head_scale: float = 1.0
    condition: Node | None = None

    kind: ClassVar[str] = "wavenet"

    def __post_init__(self) -> None:
        object.__setattr__(self, "arrays", tuple(self.arrays))
        object.__setattr__(self, "head", tuple(self.head))
        object.__setattr__(self, "head_scale", as_float32(self.head_scale))

    @property
    def in_channels(self) -> int:
        return int(self.arrays[0].rechannel.shape[1])

    @property
    def out_channels(self) -> int:
        if self.head:
            return int(self.head[-1].weight.shape[0])
        return self.arrays[-1].out_channels

    @property
    def condition_channels(self) -> int:
        return self.in_channels if self.condition is None else self.condition.out_channels

    @property
    def children(self) -> tuple[Node, ...]:
        return () if self.condition is None else (self.condition,)

    @property
    def history_samples(self) -> int:
        """The longest of the paths: through the layers, the sums, and the condition."""
        c = 0 if self.condition is None else self.condition.history_samples
        h = total = 0
        for array in self.arrays:
            for layer in array.layers:
                read = max(h, c) if "conv_pre_film" in layer.films else h
                a = max(read + layer.history_samples, c)
                total = max(total, a)
                if layer.layer1x1 is not None:
                    h = max(h, a)
            total += array.head_history_samples
        return total + sum(int(conv.weight.shape[2]) - 1 for conv in self.head)

    @property
    def layer_count(self) -> int:
        inside = 0 if self.condition is None else self.condition.layer_count
        return inside + sum(len(array.layers) for array in self.arrays) + len(self.head)

    @property
    def other_parameters(self) -> int:
        """``head_scale``, which a .nam file counts as a weight, and slopes."""
        layers = sum(layer.slopes for array in self.arrays for layer in array.layers)
        return 1 + layers + sum(conv.activation.parameters for conv in self.head)

    def convolutions(self) -> Iterator[Convolution]:
        for array in self.arrays:
            yield from array.convolutions()
        for conv in self.head:
            yield Convolution(conv.weight, conv.bias, 1)

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        from fxfast.graph.wavenet_checks import validate_wavenet

        validate_wavenet(self, name, in_channels, depth)
