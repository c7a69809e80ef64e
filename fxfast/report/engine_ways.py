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


def engine_ways(
    graph: ModelGraph,
    audio: np.ndarray,
    isa: str,
    *,
    blocks: tuple[int, ...],
    streams: tuple[int, ...],
    truth_samples: int,
    budget: Budget,
) -> Iterator[Way]:
    """Every mode on one instruction set; each stream renders ``audio`` (T,) from its own place."""
    offline = Player(graph, threads=1, mode="offline", isa=isa)
    for count in streams:

        def render(samples: int, count: int = count) -> float:
            rows = _rows(audio, count, samples)
            return thread_seconds(lambda: offline.render(rows))

        samples = budget.samples(render, count)
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
    if blocks:
        first = audio[: budget.error_samples(truth_samples, 1)]
        yield from _stream_ways(graph, audio, isa, blocks, first, budget)


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
