"""Two files on two threads, as arrays and as files of a library."""

from __future__ import annotations

import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import models
from fxfast.audio.files import write_audio
from fxfast.audio.signals import guitar_like
from fxfast.graph import ModelGraph
from fxfast.player import Player
from fxfast.rendering import render_library
from fxfast.report.measure import Timing, rounds, wall_seconds
from fxfast.report.suite import fused_isas

PRESET = "conv-64-32"
SAMPLE_RATE = 48_000


def preset_graph() -> ModelGraph:
    return models.create(PRESET, seed=0).to_graph(SAMPLE_RATE)


def two_files(count: int) -> dict[str, Any]:
    """Two equal files by one thread and by two, as arrays and as files of a library."""
    graph = preset_graph()
    isa = fused_isas()[0]
    player = Player(graph, threads=1, mode="stream", isa=isa)
    audio = np.stack([guitar_like(8.0, SAMPLE_RATE, seed=s) for s in (3, 4)])

    def in_threads(works: list[Any]) -> None:
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one_by_one() -> None:
        for row in audio:
            player.render(row)

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        for number, row in enumerate(audio):
            write_audio(Path(folder) / "in" / f"{number}.wav", row, SAMPLE_RATE, "PCM_24")

        def library(jobs: int) -> float:
            report = render_library(
                player, [Path(folder) / "in"], Path(folder) / "out", jobs=jobs, overwrite=True
            )
            if report.failed:
                raise RuntimeError(report.failed[0].message)
            return report.wall_seconds

        taken = rounds(
            {
                "one": lambda: wall_seconds(one_by_one),
                "two": lambda: wall_seconds(
                    lambda: in_threads([partial(player.render, row) for row in audio])
                ),
                "library one": lambda: library(1),
                "library two": lambda: library(2),
            },
            count,
        )
    ratio = {
        "arrays": np.median(np.divide(taken["one"], taken["two"])),
        "library": np.median(np.divide(taken["library one"], taken["library two"])),
    }
    return {
        "isa": isa,
        "two_threads_over_one": {name: float(value) for name, value in ratio.items()},
        "library_realtime_two_jobs": audio.size
        / SAMPLE_RATE
        / float(np.median(taken["library two"])),
        "seconds": {name: Timing.of(values).to_json() for name, values in taken.items()},
    }
