"""Delay nodes: equations by hand, the native file, the scripted export, inspect, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from families import chorus, echo, flanger
from tolerances import TOLERANCES

from fxfast import ModelGraph, Player, exchange
from fxfast.cli import main
from fxfast.errors import ModelError
from fxfast.graph import CYCLE, Delay, DelayVoice, Node
from fxfast.native import engine

RATE = 48_000
ISAS = [name for name, supported in engine().isas() if supported]
NODES = {"echo": echo, "chorus": chorus, "flanger": flanger}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).uniform(-1, 1, shape).astype(np.float32)


def fixed(gain: float, samples: float) -> DelayVoice:
    return DelayVoice(gain, int(samples), np.array([samples % 1.0], np.float32))


@pytest.mark.parametrize("isa", ISAS)
def test_an_echo_by_hand(isa: str) -> None:
    graph = ModelGraph(Delay((fixed(0.5, 1000),), wet=1.0, feedback=0.6), RATE)
    x = np.zeros(5000, np.float32)
    x[3] = 1.0
    y = Player(graph, isa=isa).render(x)
    expected = np.zeros(5000)
    for round_number in range(5):
        place = 3 + 1000 * round_number
        if place < 5000:
            expected[place] = 1.0 if round_number == 0 else 0.5 * 0.3 ** (round_number - 1)
    np.testing.assert_allclose(y, expected, atol=1e-7)


@pytest.mark.parametrize("isa", ISAS)
def test_a_phase_does_not_drift(isa: str) -> None:
    """After 30 s of a vibrato the voice is where the integers say."""
    table = (8 * (1 + np.sin(2 * np.pi * np.arange(64) / 64))).astype(np.float32)
    step = CYCLE // 7919 + 12_345
    graph = ModelGraph(Delay((DelayVoice(1.0, 5, table, step, 77),), 0.0, 1.0), RATE)
    samples = 1_440_000 if isa != "reference" else 144_000
    x = np.arange(samples, dtype=np.float32) / np.float32(samples)
    y = Player(graph, isa=isa, mode="stream").render(x)
    t = samples - 1
    place = ((77 + step * t) % CYCLE) / CYCLE * 64
    entry = int(place)
    late = 5 + table[entry] + (place - entry) * (float(table[(entry + 1) % 64]) - table[entry])
    assert y[t] == pytest.approx((t - late) / samples, abs=1e-7)


@pytest.mark.parametrize("name", list(NODES))
def test_the_native_file_and_the_scripted_export_play_the_same(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from fxfast.exchange.torchscript import export_torchscript

    graph = ModelGraph(NODES[name](), RATE)
    exchange.save(graph, tmp_path / "m.safetensors")
    x = noise(2, 4000)
    expected = Player(graph, mode="stream").render(x)
    again = Player(exchange.load(tmp_path / "m.safetensors"), mode="stream").render(x)
    np.testing.assert_array_equal(again, expected)
    export_torchscript(graph, tmp_path / "m.ts")  # proves itself, bit for bit
    model = torch.jit.load(tmp_path / "m.ts")
    y, _ = model(torch.from_numpy(x[None]), model.initial_state(1, 2))
    np.testing.assert_array_equal(y[0].numpy(), expected)


def test_a_stream_saves_and_restores_in_the_middle() -> None:
    player, x = Player(ModelGraph(flanger(), RATE)), noise(1, 3000)
    stream = player.stream()
    first = stream.process(x[:, :1234])
    other = player.stream()
    other.restore(stream.save())
    rest = other.process(x[:, 1234:])
    np.testing.assert_array_equal(np.concatenate([first, rest], axis=1), player.render(x))
    other.reset()
    np.testing.assert_array_equal(other.process(x), player.render(x))


def test_instruction_sets_agree() -> None:
    x = noise(5000)
    for make in NODES.values():
        graph = ModelGraph(make(), RATE)
        outputs = [Player(graph, isa=isa).render(x) for isa in ISAS]
        for other in outputs[1:]:
            assert np.abs(other - outputs[0]).max() <= TOLERANCES["random_graph"].value


def test_inspect_shows_voices_and_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = ModelGraph(flanger(), RATE)
    exchange.save(graph, tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in found["layers"]] == ["modulated voice", "feedback"]
    assert sum(row["parameters"] for row in found["layers"]) == found["parameters"]
    assert sum(row["macs_per_sample"] for row in found["layers"]) == found["macs_per_sample"]
    assert found["is_recurrent"]


REFUSED: dict[str, Node] = {
    r"voices: expected 1 to 16, got 0": Delay(()),
    r"feedback: expected a loop gain of at most 0.9999 at every frequency, got 1.2": Delay(
        (fixed(1.0, 9),), feedback=1.2
    ),
    r"voices\[0\]: expected a delay of at least 1 samples at any time": Delay(
        (fixed(1.0, 0.5),), feedback=0.5
    ),
    r"voices\[0\]: expected a delay of at least 1 samples at any time \(cubic\)": Delay(
        (fixed(1.0, 0.5),), interpolation="cubic"
    ),
    r"interpolation: expected one of linear, cubic, got 'sinc'": Delay(
        (fixed(1.0, 5),), interpolation="sinc"
    ),
    r"voices\[0\].table: expected a power of two": Delay(
        (DelayVoice(1.0, 1, np.ones(3, np.float32)),)
    ),
    r"voices\[0\].table: expected samples from 0 on, got -1": Delay(
        (DelayVoice(1.0, 5, -np.ones(2, np.float32)),)
    ),
    r"voices\[0\].step: expected an integer from 0 to": Delay(
        (replace(fixed(1.0, 5), step=CYCLE),)
    ),
    r"sections: expected g and k above 0, got 0": Delay(
        (fixed(1.0, 5),), sections=np.zeros((1, 5), np.float32)
    ),
    r"wet: expected a finite float, got nan": Delay((fixed(1.0, 5),), wet=float("nan")),
    r"expected a delay of at most 4194304 samples": Delay((fixed(1.0, 4194304.5),)),
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_nodes_are_refused_by_name(message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelGraph(REFUSED[message], RATE)
