"""Programs in the terms of the native engine: plain tuples of numbers and arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fxfast.graph import POINTS, Activation, Delay
from fxfast.program import (
    ActivateOp,
    AddOp,
    ConvOp,
    DelayOp,
    FilmOp,
    FilterOp,
    GateOp,
    LevelGainOp,
    Op,
    Program,
    RecurrentOp,
)

# As csrc/engine/program.h and csrc/kernels/kernel_table.h number them.
_NO_LINE = 0xFFFFFFFF
_CONV, _ACTIVATE, _COMBINE, _RECURRENT, _FILTER = 0, 1, 2, 3, 4
_DELAY = 7
_LEVEL_GAIN = 8
_CELLS = {"lstm": 0, "gru": 1}
_ADD, _MULTIPLY, _SCALE_SHIFT, _BLEND = 0, 1, 2, 3
_ACTIVATIONS = {
    "none": 0,
    "relu": 1,
    "leaky_relu": 2,
    "prelu": 2,
    "tanh": 3,
    "sigmoid": 4,
    "hardtanh": 5,
    "fasttanh": 6,
    "silu": 7,
    "hardswish": 8,
    "leaky_hardtanh": 9,
    "softsign": 10,
}
_Operand = tuple[int, int]
_NONE: _Operand = (_NO_LINE, 0)


class NativeOp(NamedTuple):
    """One operation; the fields in the order in which the engine takes them.

    ``operands`` are a, b, c and the output as (line, first channel).
    """

    kind: int
    activation: int
    variant: int  # how a combination combines, or the cell of a recurrent layer
    operands: tuple[_Operand, _Operand, _Operand, _Operand]
    out_channels: int
    dilation: int = 1
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None
    params: np.ndarray | None = None


def native_ops(program: Program) -> list[tuple[Any, ...]]:
    """The operations of a program for ``fxfast._native.Engine``."""
    return [tuple(native) for op in program.ops for native in _native(op, program.lines)]


def _native(op: Op, lines: tuple[int, ...]) -> list[NativeOp]:
    if isinstance(op, ConvOp):
        return [_conv(op)]
    if isinstance(op, ActivateOp):
        return [_activate((op.input, 0), (op.output, 0), lines[op.output], op.activation)]
    if isinstance(op, AddOp):
        return [_combine(_ADD, (op.a, 0), (op.b, 0), _NONE, op.output, lines)]
    if isinstance(op, FilmOp):
        scale, shift = (op.scale_shift, 0), (op.scale_shift, lines[op.output])
        if op.shift:
            return [_combine(_SCALE_SHIFT, (op.input, 0), scale, shift, op.output, lines)]
        return [_combine(_MULTIPLY, (op.input, 0), scale, _NONE, op.output, lines)]
    if isinstance(op, RecurrentOp):
        return [_recurrent(op)]
    if isinstance(op, FilterOp):
        return [_filter(op)]
    if isinstance(op, DelayOp):
        operands = ((op.input, 0), _NONE, _NONE, (op.output, 0))
        return [NativeOp(_DELAY, 0, 0, operands, 1, params=delay_numbers(op.node))]
    if isinstance(op, LevelGainOp):
        place, output = (op.input, 0), (op.output, 0)
        operands = (place, _NONE, _NONE, output)
        return [NativeOp(_LEVEL_GAIN, 0, 0, operands, 1, params=op.numbers)]
    return _gate(op, lines)


def _recurrent(op: RecurrentOp) -> NativeOp:
    return NativeOp(
        _RECURRENT,
        0,
        _CELLS[op.cell],
        ((op.input, 0), _NONE, _NONE, (op.output, 0)),
        op.weight.shape[2],
        weight=op.weight,
        bias=op.bias,
        params=np.ascontiguousarray(op.initial),
    )


def _filter(op: FilterOp) -> NativeOp:
    return NativeOp(
        _FILTER,
        0,
        0,
        ((op.input, 0), _NONE, _NONE, (op.output, 0)),
        1,
        weight=np.ascontiguousarray(op.taps[None, None, ::-1]),
        bias=np.array([op.bias], np.float32),
    )


def delay_numbers(node: Delay) -> np.ndarray:
    """A delay as csrc/kernels/delay_task.h packs it."""
    sections = np.zeros((0, 5), np.float32) if node.sections is None else node.sections
    counts = (POINTS[node.interpolation], len(node.voices), len(sections), 0)
    numbers: list[float] = [node.dry, node.wet, node.wet_filtered, node.feedback, *counts]
    place = len(numbers) + 12 * len(node.voices) + sections.size
    for voice in node.voices:
        halves = (*_halves(voice.step, 3), *_halves(voice.start, 3))
        size = voice.table.size
        numbers += [voice.gain, *_halves(voice.base_samples, 2), size, *halves, place, 0]
        place += size
    tables = [voice.table for voice in node.voices]
    return np.concatenate([np.array(numbers, np.float32), sections.ravel(), *tables])


def _halves(value: int, count: int) -> list[int]:
    """A whole number in pieces of 16 bits, the high one first: each is exact as a float32."""
    return [value >> 16 * (count - 1 - index) & 0xFFFF for index in range(count)]


def _conv(op: ConvOp) -> NativeOp:
    add = _NONE if op.add is None else (op.add, 0)
    outs = op.weight.shape[0]
    return NativeOp(
        _CONV,
        _ACTIVATIONS[op.activation.kind],
        0,
        ((op.input, 0), add, _NONE, (op.output, 0)),
        outs,
        op.dilation,
        np.ascontiguousarray(op.weight),
        None if op.bias is None else np.ascontiguousarray(op.bias),
        _params(op.activation, outs),
    )


def _gate(op: GateOp, lines: tuple[int, ...]) -> list[NativeOp]:
    """Three passes: the gate in place, the signal, and one over the other."""
    channels = lines[op.output]
    top, gate, out = (op.input, 0), (op.input, channels), (op.output, 0)
    passes = [
        _activate(gate, gate, channels, op.secondary),
        _activate(top, out, channels, op.activation),
    ]
    if op.mode == "blended":
        return [*passes, _combine(_BLEND, out, gate, top, op.output, lines)]
    return [*passes, _combine(_MULTIPLY, out, gate, _NONE, op.output, lines)]


def _activate(
    source: _Operand, output: _Operand, channels: int, activation: Activation
) -> NativeOp:
    return NativeOp(
        _ACTIVATE,
        _ACTIVATIONS[activation.kind],
        0,
        (source, _NONE, _NONE, output),
        channels,
        params=_params(activation, channels),
    )


def _combine(
    how: int, a: _Operand, b: _Operand, c: _Operand, output: int, lines: tuple[int, ...]
) -> NativeOp:
    return NativeOp(_COMBINE, 0, how, (a, b, c, (output, 0)), lines[output])


def _params(activation: Activation, channels: int) -> np.ndarray | None:
    if activation.kind == "leaky_hardtanh":
        return activation.limits
    if activation.slopes is None:
        return None
    # One slope for all channels is written out: the engine has a slope for each.
    return np.ascontiguousarray(np.broadcast_to(activation.slopes, (channels,)))
