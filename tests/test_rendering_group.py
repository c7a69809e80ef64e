"""Files of a recurrent model that go through the engine in groups."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from test_recurrent import ISAS, dense, node_of, noise, torch_net

from fxfast import ModelGraph, Player
from fxfast.errors import InputError
from fxfast.graph import Sequential
from fxfast.rendering import Processing, render_file, render_library

RATE = 8000


def recurrent_graph(units: int = 5) -> ModelGraph:
    net = torch_net("lstm", units, 1)
    return ModelGraph(Sequential((node_of("lstm", net), dense(units))), RATE)


class Counting:
    """A player that counts how many streams go on together; it may fail for a length."""

    def __init__(self, player: Player, fails_at: int = -1) -> None:
        self._player, self._fails_at = player, fails_at
        self.graph, self.grid_samples, self.stream = (
            player.graph,
            player.grid_samples,
            player.stream,
        )
        self.sizes: list[int] = []

    def process_together(self, streams: list[Any], blocks: list[np.ndarray]) -> list[np.ndarray]:
        self.sizes.append(len(streams))
        time.sleep(0.005)  # on a busy machine other files open meanwhile
        if any(block.shape[1] == self._fails_at for block in blocks):
            raise InputError("refused")
        return self._player.process_together(streams, blocks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty files: short, long, of several channels, rates and formats."""
    below = tmp_path / "in"
    below.mkdir()
    for number in range(20):
        frames = [5, 1, 700, 2500, 2501, 9000][number % 6]
        channels = 1 + (number % 5 == 4)
        rate = RATE if number % 7 else 2 * RATE
        x_ct = noise(channels, frames, seed=number)
        suffix = "flac" if number % 4 == 1 else "wav"
        soundfile.write(below / f"{number:02}.{suffix}", 0.4 * x_ct.T, rate)
    return below


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("[!.]*")}


def test_neither_groups_nor_jobs_change_a_byte(folder: Path, tmp_path: Path) -> None:
    player = Counting(Player(recurrent_graph(), threads=1))
    alone = tmp_path / "alone"
    alone.mkdir()
    for path in folder.iterdir():
        render_file(
            player._player,
            path,
            alone / path.name,
            processing=Processing(resample=True),
            block_frames=1000,
        )
    for jobs in (1, 3, 40):
        out = tmp_path / f"jobs-{jobs}"
        report = render_library(
            player,
            [folder],
            out,
            jobs=jobs,
            processing=Processing(resample=True),
            block_frames=1000,
        )
        assert report.count("rendered") == 20
        assert contents(out) == contents(alone)
    assert max(player.sizes) > 8


def test_a_bad_file_leaves_its_neighbours_alone(folder: Path, tmp_path: Path) -> None:
    player = Player(recurrent_graph(), threads=1)
    good = tmp_path / "good"
    render_library(player, [folder], good, jobs=1, processing=Processing(resample=True))
    x = 0.4 * noise(3000)
    x[2000] = np.nan
    soundfile.write(folder / "nan.wav", x, RATE, subtype="FLOAT")
    (folder / "text.wav").write_text("no audio")
    for other in (player, Counting(player, fails_at=1234)):
        out = tmp_path / type(other).__name__
        if other is not player:
            soundfile.write(folder / "refused.wav", x[:1234], RATE)
        report = render_library(other, [folder], out, jobs=2, processing=Processing(resample=True))
        names = {Path(file.input).name for file in report.failed} - {"refused.wav"}
        assert names == {"nan.wav", "text.wav"}
        assert len(report.failed) == len(names) + (other is not player)
        assert contents(out) == contents(good)


@pytest.mark.parametrize("isa", ISAS)
def test_streams_of_any_lengths_go_on_together(isa: str) -> None:
    player = Player(recurrent_graph(16), isa=isa, threads=1)
    x_ct = noise(40, 900)
    whole = player.render(x_ct)
    streams = [player.stream() for _ in range(38)] + [player.stream(2)]
    done = 0
    for lengths in ((300,) * 39, tuple(range(200, 239))):
        rows = [slice(k, k + (2 if k == 38 else 1)) for k in range(39)]
        blocks = [x_ct[row, done : done + n] for row, n in zip(rows, lengths, strict=True)]
        got = player.process_together(streams, blocks)
        for row, n, y in zip(rows, lengths, got, strict=True):
            np.testing.assert_array_equal(y, whole[row, done : done + n])
        done = 300


def test_wrong_blocks_change_nothing() -> None:
    player = Player(recurrent_graph(), threads=1)
    streams = [player.stream(), player.stream()]
    x_ct = noise(2, 50)
    bad = x_ct[1:].copy()
    bad[0, 7] = np.inf
    with pytest.raises(InputError, match="finite"):
        player.process_together(streams, [x_ct[:1], bad])
    with pytest.raises(InputError, match="one for each stream, got 1 for 2"):
        player.process_together(streams, [x_ct[:1]])
    with pytest.raises(InputError, match="different streams of one player"):
        player.process_together([streams[0], streams[0]], [x_ct[:1], x_ct[1:]])
    with pytest.raises(InputError, match=r"shape \(C, T\), got \(50\)"):
        player.process_together(streams[:1], [x_ct[0]])
    got = player.process_together(streams, [x_ct[:1], x_ct[1:]])
    np.testing.assert_array_equal(np.concatenate(got), player.render(x_ct))
