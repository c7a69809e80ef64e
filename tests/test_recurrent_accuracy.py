"""Recurrent layers against the same equations in numpy, in float64 and in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import rms
from test_recurrent import ISAS, dense, noise

from fxfast import ModelGraph, Player
from fxfast.graph import CELL_GATES, Recurrent, RecurrentLayer, Sequential

# Silence long enough that what is settled and what starts from zero are the same.
QUIET = 1500
SOUND = 1500


def layers_of(cell: str, units: int, count: int, scale: float) -> tuple[RecurrentLayer, ...]:
    random = np.random.default_rng(units + 100 * count)
    gates, layers, inputs = CELL_GATES[cell], [], 1
    for _ in range(count):
        shapes = ((gates * units, inputs), (gates * units, units))
        limit = scale / np.sqrt(units)
        weights = [random.uniform(-limit, limit, shape).astype(np.float32) for shape in shapes]
        biases = [random.uniform(-0.3, 0.3, gates * units).astype(np.float32) for _ in range(2)]
        layers.append(RecurrentLayer(cell, *weights, *biases, np.zeros((2, units), np.float32)))
        inputs = units
    return tuple(layers)


def sigmoid(x: np.ndarray) -> np.ndarray:
    one = x.dtype.type(1)
    result: np.ndarray = one / (one + np.exp(-x))
    return result


def layer_in(dtype: Any, layer: RecurrentLayer, x_tc: np.ndarray) -> np.ndarray:
    """h (T, units) of one layer that starts from zero."""
    w_x, w_h = layer.weight_ih.astype(dtype), layer.weight_hh.astype(dtype)
    b_x, b_h = layer.bias_ih.astype(dtype), layer.bias_hh.astype(dtype)
    units = layer.units
    h, c = np.zeros(units, dtype), np.zeros(units, dtype)
    out = np.zeros((len(x_tc), units), dtype)
    for t, x in enumerate(x_tc):
        of_x, of_h = w_x @ x + b_x, w_h @ h + b_h
        if layer.cell == "lstm":
            i, f, g, o = np.split(of_x + of_h, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            (r, z, n), (r_h, z_h, n_h) = np.split(of_x, 3), np.split(of_h, 3)
            n = np.tanh(n + sigmoid(r + r_h) * n_h)
            z = sigmoid(z + z_h)
            h = (dtype(1) - z) * n + z * h
        out[t] = h
    return out


def twin(dtype: Any, layers: tuple[RecurrentLayer, ...], x: np.ndarray) -> np.ndarray:
    h_tc = np.concatenate([np.zeros(QUIET), x]).astype(dtype)[:, None]
    for layer in layers:
        h_tc = layer_in(dtype, layer, h_tc)
    head = dense(layers[-1].units).layers[0]
    assert head.bias is not None
    y: np.ndarray = h_tc @ head.weight[0, :, 0].astype(dtype) + head.bias.astype(dtype)
    return y[QUIET:]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(("units", "count"), [(8, 2), (16, 1), (16, 3), (40, 1), (96, 1)])
def test_as_accurate_as_float32(cell: str, scale: float, units: int, count: int) -> None:
    layers = layers_of(cell, units, count, scale)
    x = noise(SOUND, seed=units)
    truth = twin(np.float64, layers, x)
    plain = rms(twin(np.float32, layers, x) - truth)
    graph = ModelGraph(Sequential((Recurrent(layers), dense(units))), 48_000)
    for isa in ISAS:
        got = Player(graph, isa=isa, threads=1).render(x)
        assert rms(got - truth) <= 1.5 * plain, isa


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("count", [1, 2, 4, 5, 6])
def test_layers_and_rows_of_any_number(cell: str, count: int) -> None:
    for units in (1, 2, 3, 5, 7, 9, 12, 15, 31, 33):
        layers = layers_of(cell, units, count, 1.0)
        graph = ModelGraph(Sequential((Recurrent(layers), dense(units))), 48_000)
        x_ct = noise(33, 120, seed=units)
        rows = [Player(graph, isa=isa, threads=1).render(x_ct) for isa in ISAS]
        truth = rows[-1]
        for isa, got in zip(ISAS, rows, strict=True):
            assert rms(got - truth) <= 1e-6 * max(1.0, rms(truth)), isa
            for batch in (1, 2, 3, 8, 15, 16, 17, 32):
                few = Player(graph, isa=isa, threads=2).render(x_ct[:batch])
                np.testing.assert_array_equal(few, got[:batch])
