"""The plainest way to run a program: numpy, whole signals, one operation after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from activations import activate

from fxfast.program import (
    ActivateOp,
    AddOp,
    ConvOp,
    FilmOp,
    FilterOp,
    GateOp,
    Program,
    reads,
)


def run_program(
    program: Program, x: np.ndarray, dtype: Any, receptive_field: int | None = None
) -> np.ndarray:
    """Play x (T) from the settled state, with every operation in ``dtype``.

    The history of every line is zero before ``receptive_field - 1`` samples of silence, so
    a receptive field that is too short shows in the first samples. By default it is the
    program's own.
    """
    if receptive_field is None:
        receptive_field = program_receptive_field(program)
    silence = receptive_field - 1
    lines: list[np.ndarray | None] = [None] * len(program.lines)
    lines[0] = np.concatenate([np.zeros(silence), x]).astype(dtype)[None]
    for op in program.ops:
        y_ct = _run(op, lines, dtype)
        assert y_ct.dtype == dtype
        assert len(y_ct) == program.lines[op.output]
        lines[op.output] = y_ct
    output = lines[program.output_line]
    assert output is not None
    return output[0, silence:]


def program_receptive_field(program: Program) -> int:
    """The longest path from the input to the output."""
    reach = {0: 0}
    for op in program.ops:
        history = _history(op)
        reach[op.output] = max(
            reach[line] + (history if line == getattr(op, "input", None) else 0)
            for line in reads(op)
        )
    return 1 + reach[program.output_line]


def _history(op: Any) -> int:
    if isinstance(op, FilterOp):
        return op.taps.size - 1
    return op.history_samples if isinstance(op, ConvOp) else 0


def check_program(program: Program) -> None:
    """The rules for lines: who writes them, who keeps a past, what fits."""
    writers = [0] * len(program.lines)
    written = {0}
    for op in program.ops:
        assert set(reads(op)) <= written
        assert op.output != 0
        if isinstance(op, ConvOp | GateOp | FilterOp):
            assert op.output != op.input
        if isinstance(op, ConvOp):
            assert op.weight.shape[:2] == (program.lines[op.output], program.lines[op.input])
            assert op.weight.dtype == np.float32
            assert op.weight.flags.c_contiguous
        writers[op.output] += 1
        written.add(op.output)
    assert all(writers[1:])
    assert program.lines[0] == program.lines[program.output_line] == 1
    keeping = {reads(op)[-1] for op in program.ops if _history(op)}
    assert all(writers[line] == 1 for line in (keeping | {program.output_line}) - {0})


def _run(op: Any, lines: list[np.ndarray | None], dtype: Any) -> np.ndarray:
    def line(index: int) -> np.ndarray:
        found = lines[index]
        assert found is not None, f"line {index} is read before it is written"
        return found

    if isinstance(op, ConvOp):
        y_ct = _conv(op, line(op.input), dtype)
        if op.add is not None:
            y_ct = y_ct + line(op.add)
        return activate(op.activation, y_ct)
    if isinstance(op, GateOp):
        top, gate = np.split(line(op.input), 2)
        share = activate(op.secondary, gate)
        if op.mode == "gated":
            return activate(op.activation, top) * share
        assert op.mode == "blended"
        return share * activate(op.activation, top) + (1 - share) * top
    if isinstance(op, FilmOp):
        signal, made = line(op.input), line(op.scale_shift)
        assert len(made) == (2 if op.shift else 1) * len(signal)
        y_ct = signal * made[: len(signal)]
        return y_ct + made[len(signal) :] if op.shift else y_ct
    if isinstance(op, FilterOp):
        x = line(op.input)[0]
        return (np.convolve(x, op.taps.astype(dtype))[: x.size] + dtype(op.bias))[None]
    if isinstance(op, ActivateOp):
        return activate(op.activation, line(op.input))
    assert isinstance(op, AddOp)
    return line(op.a) + line(op.b)[: len(line(op.a))]


def _conv(op: ConvOp, x_ct: np.ndarray, dtype: Any) -> np.ndarray:
    out, _, taps = op.weight.shape
    y_ct = np.zeros((out, x_ct.shape[1]), dtype)
    for tap in range(taps):
        delay = (taps - 1 - tap) * op.dilation
        if delay < x_ct.shape[1]:
            y_ct[:, delay:] += op.weight[:, :, tap].astype(dtype) @ x_ct[:, : x_ct.shape[1] - delay]
    return y_ct if op.bias is None else y_ct + op.bias.astype(dtype)[:, None]
