"""Programs of less work: convolutions in a row become one where that saves multiply-adds.

The algebra is exact; the weights of the new convolutions are products in float64, rounded to
float32 once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np

from fxfast.program import AddOp, ConvOp, Op, reads


def merged(lines: list[int], ops: list[Op], output: int, *, whole_layers: bool = False) -> list[Op]:
    """The same output by less work; new lines are appended to ``lines``, each written once."""
    ops = _read_before_widening(ops)
    if whole_layers:
        return ops
    ops = _split_before_narrowing(lines, ops, output)
    return _narrow_before_adding(lines, ops, output)


def _read_before_widening(ops: list[Op]) -> list[Op]:
    """Convolutions that read what a 1x1 of fewer channels wrote read those channels instead.

    The rechannel of a net's only input makes the first layer 16 times as wide as it need be.
    """
    writers = {op.output: op for op in ops}
    found: list[Op] = []
    for op in ops:
        first = writers.get(op.input) if isinstance(op, ConvOp) else None
        if isinstance(op, ConvOp) and isinstance(first, ConvOp) and _widens(first):
            op = _product(first, op)
        found.append(op)
    return found


def _widens(op: ConvOp) -> bool:
    outs, ins, taps = op.weight.shape
    return taps == 1 and ins < outs and op.add is None and op.activation.kind == "none"


def _product(first: ConvOp, second: ConvOp) -> ConvOp:
    """``second`` over ``first`` as one convolution, multiplied in float64."""
    inner = first.weight[:, :, 0].astype(np.float64)
    outer = second.weight.astype(np.float64)
    bias = second.bias
    if first.bias is not None:
        added = outer.sum(axis=2) @ first.bias.astype(np.float64)
        bias = (added if bias is None else added + bias).astype(np.float32)
    weight = np.einsum("omk,mi->oik", outer, inner).astype(np.float32)
    return replace(second, input=first.input, weight=weight, bias=bias)


def _split_before_narrowing(lines: list[int], ops: list[Op], output: int) -> list[Op]:
    """What a narrowing 1x1 alone reads, ``W a + r``, becomes ``(R W) a + R r``.

    So the last 1x1 of an array of a WaveNet has as few outputs as the array after it has channels.
    """
    found = list(ops)
    for first, second in _pairs(found, output):
        if first.add is None or second.add is not None:
            continue
        narrow = _new_line(lines, second.weight.shape[0])
        of_rest = ConvOp(first.add, narrow, second.weight)
        product = replace(_product(first, second), add=narrow)
        # Beside the operation that wrote r, so that those of the layer stay together.
        place = 1 + next((i for i, op in enumerate(found) if op.output == first.add), -1)
        found[found.index(second)] = _NOTHING
        found[found.index(first)] = product
        found.insert(place, of_rest)
    return [op for op in found if op is not _NOTHING]


def _narrow_before_adding(lines: list[int], ops: list[Op], output: int) -> list[Op]:
    """A narrowing 1x1 of ``H x + a + b + ...`` becomes one of ``a + b + ...`` plus one of x.

    So the head of an array of a WaveNet has one output, which only the last head adds up.
    """
    found = list(ops)
    readers = _readers(found, output)
    writers = {op.output: op for op in found}
    for last in ops:
        if not _is_1x1(last) or last.add is not None:
            continue
        chain: list[AddOp] = []
        line = last.input
        while readers[line] == 1 and isinstance(op := writers.get(line), AddOp):
            chain.append(op)
            line = op.a
        first = writers.get(line)
        if not (chain and first is not None and readers[line] == 1 and _is_plain_1x1(first)):
            continue
        if first.add is not None or last.weight.shape[0] >= first.weight.shape[0]:
            continue
        narrow = _new_line(lines, last.weight.shape[0])
        product = _product(first, replace(last, bias=None))
        found[found.index(first)] = ConvOp(first.input, narrow, product.weight, product.bias)
        found = _without_sum(found, chain[-1])
        at = next(i for i, op in enumerate(found) if op.output == last.output)
        rest = found[at]
        assert isinstance(rest, ConvOp)
        found[at] = replace(rest, add=narrow)
        writers = {op.output: op for op in found}
    return found


def _without_sum(ops: list[Op], sum_op: AddOp) -> list[Op]:
    """``ops`` where what read ``sum_op`` reads its second operand."""
    names = ("a", "b", "input", "add")
    found = []
    for op in ops:
        if op is sum_op:
            continue
        changes: dict[str, Any] = {
            n: sum_op.b for n in names if getattr(op, n, None) == sum_op.output
        }
        found.append(replace(op, **changes) if changes else op)
    return found


_NOTHING = AddOp(-1, -1, -1)


def _pairs(ops: list[Op], output: int) -> list[tuple[ConvOp, ConvOp]]:
    """Plain 1x1s, and the narrower 1x1s that alone read them."""
    readers = _readers(ops, output)
    writers = {op.output: op for op in ops}
    return [
        (first, op)
        for op in ops
        if _is_1x1(op)
        and isinstance(first := writers.get(op.input), ConvOp)
        and _is_plain_1x1(first)
        and readers[first.output] == 1
        and op.weight.shape[0] < first.weight.shape[0]
    ]


def _readers(ops: list[Op], output: int) -> Counter[int]:
    return Counter([output, *(line for op in ops for line in reads(op))])


def _new_line(lines: list[int], channels: int) -> int:
    lines.append(channels)
    return len(lines) - 1


def _is_1x1(op: Op | None) -> TypeGuard[ConvOp]:
    return isinstance(op, ConvOp) and op.weight.shape[2] == 1


def _is_plain_1x1(op: Op | None) -> TypeGuard[ConvOp]:
    return _is_1x1(op) and op.activation.kind == "none"
