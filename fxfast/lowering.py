"""From a graph to a program: what each node computes, as operations on lines.

Groups are written out as dense weights, and what nobody reads is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fxfast.errors import ModelError
from fxfast.graph import (
    CELL_GATES,
    Activation,
    Compressor,
    Conv1x1,
    ConvStack,
    Delay,
    Film,
    Gate,
    LayerArray,
    Linear,
    ModelGraph,
    Node,
    Recurrent,
    RecurrentLayer,
    Residual,
    Sequential,
    WaveNet,
    WaveNetLayer,
)
from fxfast.merging import merged
from fxfast.program import (
    MIN_FILTER_TAPS,
    NO_ACTIVATION,
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
    needed,
    with_scratch,
)


def lower(graph: ModelGraph, *, merge: bool = False, whole_layers: bool = False) -> Program:
    """The program that computes ``graph``.

    With ``merge``, what :mod:`fxfast.merging` saves is left out; with ``whole_layers`` too, only
    what leaves the layers of a WaveNet as they are.
    """
    builder = _Builder([1 + len(graph.knobs)])
    output = _lower_node(builder, graph.root, 0)
    ops = builder.ops
    if merge:
        ops = merged(builder.lines, ops, output, whole_layers=whole_layers)
    return with_scratch(builder.lines, needed(ops, output), output)


def lower_for_device(graph: ModelGraph) -> Program:
    """The program for a CUDA device, whose kernels play layers of a WaveNet as a whole."""
    return lower(graph, merge=True, whole_layers=True)


@dataclass
class _Builder:
    """Collects operations, each of which writes a line of its own."""

    lines: list[int]
    ops: list[Op] = field(default_factory=list)

    def _line(self, channels: int) -> int:
        self.lines.append(channels)
        return len(self.lines) - 1

    def conv(
        self,
        line: int,
        weight: np.ndarray,
        bias: np.ndarray | None = None,
        *,
        dilation: int = 1,
        groups: int = 1,
        add: int | None = None,
        activation: Activation = NO_ACTIVATION,
    ) -> int:
        dense = _dense(weight.reshape(*weight.shape[:2], -1), groups)
        output = self._line(dense.shape[0])
        self.ops.append(ConvOp(line, output, dense, bias, dilation, add, activation))
        return output

    def conv1x1(self, line: int, conv: Conv1x1 | Film, add: int | None = None) -> int:
        return self.conv(line, conv.weight, conv.bias, groups=conv.groups, add=add)

    def gate(self, line: int, layer: WaveNetLayer, secondary: Activation) -> int:
        output = self._line(layer.bottleneck)
        self.ops.append(GateOp(line, output, layer.mode, layer.activation, secondary))
        return output

    def film(self, line: int, film: Film | None, c: int) -> int:
        """``line`` itself where there is no FiLM."""
        if film is None:
            return line
        scale_shift = self.conv1x1(c, film)
        channels = self.lines[line]
        output = self._line(channels)
        shift = self.lines[scale_shift] == 2 * channels
        self.ops.append(FilmOp(line, scale_shift, output, shift))
        return output

    def recurrent(self, line: int, layer: RecurrentLayer) -> int:
        output = self._line(layer.units)
        weight, bias = _gates_of(layer)
        self.ops.append(RecurrentOp(line, output, layer.cell, weight, bias, layer.initial))
        return output

    def filter(self, line: int, node: Linear) -> int:
        if node.taps.size < MIN_FILTER_TAPS:
            bias = np.array([node.bias], np.float32) if node.bias else None
            return self.conv(line, node.taps[None, None, ::-1], bias)
        output = self._line(1)
        self.ops.append(FilterOp(line, output, node.taps, node.bias))
        return output

    def delay(self, line: int, node: Delay) -> int:
        output = self._line(1)
        self.ops.append(DelayOp(line, output, node))
        return output

    def level_gain(self, line: int, node: Compressor | Gate) -> int:
        output = self._line(1)
        self.ops.append(LevelGainOp(line, output, _gain_numbers(node)))
        return output

    def activate(self, line: int, activation: Activation) -> int:
        if activation.kind == "none":
            return line
        output = self._line(self.lines[line])
        self.ops.append(ActivateOp(line, output, activation))
        return output

    def add(self, a: int, b: int) -> int:
        """``a`` plus as many channels of ``b``."""
        output = self._line(self.lines[a])
        self.ops.append(AddOp(a, b, output))
        return output


def _dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """(out, in / groups, taps) as (out, in, taps), zero where a group does not read."""
    if groups == 1:
        return np.ascontiguousarray(weight)
    out, per_group, taps = weight.shape
    dense = np.zeros((out, per_group * groups, taps), np.float32)
    rows = out // groups
    for group in range(groups):
        block = slice(group * rows, (group + 1) * rows)
        dense[block, group * per_group : (group + 1) * per_group] = weight[block]
    return dense


def _gates_of(layer: RecurrentLayer) -> tuple[np.ndarray, np.ndarray]:
    """Weights (in + units, 4, units) and biases (4, units) of the engine's four gates."""
    gates, units = CELL_GATES[layer.cell], layer.units
    of_x = layer.weight_ih.reshape(gates, units, -1).transpose(2, 0, 1)
    of_h = layer.weight_hh.reshape(gates, units, -1).transpose(2, 0, 1)
    bias_x, bias_h = layer.bias_ih.reshape(gates, units), layer.bias_hh.reshape(gates, units)
    if layer.cell == "lstm":
        weight, bias = np.concatenate([of_x, of_h]), bias_x + bias_h
    else:
        # n of a GRU has its reset gate between the part of x and the part of h.
        none = np.zeros((1, 1, units), np.float32)
        rows_x = np.concatenate([of_x, none.repeat(len(of_x), 0)], axis=1)
        rows_h = np.concatenate([of_h[:, :2], none.repeat(len(of_h), 0), of_h[:, 2:]], axis=1)
        weight = np.concatenate([rows_x, rows_h])
        bias = np.stack([bias_x[0] + bias_h[0], bias_x[1] + bias_h[1], bias_x[2], bias_h[2]])
    return np.ascontiguousarray(weight), np.ascontiguousarray(bias)


