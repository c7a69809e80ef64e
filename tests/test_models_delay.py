"""Echo and chorus models: the module against the engine, gradients, the graph, the fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from families import chorus, echo, flanger
from tolerances import TOLERANCES

from fxfast import ModelGraph, models
from fxfast.data import Piece
from fxfast.errors import ModelError, PairError
from fxfast.graph import Delay, DelayVoice, Linear
from fxfast.models.chorus import ChorusModel
from fxfast.models.delay_line import DelayConfig, DelayModel
from fxfast.models.modulated_fit import Chorus, Swing, find_chorus, read_between
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import TrainConfig, train

RATE = 16_000
NODES = {"echo": echo, "chorus": chorus, "flanger": flanger}


def model_of(node: Delay) -> DelayModel:
    return ChorusModel.from_graph(ModelGraph(node, RATE))


def sound(samples: int, seed: int = 0) -> np.ndarray:
    """Noise with less at high frequencies, as of a string."""
    noise = np.random.default_rng(seed).standard_normal(samples + 64)
    shaped = np.convolve(noise, np.exp(-np.arange(65) / 8.0), "valid")
    found: np.ndarray = (0.05 * shaped).astype(np.float32)
    return found


@pytest.mark.parametrize("name", list(NODES))
def test_forward_the_twin_and_the_engine_agree(name: str) -> None:
    model = model_of(NODES[name]())
    x = torch.randn(2, 1, 1500)
    rendered = Player(model.to_graph(RATE)).render(x.numpy())
    for module in (model, model.as_torch()):
        with torch.no_grad():
            error = np.abs(module(x).numpy() - rendered).max()
        assert error <= TOLERANCES["windows_and_engine"].value * np.abs(rendered).max()


@pytest.mark.parametrize("name", list(NODES))
def test_the_graph_round_trip_is_exact(name: str) -> None:
    graph = ModelGraph(NODES[name](), RATE)
    node = models.from_graph(graph).to_graph(RATE).root
    assert isinstance(node, Delay)
    assert isinstance(graph.root, Delay)
    for key in ("dry", "wet", "wet_filtered", "feedback", "interpolation"):
        assert getattr(node, key) == getattr(graph.root, key)
    for one, other in zip(node.voices, graph.root.voices, strict=True):
        np.testing.assert_array_equal(one.table, other.table)
        assert (one.gain, one.base_samples, one.step, one.start) == (
            *(other.gain, other.base_samples, other.step, other.start),
        )
    if node.sections is not None:
        np.testing.assert_array_equal(node.sections, graph.root.sections)


@pytest.mark.parametrize("name", list(NODES))
def test_the_gradient_is_that_of_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    model = model_of(NODES[name]()).double()
    model.tables.data += 0.07  # off the samples, where the slope between them jumps
    x = torch.randn(1, 1, 90, dtype=torch.float64)
    target = torch.randn(1, 1, 90, dtype=torch.float64)

    def loss() -> torch.Tensor:
        error: torch.Tensor = (model(x) - target).square().sum()
        return error

    torch.autograd.backward(loss())
    for key, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None:
            assert parameter.numel() == 0
            continue
        for index in range(0, parameter.numel(), max(1, parameter.numel() // 2)):
            if (key, index, name) == ("mix", 3, "chorus"):
                assert float(gradient[index]) == 0.0  # a loop that is closed stays so
                continue
            # A cycle per sample turns a phase a lot in 90 samples.
            nudge = 1e-10 if key == "turn" else 1e-6
            ends = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter.view(-1)[index] += sign * nudge
                    ends.append(float(loss()))
                    parameter.view(-1)[index] -= sign * nudge
            measured = (ends[0] - ends[1]) / (2 * nudge)
            found = float(gradient.view(-1)[index])
            assert found == pytest.approx(measured, rel=5e-3, abs=1e-5), (key, index)


def test_a_delay_of_zero_rate_is_refused_elsewhere() -> None:
    with pytest.raises(ModelError, match="graph: expected a delay, got linear"):
        ChorusModel.from_graph(ModelGraph(Linear(np.ones(3, np.float32)), RATE))
    with pytest.raises(ModelError, match="voices: expected an integer from 1 to 16, got 0"):
        ChorusModel(DelayConfig(0))
    with pytest.raises(ModelError, match="config: expected the fields of DelayConfig"):
        models.from_description({"architecture": "chorus", "config": {}})


@pytest.mark.parametrize("points", [2, 4])
def test_the_slope_between_samples_is_that_of_finite_differences(points: int) -> None:
    u, place = np.random.default_rng(1).standard_normal(50), np.linspace(5.31, 40.17, 17)
    value, slope = read_between(u, place, points)
    ahead, behind = (read_between(u, place + d, points)[0] for d in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, atol=1e-6)
    np.testing.assert_allclose(read_between(u, np.array([7.0]), points)[0], u[7], atol=1e-12)
    assert value.shape == place.shape


def pieces_of(dry: np.ndarray, wet: np.ndarray, border: int) -> tuple[list[Piece], list[Piece]]:
    wet = wet.astype(np.float32)
    first = Piece("a", 0, dry[:border], wet[:border], dry[:border])
    return [first], [Piece("a", border, dry[border:], wet[border:], dry)]


def swinging(samples: int, triangle: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Dry, and wet with a copy 6 ms late that swings by 0.8 ms 1.7 times a second."""
    dry, time = sound(samples).astype(np.float64), np.arange(samples)
    turn = 1.7 * time / RATE + 0.3
    swing = np.sin(2 * np.pi * turn)
    if triangle:
        swing = 4 * np.abs(np.mod(turn, 1.0) - 0.5) - 1
    copy, _ = read_between(dry, time - 96.3 - 12.8 * swing, 4)
    return dry.astype(np.float32), (0.8 * dry + 0.5 * copy).astype(np.float32)


