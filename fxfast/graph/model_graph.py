"""The graph: one root node, its sample rate, and free metadata."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fxfast.errors import ModelError, ModelShapeError
from fxfast.graph.checks import (
    MAX_LAYERS,
    MAX_PARAMETERS,
    MAX_RECEPTIVE_FIELD,
    MAX_SAMPLE_RATE,
)
from fxfast.graph.conv_stack import ConvLayer, ConvStack
from fxfast.graph.knob import Knob, check_knobs
from fxfast.graph.node import Node


@dataclass(frozen=True, eq=False, init=False)
class ModelGraph:
    """A mono audio model: a tree of nodes, one channel of audio in, one out.

    ``root`` is a node, or the layers of a stack of convolutions, which ``skip`` belongs
    to. ``sample_rate`` is in Hz. ``metadata`` is free JSON that travels with the model. A
    conditioned model has ``knobs``: its root reads the audio and then a channel for each of them.
    Construction validates and raises ``ModelError``; a graph that exists is valid and is
    never changed.
    """

    root: Node
    sample_rate: int
    metadata: dict[str, Any]
    knobs: tuple[Knob, ...]

    def __init__(
        self,
        root: Node | Iterable[ConvLayer],
        sample_rate: int,
        skip: bool = False,
        metadata: dict[str, Any] | None = None,
        knobs: Iterable[Knob] = (),
    ) -> None:
        if not isinstance(root, Node):
            root = ConvStack(tuple(root), skip)
        elif skip is not False:
            raise ModelError(f"skip: expected false beside a node, got {skip!r}")
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "sample_rate", sample_rate)
        object.__setattr__(self, "metadata", {} if metadata is None else metadata)
        object.__setattr__(self, "knobs", tuple(knobs))
        _validate(self)

    @property
    def kind(self) -> str:
        """The kind of the root node."""
        return self.root.kind

    @property
    def layers(self) -> tuple[ConvLayer, ...]:
        """The layers of a stack of convolutions; ``ModelError`` for any other root."""
        return self._stack("layers").layers

    @property
    def skip(self) -> bool:
        """Whether a stack of convolutions adds its input; ``ModelError`` for any other root."""
        return self._stack("skip").skip

    @property
    def is_recurrent(self) -> bool:
        """Whether an output sample depends on all samples before it."""
        return self.root.is_recurrent

    @property
    def receptive_field(self) -> int:
        """Samples of input that one output sample depends on, itself included; of a recurrent
        model, those of its convolutions."""
        return 1 + self.root.history_samples

    @property
    def latency_samples(self) -> int:
        """Delay of the output against the input: causal nodes have none."""
        return 0

    @property
    def parameters(self) -> int:
        return self.root.parameters

    @property
    def macs_per_sample(self) -> int:
        """Multiply-adds of the convolutions for one sample."""
        return self.root.macs_per_sample

    def _stack(self, name: str) -> ConvStack:
        if not isinstance(self.root, ConvStack):
            raise ModelError(f"{name}: expected a graph of kind conv_stack, got {self.kind}")
        return self.root


def _validate(graph: ModelGraph) -> None:
    rate = graph.sample_rate
    if type(rate) is not int or not 1 <= rate <= MAX_SAMPLE_RATE:
        raise ModelShapeError(
            f"sample_rate: expected an integer from 1 to {MAX_SAMPLE_RATE} Hz, got {rate!r}"
        )
    root = graph.root
    check_knobs(graph.knobs)
    root.validate("" if isinstance(root, ConvStack) else "root", 1 + len(graph.knobs))
    if root.out_channels != 1:
        name = "root"
        if isinstance(root, ConvStack):
            name = f"layers[{len(root.layers) - 1}].weight"
        raise ModelShapeError(
            f"{name}: expected 1 output channel in the last layer, got {root.out_channels}"
        )
    _check_limits(graph)


def _check_limits(graph: ModelGraph) -> None:
    root = graph.root
    if root.layer_count > MAX_LAYERS:
        raise ModelShapeError(f"layers: expected at most {MAX_LAYERS}, got {root.layer_count}")
    if root.parameters > MAX_PARAMETERS:
        raise ModelShapeError(
            f"parameters: expected at most {MAX_PARAMETERS}, got {root.parameters}"
        )
    if root.dense_weights > MAX_PARAMETERS:
        raise ModelShapeError(
            f"groups: expected at most {MAX_PARAMETERS} weights when groups are written out, "
            f"got {root.dense_weights}"
        )
    if graph.receptive_field > MAX_RECEPTIVE_FIELD:
        raise ModelShapeError(
            f"receptive field: expected at most {MAX_RECEPTIVE_FIELD} samples, "
            f"got {graph.receptive_field}"
        )
