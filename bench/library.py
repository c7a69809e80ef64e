"""A library of many files beside the same audio as a batch of streams, one core each."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import models
from fxfast.audio.files import write_audio
from fxfast.audio.signals import guitar_like
from fxfast.graph import ConvLayer, ConvStack, ModelGraph
from fxfast.player import Player
from fxfast.rendering import render_library
from fxfast.report.measure import Timing, rounds
from fxfast.report.suite import fused_isas

PRESET = "lstm-16"
SAMPLE_RATE = 48_000
FILES = 64
SECONDS = 4.0
_STREAMS = 32


def many_files(count: int) -> dict[str, Any]:
    """Rendering alone: from the time of a library that of one with a model that does nothing is
    taken away, which decodes, encodes and writes the same files."""
    isa = fused_isas()[0]
    graph = models.create(PRESET, seed=0).to_graph(SAMPLE_RATE)
    nothing = ModelGraph(ConvStack((ConvLayer(np.ones((1, 1, 1), np.float32)),)), SAMPLE_RATE)
    audio = np.stack([guitar_like(SECONDS, SAMPLE_RATE, seed=s) for s in range(FILES)])
    player = Player(graph, threads=1, mode="offline", isa=isa)

    def batch() -> None:
        for first in range(0, FILES, _STREAMS):
            player.render(audio[first : first + _STREAMS, None])

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number, row in enumerate(audio):
            write_audio(folder / "in" / f"{number}.wav", row, SAMPLE_RATE, "PCM_24")

        def library(of: Player) -> None:
            report = render_library(of, [folder / "in"], folder / "out", jobs=1, overwrite=True)
            if report.failed:
                raise RuntimeError(report.failed[0].message)

        idle = Player(nothing, threads=1, isa=isa)
        taken = rounds(
            {
                "batch": lambda: _process_seconds(batch),
                "library": lambda: _process_seconds(lambda: library(player)),
                "files alone": lambda: _process_seconds(lambda: library(idle)),
            },
            count,
        )
    rendering = np.subtract(taken["library"], taken["files alone"])
    return {
        "isa": isa,
        "files": FILES,
        "batch_over_library": float(np.median(np.divide(taken["batch"], rendering))),
        "batch_realtime": audio.size / SAMPLE_RATE / float(np.median(taken["batch"])),
        "library_rendering_realtime": audio.size / SAMPLE_RATE / float(np.median(rendering)),
        "seconds": {name: Timing.of(values).to_json() for name, values in taken.items()},
    }


def _process_seconds(work: Callable[[], object]) -> float:
    """CPU time of all threads: a library reads and writes beside the thread that renders."""
    started = time.process_time()
    work()
    return time.process_time() - started
