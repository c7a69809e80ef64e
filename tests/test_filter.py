"""Long FIR filters: the promises of the engine, for every length and instruction set."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nam_documents import document
from nets import rms
from programs import check_program, run_program
from scipy.signal import oaconvolve
from tolerances import TOLERANCES
from wavenets import random_stack

from fxfast import ModelGraph, Player, exchange
from fxfast.cli import main
from fxfast.graph import Linear, Residual, Sequential
from fxfast.lowering import lower
from fxfast.native import engine
from fxfast.program import MIN_FILTER_TAPS, ConvOp, FilterOp

RATE = 48_000
ISAS = [name for name, supported in engine().isas() if supported]
LENGTHS = [1, 2, 63, 64, 65, 127, 128, 129, 500, 4095, 4096, 4097, 20_000, 96_000]
BLOCKS = [1, 7, 48, 64, 65, 192, 1000, 4096]


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def response(taps: int, decay_db: float = 60.0) -> np.ndarray:
    """Noise that decays, as of a room, of unit energy."""
    h = noise(taps, seed=2) * 10.0 ** (-decay_db / 20 * np.arange(taps) / taps)
    return (h / np.sqrt((h**2).sum())).astype(np.float32)


def filter_graph(taps: int, bias: float = 0.0, decay_db: float = 60.0) -> ModelGraph:
    return ModelGraph(Linear(response(taps, decay_db), bias), RATE)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def plain_float32(x: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Every output sample as a float32 dot product; of very long responses, numpy's own."""
    if h.size > 5000:
        return np.convolve(x, h)[: x.size]
    past = np.concatenate([np.zeros(h.size - 1, np.float32), x])
    windows = np.lib.stride_tricks.sliding_window_view(past, h.size)
    y: np.ndarray = np.ascontiguousarray(windows) @ np.ascontiguousarray(h[::-1])
    return y


@pytest.mark.parametrize("mode", ["stream", "offline"])
@pytest.mark.parametrize("decay_db", [60.0, 0.0])
@pytest.mark.parametrize("taps", LENGTHS)
def test_as_accurate_as_plain_float32(isa: str, taps: int, decay_db: float, mode: str) -> None:
    x = noise(4000 + taps // 2 if isa != "reference" else 3000)
    h = response(taps, decay_db)
    truth = oaconvolve(x.astype(np.float64), h.astype(np.float64))[: x.size] + 0.25
    plain = rms(plain_float32(x, h) + np.float32(0.25) - truth)
    player = Player(filter_graph(taps, 0.25, decay_db), isa=isa, mode=mode)
    ours = rms(player.render(x) - truth)
    assert ours <= TOLERANCES["float32_ratio"].value * plain


@pytest.mark.parametrize("taps", [MIN_FILTER_TAPS, 129, 700, 4097, 40_000])
def test_every_split_gives_the_same_bits(isa: str, taps: int) -> None:
    samples = 3000 if isa == "reference" else 50_000
    player = Player(filter_graph(taps), isa=isa, mode="stream")
    x = noise(samples)
    expected = player.render(x)
    for block in BLOCKS[1:]:
        stream = player.stream()
        parts = [stream.process(x[t : t + block]) for t in range(0, samples, block)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 3000), max_size=12),
    taps=st.integers(MIN_FILTER_TAPS, 3000),
    seed=st.integers(0, 99),
)
def test_any_split_gives_the_same_bits(cuts: list[int], taps: int, seed: int) -> None:
    x = noise(3000, seed=seed)
    for isa in ISAS:
        player = Player(filter_graph(taps, 0.5), isa=isa)
        stream = player.stream()
        pieces = [stream.process(x[a:b]) for a, b in pairwise([0, *sorted(cuts), 3000])]
        np.testing.assert_array_equal(np.concatenate(pieces), player.render(x))


def test_one_sample_at_a_time(isa: str) -> None:
    player = Player(filter_graph(900), isa=isa)
    stream, x = player.stream(), noise(2000)
    got = np.concatenate([stream.process(x[t : t + 1]) for t in range(x.size)])
    np.testing.assert_array_equal(got, player.render(x))


@pytest.mark.parametrize(("taps", "mode"), [(300, "stream"), (5000, "stream"), (5000, "offline")])
def test_threads_and_batch_change_no_bit(isa: str, taps: int, mode: str) -> None:
    graph = filter_graph(taps, 0.1)
    x = noise(2, 6000 if isa == "reference" else 400_000)
    expected = np.stack([Player(graph, isa=isa, threads=1, mode=mode).render(row) for row in x])
    for threads in (2, 3):
        player = Player(graph, isa=isa, threads=threads, mode=mode)
        np.testing.assert_array_equal(player.render(x), expected)
        np.testing.assert_array_equal(player.render(x[0]), expected[0])


@pytest.mark.parametrize("mode", ["stream", "offline"])
def test_instruction_sets_agree(mode: str) -> None:
    x = noise(9000)
    outputs = [Player(filter_graph(6000), isa=isa, mode=mode).render(x) for isa in ISAS]
    for other in outputs[1:]:
        assert rms(other - outputs[0]) <= TOLERANCES["between_isas"].value * rms(outputs[0])