def _gain_numbers(node: Compressor | Gate) -> np.ndarray:
    """The numbers of a gain in the order of csrc/kernels/gain_task.h, then its curve."""
    squares = float(node.detector == "power")
    detector = [squares, node.detector_rise, node.detector_fall, node.gain_rise, node.gain_fall]
    if isinstance(node, Compressor):
        place = [0.0, 0.0, 0.0, 0.0, 0.0, node.first_level, node.points_per_level]
        place.append(node.detector_average)
        return np.concatenate([[0.0, *detector, *place], node.curve]).astype(np.float32)
    levels = [float(node.hold_samples), node.open_level, node.close_level, node.range_gain]
    # A gate has no curve; the engine wants the shortest.
    return np.array(
        [1.0, *detector, *levels, float(node.ramps == "exponential"), 0.0, 1.0,
         node.detector_average, 0.0, 0.0],
        np.float32,
    )  # fmt: skip


def _lower_node(builder: _Builder, node: Node, line: int) -> int:
    if isinstance(node, ConvStack):
        return _lower_stack(builder, node, line)
    if isinstance(node, WaveNet):
        return _lower_wavenet(builder, node, line)
    if isinstance(node, Sequential):
        for child in node.children:
            line = _lower_node(builder, child, line)
        return line
    if isinstance(node, Residual):
        return builder.add(_lower_node(builder, node.child, line), line)
    if isinstance(node, Recurrent):
        for layer in node.layers:
            line = builder.recurrent(line, layer)
        return line
    if isinstance(node, Linear):
        return builder.filter(line, node)
    if isinstance(node, Delay):
        return builder.delay(line, node)
    if isinstance(node, Compressor | Gate):
        return builder.level_gain(line, node)
    raise ModelError(f"graph: expected a node that the engine knows, got {node.kind}")


def _lower_stack(builder: _Builder, stack: ConvStack, line: int) -> int:
    start = line
    for layer in stack.layers:
        line = builder.conv(
            line, layer.weight, layer.bias, dilation=layer.dilation, activation=layer.activation
        )
    return builder.add(line, start) if stack.skip else line


# --- WaveNet ---------------------------------------------------------------------


