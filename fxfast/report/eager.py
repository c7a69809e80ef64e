"""The same model in plain eager PyTorch: the peer that the engine is measured against."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from fxfast.graph import Activation, ModelGraph


class EagerNet(nn.Module):
    """A graph as torch.nn layers: (B, 1, T) to (B, 1, T - receptive_field + 1)."""

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        self.skip = graph.skip
        layers: list[nn.Module] = []
        for layer in graph.layers:
            conv = nn.Conv1d(
                layer.in_channels,
                layer.out_channels,
                layer.taps,
                dilation=layer.dilation,
                bias=layer.bias is not None,
            )
            with torch.no_grad():
                conv.weight.copy_(torch.from_numpy(layer.weight))
                if conv.bias is not None and layer.bias is not None:
                    conv.bias.copy_(torch.from_numpy(layer.bias))
            layers += [conv, _activation(layer.activation)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        y_bct: torch.Tensor = self.layers(x_bct)
        return y_bct + x_bct[..., -y_bct.shape[-1] :] if self.skip else y_bct


def _activation(activation: Activation) -> nn.Module:
    slopes = activation.slopes
    if activation.kind == "leaky_relu":
        assert slopes is not None
        return nn.LeakyReLU(float(slopes[0]))
    if activation.kind == "prelu":
        assert slopes is not None
        module = nn.PReLU(len(slopes))
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(slopes))
        return module
    kinds: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "relu": nn.ReLU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
    }
    return kinds[activation.kind]()


def render_dense(net: EagerNet, x: torch.Tensor, history: int, chunk: int) -> torch.Tensor:
    """Render (T,) by dense convolutions over chunks; silence stands before the first sample."""
    padded = nn.functional.pad(x, (history, 0))
    with torch.inference_mode():
        pieces = [
            net(padded[start : start + chunk + history][None, None])[0, 0]
            for start in range(0, x.shape[0], chunk)
        ]
    return torch.cat(pieces)
