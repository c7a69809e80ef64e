"""Offline players: a grid in time, transforms, and streaming players beside them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from nets import random_graph, reference_render, rms
from test_player import FUSED, ISAS, noise, preset_graph
from tolerances import TOLERANCES

from fxfast import ModelGraph, Player, models
from fxfast.audio.files import read_audio, write_audio
from fxfast.errors import InputError
from fxfast.rendering import render_library

GRID = 1792


def wide_graph(channels: int, taps: int, scale: float = 1.0) -> ModelGraph:
    """Wide layers of one length, and a dilated one that stays direct."""
    layers = [(channels, taps, 1, "relu"), (channels + 1, taps, 1, "prelu")]
    return random_graph([*layers, (8, 3, 7, "tanh"), (1, 9, 1, "none")], scale=scale)


def both(graph: ModelGraph, isa: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offline = Player(graph, isa=isa, threads=1)
    assert offline.grid_samples == GRID
    return offline.render(x), Player(graph, isa=isa, threads=1, mode="stream").render(x)


@pytest.mark.parametrize("isa", FUSED)
@pytest.mark.parametrize(("channels", "taps"), [(16, 9), (17, 16), (32, 17), (40, 33), (64, 17)])
def test_offline_equals_streaming_to_rounding(isa: str, channels: int, taps: int) -> None:
    offline, streaming = both(wide_graph(channels, taps), isa, noise(4 * GRID + 5))
    limit = TOLERANCES["offline_and_streaming"].value
    assert rms(offline - streaming) <= limit * rms(streaming)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_transforms_are_as_accurate_as_plain_float32(isa: str, scale: float) -> None:
    for graph in (wide_graph(32, 17, scale), wide_graph(16, 33, scale)):
        x = noise(2 * GRID + 100)
        truth = reference_render(graph, x, np.float64)
        plain = rms(reference_render(graph, x, np.float32) - truth)
        ours = rms(Player(graph, isa=isa).render(x) - truth)
        assert ours <= TOLERANCES["float32_ratio"].value * plain


def test_only_offline_players_have_a_grid() -> None:
    assert Player(preset_graph()).grid_samples == GRID
    assert Player(preset_graph(), mode="stream").grid_samples == 1
    narrow = random_graph([(8, 3, 1, "tanh"), (1, 3, 2, "none")])
    assert Player(narrow).grid_samples == 1
    offline, streaming = Player(narrow), Player(narrow, mode="stream")
    np.testing.assert_array_equal(offline.plan_bytes(), streaming.plan_bytes())


@pytest.mark.parametrize("isa", FUSED)
def test_any_split_on_the_grid_gives_the_same_bits(isa: str) -> None:
    player = Player(preset_graph(), isa=isa, threads=2)
    x = noise(9 * GRID + 700)
    expected = player.render(x)
    for cuts in ([1], [2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 4, 9]):
        edges = [0, *(GRID * cut for cut in cuts), x.size]
        stream = player.stream()
        pieces = [stream.process(x[a:b]) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(pieces), expected)


@pytest.mark.parametrize("length", [0, 1, 111, 112, 113, GRID - 1, GRID, GRID + 1])
def test_exact_length(length: int) -> None:
    player = Player(preset_graph())
    x = noise(3 * GRID)
    y = player.render(x[:length])
    assert y.shape == (length,)
    # Whole blocks of 112 samples do not know what follows them.
    whole = length // 112 * 112
    np.testing.assert_array_equal(y[:whole], player.render(x)[:whole])
    limit = TOLERANCES["offline_and_streaming"].value
    assert rms(y - player.render(x)[:length]) <= limit if length else True


def test_a_stream_on_a_grid_ends_with_a_part_of_it() -> None:
    player = Player(preset_graph())
    x = noise(2, 2 * GRID)
    stream = player.stream(2)
    first = stream.process(x[:, :GRID])
    stream.process(x[:, :100])
    stream.process(x[:, :0])
    with pytest.raises(InputError, match=r"no multiple of 1792 \(grid_samples\) and ends the"):
        stream.process(x[:, :GRID])
    saved = stream.save()
    stream.reset()
    np.testing.assert_array_equal(stream.process(x[:, :GRID]), first)
    stream.restore(saved)
    with pytest.raises(InputError, match="ends the stream, got 1"):
        stream.process(x[:, :1])


@pytest.mark.parametrize("isa", FUSED)
def test_starts_settled_to_rounding(isa: str) -> None:
    player = Player(wide_graph(32, 17), isa=isa)
    sound = noise(3000)
    late = player.render(np.concatenate([np.zeros(GRID, np.float32), sound]))
    np.testing.assert_array_equal(late[GRID:], player.render(sound))
    assert np.abs(late[:GRID] - late[0]).max() <= TOLERANCES["offline_and_streaming"].value
    assert late[0] != 0


@pytest.mark.parametrize("isa", FUSED)
def test_loud_and_saturating_input_stays_finite(isa: str) -> None:
    for scale in (1.0, 300.0):
        player = Player(wide_graph(32, 17, scale), isa=isa)
        assert np.isfinite(player.render(noise(2 * GRID) * np.float32(1e6))).all()


def test_what_gains_nothing_has_no_grid() -> None:
    for name, grid in (("tcn-16", 1), ("conv-64-32", GRID)):
        assert Player(models.create(name, seed=0).to_graph(48_000)).grid_samples == grid


def test_a_library_has_the_same_bytes_for_all_jobs_and_blocks(tmp_path: Path) -> None:
    graph = preset_graph(0.3)
    (tmp_path / "in").mkdir()
    for number, frames in enumerate((1, 5000, 40_000)):
        x_ct = noise(2, frames)
        write_audio(tmp_path / "in" / f"{number}.wav", x_ct, 48_000, "PCM_16")
    expected: dict[str, bytes] = {}
    for jobs, block_frames in ((1, 16384), (3, 16384), (2, 700), (1, 5000)):
        out = tmp_path / f"{jobs}-{block_frames}"
        render_library(graph, [tmp_path / "in"], out, jobs=jobs, block_frames=block_frames)
        found = {path.name: path.read_bytes() for path in sorted(out.glob("*.wav"))}
        assert len(found) == 3
        expected = expected or found
        assert found == expected
    written, _ = read_audio(tmp_path / "1-16384" / "2.wav")
    source, _ = read_audio(tmp_path / "in" / "2.wav")
    assert np.abs(written - Player(graph).render(source)).max() <= 2**-15


def test_a_tensor_of_an_offline_plan_runs_on_its_grid() -> None:
    torch = pytest.importorskip("torch")
    from fxfast import ops

    player = Player(preset_graph())
    plan = torch.from_numpy(player.plan_bytes())
    state = torch.from_numpy(player.settled_state()).repeat(1, 1, 1)
    x = noise(2 * GRID + 100)
    cuts = (0, GRID, 2 * GRID, x.size)
    blocks = [torch.from_numpy(x[a:b])[None, None] for a, b in pairwise(cuts)]
    y = torch.cat([ops.run(plan, state, block) for block in blocks], dim=2)
    np.testing.assert_array_equal(y[0, 0].numpy(), player.render(x))
    with pytest.raises(InputError, match="ends the stream"):
        ops.run(plan, state, blocks[0])
