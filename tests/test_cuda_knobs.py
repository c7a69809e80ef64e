"""Models with knobs on CUDA: whole arrays, streams and libraries, beside the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from cuda_stand_in import built_stand_in
from test_cuda import gpu_library
from test_families import RAGGED
from test_knobs import FAMILIES, TURNED, curves, graph_of, noise, reference
from tolerances import TOLERANCES

from fxfast import cuda_engine
from fxfast.cuda_engine import CudaEngine
from fxfast.cuda_library import LIBRARY_VARIABLE
from fxfast.cuda_packed import Packed
from fxfast.errors import InputError
from fxfast.graph import ModelGraph
from fxfast.lowering import lower_for_device
from fxfast.player import Knobs, Player
from fxfast.rendering import Processing, render_library
from fxfast.rendering.knobs import KnobCurve


@pytest.fixture(params=["stand-in", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    library = built_stand_in() if request.param == "stand-in" else gpu_library()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    return "cuda"


every_family = pytest.mark.parametrize("name", FAMILIES)
every_turning = pytest.mark.parametrize(
    "turned", [TURNED, curves(sum(RAGGED))], ids=["held", "curves"]
)


@every_turning
@every_family
def test_plays_the_equations_from_the_settled_state(name: str, turned: Knobs, device: str) -> None:
    x, graph = noise(sum(RAGGED)), graph_of(name)
    y = Player(graph, device=device).render(x, turned)
    error = np.abs(y - reference(graph, x, dict(turned))).max()
    assert error <= TOLERANCES["random_graph"].value


@every_turning
@every_family
def test_any_split_and_batch_give_the_same_bits(
    name: str,
    turned: Knobs,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = noise(3, sum(RAGGED))
    player = Player(graph_of(name), device=device)
    whole = player.render(x, turned)
    np.testing.assert_array_equal(player.render(x[1], turned), whole[1])
    first = {n: float(np.ravel(v)[0]) for n, v in turned.items()}
    stream, blocks, start = player.stream(3, first), [], 0
    for samples in RAGGED:
        rows = {n: v[start : start + samples] for n, v in turned.items() if np.ndim(v)}
        blocks.append(stream.process(x[:, start : start + samples], rows))
        start += samples
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    stream.reset()
    monkeypatch.setattr(cuda_engine, "_LEAST_SEGMENT", 100)
    monkeypatch.setattr(cuda_engine, "_LEAST_REACHES", 1)
    monkeypatch.setattr(cuda_engine, "LAUNCH_SAMPLES", 250)
    np.testing.assert_array_equal(player.render(x, turned), whole)
    if turned is TURNED:
        np.testing.assert_array_equal(stream.process(x), whole)


def test_a_knob_that_was_turned_stays(device: str) -> None:
    player, x = Player(graph_of("wavenet"), device=device), noise(1, 900)
    stream = player.stream(1, TURNED)
    parts = [stream.process(x[:, :300]), stream.process(x[:, 300:500], {"tone": 0.5})]
    parts.append(stream.process(x[:, 500:]))
    tone = np.concatenate([np.full(300, -0.25), np.full(600, 0.5)])
    whole = player.render(x, {"gain": 7.5, "tone": tone})
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    with pytest.raises(InputError, match="knob tone: expected 900 values, got"):
        player.render(x, {"tone": tone[1:]})


@every_family
def test_streams_packed_together_have_knobs_of_their_own(name: str, device: str) -> None:
    graph, x, turned = graph_of(name), noise(3, 1300), curves(1300)
    player = Player(graph, device=device)
    rows = np.stack([k.scaled(turned[k.name]) for k in graph.knobs])
    start = np.array([k.scaled(TURNED[k.name]) for k in graph.knobs], np.float32)
    packed = Packed(CudaEngine(lower_for_device(graph), "cuda"))
    streams = [packed.stream(1, start), packed.stream(2, rows[:, 0])]
    got: list[list[np.ndarray]] = [[], []]
    for first, end in ((0, 1), (1, 620), (620, 1100), (1100, 1300)):
        streams[1].turn(rows[:, first:end])
        if first == 620:
            packed.most_samples = 500  # the launch is split, and with it what turns
        pieces = [(streams[0], x[:1, first:end]), (streams[1], x[1:, first:end])]
        for parts, y in zip(got, packed.play(pieces), strict=True):
            parts.append(y)
    np.testing.assert_array_equal(np.concatenate(got[0], axis=1), player.render(x[:1], TURNED))
    np.testing.assert_array_equal(np.concatenate(got[1], axis=1), player.render(x[1:], turned))


@pytest.mark.parametrize("name", ["wavenet", "lstm"])
def test_a_library_is_rendered_with_knobs_that_turn(
    name: str,
    device: str,
    tmp_path: Path,
) -> None:
    graph: ModelGraph = graph_of(name)
    (tmp_path / "in").mkdir()
    files = {str(n): noise(1, 2000 + n, seed=n) for n in range(3)}
    for stem, x in files.items():
        soundfile.write(tmp_path / "in" / f"{stem}.wav", x[0], 48_000, subtype="FLOAT")
    curve = KnobCurve(("gain",), ((0.0, 1.0), (0.02, 9.0), (0.03, 2.0)))
    report = render_library(
        graph,
        [tmp_path / "in"],
        tmp_path / "out",
        processing=Processing(knobs=(("tone", 0.5),), curve=curve),
        block_frames=700,
        device="cuda",
    )
    assert report.count("rendered") == 3
    player = Player(graph, device=device)
    for stem, x in files.items():
        y, _ = soundfile.read(tmp_path / "out" / f"{stem}.wav", dtype="float32")
        turned = {"tone": 0.5, **curve.at(0, x.shape[1], 48_000)}
        np.testing.assert_array_equal(y, player.render(x, turned)[0])
