"""Compressors and gates as models: gradients, the engine beside them, and what a fit finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pair_audio import RATE, guitar
from tolerances import TOLERANCES

from fxfast import models
from fxfast.data.dataset import Piece
from fxfast.follow_ops import GateSettings, follow, follow_reference, gate, gate_reference
from fxfast.graph import Compressor, ModelGraph
from fxfast.pairs.effects import EFFECTS
from fxfast.player import Player

SETTINGS = GateSettings(0.6, 0.3, 5, False)


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(0.0, 1.0, shape))


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def test_follow_is_its_twin_and_has_its_gradients() -> None:
    x, start = noise(2, 40).requires_grad_(), (0.3 * noise(2)).requires_grad_()
    numbers = (number(0.3), number(0.05))
    torch.testing.assert_close(follow(x, start, *numbers), follow_reference(x, start, *numbers))
    assert torch.autograd.gradcheck(follow, (x, start, *numbers))


@pytest.mark.parametrize("exponential", [False, True])
def test_gate_is_its_twin_and_has_its_gradients(exponential: bool) -> None:
    settings, levels = SETTINGS._replace(exponential=exponential), noise(2, 60)
    numbers = (number(0.037), number(0.013))
    torch.testing.assert_close(
        gate(levels, *numbers, settings), gate_reference(levels, *numbers, settings)
    )
    assert torch.autograd.gradcheck(lambda a, b: gate(levels, a, b, settings), numbers)


@pytest.mark.parametrize("name", ["compressor", "gate"])
def test_the_engine_plays_the_model(name: str) -> None:
    model = models.create(name)
    x = guitar(1.0)
    with torch.no_grad():
        expected = model(torch.from_numpy(x)[None, None])[0, 0].numpy()
    graph = model.to_graph(RATE)
    played = Player(graph, threads=1).render(x)
    assert np.abs(played - expected).max() <= TOLERANCES["windows_and_engine"].value
    again = models.from_graph(graph).to_graph(RATE)
    np.testing.assert_array_equal(Player(again, threads=1).render(x), played)


def test_a_compressor_that_averages_is_found() -> None:
    dry = guitar(8.0)
    curve = (-0.75 * np.maximum(np.linspace(-16, 0, 65) + 5, 0)).astype(np.float32)
    node = Compressor("peak", 0.02, 4e-4, 1.0, 1.0, -16.0, 4.0, curve, detector_average=2e-4)
    wet = Player(ModelGraph(node, RATE), threads=1).render(dry)
    model = models.create("compressor")
    model.fit([Piece("a", 0, dry, wet, dry)], [], RATE, lambda share, note: None)
    found = model.to_graph(RATE)
    played = Player(found, threads=1).render(dry)
    assert float(np.square(wet - played).sum()) < 5e-5 * float(np.square(wet).sum())
    root = found.root
    assert isinstance(root, Compressor)
    assert root.detector_average == pytest.approx(2e-4, rel=0.2)


@pytest.mark.parametrize(("effect", "most"), [("compressor", 0.25), ("gate", 0.5)])
def test_a_fit_is_better_than_the_best_gain(effect: str, most: float) -> None:
    dry = guitar(4.0)
    wet = EFFECTS[effect](dry, RATE)
    model = models.create(effect)
    model.fit([Piece("a", 0, dry, wet, dry)], [], RATE, lambda share, note: None)
    played = Player(model.to_graph(RATE), threads=1).render(dry)
    gain = float(dry @ wet) / float(dry @ dry)
    of_gain = float(np.square(wet - gain * dry).sum())
    assert float(np.square(wet - played).sum()) < most * of_gain
