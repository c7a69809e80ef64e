"""The delay line that echoes and choruses have in common, in torch."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from fxfast.errors import ModelError
from fxfast.graph import CYCLE, POINTS, Delay, DelayVoice, ModelGraph
from fxfast.graph.delay import MOST_LOOP_GAIN
from fxfast.models.conv_stack import as_array
from fxfast.models.fitted import FittedModel, check_audio

# What the loop still adds after the last round that is computed.
_NEGLIGIBLE = 1e-9
# Of silence behind the audio, in which the answer of the sections dies away.
_TAIL_SAMPLES = 1 << 15
_LEAST_SECTION = 1e-6
# Two seconds at 48 kHz: what echoes leave after it is little of a step.
_STEP_HISTORY = 96_000


@dataclass(frozen=True)
class DelayConfig:
    """``voices`` is how many a model has before a fit, and the most that a fit looks for."""

    voices: int


class DelayModel(FittedModel):
    """The node ``fxfast.graph.Delay`` as a module: (B, 1, T) in, (B, 1, T) out.

    Time 0 of every row is the start of a stream on silence, where the phases are at their start;
    with ``starts_b`` row b begins at that sample of the stream, and hears silence before it.
    ``mix`` is dry, wet, wet_filtered, feedback; ``tables`` are those of the voices one after the
    other, of ``sizes`` entries. ``turn`` is added to the steps, in cycles a sample: so the rates
    have a gradient too, though the steps are whole numbers.

    The loop is solved round by round, u <- x + feedback * sections(voices(u)): after n rounds it
    is exact for n times the shortest delay, and everywhere as near as the loop's gain to the n.
    The sections are applied by their frequency response.
    """

    config: DelayConfig
    # Whether steps may open a loop that is closed: every round of it costs a step as much again.
    opens_loop: ClassVar[bool] = True
    # A turn is in cycles a sample.
    step_sizes = {"mix": 0.1, "gains": 0.1, "sections": 0.1, "turn": 1e-9}  # noqa: RUF012
    mix: nn.Parameter
    gains: nn.Parameter
    turn: nn.Parameter
    tables: nn.Parameter
    base: torch.Tensor
    step: torch.Tensor
    start: torch.Tensor
    sizes: torch.Tensor
    points: torch.Tensor

    def __init__(self, config: DelayConfig) -> None:
        super().__init__()
        if type(config.voices) is not int or not 1 <= config.voices <= 16:
            raise ModelError(f"voices: expected an integer from 1 to 16, got {config.voices!r}")
        self.config = config
        for name in ("mix", "gains", "turn", "tables"):
            self.register_parameter(name, nn.Parameter(torch.zeros(1)))
        self.sections = nn.Parameter(torch.zeros(0, 5))
        for name in ("base", "step", "start", "sizes", "points"):
            self.register_buffer(name, torch.zeros(1, dtype=torch.int64))
        self.set_node(self.first_node())

    @abstractmethod
    def first_node(self) -> Delay:
        """What the model is before a fit."""

    def set_node(self, node: Delay) -> None:
        """Makes the parameters those of a node."""
        voices = node.voices
        self.mix.data = torch.tensor([node.dry, node.wet, node.wet_filtered, node.feedback])
        self.gains.data = torch.tensor([voice.gain for voice in voices])
        self.turn.data = torch.zeros(len(voices))
        self.tables.data = torch.from_numpy(np.concatenate([v.table for v in voices]))
        rows = np.zeros((0, 5), np.float32) if node.sections is None else node.sections
        self.sections.data = torch.from_numpy(rows.copy())
        self.base = torch.tensor([voice.base_samples for voice in voices])
        self.step = torch.tensor([voice.step for voice in voices])
        self.start = torch.tensor([voice.start for voice in voices])
        self.sizes = torch.tensor([voice.table.size for voice in voices])
        self.points = torch.tensor(POINTS[node.interpolation])

    def node(self) -> Delay:
        """The node with the present parameters."""
        dry, wet, wet_filtered, feedback = map(float, as_array(self.mix))
        turns = np.rint(self.turn.detach().double().numpy() * CYCLE).astype(np.int64)
        gains, tables = as_array(self.gains), self._split(as_array(self._late_enough()))
        voices = []
        for index, table in enumerate(tables):
            # A table has no entry below 0: what steps have moved there goes to the base.
            early = min(0, math.floor(float(table.min())))
            step = int(self.step[index] + int(turns[index])) % CYCLE
            base, start = int(self.base[index]) + early, int(self.start[index])
            voices.append(DelayVoice(float(gains[index]), base, table - early, step, start))
        sections = None
        if len(self.sections):
            sections = as_array(_positive(self.sections))
        interpolation = next(name for name, n in POINTS.items() if n == int(self.points))
        node = Delay(tuple(voices), dry, wet, wet_filtered, feedback, sections, interpolation)
        return replace(node, feedback=node.feedback * _kept(node))

    def _late_enough(self) -> torch.Tensor:
        """The tables, where they would come before what can be read at what can be."""
        least = (1 if int(self.points) == 4 else 0) + (1 if float(self.mix[3].detach()) else 0)
        return torch.maximum(
            self.tables, (least - self.base).repeat_interleave(self.sizes).to(self.tables.dtype)
        )

    def _split(self, tables: Any) -> list[Any]:
        ends = np.cumsum(self.sizes.numpy())
        return [tables[end - size : end] for end, size in zip(ends, self.sizes, strict=True)]

    @property
    def receptive_field(self) -> int:
        """1: what is older comes from the start of the audio."""
        return 1

    @property
    def step_history(self) -> int:
        return _STEP_HISTORY

    @property
    def on_cpu_alone(self) -> bool:
        return True

    def forward(self, x_bct: torch.Tensor, starts_b: torch.Tensor | None = None) -> torch.Tensor:
        check_audio(x_bct, 1)
        samples, node = x_bct.shape[2], self.node()
        time = torch.arange(samples)
        if starts_b is not None and node.is_modulated:
            time = starts_b[:, None] + time
        readings = [self._reading(voice, time) for voice in range(len(self.gains))]
        dry, wet, wet_filtered, feedback = self.mix
        if not self.opens_loop and node.feedback == 0.0:
            feedback = feedback.detach()
        feedback = feedback * _kept(replace(node, feedback=float(feedback.detach())))
        u_bct = x_bct
        for _ in range(self._rounds(node, samples)):
            u_bct = x_bct + feedback * self._filtered(self._heard(u_bct, readings))
        d_bct = self._heard(u_bct, readings)
        y_bct: torch.Tensor = dry * x_bct + wet * d_bct + wet_filtered * self._filtered(d_bct)
        return y_bct

    def _rounds(self, node: Delay, samples: int) -> int:
        gain = node.loop_gain()
        if gain == 0.0:
            # Without feedback one round has its gradient.
            learns = self.opens_loop and self.mix.requires_grad and torch.is_grad_enabled()
            return 1 if learns else 0
        shortest = max(1, min(voice.shortest_samples for voice in node.voices))
        enough = math.log(_NEGLIGIBLE) / math.log(gain) if gain < 1.0 else math.inf
        return math.ceil(min(samples / shortest, enough))

    def _reading(self, voice: int, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole samples of delay, and what is left over, with its gradient, at times of the stream:
        (T), or (B, T) where rows begin at times of their own."""
        table = self._split(self._late_enough())[voice]
        # The product wraps at 2^64, of which a cycle is a divisor.
        phase = (self.start[voice] + self.step[voice] * time) & (CYCLE - 1)
        turned = phase.double() / CYCLE + self.turn[voice].double() * time.double()
        place = torch.remainder(turned, 1.0) * len(table)
        entry = place.detach().long() % len(table)
        share = (place - place.detach().floor()).to(table.dtype)
        low, high = (
            table.index_select(0, each.reshape(-1)).view(each.shape)
            for each in (entry, (entry + 1) % len(table))
        )
        offset = low + share * (high - low)
        whole = offset.detach().floor()
        return whole.long() + self.base[voice], offset - whole

    def _heard(
        self, u_bct: torch.Tensor, readings: list[tuple[torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        time = torch.arange(u_bct.shape[2])
        d_bct = torch.zeros_like(u_bct)
        for gain, (whole, left) in zip(self.gains, readings, strict=True):
            f = left if left.ndim == 1 else left[:, None]

            def at(k: int, place: torch.Tensor = time - whole) -> torch.Tensor:
                # Not by indexing, whose gradient is summed in the order of the threads.
                index = (place - k).view(-1, 1, u_bct.shape[2]).expand_as(u_bct)
                return u_bct.gather(2, index.clamp_min(0)) * (index >= 0)

            if int(self.points) == 2:
                d_bct = d_bct + gain * (at(0) + f * (at(1) - at(0)))
                continue
            less, least, more = f - 1, f - 2, f + 1
            d_bct = d_bct + gain * (
                -f * less * least / 6 * at(-1) + more * less * least / 2 * at(0)
                - more * f * least / 2 * at(1) + more * f * less / 6 * at(2)
            )  # fmt: skip
        return d_bct

    def _filtered(self, d_bct: torch.Tensor) -> torch.Tensor:
        if not len(self.sections):
            return d_bct
        size = 1 << (d_bct.shape[2] + _TAIL_SAMPLES - 1).bit_length()
        angles = math.pi * torch.arange(size // 2 + 1, dtype=torch.float64) / (size // 2)
        response = section_response(_positive(self.sections), angles)
        product = torch.fft.rfft(d_bct.double(), size) * response
        f_bct: torch.Tensor = torch.fft.irfft(product, size)[..., : d_bct.shape[2]]
        return f_bct.to(d_bct.dtype)

    def as_torch(self) -> nn.Module:
        """A copy: the module is of torch alone."""
        return copy.deepcopy(self)

    def to_graph(self, sample_rate: int) -> ModelGraph:
        return ModelGraph(self.node(), sample_rate, metadata={"architecture": self.architecture})

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        if not isinstance(graph.root, Delay):
            raise ModelError(f"graph: expected a delay, got {graph.kind}")
        with torch.random.fork_rng(devices=[]):
            model = cls(DelayConfig(len(graph.root.voices)))
        model.set_node(graph.root)
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> DelayConfig:
        try:
            return DelayConfig(values["voices"])
        except (KeyError, TypeError) as error:
            raise ModelError(f"config: expected the fields of DelayConfig, got {error}") from error


def _kept(node: Delay) -> float:
    """How much of the feedback a loop keeps that a step of training has made too loud."""
    gain = node.loop_gain()
    return 1.0 if gain <= MOST_LOOP_GAIN else 0.999 * MOST_LOOP_GAIN / gain


def section_response(sections: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """As ``fxfast.graph.delay.sections_response``, in double, with gradients."""
    response = torch.ones(len(angles), dtype=torch.complex128)
    # At half the rate the tangent has no end; what follows from so large a number is the limit.
    tangent = torch.tan((angles / 2).clamp_max(math.pi / 2 - 1e-9))
    for g, k, m0, m1, m2 in sections.double():
        s = torch.complex(torch.zeros_like(tangent), tangent / g)
        response = response * (m0 + (m1 * s + m2) / (s * s + k * s + 1))
    return response


def _positive(sections: torch.Tensor) -> torch.Tensor:
    """With g and k above 0, which a step of training may have left."""
    return torch.cat([sections[:, :2].clamp_min(_LEAST_SECTION), sections[:, 2:]], dim=1)


def fixed_voice(gain: float, samples: float) -> DelayVoice:
    """A voice that is always ``samples`` late."""
    whole = math.floor(samples)
    return DelayVoice(gain, whole, np.array([samples - whole], np.float32))