@pytest.mark.parametrize("triangle", [False, True])
def test_the_fit_finds_a_swing(triangle: bool) -> None:
    dry, wet = swinging(8 * RATE, triangle)
    notes: list[float] = []
    found = find_chorus(*pieces_of(dry, wet, 6 * RATE), RATE, 1, lambda s, _: notes.append(s))
    assert notes == sorted(notes)
    (voice,) = found.voices
    assert voice.rate * RATE == pytest.approx(1.7, rel=1e-3)
    assert voice.centre == pytest.approx(96.3, abs=0.2)
    assert found.dry_gain == pytest.approx(0.8, abs=1e-3)
    assert voice.gain == pytest.approx(0.5, abs=2e-3)
    node = models.from_graph(ModelGraph(model_of_found(found), RATE)).to_graph(RATE)
    rendered = Player(node).render(dry)[7 * RATE :]
    error = np.sum((rendered - wet[7 * RATE :]) ** 2) / np.sum(wet[7 * RATE :] ** 2)
    assert error < (2e-3 if triangle else 1e-5)


def model_of_found(found: Chorus) -> Delay:
    from fxfast.models.chorus import node_of

    return node_of(found)


def test_a_run_scores_from_the_start_of_the_effect(tmp_path: Path) -> None:
    dry, wet = swinging(10 * RATE)
    config = TrainConfig(train_fraction=0.6, validation_fraction=0.2, test_fraction=0.2)
    result = train(config, [Pair("a", dry, wet, RATE)], models.create("chorus"), tmp_path / "run")
    assert result.test_esr < 1e-5
    assert result.best_gain_esr > 0.05
    again = train(config, [Pair("a", dry, wet, RATE)], models.create("chorus"), tmp_path / "run",
                  resume=True)  # fmt: skip
    assert again.test_esr == result.test_esr


def test_a_wet_without_a_swing_is_refused() -> None:
    dry = sound(4 * RATE)
    model = models.create("chorus")
    with pytest.raises(PairError, match="pairs: expected a copy of dry in wet whose delay swings"):
        model.fit(*pieces_of(dry, np.float32(0.5) * dry, 3 * RATE), RATE, lambda s, n: None)
    with pytest.raises(PairError, match=r"pairs: expected at least 1 s in a row"):
        model.fit(*pieces_of(dry[:2000], dry[:2000], 1500), RATE, lambda s, n: None)


def test_a_negative_rate_plays_backwards() -> None:
    from fxfast.models.chorus import node_of

    waves = np.array([[3.0, 1.0]])
    back = node_of(Chorus(1.0, (Swing(0.5, -1 / 500, 20.0, waves),)))
    ahead = node_of(Chorus(1.0, (Swing(0.5, 1 / 500, 20.0, waves * [-1.0, 1.0]),)))
    for one, other in zip(back.voices, ahead.voices, strict=True):
        assert isinstance(one, DelayVoice)
        np.testing.assert_allclose(one.table, other.table, atol=1e-6)
        assert one.step == other.step
