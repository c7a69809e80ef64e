"""LongLinear: the fit, the gradient, the graph, the run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from nets import rms
from scipy.signal import lfilter
from tolerances import TOLERANCES

from fxfast import models
from fxfast.data import Piece
from fxfast.errors import InputError, PairError
from fxfast.graph import Linear
from fxfast.models.long_linear import LongLinear, LongLinearConfig
from fxfast.models.long_linear_fit import least_squares
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import TrainConfig, train

RATE = 8000


def coloured(samples: int, seed: int = 0) -> np.ndarray:
    """Noise with 40 dB less at high frequencies, over a floor: what makes plain steps slow."""
    noise = np.random.default_rng(seed).standard_normal((2, samples))
    found: np.ndarray = (0.1 * lfilter([0.05], [1, -0.95], noise[0]) + 1e-4 * noise[1]).astype("f4")
    return found


def room(taps: int = 900) -> np.ndarray:
    decay = 10.0 ** (-2.0 * np.arange(taps) / taps)
    found: np.ndarray = 0.1 * np.random.default_rng(7).standard_normal(taps) * decay
    found[0] = 1.0
    return found


def piece_of(dry: np.ndarray, wet: np.ndarray, start: int = 0) -> Piece:
    return Piece("a", start, dry[start:], wet[start:].astype(np.float32), dry)


def quiet(share: float, note: str) -> None:
    assert 0.0 <= share <= 1.0
    assert note


def tiny(taps: int = 9) -> LongLinear:
    model = LongLinear(LongLinearConfig(taps / 48_000))
    assert model.receptive_field == taps
    return model


def test_the_fit_finds_the_response_of_coloured_audio() -> None:
    h, dry = room(), coloured(40_000)
    wet = lfilter(h, [1.0], dry)
    pieces = [piece_of(dry[:30_000], wet[:30_000])], [piece_of(dry, wet, 30_000)]
    found = least_squares(*pieces, 2000, quiet)
    assert found.validation_esr < 1e-6
    assert 880 <= found.taps.size <= 1000  # the tail that is not there is left out
    assert rms(found.taps[:900] - h[: found.taps.size]) < 2e-3 * rms(h)


def test_a_piece_that_starts_late_hears_what_was_before() -> None:
    h, dry = room(), coloured(30_000)
    wet = lfilter(h, [1.0], dry)
    late = piece_of(dry[:25_000], wet[:25_000], 3000)
    found = least_squares([late], [piece_of(dry, wet, 25_000)], 1000, quiet)
    assert found.validation_esr < 1e-6


def test_noise_in_wet_is_not_learnt() -> None:
    h, dry = room(), coloured(20_000)
    clean = lfilter(h, [1.0], dry)
    noise = 0.1 * rms(clean) * np.random.default_rng(3).standard_normal(clean.size)
    wet = clean + noise
    found = least_squares([piece_of(dry[:12_000], wet[:12_000])],
                          [piece_of(dry, wet, 12_000)], 2000, quiet)  # fmt: skip
    predicted = lfilter(found.taps, [1.0], dry)
    # Least squares of 2000 taps from 12,000 samples makes 0.45 of the noise its own; of the 900
    # that there are, 0.3.
    assert rms((predicted - clean)[12_000:]) < 0.42 * rms(noise)


def test_the_gradient_is_that_of_finite_differences() -> None:
    model = tiny().double()
    x = torch.randn(2, 1, 30, dtype=torch.float64, requires_grad=True)
    parameters = tuple(model.parameters())

    def output(x_bct: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = model(x_bct)
        return found

    assert torch.autograd.gradcheck(output, (x, *parameters))


def test_forward_the_twin_and_the_engine_agree() -> None:
    model = tiny(700)
    model.bias.data.fill_(0.25)
    x = torch.randn(2, 1, 2000)
    rendered = Player(model.to_graph(RATE)).render(x.numpy())[..., 699:]
    for module in (model, model.as_torch()):
        error = np.abs(module(x).detach().numpy() - rendered).max()
        assert error <= TOLERANCES["windows_and_engine"].value * np.abs(rendered).max()
    with pytest.raises(InputError, match=r"x: expected shape \(B, 1, T\) with T of at least 700"):
        model(x[..., :600])


def test_a_long_twin_is_the_same() -> None:
    model = tiny(3000)
    x = torch.randn(1, 1, 4000)
    with torch.no_grad():
        error = float((model.as_torch()(x) - model(x)).abs().max())
    assert error <= TOLERANCES["windows_and_engine"].value


def test_the_graph_round_trip_is_exact() -> None:
    graph = tiny(50).to_graph(RATE)
    again = models.from_graph(graph)
    assert isinstance(again, LongLinear)
    root, other = graph.root, again.to_graph(RATE).root
    assert isinstance(root, Linear)
    assert isinstance(other, Linear)
    np.testing.assert_array_equal(root.taps, other.taps)
    described = models.from_description(models.describe(again))
    assert described.config == again.config


def test_a_run_leaves_a_model_and_resumes_to_it(tmp_path: Path) -> None:
    dry = coloured(40_000)
    pair = Pair("a", dry, lfilter(room(), [1.0], dry).astype(np.float32), RATE)
    result = train(TrainConfig(), [pair], models.create("linear-2s"), tmp_path / "run")
    assert result.test_esr < 1e-6
    assert result.stopped_by == "fit"
    again = train(TrainConfig(), [pair], models.create("linear-2s"), tmp_path / "run", resume=True)
    assert again.test_esr == result.test_esr


def test_too_little_audio_is_named(tmp_path: Path) -> None:
    dry = coloured(400)
    with pytest.raises(PairError, match=r"pairs: expected at least 0.05 s in a row in the train"):
        train(
            TrainConfig(), [Pair("a", dry, dry, RATE)], models.create("linear-2s"), tmp_path / "r"
        )
