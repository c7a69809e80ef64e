"""The engine beside eager PyTorch on the same model and audio, in one run, one thread each."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from fxfast import models
from fxfast.data.windows import render_by_blocks, render_by_windows
from fxfast.graph import ModelGraph
from fxfast.player import Player
from fxfast.report.measure import Timing, multiply_add_peak, rounds, thread_seconds

DENSE_CHUNKS = (512, 1024, 2048, 4096, 8192, 16384, 65536)


@dataclass(frozen=True)
class Row:
    """One way to render: seconds of audio per second, and how exact it is.

    ``useful_flops`` counts the model's multiply-adds (two operations each), however much work
    the way really did; ``error_db`` is the RMS error against float64 relative to the signal.
    """

    name: str
    audio_seconds: float
    timing: Timing
    realtime: float
    useful_flops: float
    error_db: float

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "timing": self.timing.to_json()}


@dataclass(frozen=True)
class Comparison:
    """All rows of one run, and the multiply-add peak of one core in that run, by ISA."""

    rows: tuple[Row, ...]
    peak_flops: dict[str, float]
    eager_chunk: int

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def ratio(self, name: str, peer: str) -> float:
        """How many times faster ``name`` is than ``peer``."""
        return self.row(name).realtime / self.row(peer).realtime

    def share_of_peak(self, isa: str) -> float:
        """The engine's useful operations over the measured peak of the same instruction set."""
        return self.row(f"engine {isa}").useful_flops / self.peak_flops[isa]

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": [row.to_json() for row in self.rows],
            "peak_flops": self.peak_flops,
            "eager_chunk_samples": self.eager_chunk,
        }


def eager_net(graph: ModelGraph) -> torch.nn.Module:
    """The model in plain eager PyTorch, as a user would write it: the peer."""
    net: torch.nn.Module = models.from_graph(graph).as_torch().eval()
    return net


def compare(
    graph: ModelGraph,
    audio: np.ndarray,
    isas: tuple[str, ...],
    *,
    count: int = 5,
    windows_seconds: float = 1.0,
    on_round: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure the engine and eager PyTorch on ``audio`` (T,) float32, one thread each.

    Each way renders the same samples, from the start of ``audio``; the slow one, window by
    window, only its first ``windows_seconds`` (none for 0). The dense way is measured at the
    chunk length where it is fastest and on the whole file. ``on_round`` gets how many of how
    many rounds are done.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _compare(graph, audio, isas, count, windows_seconds, on_round)
    finally:
        torch.set_num_threads(threads)


def _compare(
    graph: ModelGraph,
    audio: np.ndarray,
    isas: tuple[str, ...],
    count: int,
    windows_seconds: float,
    on_round: Callable[[int, int], None] | None,
) -> Comparison:
    eager = _Eager.of(graph)
    x = torch.from_numpy(audio)
    chunk = _fastest_chunk(eager, x)
    start = x[: int(windows_seconds * graph.sample_rate)]
    ways = _ways(graph, eager, x, start, isas, chunk)
    works = {name: partial(thread_seconds, way.render) for name, way in ways.items()}
    peaks = {f"peak {isa}": partial(multiply_add_peak, isa) for isa in isas}
    figures = rounds({**works, **peaks}, count, on_round=on_round)
    truth = _truth(eager, x[: graph.sample_rate])
    rows = tuple(_row(name, way, figures[name], graph, truth) for name, way in ways.items())
    peak_flops = {isa: float(np.median(figures[f"peak {isa}"])) for isa in isas}
    return Comparison(rows, peak_flops, chunk)


@dataclass(frozen=True)
class _Eager:
    """The peer; its receptive field includes the warm-up of recurrent layers."""

    net: torch.nn.Module
    receptive_field: int

    @classmethod
    def of(cls, graph: ModelGraph) -> _Eager:
        return cls(eager_net(graph), models.from_graph(graph).receptive_field)

    def render(self, x: torch.Tensor, block: int) -> torch.Tensor:
        return render_by_blocks(self.net, x, receptive_field=self.receptive_field, block=block)


@dataclass(frozen=True)
class _Way:
    """A way to render, and how many samples it gives."""

    render: Callable[[], np.ndarray]
    samples: int


def _ways(
    graph: ModelGraph,
    eager: _Eager,
    x: torch.Tensor,
    start: torch.Tensor,
    isas: tuple[str, ...],
    chunk: int,
) -> dict[str, _Way]:
    audio = x.numpy()

    def engine(isa: str) -> Callable[[], np.ndarray]:
        return partial(Player(graph, threads=1, isa=isa).render, audio)

    def dense(chunk_samples: int) -> Callable[[], np.ndarray]:
        return lambda: eager.render(x, chunk_samples).numpy()

    def windows() -> np.ndarray:
        y: np.ndarray = render_by_windows(
            eager.net, start, batch=200, window=eager.receptive_field
        ).numpy()
        return y

    ways = {f"engine {isa}": _Way(engine(isa), len(audio)) for isa in isas}
    ways["eager dense"] = _Way(dense(chunk), len(audio))
    ways["eager dense, whole file"] = _Way(dense(len(audio)), len(audio))
    if len(start):
        ways["eager windows"] = _Way(windows, len(start))
    return ways


def _row(name: str, way: _Way, seconds: list[float], graph: ModelGraph, truth: np.ndarray) -> Row:
    timing = Timing.of(seconds)
    audio_seconds = way.samples / graph.sample_rate
    return Row(
        name,
        audio_seconds,
        timing,
        audio_seconds / timing.median,
        2.0 * graph.macs_per_sample * way.samples / timing.median,
        _relative_db(way.render()[: len(truth)], truth),
    )


def _fastest_chunk(eager: _Eager, x: torch.Tensor) -> int:
    part = x[: 3 * max(DENSE_CHUNKS)]

    def seconds(chunk: int) -> float:
        return thread_seconds(partial(eager.render, part, chunk))

    figures = rounds({str(chunk): partial(seconds, chunk) for chunk in DENSE_CHUNKS}, 5)
    # The best of five: what else the machine does only ever makes a chunk look slower.
    return int(min(figures, key=lambda name: min(figures[name])))


def _truth(eager: _Eager, x: torch.Tensor) -> np.ndarray:
    """In one block, as recurrent layers forget what was before it."""
    exact = replace(eager, net=deepcopy(eager.net).double())
    result: np.ndarray = exact.render(x.double(), len(x)).numpy()
    return result


def _relative_db(rendered: np.ndarray, truth: np.ndarray) -> float:
    """Energy of the error over that of the truth, as far as both go."""
    truth = truth[: len(rendered)]
    ratio = np.sum(np.square(rendered - truth, dtype=np.float64)) / np.sum(np.square(truth))
    return float(10 * np.log10(max(ratio, 1e-30)))
