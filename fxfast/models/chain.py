"""Chain: models one after the other, trained end to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import torch
from torch import nn

from fxfast.data import Piece
from fxfast.errors import ModelError
from fxfast.graph import ModelGraph, Node, Sequential
from fxfast.models.base import AudioModel, Progress, class_of, presets, register
from fxfast.models.chain_fit import fit_chain
from fxfast.models.fitted import FittedModel, check_audio

MAX_PARTS = 8


@dataclass(frozen=True)
class PartConfig:
    """The config of a part of an architecture."""

    architecture: str
    config: Any


@dataclass(frozen=True)
class ChainConfig:
    """The parts, in the order in which audio goes through them."""

    parts: tuple[PartConfig, ...]


@register("chain")
class ChainModel(FittedModel):
    """Two to eight models in a row: (B, 1, T) in, (B, 1, T - receptive_field + 1) out.

    Named by presets with "+" between them: "a1-feather+delay" is an overdrive into an echo,
    "compressor+a1-nano" a gain that follows the level and a small net for the rest.

    ``fit`` goes through the parts in order: one that is found at once is fitted to make wet of
    what comes to it, and a net, which knows nothing yet, counts as a wire; so does a gain that
    follows the level, in front of what can be taken back. So of a distortion
    into a filter the filter is found up to a gain, for the best linear approximation of what a
    curve makes of noise is a gain (J. Bussgang, Crosscorrelation functions of
    amplitude-distorted Gaussian signals, MIT 1952), the net learns what is left when the filter
    is taken back, and both are found again (``chain_fit``). Then gradient steps move
    all of it, with smaller steps for what was fitted (``step_sizes``).

    A chorus counts its time from the start of the file: steps tell it where their audio begins.

    A net behind a part that is found at once has a skip and zeros for its output layer before its
    first step: the chain starts as what was found, and the net learns what that leaves (residual
    learning: K. He and others, Deep residual learning for image recognition, CVPR 2016; zeros at
    its end: H. Zhang, Y. Dauphin, T. Ma, Fixup initialization, ICLR 2019).

    ``receptive_field`` is what a training step hears: parts that remember for ever get a good
    part of their memory (``step_history``); validation and rendering hear all of it.
    """

    config: ChainConfig
    hears_from_start = True
    trains_after_fit = True

    def __init__(self, config: ChainConfig) -> None:
        super().__init__()
        _validate(config)
        self.config = config
        self.parts = nn.ModuleList(
            class_of(part.architecture)(part.config) for part in config.parts
        )
        self._receptive_field = 1 + sum(part.step_history for part in self._parts())

    @classmethod
    def of_presets(cls, name: str) -> ChainConfig:
        """The config of "NAME+NAME". Raises ``ModelError`` for names that are no presets."""
        known, parts = presets(), []
        behind_fit = False
        for each in name.split("+"):
            if each not in known:
                raise ModelError(
                    f"model: expected presets with + between them, of {', '.join(known)}, "
                    f"got {each!r} in {name!r}"
                )
            cls_of_part, config = known[each], known[each].presets[each]
            if behind_fit and not cls_of_part.has_fit():
                config = replace(config, skip=True)
            behind_fit = behind_fit or cls_of_part.has_fit()
            parts.append(PartConfig(cls_of_part.architecture, config))
        return ChainConfig(tuple(parts))

    def _parts(self) -> Iterable[AudioModel]:
        return cast(Iterable[AudioModel], self.parts)

    @property
    def receptive_field(self) -> int:
        return self._receptive_field

    @property
    def step_history(self) -> int:
        return self._receptive_field - 1

    @property
    def on_cpu_alone(self) -> bool:
        return any(part.on_cpu_alone for part in self._parts())

    def parameter_step_sizes(self) -> list[tuple[nn.Parameter, float]]:
        return [pair for part in self._parts() for pair in part.parameter_step_sizes()]

    @property
    def needs_starts(self) -> bool:
        return any(part.needs_starts for part in self._parts())

    def forward(self, x_bct: torch.Tensor, starts_b: torch.Tensor | None = None) -> torch.Tensor:
        check_audio(x_bct, self.receptive_field)
        y_bct = x_bct
        for part in self._parts():
            # Silence is in front of what is heard; what is not settled then is not given.
            late = part.receptive_field - 1
            y_bct = nn.functional.pad(y_bct, (late, 0))
            if part.needs_starts:
                y_bct = part(y_bct, None if starts_b is None else starts_b - late)
            else:
                y_bct = part(y_bct)
        return y_bct[..., self.receptive_field - 1 :]

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        fit_chain(list(self._parts()), (list(training), list(validation)), sample_rate, progress)

    def as_torch(self) -> nn.Module:
        plain = [(part.as_torch(), part.receptive_field) for part in self._parts()]
        return _Plain(plain, self.receptive_field)

    def to_graph(self, sample_rate: int) -> ModelGraph:
        graphs = [part.to_graph(sample_rate) for part in self._parts()]
        nodes: tuple[Node, ...] = tuple(graph.root for graph in graphs)
        metadata = {"architecture": self.architecture, "parts": [g.metadata for g in graphs]}
        return ModelGraph(Sequential(nodes), sample_rate, metadata=metadata)

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        """The metadata say which models the parts are."""
        told = graph.metadata.get("parts")
        children = graph.root.children if isinstance(graph.root, Sequential) else ()
        if not isinstance(told, list) or len(told) != len(children):
            raise ModelError(
                f"graph: expected parts in a row and metadata that name them, got {graph.kind} of "
                f"{len(children)} parts and {told!r}"
            )
        parts = []
        for child, metadata in zip(children, told, strict=True):
            name = metadata.get("architecture") if isinstance(metadata, dict) else None
            part = ModelGraph(child, graph.sample_rate, metadata=metadata)
            parts.append(class_of(name).from_graph(part))
        with torch.random.fork_rng(devices=[]):
            model = cls(ChainConfig(tuple(PartConfig(p.architecture, p.config) for p in parts)))
        model.parts = nn.ModuleList(parts)
        return model

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> ChainConfig:
        try:
            parts = []
            for part in values["parts"]:
                name = part["architecture"]
                parts.append(PartConfig(name, class_of(name).config_from_dict(part["config"])))
            config = ChainConfig(tuple(parts))
            _validate(config)
        except (KeyError, TypeError) as error:
            raise ModelError(f"config: expected the fields of ChainConfig, got {error}") from error
        return config


class _Plain(nn.Module):
    def __init__(self, plain: Sequence[tuple[nn.Module, int]], field: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(part for part, _ in plain)
        self.fields, self.field = [field for _, field in plain], field

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        y_bct = x_bct
        for part, field in zip(self.parts, self.fields, strict=True):
            y_bct = part(nn.functional.pad(y_bct, (field - 1, 0)))
        return y_bct[..., self.field - 1 :]


def _validate(config: ChainConfig) -> None:
    if not 2 <= len(config.parts) <= MAX_PARTS:
        raise ModelError(f"parts: expected 2 to {MAX_PARTS} in a chain, got {len(config.parts)}")
    swinging = [p.architecture for p in config.parts if class_of(p.architecture).counts_from_start]
    if len(swinging) > 1:
        raise ModelError(
            f"parts: expected one that swings, for two in a row are voices of one and two apart "
            f"cannot be told from a recording, got {' and '.join(swinging)}"
        )
    for part in config.parts:
        if part.architecture == ChainModel.architecture:
            raise ModelError("parts: expected models, got a chain in a chain")
        if getattr(part.config, "knobs", ()):
            raise ModelError("parts: expected models without knobs in a chain")
