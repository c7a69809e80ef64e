"""Recurrent models on the engine, against PyTorch in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import rms
from tolerances import TOLERANCES

from fxfast import ModelGraph, Player
from fxfast.errors import ModelError
from fxfast.graph import Activation, ConvLayer, ConvStack, Recurrent, RecurrentLayer, Sequential
from fxfast.native import engine

ISAS = [name for name, supported in engine().isas() if supported]
MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def torch_net(cell: str, units: int, layers: int, channels: int = 1) -> torch.nn.RNNBase:
    torch.manual_seed(units + 10 * layers)
    net: torch.nn.RNNBase = MODULES[cell](channels, units, layers, batch_first=True)
    return net


def node_of(cell: str, net: torch.nn.RNNBase) -> Recurrent:
    def array(name: str, layer: int) -> np.ndarray:
        found: np.ndarray = getattr(net, f"{name}_l{layer}").detach().numpy().copy()
        return found

    layers = [
        RecurrentLayer(
            cell,
            *(array(name, n) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
            initial=np.zeros((2, net.hidden_size), np.float32),
        )
        for n in range(net.num_layers)
    ]
    return Recurrent(tuple(layers))


def dense(units: int) -> ConvStack:
    return ConvStack((ConvLayer(noise(1, units, 1) * np.float32(0.5), noise(1)),))


def truth_of(net: torch.nn.RNNBase, head: ConvStack, x_ct: np.ndarray) -> np.ndarray:
    """Silence first, long enough to settle, then x (C, T), in float64."""
    layer = head.layers[0]
    assert layer.bias is not None
    quiet = np.zeros((x_ct.shape[0], 3000))
    with torch.no_grad():
        h, _ = net.double()(torch.from_numpy(np.concatenate([quiet, x_ct], axis=1).T[None]))
    result: np.ndarray = h[0].numpy() @ layer.weight[0, :, 0].astype(np.float64) + layer.bias[0]
    return result[quiet.shape[1] :]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("units", "layers"), [(1, 1), (8, 2), (16, 1), (17, 1), (40, 2)])
def test_equals_pytorch(cell: str, units: int, layers: int) -> None:
    net = torch_net(cell, units, layers)
    head = dense(units)
    graph = ModelGraph(Sequential((node_of(cell, net), head)), 48_000)
    assert graph.is_recurrent
    x = noise(600)
    truth = truth_of(net, head, x[None])
    for isa in ISAS:
        got = Player(graph, isa=isa).render(x)
        assert rms(got - truth) <= TOLERANCES["random_graph"].value * max(1.0, rms(truth))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_after_a_convolution_any_split_threads_and_batch_give_the_same_bits(cell: str) -> None:
    front = ConvStack((ConvLayer(noise(3, 1, 4), noise(3), 7, Activation("tanh")),))
    net = torch_net(cell, 9, 1, channels=3)
    graph = ModelGraph(Sequential((front, node_of(cell, net), dense(9))), 48_000)
    x = noise(2, 20_000)
    for isa in ISAS[:2]:
        player = Player(graph, isa=isa, threads=2)
        whole = player.render(x)
        np.testing.assert_array_equal(player.render(x[1]), whole[1])
        stream = player.stream(2)
        blocks = [stream.process(x[:, t : t + 333]) for t in range(0, x.shape[1], 333)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


def test_starts_settled() -> None:
    graph = ModelGraph(Sequential((node_of("lstm", torch_net("lstm", 8, 1)), dense(8))), 48_000)
    y = Player(graph).render(np.zeros(2000, np.float32))
    assert np.ptp(y) <= 1e-6
    assert y[0] != 0


def test_a_wrong_shape_is_named() -> None:
    node = node_of("gru", torch_net("gru", 4, 1))
    layer = node.layers[0]
    wrong = RecurrentLayer(
        "lstm", layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh, layer.initial
    )
    with pytest.raises(ModelError, match=r"layers\[0\].weight_hh: expected shape \(16, 4\)"):
        ModelGraph(Sequential((Recurrent((wrong,)), dense(4))), 48_000)
