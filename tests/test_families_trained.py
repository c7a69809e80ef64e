"""Every family that can be trained, and what each owes: gradients that are those of finite
differences, the engine beside the module, any split and the scripted export the same to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import chorus, echo, flanger
from test_models_chain import CHORUS, GAIN, NET, ROOM
from test_models_delay import model_of, sound
from tolerances import TOLERANCES

from fxfast import ModelGraph, models
from fxfast.exchange.torchscript import export_torchscript
from fxfast.models.base import AudioModel, class_of
from fxfast.models.chain import ChainConfig, ChainModel
from fxfast.models.wavenet_config import ActivationConfig, LayerArrayConfig, plain_array
from fxfast.player import Player

RATE = 16_000
SAMPLES = 1500


def preset(name: str, **changes: object) -> AudioModel:
    made = models.create(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return class_of(made.architecture)(replace(made.config, **changes))  # type: ignore[call-arg]


def pressing() -> AudioModel:
    model = models.create("compressor")
    # Below the most that there is, and times of their own; a curve that is nowhere flat, for where
    # a gain stands still its rise and its fall meet.
    model.curve.data = -0.02 * torch.arange(65, dtype=torch.float64)
    model.rates.data = torch.tensor([0.3, 0.02, 0.4, 0.1, 0.5], dtype=torch.float64)
    return model


def short_arrays() -> tuple[LayerArrayConfig, ...]:
    """Two arrays as in A1, of few layers: the gradients of a long net take long to measure."""
    tanh = ActivationConfig("tanh")
    first = plain_array(4, [3] * 4, [1, 2, 4, 64], tanh, head_channels=2, head_bias=False)
    return first, plain_array(2, [3] * 3, [1, 8, 32], tanh)


def gating() -> AudioModel:
    model = models.create("gate")
    # A ramp of 34 steps: one of 50 ends a sample later where 50 times 0.02 is rounded below 1.
    model.rates.data = torch.tensor([0.5, 0.1, 0.03, 0.011, 0.5], dtype=torch.float64)
    model.levels = torch.tensor([0.2, 0.1, 20.0, 0.0], dtype=torch.float64)
    model.range_gain.data.fill_(0.1)
    return model


FAMILIES: dict[str, Callable[[], AudioModel]] = {
    "conv stack": lambda: models.create("tcn-16"),
    "wavenet": lambda: preset("a1-nano", arrays=short_arrays()),
    "lstm": lambda: models.create("lstm-16"),
    "gru": lambda: preset("lstm-16", cell="gru", layers=2),
    "conv and lstm": lambda: models.create("conv-lstm-24"),
    "long linear": lambda: preset("linear-200ms", seconds=300 / 48_000),
    "echo": lambda: model_of(echo()),
    "coupling": lambda: models.create("coupling"),
    "chorus": lambda: model_of(chorus()),
    "flanger": lambda: model_of(flanger()),
    "compressor": pressing,
    "gate": gating,
    "chain": lambda: ChainModel(ChainConfig((GAIN, NET, CHORUS, ROOM))),
}
every_family = pytest.mark.parametrize("name", list(FAMILIES))


def made(name: str) -> AudioModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FAMILIES[name]()


@every_family
def test_the_gradient_of_every_parameter_is_that_of_finite_differences(name: str) -> None:
    model = made(name).double()
    random = np.random.default_rng(2)
    late = model.receptive_field - 1
    for part in model.modules():
        if hasattr(part, "tables"):
            part.tables.data += 0.07  # off the samples, where the slope between them jumps
    # Away from 0, where the level of a sound has a bend.
    x = torch.from_numpy(random.uniform(0.1, 0.4, late + 150))[None, None]
    target = torch.from_numpy(0.1 * random.standard_normal(150))[None, None]

    def loss() -> torch.Tensor:
        error: torch.Tensor = (model(x)[..., -150:] - target).square().sum()
        return error

    torch.autograd.backward(loss())
    looked = 0
    for key, parameter in model.named_parameters():
        if parameter.grad is None or not parameter.numel():
            continue
        # A direction that is not that of the gradient, with a share of it so that it tells much.
        way = parameter.grad / (parameter.grad.norm() + 1e-30)
        way = way + 0.5 * torch.from_numpy(random.uniform(-1, 1, way.shape)) / way.numel() ** 0.5
        if "mix" in key:
            way.view(-1)[2:] = 0.0  # a loop that is closed stays so: test_models_delay.py
        nudge = 1e-12 if key.endswith("turn") else 1e-6
        ends = []
        for sign in (1.0, -1.0):
            with torch.no_grad():
                parameter += sign * nudge * way
                ends.append(float(loss()))
                parameter -= sign * nudge * way
        measured = (ends[0] - ends[1]) / (2 * nudge)
        found = float((parameter.grad * way).sum())
        assert found == pytest.approx(measured, rel=2e-3, abs=1e-6), key
        looked += 1
    assert looked > 0


@every_family
def test_the_engine_plays_the_module(name: str) -> None:
    model = made(name)
    late = model.receptive_field - 1
    x = np.stack([sound(late + SAMPLES, seed) for seed in (0, 1)])[:, None]
    rendered = Player(model.to_graph(RATE), mode="stream").render(x)[..., late:]
    with torch.no_grad():
        played = model(torch.from_numpy(x)).numpy()
    bound = TOLERANCES["windows_and_engine"].value * max(1.0, float(np.abs(rendered).max()))
    assert played.shape == (2, 1, SAMPLES)
    assert np.abs(played - rendered).max() <= bound


@every_family
def test_any_split_and_the_scripted_export_are_the_same_bits(name: str, tmp_path: Path) -> None:
    graph: ModelGraph = made(name).to_graph(RATE)
    x = np.stack([sound(SAMPLES, seed) for seed in (0, 1)])
    whole = Player(graph, mode="stream").render(x)
    export_torchscript(graph, tmp_path / "model.ts")
    scripted = torch.jit.load(tmp_path / "model.ts")
    for cuts in ([], [1, 8, 71, 1000, 1001], list(range(64, SAMPLES, 64))):
        stream = Player(graph, mode="stream").stream(channels=2)
        blocks = [stream.process(np.ascontiguousarray(part)) for part in np.split(x, cuts, axis=1)]
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
        state, blocks = scripted.initial_state(1, 2), []
        for part in np.split(x, cuts, axis=1):
            y, state = scripted(torch.from_numpy(part.copy())[None], state)
            blocks.append(y[0].numpy())
        np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
