"""The contract of a trainable model, and the registry of architectures.

A new architecture is one class in one module of this package:

    @register("my-net")
    class MyNet(AudioModel):
        presets = {"my-net-small": MyNetConfig(...)}
        ...

Its presets are then names for ``create`` and for ``fxfast train --model``.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar, Self, TypeVar

import torch

from fxfast.data import Piece
from fxfast.errors import ModelError
from fxfast.graph import Knob, ModelGraph, Residual

# Told the share of a fit that is done, 0 to 1, and what is being found.
Progress = Callable[[float, str], None]


class AudioModel(torch.nn.Module, ABC):
    """A mono audio model that trains on blocks and becomes a graph.

    ``config`` is the frozen dataclass that the class is built from; ``presets`` maps
    names to such configs; ``architecture`` is the name given to ``register``.
    ``graph_kinds`` are the kinds of root node that ``to_graph`` gives.

    A class that defines ``fit`` is given the whole training part once, before any gradient step,
    and takes gradient steps after it only with ``trains_after_fit``. One that ``hears_from_start``
    (its memory is long, or its time counts from the start of the file) is scored on pieces that
    it renders from the start of their file, and on every sample of them. One that
    ``counts_from_start`` is another function of its input at another time of the file. One that
    ``is_linear`` is a filter without a change in time.

    ``step_sizes`` are factors of the learning rate, by the name of a parameter, 1 where there is
    none: what is no weight of a net has a scale of its own.
    """

    architecture: ClassVar[str]
    presets: ClassVar[Mapping[str, Any]] = {}
    graph_kinds: ClassVar[tuple[str, ...]] = ()
    hears_from_start: ClassVar[bool] = False
    trains_after_fit: ClassVar[bool] = False
    counts_from_start: ClassVar[bool] = False
    is_linear: ClassVar[bool] = False
    step_sizes: ClassVar[Mapping[str, float]] = {}
    config: Any

    @abstractmethod
    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        """(B, 1, T) to (B, 1, T - receptive_field + 1): output i is aligned with input
        sample i + receptive_field - 1. Raises ``InputError`` for another shape."""

    @property
    @abstractmethod
    def receptive_field(self) -> int:
        """Samples of input that one output sample depends on, itself included."""

    @property
    def step_history(self) -> int:
        """Samples before the first target that a training step hears; it depends on the config
        alone, not on what a fit found."""
        return self.receptive_field - 1

    @property
    def needs_starts(self) -> bool:
        """Whether ``forward`` also takes ``starts_b`` (B), the samples of their files at which its
        rows begin; without them rows begin with their file."""
        return self.counts_from_start

    @property
    def on_cpu_alone(self) -> bool:
        """Whether steps are taken on the CPU though there is a GPU."""
        return False

    def parameter_step_sizes(self) -> list[tuple[torch.nn.Parameter, float]]:
        """Every parameter and its factor of the learning rate."""
        sizes = self.step_sizes
        return [(parameter, sizes.get(name, 1.0)) for name, parameter in self.named_parameters()]

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """The knobs of a conditioned model: ``forward`` then takes (B, 1 + knobs, T), each of them
        from 0 to 1 in a channel after the audio."""
        return ()

    @property
    def carries_state(self) -> bool:
        """Whether the model has a state to carry from one chunk of audio to the next: then it
        trains on lanes, and has ``initial_state`` and ``forward_from``."""
        return False

    def initial_state(
        self, lanes: int, knobs_bk: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """The state of so many lanes before any audio, as tensors (lanes, ...); of a conditioned
        model with the knobs (lanes, knobs) where they stand, from 0 to 1."""
        raise NotImplementedError(f"{self.architecture} carries no state")

    def forward_from(
        self, x_bct: torch.Tensor, state: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """(B, 1 + knobs, T) to (B, 1, T) from a state on, and the state afterwards: chunk by chunk
        the same as in one."""
        raise NotImplementedError(f"{self.architecture} carries no state")

    def calibrate(self, input_rms: float, output_rms: float) -> None:
        """Told once, before training, how loud dry and wet are; does nothing by default.

        Audio is far from the unit variance that initial weights are made for: without
        this, quiet material trains slowly or not at all."""

    @property
    def output_layer(self) -> torch.nn.Module:
        """Of a net, the layer whose weights and bias make the output: zeros make silence."""
        raise NotImplementedError(f"{self.architecture} has no output layer")

    @classmethod
    def has_fit(cls) -> bool:
        """Whether the class defines ``fit``."""
        return cls.fit is not AudioModel.fit

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        """Finds the parameters from the training part at once; ``validation`` is for choices
        such as how much to regularise.

        The same data give the same parameters: a run that was killed fits again. Raises
        ``PairError`` for audio that nothing can be found from."""
        raise NotImplementedError(f"{self.architecture} has no fit")

    def refit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        """As ``fit``, of a model that was fitted to nearly the same before: from there on, where
        that is quicker."""
        self.fit(training, validation, sample_rate, progress)

    @abstractmethod
    def as_torch(self) -> torch.nn.Module:
        """The same function from ``torch.nn`` modules alone: the twin in tests, the peer in
        benchmarks."""

    @abstractmethod
    def to_graph(self, sample_rate: int) -> ModelGraph:
        """The model with its present weights as a graph; the weights are copied."""

    @classmethod
    @abstractmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        """The model of a graph; its ``to_graph`` gives the same layers, bit for bit.

        Raises ``ModelError`` when the architecture cannot express the graph."""

    @classmethod
    @abstractmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> Any:
        """The config that ``dataclasses.asdict`` turned into ``values``.

        Raises ``ModelError`` when they do not fit."""


ModelClass = TypeVar("ModelClass", bound=type[AudioModel])
_architectures: dict[str, type[AudioModel]] = {}


def register(architecture: str) -> Callable[[ModelClass], ModelClass]:
    """Class decorator: makes an architecture and its presets known by name.

    Raises ``ModelError`` when the name of the architecture or of a preset is taken.
    """

    def decorate(cls: ModelClass) -> ModelClass:
        taken = {name for known in _architectures.values() for name in known.presets}
        clash = sorted(taken & set(cls.presets)) or sorted({architecture} & set(_architectures))
        if clash:
            raise ModelError(f"register: expected a new name, got {clash[0]!r} again")
        cls.architecture = architecture
        _architectures[architecture] = cls
        return cls

    return decorate


def _known_architectures() -> dict[str, type[AudioModel]]:
    package = importlib.import_module("fxfast.models")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"fxfast.models.{module.name}")
    return _architectures


def presets() -> dict[str, type[AudioModel]]:
    """Every preset name and the class that it builds, sorted by name."""
    found = {name: cls for cls in _known_architectures().values() for name in cls.presets}
    return dict(sorted(found.items()))


def create(name: str, *, seed: int = 0, knobs: Sequence[Knob] = ()) -> AudioModel:
    """A new model of a preset with random weights that depend on ``seed`` alone, conditioned on
    ``knobs`` if there are any; of presets with "+" between them a chain.

    Raises ``ModelError`` for an unknown name, and for knobs that the model cannot take.
    """
    known = presets()
    if "+" in name:
        chain: Any = _architecture("chain")
        if knobs:
            raise ModelError(f"knobs: expected a model that takes some, as a1-standard, got {name}")
        return _build(chain, chain.of_presets(name), seed)
    if name not in known:
        raise ModelError(f"model: expected one of {', '.join(known)}, got {name!r}")
    cls = known[name]
    config = cls.presets[name]
    if knobs and not takes_knobs(name):
        raise ModelError(f"knobs: expected a model that takes some, as a1-standard, got {name}")
    return _build(cls, replace(config, knobs=tuple(knobs)) if knobs else config, seed)


def takes_knobs(name: str) -> bool:
    """Whether the model of a preset can be conditioned on knobs."""
    cls = presets().get(name)
    return cls is not None and hasattr(cls.presets[name], "knobs")


def describe(model: AudioModel) -> dict[str, Any]:
    """Architecture and config as plain JSON values; weights are not part of it."""
    return {"architecture": model.architecture, "config": asdict(model.config)}


def from_description(description: Mapping[str, Any], *, seed: int = 0) -> AudioModel:
    """A new model of what ``describe`` gave. Raises ``ModelError`` when it does not fit."""
    cls, config = config_of_description(description)
    return _build(cls, config, seed)


def config_of_description(description: Mapping[str, Any]) -> tuple[type[AudioModel], Any]:
    """The class and the config of what ``describe`` gave, in this version or in one that knew
    fewer fields. Raises ``ModelError`` when they do not fit."""
    cls = _architecture(description.get("architecture"))
    return cls, cls.config_from_dict(description.get("config", {}))


def from_graph(graph: ModelGraph, *, architecture: str | None = None) -> AudioModel:
    """A trainable model with the layers and weights of a graph.

    ``architecture`` is by default the one that the metadata name, where that can give such a
    graph, or the first that has the graph's kind among its ``graph_kinds``. Raises
    ``ModelError`` for an unknown one, and for a graph that it cannot express.
    """
    cls = _architecture(architecture) if architecture else _architecture_of(graph)
    return cls.from_graph(graph)


def class_of(architecture: Any) -> type[AudioModel]:
    """The class of an architecture. Raises ``ModelError`` for an unknown name."""
    return _architecture(architecture)


def _architecture_of(graph: ModelGraph) -> type[AudioModel]:
    named = graph.metadata.get("architecture")
    found = _known_architectures().get(named) if isinstance(named, str) else None
    inside = graph.root.child.kind if isinstance(graph.root, Residual) else graph.kind
    # A chain names its parts: without the names it is none.
    if found is not None and ({graph.kind, inside} & {*found.graph_kinds} or named == "chain"):
        return found
    return _architecture_of_kind(graph.kind)


def _architecture_of_kind(kind: str) -> type[AudioModel]:
    known = _known_architectures().values()
    found = [cls for cls in known if kind in cls.graph_kinds]
    if not found:
        kinds = {each: None for cls in known for each in cls.graph_kinds}
        raise ModelError(f"graph: expected one of {', '.join(kinds)} to train, got {kind}")
    return found[0]


def _architecture(name: Any) -> type[AudioModel]:
    known = _known_architectures()
    if name not in known:
        raise ModelError(f"architecture: expected one of {', '.join(known)}, got {name!r}")
    return known[name]


def _build(cls: type[AudioModel], config: Any, seed: int) -> AudioModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cls(config)
