"""The sampler beside the usual DataLoader, the best eager way and memcpy, one core, one run:
`python -m bench.bench_sampler` writes bench/results/DATE-sampler.json.

Ten minutes of 48 kHz float32, random windows, inputs only, times of the thread's own CPU. The
usual way is a Dataset that slices, a RandomSampler and a DataLoader without workers; the best
eager way index_select from an as_strided view into a buffer that is used again. Memcpy copies as
many bytes as a batch, in one piece from a random place, into the same number of buffers.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from fxfast.data import Data, Windows, from_arrays
from fxfast.report.measure import Timing, machine, rounds, thread_seconds, wall_seconds
from fxfast.report.results import write

RESULTS = Path(__file__).resolve().parent / "results"
SAMPLE_RATE, MINUTES = 48_000, 10
# Samples of a window, windows of a batch, and what has to be reached: windows per second, or as
# a share of memcpy.
CASES = (
    (64, 200, {"windows": 45e6}),
    (64, 4096, {"windows": 50e6}),
    (2048, 200, {"share": 0.75}),
    (12288, 16, {"share": 0.75}),
)
_COPIED_BYTES = 400e6  # by every fast way in one round
_RING = 6


class Slices(Dataset[torch.Tensor]):
    """What people write first."""

    def __init__(self, x: torch.Tensor, length: int) -> None:
        self.x, self.length = x, length

    def __len__(self) -> int:
        return len(self.x) - self.length + 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.x[index : index + self.length]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_sampler", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each figure (9)")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-sampler.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args.rounds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(result, args.out)
    for line in summary(result):
        print(line)
    print(f"written: {args.out}")
    return 0


def measure(count: int) -> dict[str, Any]:
    """All figures, as they are written."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal(60 * MINUTES * SAMPLE_RATE, dtype=np.float32)
    x *= np.float32(0.1)
    whole = (x * 32768).clip(-32768, 32767).astype(np.int16)
    data = {"float32": from_arrays([(x, x)], SAMPLE_RATE),
            "int16": from_arrays([(whole, whole)], SAMPLE_RATE)}  # fmt: skip
    order, usual_start = _usual_start(torch.from_numpy(x))
    result = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "rounds": count,
        "audio_seconds": 60 * MINUTES,
        "first batch": {"usual": usual_start, "ours": _first_batch(data["float32"])},
        "resume_seconds": _resume(data["float32"]),
        "memory_bytes_per_file": _memory_per_file(),
        "cases": [_case(x, data, order, length, batch, must, count)
                  for length, batch, must in CASES],
        "threads": [_threads(data["float32"], length, batch, count) for length, batch in
                    ((64, 4096), (2048, 200))],
    }  # fmt: skip
    return result


