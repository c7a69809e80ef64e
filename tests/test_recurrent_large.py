"""Recurrent nets of the largest shapes: to the native file and back, and beside torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES

from fxfast import exchange, models
from fxfast.cli import main
from fxfast.graph import (
    Activation,
    ConvLayer,
    ConvStack,
    ModelGraph,
    Recurrent,
    RecurrentLayer,
    Sequential,
)
from fxfast.player import Player

SILENCE, SAMPLES = 256, 64


def audio(count: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.5, 0.5, count).astype(np.float32)


@pytest.mark.slow
def test_six_layers_of_800_units_with_a_deep_head(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models.create("lstm-6x800", seed=0)
    path = tmp_path / "large.safetensors"
    exchange.save(model.to_graph(48_000), path)
    assert main(["inspect", str(path)]) == 0
    assert "800" in capsys.readouterr().out
    x = audio(SAMPLES)
    y = Player(exchange.load(path), threads=1).render(x)
    settled = np.concatenate([np.zeros(SILENCE, np.float32), x])
    with torch.no_grad():
        found, _ = model.forward_from(torch.from_numpy(settled)[None, None], model.initial_state(1))
        expected = found.numpy()[0, 0, -SAMPLES:]
    error = np.abs(y - expected).max() / np.abs(expected).max()
    assert error <= TOLERANCES["large_recurrent"].value


def test_1024_units_in_one_layer() -> None:
    units = 1024
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(units))

    layer = RecurrentLayer(
        "lstm",
        weights(4 * units, 1) * 8,
        weights(4 * units, units),
        weights(4 * units),
        weights(4 * units),
        np.zeros((2, units), np.float32),
    )
    head = weights(1, units, 1)
    graph = ModelGraph(
        Sequential(
            (
                Recurrent((layer,)),
                ConvStack((ConvLayer(head, np.zeros(1, np.float32), 1, Activation("none")),)),
            )
        ),
        48_000,
    )
    x = audio(SAMPLES)
    y = Player(graph, threads=1).render(x)
    net = torch.nn.LSTM(1, units)
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.from_numpy(layer.weight_ih))
        net.weight_hh_l0.copy_(torch.from_numpy(layer.weight_hh))
        net.bias_ih_l0.copy_(torch.from_numpy(layer.bias_ih))
        net.bias_hh_l0.copy_(torch.from_numpy(layer.bias_hh))
        net.double()
        settled = np.concatenate([np.zeros(SILENCE, np.float32), x]).astype(np.float64)
        h, _ = net(torch.from_numpy(settled)[:, None])
        expected = h[-SAMPLES:].numpy() @ head[0, :, 0].astype(np.float64)
    error = np.abs(y - expected).max() / np.abs(expected).max()
    assert error <= TOLERANCES["large_recurrent"].value
