"""How figures are taken: warm-up, several runs, median and spread, machine and commit beside them.

One-thread work is timed by the thread's own CPU time, which other programs on a shared machine
do not lengthen; work of several threads by the wall clock.
"""

from __future__ import annotations

import contextlib
import ctypes
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


def run_length(
    seconds_of: Callable[[int], float], limit: int, target_seconds: float, start: int = 256
) -> int:
    """How many samples, at most ``limit``, take about ``target_seconds``.

    ``seconds_of`` measures one run of so many samples.
    """
    samples = min(start, limit)
    while True:
        taken = seconds_of(samples)
        if samples == limit or taken > target_seconds / 4:
            wanted = round(samples * target_seconds / max(taken, 1e-9))
            return max(min(start, limit), min(wanted, limit))
        samples = min(4 * samples, limit)


def peak_growth_bytes(work: Callable[[], object]) -> int | None:
    """How far the resident memory rises during ``work`` above what it was before.

    None where the system does not tell: Linux does.
    """
    try:
        _trim_heap()
        # Sets the high-water mark back to what is resident now.
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
        work()
        return max(0, _status_bytes("VmHWM") - before)
    except (OSError, KeyError):
        return None


def _trim_heap() -> None:
    """Give freed memory back, or its use again would not show. glibc has a call for that."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(fields[name].split()[0])


def multiply_add_peak(isa: str, seconds: float = 0.1) -> float:
    """Floating-point operations per second of one thread's multiply-adds on registers, now.

    Taken as the figures that it stands beside are: operations over the thread's CPU time, all of
    about ``seconds``. The best of many short bursts would be of another clock than theirs where
    the clock changes from one millisecond to the next.
    """
    started = time.thread_time()
    operations = engine().run_multiply_adds(isa, seconds)
    return float(operations / (time.thread_time() - started))


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
