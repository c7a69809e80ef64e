"""The peers that need the model as a torch module: eager, torch.compile, and the truth.

A net of convolutions takes its history with every chunk and returns the chunk: its time for a
sample of long audio is that of its fastest chunk. A recurrent net goes through the audio in one
piece.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from fxfast import models
from fxfast.data.windows import render_by_blocks, render_by_windows
from fxfast.errors import ModelError
from fxfast.graph import ModelGraph
from fxfast.models.recurrent_config import WARM_UP_KEY
from fxfast.report.measure import peak_growth_bytes, thread_seconds
from fxfast.report.ways import Budget, PeerError, Way, streams_of, with_streams

EAGER = "PyTorch eager"
COMPILED = "torch.compile"
CHUNKS = (512, 2048, 4096, 8192, 16384, 65536)
_RECURRENT_CHUNKS = (32, 512, 4096, 32768)
# A recurrent net of more multiply-adds than this warms up for less long: it would take minutes.
_LARGE = 10_000_000
_WARM_UP_OF_LARGE = 128


def eager_net(graph: ModelGraph) -> torch.nn.Module:
    """The model in plain eager PyTorch, as a user would write it: the peer."""
    net: torch.nn.Module = models.from_graph(graph).as_torch().eval()
    return net


@dataclass(frozen=True)
class Twin:
    """The model as a torch module.

    ``net`` takes ``receptive_field - 1`` samples more than it returns: the history of
    convolutions and the warm-up of recurrent layers. ``timed`` has no warm-up: it goes through
    audio that goes on, and takes ``history`` samples more.
    """

    net: torch.nn.Module
    receptive_field: int
    timed: torch.nn.Module
    history: int
    is_recurrent: bool

    @classmethod
    def of(cls, graph: ModelGraph) -> Twin:
        """Raises ``PeerError`` for a graph that no torch module is made of."""
        try:
            if graph.macs_per_sample > _LARGE and graph.is_recurrent:
                graph = _with_warm_up(graph, _WARM_UP_OF_LARGE)
            net, field = eager_net(graph), models.from_graph(graph).receptive_field
            if not graph.is_recurrent:
                return cls(net, field, net, field - 1, False)
            timed = eager_net(_with_warm_up(graph, 0))
            return cls(net, field, timed, graph.receptive_field - 1, True)
        except ModelError as error:
            raise PeerError(f"no torch module of this model: {error}") from None

    def render(self, x: torch.Tensor, block: int) -> torch.Tensor:
        return render_by_blocks(self.net, x, receptive_field=self.receptive_field, block=block)

    def input_of(self, audio: np.ndarray, streams: int, samples: int) -> torch.Tensor:
        """(B, 1, T): what ``timed`` reads for so many samples of each stream."""
        return torch.from_numpy(streams_of(audio, streams, samples + self.history)[:, None])

    def after_silence(self, audio: np.ndarray) -> torch.Tensor:
        """(1, 1, T): what ``net`` reads to return as many samples as ``audio`` has."""
        silence = np.zeros(self.receptive_field - 1, np.float32)
        return torch.from_numpy(np.concatenate([silence, audio])[None, None])

    def truth(self, audio: np.ndarray) -> np.ndarray:
        """The output in float64, in one block: recurrent layers forget what was before it."""
        exact = replace(self, net=deepcopy(self.net).double())
        result: np.ndarray = exact.render(torch.from_numpy(audio).double(), len(audio)).numpy()
        return result


def _with_warm_up(graph: ModelGraph, samples: int) -> ModelGraph:
    metadata = {**graph.metadata, WARM_UP_KEY: samples}
    return ModelGraph(graph.root, graph.sample_rate, metadata=metadata)


def eager_way(
    twin: Twin, audio: np.ndarray, streams: int, truth_samples: int, budget: Budget
) -> Way:
    """Eager PyTorch on one thread at its fastest chunk."""
    first = twin.render(torch.from_numpy(audio[:truth_samples]), truth_samples).numpy()
    chunks = _RECURRENT_CHUNKS if twin.is_recurrent else CHUNKS
    samples = budget.one_of(
        chunks, lambda n: _seconds(twin.timed, twin.input_of(audio, streams, n))
    )
    x_bct = twin.input_of(audio, streams, samples)
    growth = peak_growth_bytes(partial(_seconds, twin.timed, x_bct))
    return Way(
        with_streams("eager dense", streams),
        EAGER,
        lambda _: _seconds(twin.timed, x_bct),
        samples,
        first=first,
        streams=streams,
        memory={} if growth is None else {"peak_growth_bytes": growth},
        note=f"{'pieces' if twin.is_recurrent else 'chunks'} of {samples}, its fastest",
    )


def compiled_way(twin: Twin, audio: np.ndarray, truth_samples: int, chunk: int) -> Way:
    """torch.compile with its default backend, on chunks of one fixed length.

    Raises ``PeerError`` where it does not work or changes nothing.
    """
    if twin.is_recurrent:
        raise PeerError("it leaves recurrent layers to eager PyTorch")
    x_bct = twin.input_of(audio, 1, chunk)
    compiled = torch.compile(twin.net, dynamic=False)
    heard = np.resize(audio, chunk)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            first = compiled(twin.after_silence(heard))[0, 0].numpy()
    except Exception as error:  # the compiler fails in many ways, none of which may end the run
        raise PeerError(f"{type(error).__name__}: {_first_line(error)}") from None
    return Way(
        "torch.compile",
        COMPILED,
        lambda _: _seconds(compiled, x_bct),
        chunk,
        first=first[: min(truth_samples, len(audio))],
        note=f"chunks of {chunk}",
    )


def usual_ways(
    twin: Twin, audio: np.ndarray, windows_seconds: float, sample_rate: int
) -> Iterator[Way]:
    """As people begin: the whole file at once, and window by window for the start of it."""
    x = torch.from_numpy(audio)
    start = x[: int(windows_seconds * sample_rate)]

    def windows() -> torch.Tensor:
        return render_by_windows(twin.net, start, batch=200, window=twin.receptive_field)

    yield Way(
        "eager dense, whole file",
        EAGER,
        lambda _: thread_seconds(lambda: twin.render(x, len(x))),
        len(x),
        first=twin.render(x, len(x)).numpy(),
    )
    if len(start):
        yield Way(
            "eager windows",
            EAGER,
            lambda _: thread_seconds(windows),
            len(start),
            first=windows().numpy(),
        )


def _seconds(net: object, x_bct: torch.Tensor) -> float:
    with torch.inference_mode():
        return thread_seconds(lambda: net(x_bct))  # type: ignore[operator]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no message"
