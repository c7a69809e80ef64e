"""Programs: operations on lines, plain data that the engine packs.

A line is a signal of some channels; line 0 is the input: the audio, then a channel for each knob.
Operations run in order, over any stretch of time at once, and a line is written before it is read.

A line that a filter or a convolution of several taps reads, and the output line, is written by one
operation only, so that its past stays in place. All others are scratch: written again by
later operations of the same number of channels. An operation that works element by element
may write the line that it reads, and a convolution the line that it adds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fxfast.graph import Activation, Delay

NO_ACTIVATION = Activation()


@dataclass(frozen=True, eq=False)
class ConvOp:
    """``output = activation(bias + conv(input) + add)``; ``weight`` is (out, in, taps)."""

    input: int
    output: int
    weight: np.ndarray
    bias: np.ndarray | None = None
    dilation: int = 1
    add: int | None = None
    activation: Activation = NO_ACTIVATION

    @property
    def history_samples(self) -> int:
        return (int(self.weight.shape[2]) - 1) * self.dilation


@dataclass(frozen=True, eq=False)
class GateOp:
    """The top half of ``input`` through ``activation``, the bottom half through ``secondary``.

    Their product in mode "gated"; in mode "blended" ``secondary`` is the share of the
    activated top half, beside the top half as it is.
    """

    input: int
    output: int
    mode: str
    activation: Activation
    secondary: Activation


@dataclass(frozen=True, eq=False)
class FilmOp:
    """``output = input * scale``, plus the shift that fills the second half of ``scale_shift``."""

    input: int
    scale_shift: int
    output: int
    shift: bool


@dataclass(frozen=True, eq=False)
class ActivateOp:
    """``output = activation(input)``."""

    input: int
    output: int
    activation: Activation


@dataclass(frozen=True, eq=False)
class AddOp:
    """``output = a + b``, of which ``b`` may have more channels that do not count."""

    a: int
    b: int
    output: int


@dataclass(frozen=True, eq=False)
class RecurrentOp:
    """A recurrent layer of ``units`` units over ``input``; ``output`` is its h.

    ``weight`` is (in + units, 4, units): a row for each input channel, then one for each h, with
    the four gates of the engine: i, f, g, o of an LSTM; r, z and the parts of n that read the
    input and h of a GRU. ``bias`` is (4, units), ``initial`` (2, units).
    """

    input: int
    output: int
    cell: str
    weight: np.ndarray
    bias: np.ndarray
    initial: np.ndarray


@dataclass(frozen=True, eq=False)
class FilterOp:
    """``output = bias + taps * input``, one channel, of any length.

    ``taps`` is the impulse response, the newest sample's factor first; at least
    ``MIN_FILTER_TAPS`` of them.
    """

    input: int
    output: int
    taps: np.ndarray
    bias: float


@dataclass(frozen=True, eq=False)
class DelayOp:
    """``output`` is what the node makes of ``input``; both have one channel."""

    input: int
    output: int
    node: Delay


@dataclass(frozen=True, eq=False)
class LevelGainOp:
    """``output = input`` times a gain that follows its level, one channel.

    ``numbers`` (float32) are those of csrc/kernels/gain_task.h in that order, then the curve.
    """

    input: int
    output: int
    numbers: np.ndarray


# Below, a convolution of one channel does less.
MIN_FILTER_TAPS = 32

Op = ConvOp | GateOp | FilmOp | ActivateOp | AddOp | RecurrentOp | FilterOp | DelayOp | LevelGainOp
# The operands of each operation, those first that the output may take the place of.
_OPERANDS: dict[type, tuple[str, ...]] = {
    ConvOp: ("add", "input"),
    GateOp: ("input",),
    FilmOp: ("input", "scale_shift"),
    ActivateOp: ("input",),
    AddOp: ("a", "b"),
    RecurrentOp: ("input",),
    FilterOp: ("input",),
    DelayOp: ("input",),
    LevelGainOp: ("input",),
}
_IN_PLACE = {
    ConvOp: ("add",),
    FilmOp: ("input",),
    ActivateOp: ("input",),
    AddOp: ("a", "b"),
    LevelGainOp: ("input",),
}


@dataclass(frozen=True, eq=False)
class Program:
    """``lines`` has the channels of each line; the output line has one."""

    lines: tuple[int, ...]
    ops: tuple[Op, ...]
    output_line: int


def reads(op: Op) -> tuple[int, ...]:
    """The lines that an operation reads."""
    lines = (getattr(op, name) for name in _OPERANDS[type(op)])
    return tuple(line for line in lines if line is not None)


def needed(ops: list[Op], output: int) -> list[Op]:
    """The operations that the output depends on."""
    wanted, found = {output}, []
    for op in reversed(ops):
        if op.output in wanted:
            wanted.update(reads(op))
            found.append(op)
    return found[::-1]


def with_scratch(channels: list[int], ops: list[Op], output: int) -> Program:
    """Give every line that keeps no past the place of one that nobody reads any more."""
    last_read = {line: index for index, op in enumerate(ops) for line in reads(op)}
    fixed = {0, output}
    fixed.update(op.input for op in ops if isinstance(op, ConvOp) and op.history_samples)
    fixed.update(op.input for op in ops if isinstance(op, FilterOp))
    places, lines = {0: 0}, [channels[0]]
    free: dict[int, list[int]] = {}
    placed: list[Op] = []
    for index, op in enumerate(ops):
        ending = {line for line in reads(op) if last_read[line] == index} - fixed
        size = channels[op.output]
        taken = [
            line
            for name in _IN_PLACE.get(type(op), ())
            if (line := getattr(op, name)) in ending
            and reads(op).count(line) == 1
            and channels[line] == size
        ]
        if op.output in fixed or not (taken or free.get(size)):
            places[op.output] = len(lines)
            lines.append(size)
        elif taken:
            places[op.output] = places[taken[0]]
            ending.remove(taken[0])
        else:
            places[op.output] = free[size].pop()
        placed.append(_moved(op, places))
        for line in ending:
            free.setdefault(channels[line], []).append(places[line])
    return Program(tuple(lines), tuple(placed), places[output])


def _moved(op: Op, places: dict[int, int]) -> Op:
    lines = {name: getattr(op, name) for name in (*_OPERANDS[type(op)], "output")}
    moved: dict[str, Any] = {
        name: None if line is None else places[line] for name, line in lines.items()
    }
    return replace(op, **moved)
