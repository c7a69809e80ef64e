"""A file on several cores: to the bit what one core makes of it, and only on free cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from families import dense, recurrent
from nets import random_graph
from wavenets import a1

from fxfast import Player
from fxfast.audio.files import read_audio
from fxfast.errors import AudioFileError
from fxfast.graph import Linear, ModelGraph, Sequential
from fxfast.player import MODES
from fxfast.rendering import Processing, RunOptions, render_file, render_library
from fxfast.rendering.pipeline import GridStream
from fxfast.rendering.split import Cores, SplitPlayer, can_split

RATE = 48_000


def noise(channels: int, frames: int, seed: int = 1) -> np.ndarray:
    x_ct = np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames))
    return x_ct.astype(np.float32)


def long_filter() -> ModelGraph:
    taps = noise(1, 3000)[0] * np.exp(-np.arange(3000) / 500).astype(np.float32)
    return ModelGraph(Linear(taps), RATE)


MODELS = {
    "grid": random_graph([(64, 33, 1, "relu"), (32, 17, 1, "relu"), (1, 16, 1, "none")]),
    "wavenet": ModelGraph(a1((8, 4), [[1, 2, 4, 8, 16], [32, 64]]), RATE),
    "filter": long_filter(),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_parts_are_to_the_bit_the_whole(model: str, mode: str, channels: int) -> None:
    player = Player(MODELS[model], threads=1, mode=mode)
    x_ct = noise(channels, 150_001)
    whole = player.render(x_ct)
    for count in (1, 2, 5):
        cores = Cores(count)
        with cores.one():
            stream = GridStream(SplitPlayer(player, cores), channels)
            blocks = np.array_split(x_ct, [50_000, 50_001, 120_000], axis=1)
            parts = [stream.process(block) for block in blocks]
            parts.append(stream.flush())
        cores.close()
        assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes(), count


def test_a_channel_becomes_parts_where_cores_are_free() -> None:
    graph = MODELS["wavenet"]
    cores = Cores(4)
    threads: set[str] = set()
    together = threading.Barrier(4, timeout=20)

    class Seen:
        """Every part waits for three others: parts that ran after each other would never end."""

        def __init__(self, stream: object) -> None:
            self.stream = stream

        def process(self, block: np.ndarray) -> np.ndarray:
            threads.add(threading.current_thread().name)
            if block.size > 20_000:
                together.wait()
            return self.stream.process(block)  # type: ignore[attr-defined, no-any-return]

        def flush(self) -> np.ndarray:
            return np.zeros((1, 0), np.float32)

    class SeenPlayer(Player):
        def stream(self, channels: int = 1, knobs: object = None) -> object:  # type: ignore[override]
            return Seen(super().stream(channels))

    player = SeenPlayer(graph, threads=1, mode="stream")
    x = noise(1, 100_000)[0]
    with cores.one():
        y = SplitPlayer(player, cores).stream().process(x)
    assert len(threads) == 4
    assert y.tobytes() == Player(graph, threads=1, mode="stream").render(x).tobytes()
    cores.close()


def test_no_core_is_borrowed_from_a_file_that_holds_it() -> None:
    cores = Cores(2)
    with cores.one():
        with cores.more(8) as free:
            assert free == 1
            with cores.more(8) as none:
                assert none == 0
        with cores.one(), cores.more(8) as none:
            assert none == 0
    with cores.more(8) as free:
        assert free == 2


def test_recurrent_models_and_other_players_are_not_split() -> None:
    lstm = ModelGraph(Sequential((recurrent("lstm", 8, 1), dense(8, 1))), RATE)
    assert not can_split(Player(lstm))
    assert can_split(Player(MODELS["wavenet"]))


@pytest.mark.parametrize(
    ("processing", "rate"), [(Processing(), RATE), (Processing(resample=True), 44_100)]
)
def test_a_library_of_one_long_file_is_what_one_thread_renders(
    tmp_path: Path, processing: Processing, rate: int
) -> None:
    graph = MODELS["wavenet"]
    source = tmp_path / "in.wav"
    soundfile.write(source, noise(2, 400_000).T, rate, "PCM_16")
    alone = tmp_path / "alone.wav"
    render_file(Player(graph, threads=1), source, alone, processing=processing)
    for jobs in (1, 3):
        out = tmp_path / f"out-{jobs}"
        report = render_library(
            graph, [source], out, options=RunOptions(jobs=jobs), processing=processing
        )
        assert not report.failed
        assert np.array_equal(read_audio(out / "in.wav")[0], read_audio(alone)[0])


def test_an_error_in_a_part_is_the_files(tmp_path: Path) -> None:
    graph = MODELS["wavenet"]
    source = tmp_path / "in"
    source.mkdir()
    bad = noise(1, 300_000)
    bad[0, 200_000] = np.nan
    soundfile.write(source / "bad.wav", bad.T, RATE, "FLOAT")
    soundfile.write(source / "good.wav", noise(1, 300_000).T, RATE, "FLOAT")
    report = render_library(graph, [source], tmp_path / "out", options=RunOptions(jobs=3))
    assert [file.code for file in report.failed] == ["E_NONFINITE"]
    assert (tmp_path / "out" / "good.wav").exists()


def test_the_next_block_is_made_while_the_last_is_used_where_a_core_is_free() -> None:
    made: list[int] = []
    ready = [threading.Event() for _ in range(4)]

    def blocks() -> Iterator[np.ndarray]:
        for number in range(4):
            made.append(number)
            ready[number].set()
            yield np.full((1, 1), number, np.float32)

    cores = Cores(2)
    with cores.one():
        for number, block in enumerate(cores.ahead(blocks())):
            assert block[0, 0] == number
            if number < 3:
                assert ready[number + 1].wait(20)
    made.clear()
    with cores.one(), cores.one():
        for number, _ in enumerate(cores.ahead(blocks())):
            assert made == list(range(number + 1))
    cores.close()


def test_what_goes_wrong_ahead_is_told_where_it_would_have_been() -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros((1, 1), np.float32)
        raise AudioFileError("the second")

    cores = Cores(2)
    with cores.one():
        found = cores.ahead(blocks())
        assert next(found).shape == (1, 1)
        with pytest.raises(AudioFileError, match="the second"):
            next(found)
        with cores.more(8) as free:
            assert free == 1
        stopped = cores.ahead(blocks())
        next(stopped)
        del stopped  # a run that is stopped does not use the rest
        with cores.more(8) as free:
            assert free == 1
    cores.close()


@pytest.mark.parametrize("channels", [1, 2])
def test_a_model_that_costs_less_than_its_files_is_not_cut(channels: int) -> None:
    graph = ModelGraph(Linear(np.array([0.5, 0.25], np.float32)), RATE)
    player, cores = Player(graph, threads=1), Cores(2)
    split = SplitPlayer(player, cores)
    assert split.is_cheap
    assert not SplitPlayer(Player(MODELS["wavenet"], threads=1), cores).is_cheap
    x_ct = noise(channels, 200_001)
    stream = GridStream(split, channels)
    y_ct = np.concatenate([stream.process(x_ct), stream.flush()], axis=1)
    cores.close()
    assert type(stream._stream) is type(player.stream(channels))
    assert y_ct.tobytes() == player.render(x_ct).tobytes()
