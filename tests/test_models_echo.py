"""The echo model: derivatives, what a fit finds, a run, a kill in the middle of a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_models_delay import RATE, pieces_of, sound

from fxfast import ModelGraph, models
from fxfast.errors import PairError
from fxfast.graph import Delay
from fxfast.models.delay_line import fixed_voice
from fxfast.models.echo_fit import Echo, derivatives, find_echo, response_of
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import Observer, TrainConfig, train

# A low-pass of 1.5 kHz at RATE; a shelf that no Butterworth filter is.
LOW = np.array([[0.303, 1.414, 0.0, 0.0, 1.0]])
SHELF = np.array([[0.5, 1.1, 0.6, 0.1, 0.3]])
HIGH = np.array([[0.03, 1.414, 1.0, -1.414, -1.0]])


def echo(sections: np.ndarray, mix: tuple[float, ...], points: int = 2) -> Echo:
    return Echo(np.array(mix), sections, points)


ECHOES = {
    "plain": echo(np.zeros((0, 5)), (0.9, 0.5, 0.0, 0.55, 3210.0)),
    "low-pass, between samples": echo(LOW, (0.8, 0.0, 0.6, 0.7, 2345.3)),
    "high-pass and shelf": echo(np.concatenate([HIGH, SHELF]), (1.0, 0.3, 0.1, -0.6, 1777.0)),
    "wet alone": echo(LOW, (0.0, 0.7, 0.0, 0.5, 4000.0)),
}


def played(found: Echo, dry: np.ndarray) -> np.ndarray:
    y: np.ndarray = Player(ModelGraph(found.node(), RATE), threads=1).render(dry)
    return y


@pytest.mark.parametrize("points", [2, 4])
@pytest.mark.parametrize("name", list(ECHOES))
def test_the_derivatives_are_those_of_finite_differences(name: str, points: int) -> None:
    found, angles = replace(ECHOES[name], points=points), np.linspace(0.0, np.pi, 41)
    found.mix[4] = np.floor(found.mix[4]) + 0.3  # on a sample the slope jumps
    value, slopes = derivatives(found, angles)
    np.testing.assert_allclose(value, response_of(found, angles), atol=1e-12)
    for index, slope in enumerate(slopes):
        ends = []
        for sign in (1e-6, -1e-6):
            mix, sections = found.mix.copy(), found.sections.copy()
            place = index - 5
            if index < 5:
                mix[index] += sign
            elif place % 5 < 2:
                sections.reshape(-1)[place] *= np.exp(sign)
            else:
                sections.reshape(-1)[place] += sign
            ends.append(response_of(Echo(mix, sections, points), angles))
        np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, atol=2e-4)


@pytest.mark.parametrize("name", list(ECHOES))
def test_the_closed_form_is_what_the_engine_plays(name: str) -> None:
    click = np.zeros(1 << 18, np.float32)
    click[0] = 1.0
    found = np.fft.rfft(played(ECHOES[name], click).astype(np.float64))
    angles = 2 * np.pi * np.arange(len(found)) / len(click)
    np.testing.assert_allclose(response_of(ECHOES[name], angles), found, atol=2e-5)


@pytest.mark.parametrize("name", list(ECHOES))
def test_a_fit_recovers_an_echo(name: str) -> None:
    dry = sound(6 * RATE)
    wet = played(ECHOES[name], dry)
    notes: list[float] = []
    pieces = pieces_of(dry[: 5 * RATE], wet[: 5 * RATE], 4 * RATE)
    found = find_echo(*pieces, RATE, lambda share, _: notes.append(share))
    assert found is not None
    assert notes == sorted(notes)
    error = played(found, dry)[5 * RATE :] - wet[5 * RATE :]
    assert np.sum(error**2) < 1e-4 * np.sum(wet[5 * RATE :] ** 2)


def test_noise_in_wet_does_not_move_an_echo() -> None:
    dry = sound(6 * RATE)
    clean = played(ECHOES["low-pass, between samples"], dry)
    noise = np.random.default_rng(5).standard_normal(len(dry)) * 0.1 * np.std(clean)
    found = find_echo(*pieces_of(dry, clean + noise, 5 * RATE), RATE, lambda *_: None)
    assert found is not None
    assert np.sum((played(found, dry) - clean) ** 2) < 1e-3 * np.sum(clean**2)


def test_wet_without_an_echo_and_too_little_audio_are_refused() -> None:
    dry = sound(4 * RATE)
    model = models.create("delay")
    with pytest.raises(PairError, match="pairs: expected a copy of dry in wet some milliseconds"):
        model.fit(*pieces_of(dry, np.float32(0.5) * dry, 3 * RATE), RATE, lambda s, n: None)
    with pytest.raises(PairError, match=r"pairs: expected at least 1 s in a row"):
        model.fit(*pieces_of(dry[:2000], dry[:2000], 1500), RATE, lambda s, n: None)


def test_a_run_killed_in_its_fit_ends_as_one_that_was_not(tmp_path: Path) -> None:
    class Stop(Observer):
        def on_fit(self, share: float, note: str) -> None:
            if share > 0.4:
                raise KeyboardInterrupt

    dry = sound(6 * RATE)
    pairs = [Pair("a", dry, played(ECHOES["plain"], dry), RATE)]
    whole = train(TrainConfig(), pairs, models.create("delay"), tmp_path / "whole")
    assert whole.test_esr < 1e-9
    assert whole.stopped_by == "fit"
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(), pairs, models.create("delay"), tmp_path / "cut", observers=[Stop()])
    cut = train(TrainConfig(), pairs, models.create("delay"), tmp_path / "cut", resume=True)
    assert cut.test_esr == whole.test_esr
    names = [tmp_path / name / "model.safetensors" for name in ("whole", "cut")]
    assert names[0].read_bytes() == names[1].read_bytes()


def test_a_graph_of_an_echo_goes_on_as_an_echo() -> None:
    graph = ModelGraph(Delay((fixed_voice(1.0, 99.5),), feedback=0.25, sections=LOW.astype("f4")),
                       RATE)  # fmt: skip
    again = models.from_graph(graph, architecture="delay").to_graph(RATE)
    x = sound(3000)
    np.testing.assert_array_equal(Player(again).render(x), Player(graph).render(x))
