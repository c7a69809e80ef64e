"""The parts of a WaveNet as torch modules, on valid convolutions.

Signals differ in length, for every convolution eats its history: what meets is aligned at
the end and cut to the shorter one.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from fxfast.models.wavenet_config import (
    ActivationConfig,
    Conv1x1Config,
    HeadConvConfig,
    LayerArrayConfig,
    WaveNetConfig,
    WaveNetLayerConfig,
)
from fxfast.ops import conv1d


class NativeConv1d(nn.Conv1d):
    """Through the engine's kernels where they are the faster ones, else torch's own."""

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        if self.groups == 1 and self.kernel_size[0] > 1:
            return conv1d(x_bct, self.weight, self.bias, dilation=self.dilation[0])
        return super().forward(x_bct)


class FastTanh(nn.Module):
    """The rational function of NAM Core's ``activations.h``.

    Beyond 1e6 its powers would overflow, and it has long been constant.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clamp(-1e6, 1e6)
        size, square = x.abs(), x * x
        top = 2.45550750702956 + 2.45550750702956 * size
        top = top + (0.893229853513558 + 0.821226666969744 * size) * square
        bottom = (2.44506634652299 + square) * (x + 0.814642734961073 * x * size).abs()
        return x * top / (2.44506634652299 + bottom)


class LeakyHardtanh(nn.Module):
    """The identity between two values, and a slope below and above."""

    def __init__(self, low: float, high: float, low_slope: float, high_slope: float) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.low_slope, self.high_slope = low_slope, high_slope

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        below = (x - self.low) * self.low_slope + self.low
        above = (x - self.high) * self.high_slope + self.high
        return torch.where(x < self.low, below, torch.where(x > self.high, above, x))


_PLAIN: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "hardtanh": nn.Hardtanh,
    "fasttanh": FastTanh,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "softsign": nn.Softsign,
}


def activation_module(config: ActivationConfig) -> nn.Module:
    """The function of a config that has been checked."""
    if config.kind == "prelu":
        module = nn.PReLU(len(config.slopes))
        with torch.no_grad():
            module.weight.copy_(torch.tensor(config.slopes))
        return module
    if config.kind == "leaky_relu":
        return nn.LeakyReLU(config.slopes[0])
    if config.kind == "leaky_hardtanh":
        return LeakyHardtanh(*config.limits)
    return _PLAIN[config.kind]()


def _last(x_bct: torch.Tensor, samples: int) -> torch.Tensor:
    return x_bct[:, :, x_bct.shape[2] - samples :]


