"""The neutral model description: typed layers with numpy weights.

Everything that reads or writes a model meets here: training modules become a
graph, file formats are read into one and written from one, and the engine packs
one into a plan. Weights follow PyTorch's order: ``(out, in, taps)``, tap 0 is the
oldest sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fxfast.errors import ModelError

ACTIVATION_KINDS = ("none", "relu", "leaky_relu", "tanh", "sigmoid", "prelu")
_SLOPE_KINDS = ("leaky_relu", "prelu")

MAX_LAYERS = 1024
MAX_CHANNELS = 4096
MAX_PARAMETERS = 1 << 26
MAX_RECEPTIVE_FIELD = 1 << 24
MAX_SAMPLE_RATE = 1_000_000


@dataclass(frozen=True, eq=False)
class Activation:
    """An element-wise function after a layer.

    ``slopes`` is the factor for negative values: one value for ``leaky_relu``, one
    value or one per channel for ``prelu``, and absent for every other kind.
    """

    kind: str = "none"
    slopes: np.ndarray | None = None


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
        slopes = self.activation.slopes if self.activation.kind == "prelu" else None
        return sum(a.size for a in (self.weight, self.bias, slopes) if a is not None)


@dataclass(frozen=True, eq=False)
class ModelGraph:
    """A mono audio model: a stack of causal convolutions, one channel in, one out.

    ``sample_rate`` is in Hz. With ``skip`` the input is added to the output.
    ``metadata`` is free JSON that travels with the model. Construction validates
    and raises ``ModelError``; a graph that exists is valid and is never changed.
    """

    layers: tuple[ConvLayer, ...]
    sample_rate: int
    skip: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        _validate(self)

    @property
    def receptive_field(self) -> int:
        """Samples of input that one output sample depends on, itself included."""
        return 1 + sum(layer.history_samples for layer in self.layers)

    @property
    def latency_samples(self) -> int:
        """Delay of the output against the input: causal layers have none."""
        return 0

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs_per_sample(self) -> int:
        """Multiply-adds of the convolutions for one sample."""
        return sum(layer.weight.size for layer in self.layers)


def _validate(graph: ModelGraph) -> None:
    rate = graph.sample_rate
    if type(rate) is not int or not 1 <= rate <= MAX_SAMPLE_RATE:
        raise ModelError(
            f"sample_rate: expected an integer from 1 to {MAX_SAMPLE_RATE} Hz, got {rate!r}"
        )
    if type(graph.skip) is not bool:
        raise ModelError(f"skip: expected true or false, got {graph.skip!r}")
    if not 1 <= len(graph.layers) <= MAX_LAYERS:
        raise ModelError(f"layers: expected 1 to {MAX_LAYERS}, got {len(graph.layers)}")
    channels = 1
    for index, layer in enumerate(graph.layers):
        _validate_layer(layer, f"layers[{index}]", channels)
        channels = layer.out_channels
    if channels != 1:
        raise ModelError(
            f"layers[{len(graph.layers) - 1}].weight: expected 1 output channel in the last "
            f"layer, got {channels}"
        )
    if graph.parameters > MAX_PARAMETERS:
        raise ModelError(f"parameters: expected at most {MAX_PARAMETERS}, got {graph.parameters}")
    if graph.receptive_field > MAX_RECEPTIVE_FIELD:
        raise ModelError(
            f"receptive field: expected at most {MAX_RECEPTIVE_FIELD} samples, "
            f"got {graph.receptive_field}"
        )


def _validate_layer(layer: ConvLayer, name: str, in_channels: int) -> None:
    _validate_array(layer.weight, f"{name}.weight", 3)
    if layer.in_channels != in_channels:
        raise ModelError(
            f"{name}.weight: expected {in_channels} input channels, got shape {layer.weight.shape}"
        )
    if layer.out_channels > MAX_CHANNELS:
        raise ModelError(
            f"{name}.weight: expected at most {MAX_CHANNELS} output channels, "
            f"got {layer.out_channels}"
        )
    if type(layer.dilation) is not int or not 1 <= layer.dilation <= MAX_RECEPTIVE_FIELD:
        raise ModelError(
            f"{name}.dilation: expected an integer from 1 to {MAX_RECEPTIVE_FIELD}, "
            f"got {layer.dilation!r}"
        )
    if layer.bias is not None:
        _validate_array(layer.bias, f"{name}.bias", 1)
        if layer.bias.shape != (layer.out_channels,):
            raise ModelError(
                f"{name}.bias: expected shape ({layer.out_channels},), got {layer.bias.shape}"
            )
    _validate_activation(layer, f"{name}.activation")


def _validate_activation(layer: ConvLayer, name: str) -> None:
    kind, slopes = layer.activation.kind, layer.activation.slopes
    if kind not in ACTIVATION_KINDS:
        raise ModelError(f"{name}: expected one of {', '.join(ACTIVATION_KINDS)}, got {kind!r}")
    if kind not in _SLOPE_KINDS:
        if slopes is not None:
            raise ModelError(f"{name}.slopes: expected none for {kind}, got some")
        return
    if slopes is None:
        raise ModelError(f"{name}.slopes: expected an array for {kind}, got none")
    _validate_array(slopes, f"{name}.slopes", 1)
    allowed = {1} if kind == "leaky_relu" else {1, layer.out_channels}
    if slopes.size not in allowed:
        expected = " or ".join(str(n) for n in sorted(allowed))
        raise ModelError(f"{name}.slopes: expected {expected} values, got {slopes.size}")


def _validate_array(array: Any, name: str, dimensions: int) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        got = getattr(array, "dtype", type(array).__name__)
        raise ModelError(f"{name}: expected a float32 array, got {got}")
    if array.ndim != dimensions or math.prod(array.shape) == 0:
        raise ModelError(
            f"{name}: expected {dimensions} non-empty dimensions, got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ModelError(f"{name}: expected finite values, got NaN or infinity")
