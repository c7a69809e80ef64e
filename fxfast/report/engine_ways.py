"""The engine's own rows: whole arrays, streams of them, and blocks as a callback brings them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial

import numpy as np

from fxfast.graph import ModelGraph
from fxfast.player import Player
from fxfast.report.measure import peak_growth_bytes, thread_seconds
from fxfast.report.ways import Budget, Way, streams_of, with_streams

ENGINE = "fxfast"
# What normal audio is multiplied by: 1e-39 is denormal.
QUIET_MODES = {"silence": 0.0, "denormals": 1e-39}


def engine_ways(
    graph: ModelGraph,
    audio: np.ndarray,
    isa: str,
    *,
    blocks: tuple[int, ...],
    streams: tuple[int, ...],
    truth_samples: int,
    budget: Budget,
    quiet: bool = False,
) -> Iterator[Way]:
    """Every mode on one instruction set; each stream renders ``audio`` (T,) from its own place.

    With ``quiet`` also silence, and audio all of whose values are denormal, in one stream each.
    """
    offline = Player(graph, threads=1, mode="offline", isa=isa)
    for count in streams:

        def render(samples: int, count: int = count) -> float:
            rows = _rows(audio, count, samples)
            return thread_seconds(lambda: offline.render(rows))

        samples = budget.samples(render, count, offline.grid_samples)
        heard = _rows(audio, count, budget.error_samples(truth_samples, count))
        yield Way(
            with_streams(f"engine {isa}", count),
            ENGINE,
            render,
            samples,
            first=offline.render(heard).reshape(count, -1)[0],
            isa=isa,
            streams=count,
            memory=_memory(offline) | _growth(partial(render, samples)),
        )
        if quiet and count == 1:
            yield from _quiet_ways(offline, audio, isa, samples)
    if blocks:
        first = audio[: budget.error_samples(truth_samples, 1)]
        yield from _stream_ways(graph, audio, isa, blocks, first, budget)


def _quiet_ways(player: Player, audio: np.ndarray, isa: str, samples: int) -> Iterator[Way]:
    for mode, loudness in QUIET_MODES.items():
        x = (audio * np.float32(loudness)).astype(np.float32)

        def render(count: int, x: np.ndarray = x) -> float:
            return thread_seconds(lambda: player.render(x[:count]))

        yield Way(f"engine {isa}, {mode}", ENGINE, render, samples, isa=isa, mode=mode)


def _stream_ways(
    graph: ModelGraph,
    audio: np.ndarray,
    isa: str,
    blocks: tuple[int, ...],
    first: np.ndarray,
    budget: Budget,
) -> Iterator[Way]:
    player = Player(graph, threads=1, mode="stream", isa=isa)

    def play(block: int, samples: int) -> float:
        stream = player.stream()
        parts = [audio[t : t + block] for t in range(0, samples, block)]

        def work() -> None:
            for part in parts:
                stream.process(part)

        return thread_seconds(work)

    @cache
    def rendered() -> np.ndarray:
        # The same samples for every split: the engine's first promise.
        return player.render(first)

    for block in blocks:
        run = partial(play, block)
        samples = budget.samples(run)
        yield Way(
            f"engine {isa}, blocks of {block}",
            ENGINE,
            run,
            samples,
            first=rendered(),
            isa=isa,
            mode="stream",
            block=block,
            memory=_memory(player) | _growth(partial(run, samples)),
        )


def _rows(audio: np.ndarray, streams: int, samples: int) -> np.ndarray:
    return audio[:samples] if streams == 1 else streams_of(audio, streams, samples)


def _memory(player: Player) -> dict[str, int]:
    return {
        "state_bytes": int(player.settled_state().nbytes),
        "plan_bytes": int(player.plan_bytes().nbytes),
    }


def _growth(work: partial[float]) -> dict[str, int]:
    growth = peak_growth_bytes(work)
    return {} if growth is None else {"peak_growth_bytes": growth}
