"""WaveNet as neural amp modellers build it, ready to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn

from fxfast.errors import ModelError
from fxfast.graph import Knob, ModelGraph, Node, Residual, WaveNet
from fxfast.models.base import AudioModel, register
from fxfast.models.conv_stack import WithSkip, as_array, power_of_two
from fxfast.models.inputs import check_input, with_gain
from fxfast.models.wavenet_config import WaveNetConfig, config_of, wavenet_presets
from fxfast.models.wavenet_graph import named_arrays, net_config, net_node, skeleton
from fxfast.models.wavenet_layers import NativeConv1d, Net

# How loud wet is where head_scale of the presets is usual: there the output gain is 1.
_USUAL_OUTPUT_RMS = 0.25


@register("wavenet")
class WaveNetModel(AudioModel):
    """Arrays of dilated layers: (B, 1 + knobs, T) in, (B, 1, T - receptive_field + 1) out.

    Presets: "a1-standard", "a1-lite", "a1-feather" and "a1-nano", two arrays of layers of
    three taps with tanh; "a2-full" and "a2-lite", one array with longer kernels and leaky
    relu. All of them fit .nam files.

    The net works between an input gain and an output gain, 1 until ``calibrate``. They are
    powers of two, so that a graph, where they are part of the weights, is the same function
    without a rounding.
    """

    config: WaveNetConfig
    input_gain: torch.Tensor
    output_gain: torch.Tensor

    presets = wavenet_presets()
    graph_kinds = (WaveNet.kind,)

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self._receptive_field = skeleton(config).receptive_field
        self.config = config
        self.net = Net(config, 1 + len(config.knobs), NativeConv1d)
        self.register_buffer("input_gain", torch.ones(()))
        self.register_buffer("output_gain", torch.ones(()))
        self._levels_are_set = False

    @property
    def receptive_field(self) -> int:
        return self._receptive_field

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        check_input(x_bct, self.receptive_field, self.knobs)
        scaled_bct = with_gain(x_bct, self.input_gain)
        y_bct: torch.Tensor = self.net(scaled_bct) * self.output_gain
        return y_bct + x_bct[:, :1, self.receptive_field - 1 :] if self.config.skip else y_bct

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return self.config.knobs

    def calibrate(self, input_rms: float, output_rms: float) -> None:
        """Brings the input of the net near unit level and scales its output as wet is scaled.

        Only the first call counts, and none after ``from_graph``: later the weights fit the
        gains. ``head_scale`` stays in force: an untrained net starts quieter than wet, which
        trains better than one that starts as loud.
        """
        if self._levels_are_set:
            return
        self._levels_are_set = True
        self.input_gain.fill_(1.0 / power_of_two(input_rms))
        self.output_gain.fill_(power_of_two(output_rms / _USUAL_OUTPUT_RMS))

    @property
    def output_layer(self) -> nn.Module:
        net = self.net
        last = net.head[-1].conv if len(net.head) else net.arrays[-1].head
        return cast(nn.Module, last)

    def as_torch(self) -> nn.Module:
        """The same function through ``torch.nn`` convolutions alone, with a copy of the weights."""
        graph = self.to_graph(sample_rate=1)
        with torch.random.fork_rng(devices=[]):
            net = Net(net_config(_net_of(graph)), 1 + len(self.knobs), nn.Conv1d)
        _load(net, graph)
        return WithSkip(net, self.receptive_field) if self.config.skip else net

    def to_graph(self, sample_rate: int) -> ModelGraph:
        state = {name: as_array(value) for name, value in self.net.state_dict().items()}
        _scale_input(state, self.config, np.float32(self.input_gain.item()))
        config = _scale_output(state, self.config, float(self.output_gain))
        channels = 1 + len(self.knobs)
        net = net_node(config, lambda name, shape: state[name].reshape(shape), channels)
        root = Residual(net) if config.skip else net
        metadata = {"architecture": self.architecture}
        return ModelGraph(root, sample_rate, metadata=metadata, knobs=self.knobs)

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        skip = isinstance(graph.root, Residual)
        config = replace(net_config(_net_of(graph)), knobs=graph.knobs, skip=skip)
        with torch.random.fork_rng(devices=[]):
            model = cls(config)
        model._levels_are_set = True
        _load(model.net, graph)
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> WaveNetConfig:
        try:
            config = config_of(values)
            skeleton(config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"config: expected the fields of WaveNetConfig, got {error}"
            ) from error
        return config


def _net_of(graph: ModelGraph) -> Node:
    return graph.root.child if isinstance(graph.root, Residual) else graph.root


def _load(net: Net, graph: ModelGraph) -> None:
    arrays = named_arrays(_net_of(graph))  # type: ignore[arg-type]
    state = net.state_dict()
    net.load_state_dict(
        {name: torch.tensor(array).reshape(state[name].shape) for name, array in arrays.items()}
    )


def _scale_input(
    state: dict[str, np.ndarray], config: WaveNetConfig, gain: np.float32, prefix: str = ""
) -> None:
    """Multiply the audio, the first channel of the input, by ``gain``, a power of two, in the
    weights that read it."""
    state[f"{prefix}arrays.0.rechannel.weight"][:, :1] *= gain
    if config.condition is not None:
        _scale_input(state, config.condition, gain, f"{prefix}condition.")
        return
    for number, array in enumerate(config.arrays):
        for index, layer in enumerate(array.layers):
            name = f"{prefix}arrays.{number}.layers.{index}"
            places = [film.place for film in layer.films]
            for place in places:
                state[f"{name}.films.{place}.weight"][:, :1] *= gain
            if "input_mixin_pre_film" not in places:
                state[f"{name}.mixin.weight"][:, :1] *= gain
                continue
            # What this FiLM scales is the condition itself, and what it adds is not.
            film = f"{name}.films.input_mixin_pre_film"
            for key in ("weight", "bias"):
                if f"{film}.{key}" in state:
                    state[f"{film}.{key}"][:1] *= gain  # the input has one channel


def _scale_output(
    state: dict[str, np.ndarray], config: WaveNetConfig, gain: float
) -> WaveNetConfig:
    """Multiply the output by ``gain``, a power of two."""
    if not config.head:
        return replace(config, head_scale=config.head_scale * gain)
    for key in ("weight", "bias"):
        name = f"head.{len(config.head) - 1}.conv.{key}"
        if name in state:
            state[name] *= np.float32(gain)
    return config
