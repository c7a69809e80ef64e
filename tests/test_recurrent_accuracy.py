"""Recurrent layers against the same equations in numpy, in float64 and in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nets import rms
from test_recurrent import ISAS, noise
from tolerances import TOLERANCES

from fxfast import ModelGraph, Player
from fxfast.graph import (
    CELL_GATES,
    ConvLayer,
    ConvStack,
    Recurrent,
    RecurrentLayer,
    Sequential,
)

# Silence long enough that what is settled and what starts from zero are the same.
QUIET = 1000
SOUND = 700


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
    """h (T, units) of the last layer."""
    h_tc = np.concatenate([np.zeros(QUIET), x]).astype(dtype)[:, None]
    for layer in layers:
        h_tc = layer_in(dtype, layer, h_tc)
    return h_tc[QUIET:]


def one_unit(layers: tuple[RecurrentLayer, ...], unit: int) -> ModelGraph:
    """A head passes one unit on and adds no error of its own."""
    weight = np.zeros((1, layers[-1].units, 1), np.float32)
    weight[0, unit] = 1
    return ModelGraph(Sequential((Recurrent(layers), ConvStack((ConvLayer(weight),)))), 48_000)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize(("units", "count"), [(8, 2), (16, 1), (24, 1), (40, 1), (96, 1)])
def test_as_accurate_as_float32(cell: str, scale: float, units: int, count: int) -> None:
    layers = layers_of(cell, units, count, scale)
    x = noise(SOUND, seed=units)
    seen = sorted({0, units // 3, units // 2, units - 1})
    truth = twin(np.float64, layers, x)[:, seen]
    plain = rms(twin(np.float32, layers, x)[:, seen] - truth)
    # The sums of the reference are in double.
    for isa in (isa for isa in ISAS if isa != "reference"):
        players = [Player(one_unit(layers, unit), isa=isa, threads=1) for unit in seen]
        got = np.stack([player.render(x) for player in players], axis=1)
        assert rms(got - truth) <= 1.5 * plain, isa


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("units", "count"), [(1, 1), (3, 6), (7, 5), (9, 4), (15, 2), (33, 1)])
def test_layers_and_rows_of_any_number(cell: str, units: int, count: int) -> None:
    layers = layers_of(cell, units, count, 1.0)
    x_ct = noise(33, 120, seed=units)
    truth = twin(np.float64, layers, x_ct[0])[:, units // 2]
    graph = one_unit(layers, units // 2)
    for isa in ISAS:
        player = Player(graph, isa=isa, threads=2)
        got = player.render(x_ct)
        assert rms(got[0] - truth) <= TOLERANCES["random_graph"].value * max(1.0, rms(truth)), isa
        for batch in (1, 2, 3, 8, 15, 16, 17, 32):
            np.testing.assert_array_equal(player.render(x_ct[:batch]), got[:batch])
