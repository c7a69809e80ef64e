"""How figures are taken: warm-up, several runs, median and spread, machine and commit beside them.

One-thread work is timed by the thread's own CPU time, which other programs on a shared machine
do not lengthen; work of several threads by the wall clock.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import __version__
from fxfast.native import engine


@dataclass(frozen=True)
class Timing:
    """Seconds of several runs of the same work."""

    median: float
    p10: float
    p90: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> Timing:
        p10, median, p90 = np.percentile(seconds, [10, 50, 90])
        return cls(float(median), float(p10), float(p90), len(seconds))

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def thread_seconds(work: Callable[[], object]) -> float:
    """CPU time of the calling thread for one run of ``work``."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def wall_seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one run of ``work``."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounds(
    works: Mapping[str, Callable[[], float]],
    count: int,
    warm_up: int = 1,
    on_round: Callable[[int, int], None] | None = None,
) -> dict[str, list[float]]:
    """Take every figure once per round, all in turn, so that a drift of the machine hits all.

    ``works`` maps a name to a function that measures once and returns the figure.
    """
    for _ in range(warm_up):
        for measure in works.values():
            measure()
    taken: dict[str, list[float]] = {name: [] for name in works}
    for done in range(count):
        if on_round is not None:
            on_round(done, count)
        for name, measure in works.items():
            taken[name].append(measure())
    return taken


def multiply_add_peak(isa: str, seconds: float = 0.1) -> float:
    """Floating-point operations per second of one thread's multiply-adds, measured now."""
    return float(engine().multiply_add_peak(isa, seconds))


def machine() -> dict[str, Any]:
    """What a figure was taken on: processor, cores, versions, commit."""
    import torch

    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "fxfast": __version__,
        "commit": _commit(),
        "instruction sets": [name for name, supported in engine().isas() if supported],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    found = {key.strip(): value.strip() for key, value in fields.items()}
    if "model name" not in found:
        return platform.processor()
    return (
        f"{found['model name']} (family {found.get('cpu family', '?')}, "
        f"model {found.get('model', '?')})"
    )


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return "installed package"
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
