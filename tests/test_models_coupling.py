"""The coupling model: what it plays, what a fit finds, and a chain that has one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import butter, lfilter
from test_models_delay import RATE, pieces_of, sound
from tolerances import TOLERANCES

from fxfast import ModelGraph, exchange, models
from fxfast.errors import PairError
from fxfast.exchange.torchscript import export_torchscript
from fxfast.graph import Delay
from fxfast.models.coupling import node_of
from fxfast.player import Player


def high_passed(x: np.ndarray, corner_hz: float) -> np.ndarray:
    return np.asarray(lfilter(*butter(1, corner_hz / (RATE / 2), "high"), x))


@pytest.mark.parametrize("corner_hz", [0.5, 3.0, 40.0])
def test_the_engine_plays_a_high_pass_of_one_pole(corner_hz: float) -> None:
    x = sound(2 * RATE)
    played = Player(ModelGraph(node_of(0.7, corner_hz, RATE), RATE)).render(x)
    error = np.abs(played - 0.7 * high_passed(x, corner_hz)).max()
    assert error <= TOLERANCES["windows_and_engine"].value


def test_a_fit_finds_corner_and_gain() -> None:
    dry = sound(8 * RATE)
    wet = (0.6 * high_passed(dry, 7.0)).astype(np.float32)
    model = models.create("coupling")
    shares: list[float] = []
    model.fit(*pieces_of(dry, wet, 6 * RATE), RATE, lambda share, _: shares.append(share))
    assert shares == sorted(shares)
    played = Player(model.to_graph(RATE)).render(dry)
    assert np.sum((played - wet)[6 * RATE :] ** 2) < 1e-4 * np.sum(wet[6 * RATE :] ** 2)
    assert float(model.mix[0].detach()) == pytest.approx(0.6, rel=0.01)
    corner = float(torch.atan(model.sections[0, 0].detach())) * RATE / np.pi
    assert corner == pytest.approx(7.0, rel=0.12)  # the corners that are tried are so far apart
    with pytest.raises(PairError, match=r"expected at least 0.5 s in a row .* to find a coupling"):
        model.fit(*pieces_of(dry[:2000], wet[:2000], 1500), RATE, lambda s, n: None)


def test_module_file_export_and_split_are_those_of_the_engine(tmp_path: Path) -> None:
    model, x = models.create("coupling"), sound(3000)
    graph = model.to_graph(RATE)
    whole = Player(graph, mode="stream").render(x)
    with torch.no_grad():
        made = model(torch.from_numpy(x)[None, None]).numpy()[0, 0]
    assert np.abs(made - whole).max() <= TOLERANCES["windows_and_engine"].value
    exchange.save(graph, tmp_path / "m.safetensors")
    again = models.from_graph(exchange.load(tmp_path / "m.safetensors"))
    assert again.architecture == "coupling"
    assert isinstance(again.to_graph(RATE).root, Delay)
    np.testing.assert_array_equal(Player(again.to_graph(RATE), mode="stream").render(x), whole)
    export_torchscript(graph, tmp_path / "m.ts")  # proves itself, bit for bit
    stream = Player(graph, mode="stream").stream()
    blocks = [stream.process(part[None]) for part in np.split(x, [1, 8, 71, 1000])]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1)[0], whole)


def test_a_compressor_into_a_coupling_is_found() -> None:
    compressor = models.create("compressor")
    compressor.curve.data[:] = -0.5 * torch.relu(torch.arange(65) / 4.0 - 11.0)
    loudness = 0.2 + np.abs(np.sin(np.arange(6 * RATE) / 9000.0))
    dry = (sound(6 * RATE) * loudness).astype(np.float32)
    pressed = Player(compressor.to_graph(RATE), threads=1).render(dry)
    wet = high_passed(pressed, 5.0).astype(np.float32)
    model = models.create("compressor+coupling")
    model.fit(*pieces_of(dry, wet, 4 * RATE), RATE, lambda s, n: None)
    played = Player(model.to_graph(RATE), threads=1).render(dry)
    error = np.sum((played - wet)[4 * RATE :] ** 2) / np.sum(wet[4 * RATE :] ** 2)
    assert error < 0.002
