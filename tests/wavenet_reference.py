"""Every node of a graph in plain numpy, written from the forward equations, not from ours.

In float64 it is the truth; in float32, with every operation in that dtype, it is what promise 2
compares with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from activations import activate

from fxfast.graph import (
    CYCLE,
    Compressor,
    ConvStack,
    Delay,
    Gate,
    Linear,
    ModelGraph,
    Recurrent,
    RecurrentLayer,
    Residual,
    Sequential,
    WaveNet,
)

# A recurrent layer of these tests has forgotten its start after so many samples.
SETTLING_SAMPLES = 2500


def reference_graph(
    graph: ModelGraph, x: np.ndarray, silence: int | None = None, dtype: Any = np.float64
) -> np.ndarray:
    """Render x (T) after ``silence`` zero samples, by default more than any path can reach."""
    if silence is None:
        silence = 64 + longest_path(graph.root)
    x_ct = np.concatenate([np.zeros(silence), x])[None].astype(dtype)
    return forward(graph.root, x_ct, silence)[0, silence:]


def longest_path(node: Any) -> int:
    """All histories of a node added up: at least what an output depends on."""
    if isinstance(node, ConvStack):
        return sum((layer.weight.shape[2] - 1) * layer.dilation for layer in node.layers)
    if isinstance(node, Linear):
        return len(node.taps)
    if isinstance(node, Sequential | Residual):
        return sum(longest_path(child) for child in node.children)
    if isinstance(node, Recurrent | Delay):
        return SETTLING_SAMPLES
    if isinstance(node, Compressor | Gate):
        return 1  # silence leaves it where it begins
    found = 0 if node.condition is None else longest_path(node.condition)
    for array in node.arrays:
        found += array.head_weight.shape[2] * array.head_dilation
        found += sum((la.conv_weight.shape[2] - 1) * la.dilation for la in array.layers)
    return found + sum(conv.weight.shape[2] for conv in node.head)


def forward(node: Any, x_ct: np.ndarray, silence: int = 0) -> np.ndarray:
    """``silence`` samples are before the start of the stream."""
    if isinstance(node, Sequential):
        for child in node.children:
            x_ct = forward(child, x_ct, silence)
        return x_ct
    if isinstance(node, Delay):
        return delay(node, x_ct[0], silence)[None]
    if isinstance(node, Linear):
        full = np.convolve(x_ct[0], node.taps.astype(x_ct.dtype))
        return full[None, : x_ct.shape[1]] + x_ct.dtype.type(node.bias)
    if isinstance(node, Residual):
        return forward(node.child, x_ct, silence) + x_ct[:1]
    if isinstance(node, Recurrent):
        for recurrent in node.layers:
            x_ct = cells(recurrent, x_ct)
        return x_ct
    if isinstance(node, ConvStack):
        h = x_ct
        for layer in node.layers:
            h = activate(layer.activation, conv(h, layer.weight, layer.bias, layer.dilation))
        return h + x_ct[: len(h)] if node.skip else h
    if isinstance(node, Compressor | Gate):
        return level_gain(node, x_ct)
    assert isinstance(node, WaveNet)
    return wavenet(node, x_ct)


def delay(node: Delay, x: np.ndarray, silence: int) -> np.ndarray:
    """The equations of ``fxfast.graph.Delay``, sample by sample. Before the start of the stream
    every voice is where it is at the start."""
    dtype = x.dtype.type
    offsets = [voice_offsets(voice, len(x), silence, x.dtype) for voice in node.voices]
    sections = [] if node.sections is None else node.sections.astype(dtype)
    memory = np.zeros((len(sections), 2), dtype)
    u, y = np.zeros(len(x), dtype), np.zeros(len(x), dtype)
    for t in range(len(x)):
        u[t] = x[t]
        d = dtype(0)
        for voice, offset in zip(node.voices, offsets, strict=True):
            whole = int(offset[t])
            place = t - voice.base_samples - whole
            d += dtype(voice.gain) * between(node.interpolation, u, place, offset[t] - whole)
        f = d
        for (g, k, m0, m1, m2), state in zip(sections, memory, strict=True):
            band = (state[0] + g * (f - state[1])) / (dtype(1) + g * (g + k))
            low = state[1] + g * band
            state[:] = dtype(2) * band - state[0], dtype(2) * low - state[1]
            f = m0 * f + m1 * band + m2 * low
        u[t] = x[t] + dtype(node.feedback) * f
        y[t] = dtype(node.dry) * x[t] + dtype(node.wet) * d + dtype(node.wet_filtered) * f
    return y


def voice_offsets(voice: Any, samples: int, silence: int, dtype: Any) -> np.ndarray:
    """table(phase) of every sample."""
    time = np.maximum(np.arange(samples, dtype=np.int64) - silence, 0)
    cycles = [(voice.start + voice.step * int(t)) % CYCLE / CYCLE for t in time]
    place = np.array(cycles) * voice.table.size
    entry = place.astype(np.int64)
    start, end = voice.table.astype(dtype)[[entry, (entry + 1) % voice.table.size]]
    found: np.ndarray = start + (place - entry).astype(dtype) * (end - start)
    return found


def between(interpolation: str, u: np.ndarray, place: int, f: Any) -> Any:
    """u at ``place`` - f: before the first sample as the first one."""
    one = u.dtype.type(1)

    def at(k: int) -> Any:
        return u[max(place - k, 0)]

    if interpolation == "linear":
        return (one - f) * at(0) + f * at(1)
    less, least, more = f - one, f - 2 * one, f + one
    sixth, half = u.dtype.type(1 / 6), u.dtype.type(0.5)
    return (-f * less * least * sixth * at(-1) + more * less * least * half * at(0)
            - more * f * least * half * at(1) + more * f * less * sixth * at(2))  # fmt: skip


def conv(
    x_ct: np.ndarray, weight: np.ndarray, bias: Any = None, dilation: int = 1, groups: int = 1
) -> np.ndarray:
    """Causal, grouped; a weight of two dimensions has one tap."""
    weight = weight.astype(x_ct.dtype).reshape(*weight.shape[:2], -1)
    taps = weight.shape[2]
    padded = np.pad(x_ct, ((0, 0), ((taps - 1) * dilation, 0)))
    length = x_ct.shape[1]
    outputs = []
    for rows, x_group in zip(np.split(weight, groups), np.split(padded, groups), strict=True):
        columns = [x_group[:, k * dilation : k * dilation + length] for k in range(taps)]
        matrix = rows.transpose(0, 2, 1).reshape(len(rows), -1)
        outputs.append(matrix @ np.concatenate(columns))
    y = np.concatenate(outputs)
    return y if bias is None else y + bias.astype(x_ct.dtype)[:, None]


def cells(layer: RecurrentLayer, x_ct: np.ndarray) -> np.ndarray:
    """One recurrent layer, as torch.nn.LSTM and torch.nn.GRU document it."""

    def sigmoid(v: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-v))

    dtype = x_ct.dtype
    weight_hh, bias_hh = layer.weight_hh.astype(dtype), layer.bias_hh.astype(dtype)
    of_x = (layer.weight_ih.astype(dtype) @ x_ct + layer.bias_ih.astype(dtype)[:, None]).T
    h, c = layer.initial.astype(dtype)
    outputs = np.empty((x_ct.shape[1], layer.units), dtype)
    for t, from_x in enumerate(of_x):
        from_h = weight_hh @ h + bias_hh
        if layer.cell == "lstm":
            i, f, g, o = (from_x + from_h).reshape(4, -1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (xr, xz, xn), (hr, hz, hn) = from_x.reshape(3, -1), from_h.reshape(3, -1)
            z = sigmoid(xz + hz)
            h = (1 - z) * np.tanh(xn + sigmoid(xr + hr) * hn) + z * h
        outputs[t] = h
    return outputs.T


def level_gain(node: Compressor | Gate, x_ct: np.ndarray) -> np.ndarray:
    """Detector, then static curve and smoothing, or the gate's three phases; every operation in
    the dtype of x."""
    dtype = x_ct.dtype.type
    x = x_ct[0]
    levels, a, e = np.empty_like(x), dtype(0), dtype(0)
    for t, d in enumerate(x * x if node.detector == "power" else np.abs(x)):
        a += dtype(node.detector_average) * (d - a)
        e += dtype(node.detector_rise if a > e else node.detector_fall) * (a - e)
        levels[t] = e
    if isinstance(node, Gate):
        return x_ct * _gate_gains(node, levels)
    log2 = np.log2(np.maximum(levels, dtype(1.2e-38)))
    log2 = log2 * dtype(0.5) if node.detector == "power" else log2
    points = np.arange(len(node.curve), dtype=x.dtype)
    places = (log2 - dtype(node.first_level)) * dtype(node.points_per_level)
    targets = np.interp(places, points, node.curve.astype(x.dtype)).astype(x.dtype)
    gains, s = np.empty_like(x), dtype(node.curve[0])
    for t, target in enumerate(targets):
        s += dtype(node.gain_rise if target > s else node.gain_fall) * (target - s)
        gains[t] = s
    return x_ct * np.exp2(gains)


def _gate_gains(node: Gate, levels: np.ndarray) -> np.ndarray:
    dtype = levels.dtype.type
    up, down, share = dtype(node.gain_rise), dtype(node.gain_fall), dtype(node.range_gain)
    exponential = node.ramps == "exponential"
    g, phase, hold = dtype(0), "closing", 0
    gains = np.empty_like(levels)
    for t, level in enumerate(levels):
        if phase == "closing" and level >= node.open_level:
            phase = "opening"
        elif phase == "open" and level >= node.close_level:
            hold = node.hold_samples
        elif phase == "open" and hold > 0:
            hold -= 1
        elif phase == "open":
            phase = "closing"
        if phase == "closing":
            g = max(dtype(0), g - down * (g if exponential else dtype(1)))
        else:
            g = min(dtype(1), g + up * (dtype(1) - g if exponential else dtype(1)))
        if phase == "opening" and g >= (dtype(0.999) if exponential else dtype(1)):
            phase, hold = "open", node.hold_samples
        gains[t] = share + (dtype(1) - share) * g
    return gains


def wavenet(net: WaveNet, x_ct: np.ndarray) -> np.ndarray:
    c = x_ct if net.condition is None else forward(net.condition, x_ct)
    y, head = x_ct, None
    for array in net.arrays:
        h = conv(y, array.rechannel)
        for layer in array.layers:
            h, given = wavenet_layer(layer, h, c)
            head = given if head is None else head + given
        y, head = h, conv(head, array.head_weight, array.head_bias, array.head_dilation)
    out = x_ct.dtype.type(net.head_scale) * head
    for post in net.head:
        out = conv(activate(post.activation, out), post.weight, post.bias)
    return out


def wavenet_layer(layer: Any, h: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def film(place: str, x: np.ndarray) -> np.ndarray:
        if place not in layer.films:
            return x
        made = layer.films[place]
        values = conv(c, made.weight, made.bias, groups=made.groups)
        if len(values) == len(x):
            return x * values
        assert len(values) == 2 * len(x)
        return x * values[: len(x)] + values[len(x) :]

    z = conv(
        film("conv_pre_film", h), layer.conv_weight, layer.conv_bias, layer.dilation, layer.groups
    )
    z = film("conv_post_film", z)
    mixin = conv(film("input_mixin_pre_film", c), layer.mixin_weight, groups=layer.groups_mixin)
    z = film("activation_pre_film", z + film("input_mixin_post_film", mixin))
    if layer.mode == "none":
        a = activate(layer.activation, z)
    else:
        half = len(z) // 2
        top, alpha = z[:half], activate(layer.secondary, z[half:])
        a = activate(layer.activation, top) * alpha
        if layer.mode == "blended":
            a = a + (1 - alpha) * top
    a = film("activation_post_film", a)
    given = a
    if layer.head1x1 is not None:
        weight, bias, groups = layer.head1x1
        given = film("head1x1_post_film", conv(a, weight, bias, groups=groups))
    if layer.layer1x1 is not None:
        weight, bias, groups = layer.layer1x1
        h = h + film("layer1x1_post_film", conv(a, weight, bias, groups=groups))
    return h, given
