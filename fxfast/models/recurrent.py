"""Recurrent models: LSTM or GRU, a dense head behind, convolutions in front if wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, Self, cast

import numpy as np
import torch
from torch import nn

from fxfast.errors import ModelError
from fxfast.graph import (
    Activation,
    ConvLayer,
    ConvStack,
    Knob,
    ModelGraph,
    Node,
    Recurrent,
    RecurrentLayer,
    Residual,
    Sequential,
)
from fxfast.models.base import AudioModel, register
from fxfast.models.conv_stack import WithSkip, as_array, power_of_two
from fxfast.models.inputs import check_input, with_gain, with_knobs
from fxfast.models.recurrent_config import (
    WARM_UP_KEY,
    RecurrentConfig,
    config_of,
    config_of_graph,
    parts_of,
    presets,
    validate,
)
from fxfast.models.wavenet_layers import NativeConv1d

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU}
_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class _Net(nn.Module):
    """Front, cells and head, without gains and skip; starts from ``initial`` (2, layers, units)."""

    initial: torch.Tensor

    def __init__(self, config: RecurrentConfig, conv: type[nn.Conv1d]) -> None:
        super().__init__()
        self.warm_up_samples = config.warm_up_samples
        self.front = nn.ModuleList()
        self.front_activations = nn.ModuleList()
        channels = 1 + len(config.knobs)
        for layer in config.front:
            self.front.append(
                conv(channels, layer.channels, layer.kernel_size, dilation=layer.dilation)
            )
            self.front_activations.append(_ACTIVATIONS[layer.activation]())
            channels = layer.channels
        self.cells = _CELLS[config.cell](channels, config.units, config.layers, batch_first=True)
        sizes = (config.units, *config.head_sizes, 1)
        self.head = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(sizes))
        self.head_activation = _ACTIVATIONS[config.head_activation]()
        self.register_buffer("initial", torch.zeros(2, config.layers, config.units))

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        y_bct, _ = self.run(x_bct, self.initial_cells(x_bct.shape[0]), self.warm_up_samples)
        return y_bct

    def initial_cells(self, lanes: int) -> torch.Tensor:
        """(lanes, 2, layers, units)."""
        return self.initial.expand(lanes, *self.initial.shape)

    def run(
        self, x_bct: torch.Tensor, cells_b2lu: torch.Tensor, dropped: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The output without its first ``dropped`` samples, and the cells afterwards."""
        for convolution, activation in zip(self.front, self.front_activations, strict=True):
            x_bct = activation(convolution(x_bct))
        state_2lbu = cells_b2lu.permute(1, 2, 0, 3).contiguous()
        of_lstm = isinstance(self.cells, nn.LSTM)
        state = (state_2lbu[0], state_2lbu[1]) if of_lstm else state_2lbu[0]
        h_btc, after = self.cells(x_bct.transpose(1, 2), state)
        after_2lbu = torch.stack(after if of_lstm else (after, state_2lbu[1]))
        h_btc = h_btc[:, dropped:]
        for index, layer in enumerate(self.head):
            h_btc = layer(self.head_activation(h_btc) if index else h_btc)
        return h_btc.transpose(1, 2), after_2lbu.permute(2, 0, 1, 3)