def _usual_start(x: torch.Tensor) -> tuple[list[int], dict[str, float]]:
    """An order for the usual way, and what it costs before the first batch, in CPU time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.thread_time()
    dataset = Slices(x, 64)
    iterator = iter(DataLoader(dataset, batch_size=200, sampler=RandomSampler(dataset)))
    next(iterator)
    seconds = time.thread_time() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    order = torch.randint(0, len(x) - 20_000, (1 << 20,)).tolist()
    return order, {"seconds": seconds, "memory_bytes": (after - before) * 1024.0}


def _first_batch(data: Data) -> dict[str, float]:
    """Median seconds from construction to the first batch, and of construction."""
    made, first = [], []
    for seed in range(21):
        began = time.perf_counter()
        windows = Windows(data, 64, 0, batch_size=200, seed=seed)
        built = time.perf_counter()
        next(iter(windows))
        first.append(time.perf_counter() - built)
        made.append(built - began)
    return {"seconds": float(np.median(first)), "construction_seconds": float(np.median(made))}


def _resume(data: Data) -> float:
    """Median seconds of going to a random batch, to having it."""
    windows = Windows(data, 64, 0, batch_size=200)
    state = windows.state_dict()
    windows.set_epoch(1)
    states, taken = [state], []
    for position in np.random.default_rng(0).integers(0, len(windows), 200).tolist():
        windows._ring.seek(2, position)
        states.append(windows.state_dict())
    for state in states:
        began = time.perf_counter()
        windows.load_state_dict(state)
        next(iter(windows))
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def _memory_per_file() -> float:
    files = 100_000
    side = np.zeros(64, np.float32)
    data = from_arrays([(side, side)] * files, SAMPLE_RATE)
    return Windows(data, 32, batch_size=64).memory_bytes / files


def _endless(make: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield from make()


def _case(
    x: np.ndarray,
    data: dict[str, Data],
    order: list[int],
    length: int,
    batch: int,
    must: dict[str, float],
    count: int,
) -> dict[str, Any]:
    """Windows per second of every way for one length and batch."""
    print(f"measuring: windows of {length}, batches of {batch}", file=sys.stderr)
    bytes_of_batch = 4 * length * batch
    batches = max(2, round(_COPIED_BYTES / bytes_of_batch)) if length > 64 else 4_000_000 // batch
    slices = Slices(torch.from_numpy(x), length)
    loader = DataLoader(slices, batch_size=batch, sampler=order)
    few = max(2, 30_000 // batch if length <= 2048 else 4000 // batch)
    ways = {
        "usual": (_endless(lambda: loader), few),
        "eager": (_eager(torch.from_numpy(x), length, batch), max(2, batches // 4)),
        "memcpy": (_memcpy(x, bytes_of_batch), batches),
        "ours": (_ours(data["float32"], length, 0, batch), batches),
        "ours int16": (_ours(data["int16"], length, 0, batch), batches),
        "ours with targets": (_ours(data["float32"], length, 1, batch), batches),
        "ours in a DataLoader": (_ours(data["float32"], length, 0, batch, True), batches),
    }

    def seconds_per_batch(iterator: Iterator[Any], number: int) -> Callable[[], float]:
        def some() -> None:
            for _ in range(number):
                next(iterator)

        return lambda: thread_seconds(some) / number

    taken = rounds({n: seconds_per_batch(*way) for n, way in ways.items()}, count, warm_up=1)
    timings = {name: Timing.of(seconds) for name, seconds in taken.items()}
    speeds = {name: batch / timing.median for name, timing in timings.items()}
    share = float(np.median(np.divide(taken["memcpy"], taken["ours"])))
    reached = share if "share" in must else speeds["ours"]
    return {
        "length": length,
        "batch": batch,
        "must": must,
        "holds": bool(reached >= next(iter(must.values()))),
        "windows_per_second": speeds,
        "bytes_per_second": {name: speed * 4 * length for name, speed in speeds.items()},
        "share_of_memcpy": share,
        "times_usual": float(np.median(np.divide(taken["usual"], taken["ours"]))),
        "times_eager": float(np.median(np.divide(taken["eager"], taken["ours"]))),
        "seconds_per_batch": {name: timing.to_json() for name, timing in timings.items()},
    }


def _ours(
    data: Data, length: int, out_length: int, batch: int, in_loader: bool = False
) -> Iterator[Any]:
    windows = Windows(data, length, out_length, batch_size=batch, threads=0)
    loader = DataLoader(windows, batch_size=None)
    return _endless(lambda: loader if in_loader else windows)


def _eager(x: torch.Tensor, length: int, batch: int) -> Iterator[torch.Tensor]:
    windows = x.as_strided((len(x) - length + 1, length), (1, 1))
    out, index = torch.empty(batch, length), torch.empty(batch, dtype=torch.int64)
    while True:
        torch.randint(0, len(windows), (batch,), out=index)
        yield torch.index_select(windows, 0, index, out=out)


def _memcpy(x: np.ndarray, size: int) -> Iterator[None]:
    buffers = [np.ones(size, np.uint8) for _ in range(_RING)]
    targets = [buffer.ctypes.data for buffer in buffers]
    source, room = x.ctypes.data, len(x) - size // 4
    starts = (source + 4 * np.random.default_rng(1).integers(0, room, 4096)).tolist()
    copy, turn = ctypes.memmove, 0
    while True:
        copy(targets[turn % _RING], starts[turn % 4096], size)
        turn += 1
        yield


def _threads(data: Data, length: int, batch: int, count: int) -> dict[str, Any]:
    """Wall-clock time of one and of two threads that fill, on all cores; the best round, because
    the system may put both on one core."""
    batches = max(10, round(40 * _COPIED_BYTES / (4 * length * batch)))
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    works = {}
    cpu: dict[str, list[float]] = {"1": [], "2": []}
    for threads in (1, 2):
        iterator = _endless_threads(data, length, batch, threads)

        def some(iterator: Iterator[Any] = iterator, name: str = str(threads)) -> None:
            began = time.process_time()
            for _ in range(batches):
                next(iterator)
            cpu[name].append(time.process_time() - began)

        works[str(threads)] = lambda some=some: wall_seconds(some)
    taken = rounds(works, min(count, 4), warm_up=1)
    return {
        "length": length,
        "batch": batch,
        "windows_per_second": {n: batch * batches / min(s) for n, s in taken.items()},
        "two_over_one": min(taken["1"]) / min(taken["2"]),
        # Where this stays near 1, neither memory nor a lock slows the two threads down.
        "cpu_time_of_two_over_one": min(cpu["2"]) / min(cpu["1"]),
    }


def _endless_threads(data: Data, length: int, batch: int, threads: int) -> Iterator[Any]:
    windows = Windows(data, length, 0, batch_size=batch, threads=threads)
    return _endless(lambda: windows)


def summary(result: dict[str, Any]) -> Iterator[str]:
    for case in result["cases"]:
        speeds = case["windows_per_second"]
        yield (
            f"N={case['length']} batch={case['batch']}: "
            + ", ".join(f"{name} {speed / 1e6:.3g} M/s" for name, speed in speeds.items())
            + f"; {case['share_of_memcpy']:.0%} of memcpy, {case['times_usual']:.1f} times usual, "
            f"{case['times_eager']:.2f} times eager, holds: {case['holds']}"
        )
    for row in result["threads"]:
        yield (
            f"two threads over one, N={row['length']}: {row['two_over_one']:.2f} (CPU time "
            f"{row['cpu_time_of_two_over_one']:.2f})"
        )
    yield f"first batch: {result['first batch']}"
    yield f"resume: {1e3 * result['resume_seconds']:.2f} ms"
    yield f"memory per file: {result['memory_bytes_per_file']:.0f} bytes"


if __name__ == "__main__":
    sys.exit(main())
