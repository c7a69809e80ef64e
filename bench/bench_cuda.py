"""The CUDA engine beside what people use on a GPU: `python -m bench.bench_cuda`.

Every way plays the same audio, from device memory to device memory, in the same run; the limits
of the card, multiply-adds and copies, are measured between them. A way that fails says why and
the others go on; the file is written after each. With ``--rehearse`` everything runs small on the
CPU, on the stand-in of the kernels: a test of this script, no figures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from fxfast import models
from fxfast.audio.signals import guitar_like
from fxfast.cuda_engine import CudaEngine
from fxfast.cuda_library import CudaLibrary, Memory
from fxfast.data import Windows, from_arrays
from fxfast.graph import ConvLayer, ConvStack, ModelGraph
from fxfast.lowering import lower_for_device
from fxfast.player import Player
from fxfast.rendering import RunOptions, render_library
from fxfast.report.measure import machine
from fxfast.report.results import rounded, write
from fxfast.report.suite import graph_of
from fxfast.report.torch_ways import Twin

RESULTS = Path(__file__).resolve().parent / "results"
RATE = 48_000
RUNS = 7
# Of a whole run, after which ways that have not begun are left out.
SECONDS = 220.0
# Beside those that have a goal: every shape that has kernels of its own.
OTHERS = ("a1-lite", "a1-feather", "a1-nano", "a2-lite")


@dataclass
class Bench:
    """Where it runs and what was found."""

    rehearse: bool
    path: Path
    found: dict[str, Any]
    limit: float = SECONDS
    started: float = field(default_factory=time.perf_counter)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.rehearse else "cuda")

    def small(self, full: int, rehearsed: int) -> int:
        return rehearsed if self.rehearse else full

    def stream(self) -> int:
        return 0 if self.rehearse else int(torch.cuda.current_stream().cuda_stream)

    def seconds(self, work: Callable[[], object], runs: int = RUNS) -> list[float]:
        """Seconds of each run after a first one, by events on the device."""
        work()
        self.wait()
        taken = []
        for _ in range(1 if self.rehearse else runs):
            if self.rehearse:
                begun = time.perf_counter()
                work()
                taken.append(time.perf_counter() - begun)
                continue
            begin, end = (
                torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
                for _ in range(2)
            )
            begin.record()
            work()
            end.record()
            end.synchronize()
            taken.append(begin.elapsed_time(end) / 1000)
        return taken

    def wait(self) -> None:
        if not self.rehearse:
            torch.cuda.synchronize()

    @contextmanager
    def way(self, section: str, name: str) -> Iterator[dict[str, Any]]:
        """A row; an exception is its figure, and the file is written after it."""
        row: dict[str, Any] = {"name": name}
        self.found.setdefault(section, []).append(row)
        try:
            if time.perf_counter() - self.started > self.limit:
                raise RuntimeError(f"not begun: {self.limit:.0f} s are over")
            yield row
        except Exception as error:  # every way may fail in its own manner, and none ends the run
            row["failed"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        if not self.rehearse:
            torch.cuda.empty_cache()
        print(section, row, flush=True)
        write(rounded(self.found), self.path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_cuda", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="small, on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-cuda.json")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="then no way begins")
    args = parser.parse_args(argv)
    bench = Bench(args.rehearse, args.out, {"date": date.today().isoformat()}, args.seconds)
    bench.found["machine"] = machine()
    bench.found["rehearsal"] = args.rehearse
    library = CudaLibrary()
    measure_limits(bench, library)
    convolutions = ("a1-nano",) if bench.rehearse else ("a1-standard", "conv-64-32", "a2-full")
    # The product first: the minutes of a GPU may end before the peers do.
    for name in convolutions:
        measure_ours(bench, library, name)
    for name, streams in (("lstm-16", 4096), ("lstm-40", 2048)):
        measure_ours_recurrent(bench, library, name, streams)
        measure_torch_recurrent(bench, name, streams)
    for length, batch in ((64, 1 << 17), (64, 1 << 20), (12_288, 1 << 11), (12_288, 1 << 13)):
        measure_sampler(bench, length, batch)
    measure_library(bench)
    for name in convolutions[:2]:
        measure_eager(bench, name)
    measure_whole_path(bench)
    for name in OTHERS if not bench.rehearse else ():
        measure_ours(bench, library, name)
    for name in convolutions[2:]:
        measure_eager(bench, name)
    measure_onnx(bench)
    # Last: minutes go into looking for the best code.
    for name in convolutions[:2]:
        measure_compiled(bench, name)
    print(f"written in {time.perf_counter() - bench.started:.0f} s: {args.out}")
    failed = [row for rows in bench.found.values() if isinstance(rows, list) for row in rows]
    return 1 if args.rehearse and any("failed" in row for row in failed) else 0


def measure_limits(bench: Bench, library: CudaLibrary) -> None:
    if not bench.rehearse:
        bench.found["gpu"] = torch.cuda.get_device_name()
        bench.found["torch"] = torch.__version__
        bench.found["facts"] = library.facts(0)._asdict()
        # The peers in float32 as well: by its defaults cuDNN may take fewer bits.
        torch.backends.cudnn.allow_tf32 = False
        bench.found["tf32"] = False
    with bench.way("limits", "multiply-adds") as row:
        out = Memory(library, 16)
        operations = library.burst(library.facts(0).multiprocessors * 8, out.pointer, 0)
        seconds = bench.seconds(
            lambda: library.burst(library.facts(0).multiprocessors * 8, out.pointer, bench.stream())
        )
        row["flops"] = operations / min(seconds)
    with bench.way("limits", "copy") as row:
        source = torch.zeros(bench.small(1 << 28, 1 << 10), device=bench.device)
        target = torch.empty_like(source)
        seconds = bench.seconds(lambda: target.copy_(source))
        # Read and written.
        row["bytes_per_second"] = 8 * source.numel() / min(seconds)


def audio(samples: int) -> np.ndarray:
    """So many samples like a guitar, the same phrase over and over."""
    return np.resize(guitar_like(5.0, RATE, seed=6), samples).astype(np.float32)


def figures(bench: Bench, graph: ModelGraph, samples: int, seconds: list[float]) -> dict[str, Any]:
    """Of the median run, and of the fastest."""
    median = float(np.median(seconds))
    found: dict[str, Any] = {
        "samples": samples,
        "seconds": median,
        "fastest_seconds": min(seconds),
        "realtime": samples / RATE / median,
    }
    peak = next((row.get("flops") for row in bench.found["limits"]), None)
    if peak:
        found["share_of_peak"] = 2 * graph.macs_per_sample * samples / median / peak
    return found


def error_of(graph: ModelGraph, x: np.ndarray, y: np.ndarray) -> float:
    """RMS against the engine on the CPU, relative to it, over the start of the first row."""
    count = min(len(x), RATE)
    expected = Player(graph, mode="stream").render(x[:count])
    return float(np.sqrt(np.mean((y[:count] - expected) ** 2) / np.mean(expected**2)))


def ours(
    bench: Bench, library: CudaLibrary, graph: ModelGraph, rows: int, samples: int
) -> dict[str, Any]:
    cuda = CudaEngine(lower_for_device(graph), "cuda", library)
    x = torch.from_numpy(audio(samples)).to(bench.device).repeat(rows, 1)
    y = torch.empty_like(x)
    seconds = bench.seconds(
        lambda: cuda.render_there(x.data_ptr(), y.data_ptr(), (rows, samples), bench.stream())
    )
    found = figures(bench, graph, rows * samples, seconds)
    found["error"] = error_of(graph, x[0].cpu().numpy(), y[0].cpu().numpy())
    found["plan"] = cuda.description()
    return found


def measure_ours(bench: Bench, library: CudaLibrary, name: str) -> None:
    graph = graph_of(name)
    hour, song = bench.small(3600 * RATE, 2000), bench.small(300 * RATE, 1000)
    with bench.way(name, "fxfast, one hour") as row:
        row.update(ours(bench, library, graph, 1, hour))
    with bench.way(name, "fxfast, one file of 5 minutes") as row:
        row.update(ours(bench, library, graph, 1, song))


def measure_ours_recurrent(bench: Bench, library: CudaLibrary, name: str, streams: int) -> None:
    streams, samples = bench.small(streams, 5), bench.small(RATE, 100)
    with bench.way(name, f"fxfast, {streams} streams") as row:
        row.update(ours(bench, library, graph_of(name), streams, samples))


def measure_torch_recurrent(bench: Bench, name: str, streams: int) -> None:
    """nn.LSTM, which is cuDNN's on a GPU, at the same streams, without and with its own head."""
    graph = graph_of(name)
    streams, samples = bench.small(streams, 5), bench.small(RATE // 4, 50)
    with bench.way(name, f"cuDNN by nn.LSTM, {streams} streams") as row:
        net = models.from_graph(graph).as_torch().eval().to(bench.device)
        lstm = next(m for m in net.modules() if isinstance(m, torch.nn.RNNBase))
        x_tb1 = torch.from_numpy(audio(samples)).to(bench.device)[:, None, None]
        x = x_tb1.expand(samples, streams, 1).contiguous()
        if lstm.batch_first:
            x = x.transpose(0, 1).contiguous()
        with torch.inference_mode():
            row.update(figures(bench, graph, streams * samples, bench.seconds(lambda: lstm(x))))


def measure_eager(bench: Bench, name: str) -> None:
    """Eager PyTorch at its best batch, and as a CUDA graph at that batch."""
    graph = graph_of(name)
    twin = Twin.of(graph)
    net = twin.timed.to(bench.device)
    best: tuple[float, torch.Tensor] | None = None
    for rows in (1, 4, 16, 64) if not bench.rehearse else (1, 2):
        chunk = bench.small(1 << 16, 64)
        with bench.way(name, f"eager PyTorch, {rows} x {chunk}") as row, torch.inference_mode():
            x = torch.from_numpy(twin.input_of(audio(chunk + twin.history), rows, chunk).numpy())
            x = x.to(bench.device)
            found = figures(bench, graph, rows * chunk, bench.seconds(partial(net, x)))
            row.update(found)
            if best is None or found["realtime"] > best[0]:
                best = found["realtime"], x
    if best is None or bench.rehearse:
        return
    with bench.way(name, "eager PyTorch in a CUDA graph") as row, torch.inference_mode():
        x = best[1]
        graphed = torch.cuda.CUDAGraph()
        warm = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        warm.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(warm):
            for _ in range(3):
                net(x)
        torch.cuda.current_stream().wait_stream(warm)
        with torch.cuda.graph(graphed):
            net(x)
        samples = x.shape[0] * (x.shape[2] - twin.history)
        row.update(figures(bench, graph, samples, bench.seconds(graphed.replay)))


def measure_compiled(bench: Bench, name: str) -> None:
    graph = graph_of(name)
    twin = Twin.of(graph)
    rows, chunk = bench.small(16, 1), bench.small(1 << 16, 64)
    with bench.way(name, f"torch.compile max-autotune, {rows} x {chunk}") as row:
        if bench.rehearse:
            row["note"] = "not compiled in a rehearsal"
            return
        net = torch.compile(twin.timed.to(bench.device), mode="max-autotune")
        with torch.inference_mode():
            x = twin.input_of(audio(chunk + twin.history), rows, chunk).to(bench.device)
            row.update(figures(bench, graph, rows * chunk, bench.seconds(lambda: net(x))))


def measure_onnx(bench: Bench) -> None:
    """Whether ONNX Runtime could play on this GPU; it is measured on the CPU by `make bench`."""
    with bench.way("peers", "ONNX Runtime on CUDA") as row:
        try:
            import onnxruntime
        except ImportError:
            row["note"] = "not installed"
            return
        providers = onnxruntime.get_available_providers()
        there = "CUDAExecutionProvider" in providers
        row["note"] = f"version {onnxruntime.__version__}, " + (
            "with CUDA, not measured" if there else "built without CUDA"
        )


def measure_sampler(bench: Bench, length: int, batch: int) -> None:
    """Windows of resident int16 audio as float32; bytes are those read and written. Many batches
    in a row, as training takes them: each one's launch is then behind the one before."""
    samples, batch = bench.small(600 * RATE, 40_000), bench.small(batch, 130)
    draws = bench.small(50, 2)
    sound = (audio(samples) * 32767).astype(np.int16)
    data = from_arrays([(sound, sound[::-1].copy())], RATE)

    def draw_all(windows: Windows) -> None:
        for _ in range(draws):
            windows.draw()

    def graphed(windows: Windows) -> Callable[[], object]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            draw_all(windows)
        return graph.replay

    for way in ("one by one", "by a CUDA graph") if not bench.rehearse else ("one by one",):
        with bench.way("sampler", f"windows of {length}, {batch} in a batch, {way}") as row:
            windows = Windows(data, length, 1, batch_size=batch, device="cuda")
            work = partial(draw_all, windows) if way == "one by one" else graphed(windows)
            median = float(np.median(bench.seconds(work))) / draws
            size = batch * ((length + 1) * (2 + 4) + 8)
            row.update(draws=draws, seconds=median, windows_per_second=batch / median)
            row["bytes_per_second"] = size / median
            copied = next((r.get("bytes_per_second") for r in bench.found["limits"][1:]), None)
            if copied:
                row["share_of_copy"] = size / median / copied


def measure_library(bench: Bench) -> None:
    """Files of a RAM disk through a model on the GPU, and through next to nothing on the CPU,
    which is decoding and encoding alone."""
    name = "a1-nano" if bench.rehearse else "a1-standard"
    weight = np.ones((1, 1, 1), np.float32)
    nothing = ModelGraph(ConvStack((ConvLayer(weight, np.zeros(1, np.float32)),)), RATE)
    count, samples = bench.small(96, 3), bench.small(60 * RATE, 3000)
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as text:
        folder = Path(text)
        (folder / "in").mkdir()
        for n in range(count):
            soundfile.write(folder / "in" / f"{n}.wav", audio(samples), RATE, subtype="PCM_24")
        for way, graph, device in (
            ("decode and encode alone", nothing, "cpu"),
            (f"fxfast {name}", graph_of(name), "cuda:0"),
        ):
            with bench.way("library", f"{way}, {count} files") as row:
                for _ in range(2):  # the first loads what is loaded once
                    # In this process: it has used the GPU, and such a one cannot be forked.
                    options = RunOptions(isolate=False, overwrite=True)
                    done = render_library(
                        graph, [folder / "in"], folder / "out", options=options, device=device
                    )
                    assert done.exit_code == 0, [file.message for file in done.failed]
                    row["seconds"] = done.wall_seconds
                row["realtime"] = done.realtime_factor


def measure_whole_path(bench: Bench) -> None:
    """From host memory to host memory: copies in and out beside the playing."""
    name = "a1-nano" if bench.rehearse else "a1-standard"
    graph = graph_of(name)
    samples = bench.small(3600 * RATE, 1500)
    with bench.way("host to host", f"fxfast {name}, one hour") as row:
        player = Player(graph, device="cuda")
        x = audio(samples)
        player.render(x)
        begun = time.perf_counter()
        player.render(x)
        row.update(figures(bench, graph, samples, [time.perf_counter() - begun]))


if __name__ == "__main__":
    sys.exit(main())
