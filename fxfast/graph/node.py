"""What every node of a graph offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from fxfast.errors import ModelError, UnsupportedModelError
from fxfast.graph.checks import MAX_NODE_DEPTH


class Convolution(NamedTuple):
    """A convolution as the costs see it: ``weight`` is (out, in / groups) or (..., taps)."""

    weight: np.ndarray
    bias: np.ndarray | None
    groups: int


class Node(ABC):
    """A causal function of time with ``in_channels`` in and ``out_channels`` out."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def in_channels(self) -> int: ...

    @property
    @abstractmethod
    def out_channels(self) -> int: ...

    @property
    @abstractmethod
    def history_samples(self) -> int:
        """How many samples before the current one an output sample depends on."""

    @property
    def is_recurrent(self) -> bool:
        """Whether an output sample depends on all samples before it."""
        return any(child.is_recurrent for child in self.children)

    @property
    @abstractmethod
    def layer_count(self) -> int:
        """Layers, those of the nodes inside included."""

    @abstractmethod
    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        """Raise ``ModelError`` that begins with ``name`` unless the node is whole and reads
        ``in_channels`` channels; ``depth`` nodes are around it."""

    @abstractmethod
    def convolutions(self) -> Iterator[Convolution]:
        """Those of this node, without the nodes inside."""

    @property
    def other_parameters(self) -> int:
        """Parameters that are not in a convolution."""
        return 0

    @property
    def children(self) -> tuple[Node, ...]:
        return ()

    @property
    def parameters(self) -> int:
        own = sum(
            conv.weight.size + (0 if conv.bias is None else conv.bias.size)
            for conv in self.convolutions()
        )
        return own + self.other_parameters + sum(child.parameters for child in self.children)

    @property
    def macs_per_sample(self) -> int:
        """Multiply-adds of the convolutions for one sample; a group reads its own channels only."""
        own = sum(conv.weight.size for conv in self.convolutions())
        return own + sum(child.macs_per_sample for child in self.children)

    @property
    def dense_weights(self) -> int:
        """Weights when every group is written out over all channels."""
        own = sum(conv.weight.size * conv.groups for conv in self.convolutions())
        return own + sum(child.dense_weights for child in self.children)


class MonoNode(Node):
    """A node of one layer with one channel in and one out."""

    @property
    def in_channels(self) -> int:
        return 1

    @property
    def out_channels(self) -> int:
        return 1

    @property
    def layer_count(self) -> int:
        return 1


def check_depth(depth: int, name: str) -> None:
    if depth >= MAX_NODE_DEPTH:
        raise UnsupportedModelError(
            f"{name}: expected at most {MAX_NODE_DEPTH} nested nodes, got more"
        )


def check_node(node: object, name: str) -> None:
    if not isinstance(node, Node):
        raise ModelError(f"{name}: expected a node, got {type(node).__name__}")