@register("recurrent")
class RecurrentModel(AudioModel):
    """Recurrent layers: (B, 1 + knobs, T) in, (B, 1, T - receptive_field + 1) out.

    Presets: "lstm-16", "lstm-40" and "lstm-96" are one layer of so many units, "lstm-2x8" is
    two of 8, "gru-16" one of GRUs: one dense layer makes the output. "lstm-6x800" has six
    layers and a head of 800, 400, 200 and 1. "conv-lstm-24" has two convolutions in front and
    a skip.

    A recurrent net depends on all samples before. ``forward`` does not have them: the net starts
    from its initial state at the first sample, and what comes out in the ``warm_up_samples`` is
    dropped. Training goes through long stretches in chunks, keeps the state from one to the next
    (``forward_from``) and warms up only where a stretch begins.

    Knobs are inputs of the first layer beside the audio (A. Wright, E.-P. Damskägg, L. Juvela,
    V. Välimäki, Real-time guitar amplifier emulation with deep learning, Applied Sciences 10(3),
    766, 2020; with an LSTM L. Juvela and others, End-to-end amp modeling, ICASSP 2023).

    The net works between an input gain and an output gain, 1 until ``calibrate``. They are
    powers of two, so that a graph, where they are part of the weights, is the same function
    without a rounding.
    """

    config: RecurrentConfig
    input_gain: torch.Tensor
    output_gain: torch.Tensor

    presets = presets()
    graph_kinds = (Sequential.kind, Residual.kind, Recurrent.kind)

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        validate(config)
        self.config = config
        self.net = _Net(config, NativeConv1d)
        self.register_buffer("input_gain", torch.ones(()))
        self.register_buffer("output_gain", torch.ones(()))
        self._levels_are_set = False

    @property
    def receptive_field(self) -> int:
        """The warm-up and the history of the convolutions, and the sample itself."""
        return 1 + self.config.warm_up_samples + self.config.history_samples

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        check_input(x_bct, self.receptive_field, self.knobs)
        scaled_bct = with_gain(x_bct, self.input_gain)
        y_bct: torch.Tensor = self.net(scaled_bct) * self.output_gain
        return y_bct + x_bct[:, :1, self.receptive_field - 1 :] if self.config.skip else y_bct

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return self.config.knobs

    @property
    def carries_state(self) -> bool:
        return True

    def initial_state(
        self, lanes: int, knobs_bk: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """The last input samples that the convolutions still need, (lanes, 1 + knobs, history),
        silence with the knobs where they stand; and the cells (lanes, 2, layers, units)."""
        history = self.net.initial.new_zeros(lanes, 1, self.config.history_samples)
        if self.knobs:
            assert knobs_bk is not None  # the caller knows where they stand
            history = with_knobs(history, knobs_bk)
        return history, self.net.initial_cells(lanes)

    def forward_from(
        self, x_bct: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        history, cells = state
        with_history = torch.cat([history, x_bct], dim=2)
        y_bct, cells = self.net.run(with_gain(with_history, self.input_gain), cells, 0)
        y_bct = y_bct * self.output_gain
        history = with_history[:, :, x_bct.shape[2] :]
        return y_bct + x_bct[:, :1] if self.config.skip else y_bct, (history, cells)

    def calibrate(self, input_rms: float, output_rms: float) -> None:
        """Brings the input of the net near unit level and its output near that of wet.

        Only the first call counts, and none after ``from_graph``: later the weights fit the
        gains.
        """
        if self._levels_are_set:
            return
        self._levels_are_set = True
        self.input_gain.fill_(1.0 / power_of_two(input_rms))
        self.output_gain.fill_(power_of_two(output_rms))

    @property
    def output_layer(self) -> nn.Module:
        return self.net.head[-1]

    def as_torch(self) -> nn.Module:
        """The same function from ``torch.nn`` modules alone, with a copy of the weights."""
        with torch.random.fork_rng(devices=[]):
            net = _Net(self.config, nn.Conv1d)
        _load(net, self.to_graph(sample_rate=1))
        return WithSkip(net, self.receptive_field) if self.config.skip else net

    def to_graph(self, sample_rate: int) -> ModelGraph:
        net, before, after = self.net, float(self.input_gain), float(self.output_gain)
        front: list[ConvLayer] = []
        for layer, convolution in zip(
            self.config.front, cast(Iterable[nn.Conv1d], net.front), strict=True
        ):
            weight = as_array(convolution.weight)
            if not front:
                weight[:, :1] *= np.float32(before)
            activation = Activation(layer.activation)
            front.append(ConvLayer(weight, _bias(convolution), layer.dilation, activation))
        cells = _graph_cells(net, self.config, 1.0 if front else before)
        node: Node = Sequential(
            (*([ConvStack(tuple(front))] if front else []), cells, _graph_head(self, after))
        )
        return ModelGraph(
            Residual(node) if self.config.skip else node,
            sample_rate,
            metadata={
                "architecture": self.architecture,
                WARM_UP_KEY: self.config.warm_up_samples,
            },
            knobs=self.knobs,
        )

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        """The graph does not say the warm-up: its metadata may."""
        config = config_of_graph(graph)
        with torch.random.fork_rng(devices=[]):
            model = cls(config)
        model._levels_are_set = True
        _load(model.net, graph)
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> RecurrentConfig:
        try:
            return config_of(values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                f"config: expected the fields of RecurrentConfig, got {error}"
            ) from error


def _graph_cells(net: _Net, config: RecurrentConfig, gain: float) -> Recurrent:
    layers = []
    for index in range(config.layers):
        tensors = (getattr(net.cells, f"{name}_l{index}") for name in _WEIGHTS)
        weight_ih, *others = map(as_array, (*tensors, net.initial[:, index]))
        if index == 0:
            weight_ih[:, :1] *= np.float32(gain)  # 1 where it is in the front
        layers.append(RecurrentLayer(config.cell, weight_ih, *others))
    return Recurrent(tuple(layers))


def _graph_head(model: RecurrentModel, gain: float) -> ConvStack:
    layers, last = [], len(model.net.head) - 1
    for index, dense in enumerate(cast(Iterable[nn.Linear], model.net.head)):
        factor = gain if index == last else 1.0
        activation = Activation("none" if index == last else model.config.head_activation)
        weight = as_array(dense.weight[:, :, None] * factor)
        layers.append(ConvLayer(weight, _bias(dense, factor), activation=activation))
    return ConvStack(tuple(layers))


def _load(net: _Net, graph: ModelGraph) -> None:
    parts = parts_of(graph)
    modules = (*net.front, *net.head)
    with torch.no_grad():
        for layer, module in zip((*parts.front, *parts.head), modules, strict=True):
            own = cast(nn.Linear, module)
            own.weight.copy_(torch.tensor(layer.weight).reshape(own.weight.shape))
            own.bias.copy_(torch.tensor(layer.bias))
        for index, cell in enumerate(parts.cells.layers):
            for name in _WEIGHTS:
                getattr(net.cells, f"{name}_l{index}").copy_(torch.tensor(getattr(cell, name)))
            net.initial[:, index] = torch.tensor(cell.initial)


def _bias(module: nn.Conv1d | nn.Linear, factor: float = 1.0) -> np.ndarray:
    return as_array(cast(torch.Tensor, module.bias) * factor)
