"""LevelGain: compressors and gates, found from the pair at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from fxfast.data import Piece
from fxfast.errors import ModelError
from fxfast.follow_ops import GateSettings, follow, gate
from fxfast.graph import Compressor, Gate, ModelGraph
from fxfast.models.base import Progress, register
from fxfast.models.conv_stack import as_array
from fxfast.models.fitted import FittedModel, check_audio, require_seconds
from fxfast.models.level_gain_fit import fit_compressor, fit_gate

KINDS = ("compressor", "gate")
_LEAST_SECONDS = 0.5
# Levels of the curve: log2 of the amplitude, -96 to 0 dBFS in steps of 1.5 dB.
_FIRST_LEVEL, _PER_LEVEL, _POINTS = -16.0, 4.0, 65
_QUIETEST = 1.2e-38
# Half a second at 48 kHz: a release of 100 ms has settled.
_STEP_HISTORY = 24_000


@dataclass(frozen=True)
class LevelGainConfig:
    """``kind`` is one of ``KINDS``."""

    kind: str


@register("level-gain")
class LevelGain(FittedModel):
    """The input times a gain that follows its level: presets "compressor" and "gate".

    A compressor averages |x| and smooths it, takes a static curve of the level in log2 (a point
    each 1.5 dB) and smooths the gain; both smoothings have a coefficient for rises and one for
    falls. A gate opens and closes at thresholds with hold and ramps. Equations:
    ``fxfast.graph.Compressor``, ``Gate``.

    Source: D. Giannoulis, M. Massberg, J. Reiss, "Digital dynamic range compressor design - a
    tutorial and analysis", J. Audio Eng. Soc. 60(6), 2012 (detector, gain computer, smoothing);
    U. Zoelzer (ed.), "DAFX", 2nd edition, Wiley 2011, chapter 4.2 (gate with hysteresis and hold).

    ``fit`` finds every number (``level_gain_fit``); gradients exist for all of a compressor and
    for the ramps and the range of a gate, whose thresholds and hold are steps.
    """

    config: LevelGainConfig
    # Rates are shares of the way in a sample, from 0.1 down to 0.0001.
    step_sizes = {"rates": 1e-4, "range_gain": 0.01}  # noqa: RUF012

    presets = {  # noqa: RUF012
        "compressor": LevelGainConfig("compressor"),
        "gate": LevelGainConfig("gate"),
    }
    graph_kinds = (Compressor.kind, Gate.kind)

    def __init__(self, config: LevelGainConfig) -> None:
        super().__init__()
        if config.kind not in KINDS:
            raise ModelError(f"kind: expected one of {', '.join(KINDS)}, got {config.kind!r}")
        self.config = config
        is_gate = config.kind == "gate"
        # Of the detector rise and fall, of the gain rise and fall, of the average before: shares of
        # the way that is left, per sample.
        rates = (1.0, 1.0, 0.02, 0.0005, 1.0) if is_gate else (0.01, 0.001, 1.0, 1.0, 1.0)
        self.rates = nn.Parameter(torch.tensor(rates, dtype=torch.float64))
        levels = torch.arange(_POINTS, dtype=torch.float64) / _PER_LEVEL + _FIRST_LEVEL
        self.curve = nn.Parameter(-0.5 * torch.relu(levels + 4.0))
        self.range_gain = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))
        # Open and close level, hold in samples, exponential ramps.
        self.register_buffer("levels", torch.tensor([0.01, 0.01, 480.0, 0.0], dtype=torch.float64))

    @property
    def receptive_field(self) -> int:
        return 1

    @property
    def step_history(self) -> int:
        return _STEP_HISTORY

    @property
    def on_cpu_alone(self) -> bool:
        return True

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        check_audio(x_bct, 1)
        x_bt = x_bct[:, 0].double()
        start = torch.zeros(len(x_bt), dtype=torch.float64)
        rates = self.rates.clamp(0.0, 1.0)
        average = follow(x_bt.abs(), start, rates[4], rates[4])
        level = follow(average, start, rates[0], rates[1])
        if self.config.kind == "gate":
            g = gate(level, rates[2], rates[3], self._settings())
            gain = self.range_gain + (1.0 - self.range_gain) * g
        else:
            target = self._target(level)
            settled = self.curve[0].expand(len(x_bt))
            gain = torch.exp2(follow(target, settled, rates[2], rates[3]))
        return (x_bt * gain)[:, None].to(x_bct.dtype)

    def _target(self, level_bt: torch.Tensor) -> torch.Tensor:
        """The curve at the level, straight between its points."""
        places = (torch.log2(level_bt.clamp_min(_QUIETEST)) - _FIRST_LEVEL) * _PER_LEVEL
        places = places.clamp(0.0, len(self.curve) - 1.0)
        point = places.detach().floor().clamp_max(len(self.curve) - 2).long()
        low, high = self.curve[point], self.curve[point + 1]
        return low + (places - point) * (high - low)

    def _settings(self) -> GateSettings:
        open_level, close_level, hold, exponential = self.levels.tolist()
        return GateSettings(open_level, close_level, round(hold), exponential > 0)

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        require_seconds(training, sample_rate, _LEAST_SECONDS, f"a {self.config.kind}")
        find = fit_gate if self.config.kind == "gate" else fit_compressor
        self._take(find(training, sample_rate, progress))

    def _take(self, node: Compressor | Gate) -> None:
        rates = [node.detector_rise, node.detector_fall, node.gain_rise, node.gain_fall]
        rates.append(node.detector_average)
        self.rates.data = torch.tensor(rates, dtype=torch.float64)
        if isinstance(node, Compressor):
            self.curve.data = torch.from_numpy(node.curve.astype(np.float64))
            return
        self.range_gain.data.fill_(node.range_gain)
        numbers = [node.open_level, node.close_level, float(node.hold_samples)]
        self.levels = torch.tensor(
            [*numbers, float(node.ramps == "exponential")], dtype=torch.float64
        )

    def as_torch(self) -> nn.Module:
        return self

    def to_graph(self, sample_rate: int) -> ModelGraph:
        a, b, c, d, average = (float(rate) for rate in self.rates.detach().clamp(0.0, 1.0))
        node: Compressor | Gate
        if self.config.kind == "gate":
            opens, closes, hold, exponential = self._settings()
            node = Gate(
                "peak", a, b, c, d, opens, closes, hold,
                float(self.range_gain.detach().clamp(0.0, 1.0)),
                "exponential" if exponential else "linear", detector_average=average,
            )  # fmt: skip
        else:
            places = (_FIRST_LEVEL, _PER_LEVEL)
            node = Compressor(
                "peak", a, b, c, d, *places, as_array(self.curve), detector_average=average
            )
        return ModelGraph(node, sample_rate, metadata={"architecture": self.architecture})

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        node = graph.root
        if not isinstance(node, Compressor | Gate) or node.detector != "peak":
            raise ModelError(f"graph: expected a gain with a peak detector, got {graph.kind}")
        places = (_FIRST_LEVEL, _PER_LEVEL)
        if isinstance(node, Compressor) and (node.first_level, node.points_per_level) != places:
            raise ModelError(
                f"graph: expected a curve from {_FIRST_LEVEL:g} with {_PER_LEVEL:g} points a "
                f"level, got {node.first_level:g} and {node.points_per_level:g}"
            )
        model = cls(LevelGainConfig(node.kind))
        model._take(node)
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> LevelGainConfig:
        try:
            return LevelGainConfig(str(values["kind"]))
        except (KeyError, TypeError) as error:
            raise ModelError(f"config: expected the field kind, got {error}") from error
