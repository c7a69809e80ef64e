"""A stack of causal convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fxfast.errors import ModelError, ModelShapeError
from fxfast.graph.activation import Activation, check_activation
from fxfast.graph.checks import (
    MAX_LAYERS,
    MAX_RECEPTIVE_FIELD,
    check_array,
    check_bias,
    check_channels,
    check_integer,
)
from fxfast.graph.node import Convolution, Node, check_depth


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """A causal dilated convolution over time, then an activation.

    ``weight`` has shape ``(out_channels, in_channels, taps)``, ``bias`` has shape
    ``(out_channels,)`` or is absent, ``dilation`` is in samples:
    ``y[o, t] = bias[o] + sum_ik weight[o, i, k] * x[i, t - (taps - 1 - k) * dilation]``.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    dilation: int = 1
    activation: Activation = field(default_factory=Activation)

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[1])

    @property
    def taps(self) -> int:
        return int(self.weight.shape[2])

    @property
    def history_samples(self) -> int:
        """How many samples before the current one the layer reads."""
        return (self.taps - 1) * self.dilation

    @property
    def parameters(self) -> int:
        bias = 0 if self.bias is None else self.bias.size
        return self.weight.size + bias + self.activation.parameters


@dataclass(frozen=True, eq=False)
class ConvStack(Node):
    """Layers one after the other; with ``skip`` the input is added to the output: all of its
    channels, or the first where there is one channel of output."""

    layers: tuple[ConvLayer, ...]
    skip: bool = False

    kind: ClassVar[str] = "conv_stack"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))

    @property
    def in_channels(self) -> int:
        return self.layers[0].in_channels

    @property
    def out_channels(self) -> int:
        return self.layers[-1].out_channels

    @property
    def history_samples(self) -> int:
        return sum(layer.history_samples for layer in self.layers)

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    @property
    def other_parameters(self) -> int:
        return sum(layer.activation.parameters for layer in self.layers)

    def convolutions(self) -> Iterator[Convolution]:
        for layer in self.layers:
            yield Convolution(layer.weight, layer.bias, 1)

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        """``name`` is empty for the root: its layers are the graph's."""
        prefix = f"{name}." if name else ""
        check_depth(depth, name)
        if type(self.skip) is not bool:
            raise ModelError(f"{prefix}skip: expected true or false, got {self.skip!r}")
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise ModelShapeError(
                f"{prefix}layers: expected 1 to {MAX_LAYERS}, got {len(self.layers)}"
            )
        channels = in_channels
        for index, layer in enumerate(self.layers):
            _validate_layer(layer, f"{prefix}layers[{index}]", channels)
            channels = layer.out_channels
        if self.skip and channels not in (1, in_channels):
            raise ModelShapeError(
                f"{prefix}layers[{len(self.layers) - 1}].weight: expected {in_channels} output "
                f"channels for the skip, got {channels}"
            )


def _validate_layer(layer: ConvLayer, name: str, in_channels: int) -> None:
    check_array(layer.weight, f"{name}.weight", 3)
    if layer.in_channels != in_channels:
        raise ModelShapeError(
            f"{name}.weight: expected {in_channels} input channels, got shape {layer.weight.shape}"
        )
    check_channels(layer.out_channels, f"{name}.weight")
    check_integer(layer.dilation, f"{name}.dilation", MAX_RECEPTIVE_FIELD)
    check_bias(layer.bias, f"{name}.bias", layer.out_channels)
    check_activation(layer.activation, f"{name}.activation", layer.out_channels)