@pytest.mark.parametrize(("taps", "mode"), [(2000, "stream"), (5000, "offline")])
def test_starts_settled_behind_a_bias(isa: str, taps: int, mode: str) -> None:
    root = Sequential((random_stack(3, [1, 4, 1], "tanh"), Linear(response(taps), 0.3)))
    player = Player(ModelGraph(root, RATE), isa=isa, mode=mode)
    silence, sound = np.zeros(5000, np.float32), noise(1500)
    whole = player.render(np.concatenate([silence, sound]))
    assert np.ptp(whole[:5000]) <= TOLERANCES["random_graph"].value
    assert abs(whole[0]) > 0.1
    assert rms(whole[5000:] - player.render(sound)) <= TOLERANCES["random_graph"].value


def test_a_stream_saves_and_restores_in_the_middle(isa: str) -> None:
    player = Player(filter_graph(5000), isa=isa, mode="stream")
    x = noise(2, 12_000)
    stream = player.stream(2)
    first = stream.process(x[:, :7001])
    saved = stream.save()
    rest = stream.process(x[:, 7001:])
    other = player.stream(2)
    other.restore(saved)
    np.testing.assert_array_equal(other.process(x[:, 7001:]), rest)
    np.testing.assert_array_equal(np.concatenate([first, rest], axis=1), player.render(x))


@pytest.mark.parametrize("mode", ["stream", "offline"])
def test_a_response_of_ten_seconds_at_96_khz(mode: str) -> None:
    h = response(960_000)
    x = np.zeros(1_000_000, np.float32)
    x[[3, 5000]] = 1.0, -0.5
    got = Player(ModelGraph(Linear(h), 96_000), mode=mode).render(x)
    expected = np.zeros(x.size)
    expected[3 : 3 + h.size] += h
    expected[5000 : 5000 + h.size] -= 0.5 * h
    assert rms(got - expected) <= TOLERANCES["between_isas"].value * rms(expected)


def test_an_offline_stream_takes_whole_grids(isa: str) -> None:
    player = Player(filter_graph(5000), isa=isa)
    grid = player.grid_samples
    assert grid > 1
    x = noise(2 * grid + 300)
    stream = player.stream()
    parts = [stream.process(x[t : t + grid]) for t in range(0, x.size, grid)]
    np.testing.assert_array_equal(np.concatenate(parts), player.render(x))


def test_lowering_picks_by_length() -> None:
    for taps, kind in ((MIN_FILTER_TAPS - 1, ConvOp), (MIN_FILTER_TAPS, FilterOp)):
        root = Sequential((random_stack(1, [1, 3, 1], "tanh"), Residual(Linear(response(taps)))))
        program, x = lower(ModelGraph(root, RATE)), noise(900)
        check_program(program)
        assert [type(op) for op in program.ops].count(kind) >= 1
        truth = run_program(program, x, np.float64)
        for isa in ISAS:
            got = Player(ModelGraph(root, RATE), isa=isa).render(x)
            assert rms(got - truth) <= TOLERANCES["random_graph"].value


def test_files_of_any_length_are_rendered(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    from fxfast.rendering import render_file

    player = Player(filter_graph(5000, 0.1))
    for frames in (100, player.grid_samples, 2 * player.grid_samples + 77):
        x = noise(frames)
        soundfile.write(tmp_path / "in.wav", x, RATE, "FLOAT")
        render_file(player, tmp_path / "in.wav", tmp_path / "out.wav")
        y, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
        np.testing.assert_array_equal(y, player.render(x))
        (tmp_path / "out.wav").unlink()


def test_nam_files_play_and_round_trip(tmp_path: Path) -> None:
    taps = response(3000)
    found = document("Linear", {"receptive_field": taps.size, "bias": True}, [*taps.tolist(), 0.5])
    (tmp_path / "m.nam").write_text(json.dumps(found))
    x = noise(5000)
    got = Player(exchange.load(tmp_path / "m.nam")).render(x)
    np.testing.assert_array_equal(got, Player(filter_graph(3000, 0.5)).render(x))
    exchange.save(exchange.load(tmp_path / "m.nam"), tmp_path / "again.nam")
    np.testing.assert_array_equal(Player(exchange.load(tmp_path / "again.nam")).render(x), got)


def test_inspect_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange.save(filter_graph(3000), tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["layers"]
    assert (row["kind"], row["taps"]) == ("fir", 3000)
    assert found["receptive_field_samples"] == 3000


def test_torchscript_streams_it_to_the_bit(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from fxfast.exchange.torchscript import export_torchscript

    graph = filter_graph(5000, 0.1)
    export_torchscript(graph, tmp_path / "model.ts")
    model = torch.jit.load(tmp_path / "model.ts")
    x = torch.from_numpy(noise(1, 2, 9000))
    expected = Player(graph, threads=1, mode="stream").render(x)
    for size in (48, 1000):
        state, blocks = model.initial_state(1, 2), []
        for part in x.split(size, dim=2):
            y, state = model(part.contiguous(), state)
            blocks.append(y)
        assert torch.equal(torch.cat(blocks, dim=2), expected)