def _lower_wavenet(builder: _Builder, net: WaveNet, x: int) -> int:
    c = x if net.condition is None else _lower_node(builder, net.condition, x)
    h, total = x, None
    for array in net.arrays[:-1]:
        h, total = _lower_array(builder, array, h, c, total)
        total = builder.conv(
            total, array.head_weight, array.head_bias, dilation=array.head_dilation
        )
    last = net.arrays[-1]
    _, total = _lower_array(builder, last, h, c, total)
    # Each activation of the head is the last step of the operation before it.
    activations = [conv.activation for conv in net.head] + [NO_ACTIVATION]
    scaled = _scaled(last, net.head_scale)
    if scaled is not None:
        total = builder.conv(total, *scaled, dilation=last.head_dilation, activation=activations[0])
    else:
        total = builder.conv(total, last.head_weight, last.head_bias, dilation=last.head_dilation)
        scale = np.float32(net.head_scale) * np.eye(last.out_channels, dtype=np.float32)
        total = builder.conv(total, scale, activation=activations[0])
    for conv, activation in zip(net.head, activations[1:], strict=True):
        total = builder.conv(total, conv.weight, conv.bias, activation=activation)
    return total


def _scaled(array: LayerArray, scale: float) -> tuple[np.ndarray, np.ndarray | None] | None:
    """The convolution of the sum times ``scale``; none where float32 would round it."""

    def times_scale(values: np.ndarray) -> tuple[np.ndarray, bool]:
        exact = values.astype(np.float64) * scale
        rounded = exact.astype(np.float32)
        return rounded, np.array_equal(exact, rounded)

    weight, fits = times_scale(array.head_weight)
    if array.head_bias is None:
        return (weight, None) if fits else None
    bias, bias_fits = times_scale(array.head_bias)
    return (weight, bias) if fits and bias_fits else None


def _lower_array(
    builder: _Builder, array: LayerArray, x: int, c: int, total: int | None
) -> tuple[int, int]:
    h = builder.conv(x, array.rechannel)
    for layer in array.layers:
        a = _lower_activation(builder, layer, h, c)
        total = _lower_sum(builder, layer, a, c, total)
        if layer.layer1x1 is None:
            continue
        film = layer.films.get("layer1x1_post_film")
        if film is None:
            h = builder.conv1x1(a, layer.layer1x1, add=h)
        else:
            h = builder.add(h, builder.film(builder.conv1x1(a, layer.layer1x1), film, c))
    assert total is not None  # an array has a layer
    return h, total


def _lower_activation(builder: _Builder, layer: WaveNetLayer, h: int, c: int) -> int:
    films = layer.films
    read = builder.film(h, films.get("conv_pre_film"), c)
    z = builder.conv(
        read, layer.conv_weight, layer.conv_bias, dilation=layer.dilation, groups=layer.groups
    )
    z = builder.film(z, films.get("conv_post_film"), c)
    mixed = builder.film(c, films.get("input_mixin_pre_film"), c)
    alone = "input_mixin_post_film" in films
    at_once = layer.mode == "none" and not alone and "activation_pre_film" not in films
    mixin = builder.conv(
        mixed,
        layer.mixin_weight,
        groups=layer.groups_mixin,
        add=None if alone else z,
        activation=layer.activation if at_once else NO_ACTIVATION,
    )
    if alone:
        mixin = builder.add(z, builder.film(mixin, films["input_mixin_post_film"], c))
    z = builder.film(mixin, films.get("activation_pre_film"), c)
    if layer.secondary is not None:
        a = builder.gate(z, layer, layer.secondary)
    else:
        a = z if at_once else builder.activate(z, layer.activation)
    return builder.film(a, films.get("activation_post_film"), c)


def _lower_sum(builder: _Builder, layer: WaveNetLayer, a: int, c: int, total: int | None) -> int:
    film = layer.films.get("head1x1_post_film")
    if layer.head1x1 is not None and film is None:
        return builder.conv1x1(a, layer.head1x1, add=total)
    if layer.head1x1 is not None:
        a = builder.film(builder.conv1x1(a, layer.head1x1), film, c)
    return a if total is None else builder.add(total, a)
