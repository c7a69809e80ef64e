"""Nodes one after the other, a node beside its input, and the plain FIR filter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fxfast.errors import ModelShapeError
from fxfast.graph.checks import MAX_LAYERS, as_float32, check_array, check_number
from fxfast.graph.node import Convolution, MonoNode, Node, check_depth, check_node


@dataclass(frozen=True, eq=False)
class Sequential(Node):
    """``children`` one after the other, each with the channels that the one before gives."""

    children: tuple[Node, ...] = ()

    kind: ClassVar[str] = "sequential"

    def __post_init__(self) -> None:
        object.__setattr__(self, "children", tuple(self.children))

    @property
    def in_channels(self) -> int:
        return self.children[0].in_channels

    @property
    def out_channels(self) -> int:
        return self.children[-1].out_channels

    @property
    def history_samples(self) -> int:
        return sum(child.history_samples for child in self.children)

    @property
    def layer_count(self) -> int:
        return sum(child.layer_count for child in self.children)

    def convolutions(self) -> Iterator[Convolution]:
        return iter(())

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        check_depth(depth, name)
        if not 1 <= len(self.children) <= MAX_LAYERS:
            raise ModelShapeError(
                f"{name}.children: expected 1 to {MAX_LAYERS}, got {len(self.children)}"
            )
        channels = in_channels
        for index, child in enumerate(self.children):
            check_node(child, f"{name}.children[{index}]")
            child.validate(f"{name}.children[{index}]", channels, depth + 1)
            channels = child.out_channels


@dataclass(frozen=True, eq=False)
class Residual(Node):
    """The first channel of the input is added to what ``child`` makes of all of them."""

    child: Node

    kind: ClassVar[str] = "residual"

    @property
    def in_channels(self) -> int:
        return self.child.in_channels

    @property
    def out_channels(self) -> int:
        return 1

    @property
    def children(self) -> tuple[Node, ...]:
        return (self.child,)

    @property
    def history_samples(self) -> int:
        return self.child.history_samples

    @property
    def layer_count(self) -> int:
        return self.child.layer_count

    def convolutions(self) -> Iterator[Convolution]:
        return iter(())

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        check_depth(depth, name)
        check_node(self.child, f"{name}.child")
        self.child.validate(f"{name}.child", in_channels, depth + 1)
        if self.child.out_channels != 1:
            raise ModelShapeError(
                f"{name}.child: expected 1 output channel to add the input to, "
                f"got {self.child.out_channels}"
            )


@dataclass(frozen=True, eq=False)
class Linear(MonoNode):
    """A FIR filter of one channel: ``y[t] = bias + sum_n taps[n] * x[t - n]``.

    ``taps`` is the impulse response, the factor of the newest sample first. ``bias`` is
    rounded to float32.
    """

    taps: np.ndarray
    bias: float = 0.0

    kind: ClassVar[str] = "linear"

    def __post_init__(self) -> None:
        object.__setattr__(self, "bias", as_float32(self.bias))

    @property
    def history_samples(self) -> int:
        return self.taps.size - 1

    @property
    def other_parameters(self) -> int:
        return 1

    def convolutions(self) -> Iterator[Convolution]:
        yield Convolution(self.taps, None, 1)

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        check_depth(depth, name)
        check_array(self.taps, f"{name}.taps", 1)
        check_number(self.bias, f"{name}.bias")
        if in_channels != 1:
            raise ModelShapeError(
                f"{name}: expected 1 input channel for a filter, got {in_channels}"
            )