def _aligned(a_bct: torch.Tensor, b_bct: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    samples = min(a_bct.shape[2], b_bct.shape[2])
    return _last(a_bct, samples), _last(b_bct, samples)


def _sum(a_bct: torch.Tensor, b_bct: torch.Tensor) -> torch.Tensor:
    a_bct, b_bct = _aligned(a_bct, b_bct)
    return a_bct + b_bct


def _one_tap(
    conv: type[nn.Conv1d], config: Conv1x1Config | None, in_channels: int
) -> nn.Conv1d | None:
    if config is None:
        return None
    return conv(in_channels, config.channels, 1, groups=config.groups, bias=config.bias)


class Layer(nn.Module):
    """One layer: ``forward`` gives what the next layer reads and what the sum gets."""

    def __init__(
        self,
        config: WaveNetLayerConfig,
        channels: int,
        condition_channels: int,
        conv: type[nn.Conv1d],
    ) -> None:
        super().__init__()
        rows = config.rows
        self.mode = config.mode
        self.conv = conv(
            channels,
            rows,
            config.kernel_size,
            dilation=config.dilation,
            groups=config.groups,
            bias=config.bias,
        )
        self.mixin = conv(condition_channels, rows, 1, groups=config.groups_mixin, bias=False)
        self.activation = activation_module(config.activation)
        self.secondary = None if config.secondary is None else activation_module(config.secondary)
        self.layer1x1 = _one_tap(conv, config.layer1x1, config.bottleneck)
        self.head1x1 = _one_tap(conv, config.head1x1, config.bottleneck)
        self.films = nn.ModuleDict()
        for film in config.films:
            made = config.film_rows(film, channels, condition_channels)
            self.films[film.place] = conv(
                condition_channels, made, 1, groups=film.groups, bias=film.bias
            )

    def _film(self, place: str, x_bct: torch.Tensor, c_bct: torch.Tensor) -> torch.Tensor:
        if place not in self.films:
            return x_bct
        x_bct, c_bct = _aligned(x_bct, c_bct)
        made_bct: torch.Tensor = self.films[place](c_bct)
        channels = x_bct.shape[1]
        y_bct = x_bct * made_bct[:, :channels]
        return y_bct + made_bct[:, channels:] if made_bct.shape[1] > channels else y_bct

    def forward(
        self, h_bct: torch.Tensor, c_bct: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        z_bct = self.conv(self._film("conv_pre_film", h_bct, c_bct))
        z_bct, c_bct = _aligned(z_bct, c_bct)
        z_bct = self._film("conv_post_film", z_bct, c_bct)
        mixin_bct = self.mixin(self._film("input_mixin_pre_film", c_bct, c_bct))
        z_bct = z_bct + self._film("input_mixin_post_film", mixin_bct, c_bct)
        a_bct = self._gate(self._film("activation_pre_film", z_bct, c_bct))
        a_bct = self._film("activation_post_film", a_bct, c_bct)
        if self.layer1x1 is not None:
            step_bct = self._film("layer1x1_post_film", self.layer1x1(a_bct), c_bct)
            h_bct = _sum(h_bct, step_bct)
        return h_bct, a_bct

    def _gate(self, z_bct: torch.Tensor) -> torch.Tensor:
        if self.secondary is None:
            a_bct: torch.Tensor = self.activation(z_bct)
            return a_bct
        top_bct, gate_bct = z_bct.chunk(2, 1)
        active_bct: torch.Tensor = self.activation(top_bct)
        share_bct: torch.Tensor = self.secondary(gate_bct)
        if self.mode == "gated":
            return active_bct * share_bct
        return share_bct * active_bct + (1 - share_bct) * top_bct

    def to_sum(self, a_bct: torch.Tensor, c_bct: torch.Tensor) -> torch.Tensor:
        """What the layer adds to the sum of the array, from what ``forward`` gave."""
        if self.head1x1 is None:
            return a_bct
        return self._film("head1x1_post_film", self.head1x1(a_bct), c_bct)


class Array(nn.Module):
    """Layers of one size; ``forward`` gives their last ``h`` and their convolved sum."""

    def __init__(
        self,
        config: LayerArrayConfig,
        in_channels: int,
        condition_channels: int,
        conv: type[nn.Conv1d],
    ) -> None:
        super().__init__()
        self.rechannel = conv(in_channels, config.channels, 1, bias=False)
        self.layers = nn.ModuleList(
            Layer(layer, config.channels, condition_channels, conv) for layer in config.layers
        )
        self.head = conv(
            config.layers[-1].head_channels,
            config.head_channels,
            config.head_kernel_size,
            dilation=config.head_dilation,
            bias=config.head_bias,
        )

    def forward(
        self, y_bct: torch.Tensor, c_bct: torch.Tensor, total_bct: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        h_bct = self.rechannel(y_bct)
        given = []
        for module in self.layers:
            layer = cast(Layer, module)
            h_bct, a_bct = layer(h_bct, c_bct)
            given.append((layer, a_bct))
        # The sum is as long as its shortest part: none computes what is cut off later.
        samples = min(a_bct.shape[2] for _, a_bct in given)
        if total_bct is not None:
            samples = min(samples, total_bct.shape[2])
            total_bct = _last(total_bct, samples)
        for layer, a_bct in given:
            part_bct = layer.to_sum(_last(a_bct, samples), _last(c_bct, samples))
            total_bct = part_bct if total_bct is None else total_bct + part_bct
        return h_bct, self.head(total_bct)


class HeadConv(nn.Module):
    """The activation first, then a convolution."""

    def __init__(self, config: HeadConvConfig, in_channels: int, conv: type[nn.Conv1d]) -> None:
        super().__init__()
        self.activation = activation_module(config.activation)
        self.conv = conv(in_channels, config.channels, config.kernel_size, bias=config.bias)

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        y_bct: torch.Tensor = self.conv(self.activation(x_bct))
        return y_bct


class Net(nn.Module):
    """A whole WaveNet of a config that has been checked; ``conv`` makes its convolutions."""

    def __init__(self, config: WaveNetConfig, in_channels: int, conv: type[nn.Conv1d]) -> None:
        super().__init__()
        self.head_scale = config.head_scale
        self.condition: Net | None = None
        condition_channels = in_channels
        if config.condition is not None:
            self.condition = Net(config.condition, in_channels, conv)
            condition_channels = config.condition.out_channels
        self.arrays = nn.ModuleList()
        channels = in_channels
        for array in config.arrays:
            self.arrays.append(Array(array, channels, condition_channels, conv))
            channels = array.channels
        self.head = nn.ModuleList()
        channels = config.arrays[-1].head_channels
        for head in config.head:
            self.head.append(HeadConv(head, channels, conv))
            channels = head.channels

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        c_bct = x_bct if self.condition is None else self.condition(x_bct)
        y_bct, total_bct = x_bct, None
        for array in self.arrays:
            y_bct, total_bct = array(y_bct, c_bct, total_bct)
        assert total_bct is not None  # a WaveNet has an array
        out_bct: torch.Tensor = total_bct * self.head_scale
        for conv in self.head:
            out_bct = conv(out_bct)
        return out_bct
