"""ConvStack: causal dilated convolutions over time, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn

from fxfast.errors import ModelError
from fxfast.graph import (
    ACTIVATION_KINDS,
    Activation,
    ConvLayer,
    Knob,
    ModelGraph,
    check_knobs,
)
from fxfast.models.base import AudioModel, register
from fxfast.models.inputs import check_input, with_gain
from fxfast.ops import conv1d


@dataclass(frozen=True)
class ConvLayerConfig:
    """One layer: a causal convolution (groups 1) and an activation.

    ``kernel_size`` is in taps, ``dilation`` in samples. ``activation`` is one of
    ``fxfast.graph.ACTIVATION_KINDS``. ``slopes`` are the factors for negative values:
    the fixed factor of ``leaky_relu`` (one value), the initial ones of ``prelu`` (one
    value, or one per channel), without meaning for the others.
    """

    channels: int
    kernel_size: int
    dilation: int = 1
    activation: str = "none"
    bias: bool = True
    slopes: tuple[float, ...] = (0.01,)


@dataclass(frozen=True)
class ConvStackConfig:
    """The layers, the last with 1 channel; ``skip`` adds the input to the output. ``knobs`` are
    channels of the input after the audio."""

    layers: tuple[ConvLayerConfig, ...]
    skip: bool = False
    knobs: tuple[Knob, ...] = ()


def _validate(config: ConvStackConfig) -> None:
    if not config.layers or config.layers[-1].channels != 1:
        got = config.layers[-1].channels if config.layers else "no layer"
        raise ModelError(f"layers: expected a last layer of 1 channel, got {got}")
    for index, layer in enumerate(config.layers):
        if min(layer.channels, layer.kernel_size, layer.dilation) < 1:
            raise ModelError(
                f"layers[{index}]: expected channels, kernel_size and dilation of at least 1, "
                f"got {layer.channels}, {layer.kernel_size}, {layer.dilation}"
            )
        if layer.activation not in ACTIVATION_KINDS:
            raise ModelError(
                f"layers[{index}].activation: expected one of {', '.join(ACTIVATION_KINDS)}, "
                f"got {layer.activation!r}"
            )
        allowed = {"leaky_relu": {1}, "prelu": {1, layer.channels}}.get(layer.activation)
        if allowed and len(layer.slopes) not in allowed:
            raise ModelError(
                f"layers[{index}].slopes: expected {' or '.join(map(str, sorted(allowed)))} "
                f"values for {layer.activation}, got {len(layer.slopes)}"
            )
    check_knobs(config.knobs)


def _presets() -> dict[str, ConvStackConfig]:
    relu, tanh = "relu", "tanh"
    tcn = [ConvLayerConfig(16, 8, dilation, tanh) for dilation in (1, 8, 64)]
    return {
        "conv-64-32": ConvStackConfig(
            (
                ConvLayerConfig(64, 33, 1, relu),
                ConvLayerConfig(32, 17, 1, relu),
                ConvLayerConfig(1, 16),
            )
        ),
        "dense-64": ConvStackConfig(
            (
                ConvLayerConfig(64, 64, 1, relu),
                ConvLayerConfig(64, 1, 1, relu),
                ConvLayerConfig(1, 1),
            )
        ),
        "tcn-16": ConvStackConfig((*tcn, ConvLayerConfig(1, 1)), skip=True),
    }


@register("conv-stack")
class ConvStack(AudioModel):
    """A stack of valid convolutions: (B, 1 + knobs, T) in, (B, 1, T - receptive_field + 1) out.

    Presets: ``conv-64-32`` reads a window of 64 samples (kernels 33, 17, 16),
    ``dense-64`` is the fully connected net over such a window (kernel 64, then 1x1),
    ``tcn-16`` has dilations 1, 8 and 64 with tanh over 512 samples and a skip.

    Knobs are inputs of the first layer beside the audio: they move where its activations work, and
    the layers after it make gains of that. The skip adds the audio alone.

    The layers work between an input gain and an output gain, 1 until ``calibrate``. They
    are powers of two, so that a graph, where they are part of the weights, is the same
    function without a rounding.
    """

    config: ConvStackConfig
    input_gain: torch.Tensor
    output_gain: torch.Tensor

    presets = _presets()
    graph_kinds = ("conv_stack",)

    def __init__(self, config: ConvStackConfig) -> None:
        super().__init__()
        _validate(config)
        self.config = config
        in_channels = 1 + len(config.knobs)
        self.convolutions = nn.ModuleList()
        self.activations = nn.ModuleList()
        for layer in config.layers:
            self.convolutions.append(
                nn.Conv1d(
                    in_channels,
                    layer.channels,
                    layer.kernel_size,
                    dilation=layer.dilation,
                    bias=layer.bias,
                )
            )
            self.activations.append(_activation_module(layer))
            in_channels = layer.channels
        self.register_buffer("input_gain", torch.ones(()))
        self.register_buffer("output_gain", torch.ones(()))
        self._levels_are_set = False

    @property
    def receptive_field(self) -> int:
        return 1 + sum((layer.kernel_size - 1) * layer.dilation for layer in self.config.layers)

    def _stages(self) -> Iterator[tuple[ConvLayerConfig, nn.Conv1d, nn.Module]]:
        for layer, convolution, activation in zip(
            self.config.layers, self.convolutions, self.activations, strict=True
        ):
            yield layer, cast(nn.Conv1d, convolution), activation

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        check_input(x_bct, self.receptive_field, self.knobs)
        h_bct = with_gain(x_bct, self.input_gain)
        for layer, convolution, activation in self._stages():
            h_bct = conv1d(h_bct, convolution.weight, convolution.bias, dilation=layer.dilation)
            h_bct = activation(h_bct)
        y_bct = h_bct * self.output_gain
        return y_bct + x_bct[:, :1, self.receptive_field - 1 :] if self.config.skip else y_bct

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return self.config.knobs

    def calibrate(self, input_rms: float, output_rms: float) -> None:
        """Brings the input of the layers near unit level and their output near that of wet.

        Only the first call counts, and none after ``from_graph``: later the weights fit the
        gains. A last tanh or sigmoid keeps an output gain of 1, which no weight could hold.
        """
        if self._levels_are_set:
            return
        self._levels_are_set = True
        self.input_gain.fill_(1.0 / power_of_two(input_rms))
        if self.config.layers[-1].activation not in ("tanh", "sigmoid"):
            self.output_gain.fill_(power_of_two(output_rms))

    @property
    def output_layer(self) -> nn.Module:
        return self.convolutions[-1]

    def as_torch(self) -> nn.Module:
        """The same function from ``torch.nn`` modules alone, with a copy of the weights.

        What a user would write by hand: the twin in tests, the peer in benchmarks.
        """
        plain = type(self).from_graph(self.to_graph(sample_rate=1))
        modules: list[nn.Module] = []
        for _, convolution, activation in plain._stages():
            modules.append(convolution)
            if not isinstance(activation, nn.Identity):
                modules.append(activation)
        net = nn.Sequential(*modules)
        return WithSkip(net, self.receptive_field) if self.config.skip else net

    def to_graph(self, sample_rate: int) -> ModelGraph:
        layers, last = [], len(self.config.layers) - 1
        for index, (layer, convolution, activation) in enumerate(self._stages()):
            # relu and its relatives commute with a positive gain, so the gain before
            # the last activation is the output gain.
            after = float(self.output_gain) if index == last else 1.0
            weight = as_array(convolution.weight * after)
            if index == 0:
                weight[:, :1] *= np.float32(self.input_gain.item())
            layers.append(
                ConvLayer(
                    weight=weight,
                    bias=None if convolution.bias is None else as_array(convolution.bias * after),
                    dilation=layer.dilation,
                    activation=_graph_activation(layer, activation),
                )
            )
        return ModelGraph(
            tuple(layers),
            sample_rate,
            skip=self.config.skip,
            metadata={"architecture": self.architecture},
            knobs=self.knobs,
        )

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        layers = tuple(_layer_config(layer) for layer in graph.layers)
        with torch.random.fork_rng(devices=[]):
            model = cls(ConvStackConfig(layers, graph.skip, graph.knobs))
        model._levels_are_set = True
        with torch.no_grad():
            for layer, (_, convolution, activation) in zip(
                graph.layers, model._stages(), strict=True
            ):
                convolution.weight.copy_(torch.tensor(layer.weight))
                if layer.bias is not None and convolution.bias is not None:
                    convolution.bias.copy_(torch.tensor(layer.bias))
                if isinstance(activation, nn.PReLU):
                    activation.weight.copy_(torch.tensor(layer.activation.slopes))
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> ConvStackConfig:
        try:
            layers = tuple(
                ConvLayerConfig(**{**layer, "slopes": tuple(layer["slopes"])})
                for layer in values["layers"]
            )
            knobs = tuple(Knob(**knob) for knob in values.get("knobs", ()))
            config = ConvStackConfig(layers, bool(values["skip"]), knobs)
            _validate(config)
        except (KeyError, TypeError) as error:
            raise ModelError(
                f"config: expected the fields of ConvStackConfig, got {error}"
            ) from error
        return config


class WithSkip(nn.Module):
    """``net`` and its input, which loses what the net loses at the front."""

    def __init__(self, net: nn.Module, receptive_field: int) -> None:
        super().__init__()
        self.net = net
        self.receptive_field = receptive_field

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        y_bct: torch.Tensor = self.net(x_bct) + x_bct[:, :1, self.receptive_field - 1 :]
        return y_bct


def _activation_module(layer: ConvLayerConfig) -> nn.Module:
    kind = layer.activation
    plain: dict[str, type[nn.Module]] = {
        "none": nn.Identity,
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
    }
    if kind == "prelu":
        module = nn.PReLU(len(layer.slopes))
        with torch.no_grad():
            module.weight.copy_(torch.tensor(layer.slopes))
        return module
    if kind == "leaky_relu":
        return nn.LeakyReLU(layer.slopes[0])
    return plain[kind]()


def _graph_activation(layer: ConvLayerConfig, module: nn.Module) -> Activation:
    if isinstance(module, nn.PReLU):
        return Activation("prelu", as_array(module.weight))
    if isinstance(module, nn.LeakyReLU):
        return Activation("leaky_relu", np.array([module.negative_slope], np.float32))
    return Activation(layer.activation)


def _layer_config(layer: ConvLayer) -> ConvLayerConfig:
    slopes = layer.activation.slopes
    return ConvLayerConfig(
        channels=layer.out_channels,
        kernel_size=layer.taps,
        dilation=layer.dilation,
        activation=layer.activation.kind,
        bias=layer.bias is not None,
        slopes=(0.01,) if slopes is None else tuple(float(s) for s in slopes),
    )


def power_of_two(rms: float) -> float:
    """The nearest one; 1 for silence and what is no level."""
    return 2.0 ** round(math.log2(rms)) if 1e-6 < rms < 1e6 else 1.0


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """A float32 copy."""
    array: np.ndarray = tensor.detach().to("cpu", torch.float32).numpy().copy()
    return array
