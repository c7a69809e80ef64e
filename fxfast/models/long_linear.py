"""LongLinear: one impulse response of up to ten seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from fxfast.data import Piece
from fxfast.errors import ModelError
from fxfast.graph import Linear, ModelGraph
from fxfast.models.base import Progress, register
from fxfast.models.conv_stack import as_array
from fxfast.models.fitted import FittedModel, check_audio, require_seconds
from fxfast.models.long_linear_fit import least_squares

# The rate for which a model that is not fitted yet has its length.
_NOMINAL_RATE = 48_000
_LEAST_SECONDS = 0.05


# A direct convolution of torch with more taps takes longer than its FFTs.
_MOST_CONV1D_TAPS = 2048


@dataclass(frozen=True)
class LongLinearConfig:
    """``seconds`` is the longest response that a fit may find."""

    seconds: float


@register("long-linear")
class LongLinear(FittedModel):
    """y[t] = bias + sum_n taps[n] * x[t - n]: reverbs, cabinets, equalisers, echoes.

    Presets: "linear-10s", "linear-2s" and "linear-200ms" find responses of up to so long.

    ``fit`` solves for the whole response at once (``long_linear_fit``), some seconds of work for
    a minute of audio; no gradient step follows, for least squares has no better answer. A tail that
    validation does not miss is left out. In the engine the response
    runs by partitioned FFTs without latency (``csrc/engine/filter.h``).

    Before a fit the taps are noise that decays by 60 dB, of ``seconds`` at 48 kHz.
    """

    config: LongLinearConfig
    is_linear = True
    # Adam moves every tap by as much: of so many, noise as loud as the response.
    step_sizes = {"taps": 1e-4, "bias": 0.01}  # noqa: RUF012

    presets = {  # noqa: RUF012
        "linear-10s": LongLinearConfig(10.0),
        "linear-2s": LongLinearConfig(2.0),
        "linear-200ms": LongLinearConfig(0.2),
    }
    graph_kinds = (Linear.kind,)

    def __init__(self, config: LongLinearConfig) -> None:
        super().__init__()
        if not (math.isfinite(config.seconds) and config.seconds > 0):
            raise ModelError(f"seconds: expected a number above 0, got {config.seconds!r}")
        self.config = config
        taps = max(1, round(config.seconds * _NOMINAL_RATE))
        decay = torch.exp(-math.log(1000.0) * torch.arange(taps) / taps)
        noise = torch.randn(taps) * decay
        self.taps = nn.Parameter(noise / noise.square().sum().sqrt())
        self.bias = nn.Parameter(torch.zeros(()))

    @property
    def receptive_field(self) -> int:
        return self.taps.numel()

    @property
    def step_history(self) -> int:
        return max(1, round(self.config.seconds * _NOMINAL_RATE)) - 1

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        field = self.receptive_field
        check_audio(x_bct, field)
        return _filtered(x_bct, self.taps) + self.bias

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        require_seconds(training, sample_rate, _LEAST_SECONDS, "an impulse response")
        longest = max(len(piece.wet) for piece in training)
        # More unknowns than half of the equations would be guesses.
        most = min(round(self.config.seconds * sample_rate), longest // 2)
        found = least_squares(training, validation, max(1, most), progress)
        self.taps.data = torch.from_numpy(found.taps.astype(np.float32))
        self.bias.data.zero_()

    def as_torch(self) -> nn.Module:
        """A convolution; of a long response, by torch's FFTs, as anybody would write it."""
        if self.receptive_field > _MOST_CONV1D_TAPS:
            return _FftFilter(self.taps.detach().clone(), float(self.bias.detach()))
        convolution = nn.Conv1d(1, 1, self.receptive_field)
        with torch.no_grad():
            convolution.weight.copy_(self.taps.flip(0)[None, None])
            assert convolution.bias is not None
            convolution.bias.fill_(float(self.bias.detach()))
        return convolution

    def to_graph(self, sample_rate: int) -> ModelGraph:
        node = Linear(as_array(self.taps), float(self.bias.detach()))
        return ModelGraph(node, sample_rate, metadata={"architecture": self.architecture})

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        if not isinstance(graph.root, Linear):
            raise ModelError(f"graph: expected a linear filter, got {graph.kind}")
        taps = graph.root.taps
        with torch.random.fork_rng(devices=[]):
            model = cls(LongLinearConfig(taps.size / graph.sample_rate))
        model.taps.data = torch.from_numpy(taps.copy())
        model.bias.data.fill_(graph.root.bias)
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> LongLinearConfig:
        try:
            return LongLinearConfig(float(values["seconds"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"config: expected the fields of LongLinearConfig, got {error}"
            ) from error


class _FftFilter(nn.Module):
    def __init__(self, taps: torch.Tensor, bias: float) -> None:
        super().__init__()
        self.taps, self.bias = nn.Parameter(taps), nn.Parameter(torch.tensor(bias))

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        return _filtered(x_bct, self.taps) + self.bias


def _filtered(x_bct: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """(B, 1, T) to (B, 1, T - taps + 1)."""
    samples, field = x_bct.shape[2], taps.numel()
    size = 1 << (samples + field - 2).bit_length()
    product = torch.fft.rfft(x_bct, size) * torch.fft.rfft(taps, size)
    y_bct: torch.Tensor = torch.fft.irfft(product, size)[..., field - 1 : samples]
    return y_bct
