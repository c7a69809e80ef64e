"""Whole libraries beside the engine alone and beside decoding and encoding alone, on two cores:
`python -m bench.bench_library` writes bench/results/DATE-library.json.

The music is that of Debian's package wesnoth-1.16-music (`--music FOLDER` names any other folder of
audio files), decoded once to 48 kHz, 16 bit, as WAV and as FLAC, in a temporary folder. Each of
these goes over the same sound, all by the wall clock, once for every model; what is quickest to
repeat is then repeated while ``--minutes`` allow:

    engine    the decoded files in memory through a player of two threads, file after file
    files     decoding and encoding alone: two threads, longest file first, the reader and the
              writer that a library run uses, flushed and renamed
    library   the whole run: plan, journal, decoding, rendering, encoding, flushing, renaming
    unsafe    the same without bringing files to the disk and without reading them back
    late      the same as unsafe, and the file system flushed once at the end: as much is on the
              disk then as after a library run, so this is what safety is held against
    unread    the whole run, but for reading back: what of safety is bringing files to the disk
    disk      as many bytes as the files have, right to the disk: no program writes them sooner

The last four with the cheapest model alone, for what they cost is the same whatever the model, and
all but the disk also over a library of LONGER times as many files, of which the memory for files
that are not on the disk yet holds a part only.

CPU seconds of the whole process are taken beside the wall: on a machine that others use, they say
what the wall would be. "Of both" is the share of what two cores allow where engine and files cost
what they do alone.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from fxfast import models
from fxfast.audio import appending, flac_sink, wave_sink
from fxfast.audio.files import BlockWriter, find_audio, open_audio, probe, read_audio, write_audio
from fxfast.audio.resample import resample
from fxfast.errors import AudioFileError
from fxfast.graph import ConvLayer, ConvStack, ModelGraph
from fxfast.player import Player
from fxfast.rendering import RunOptions, render_library
from fxfast.report.measure import machine
from fxfast.whole_file import whole_file

RESULTS = Path(__file__).resolve().parent / "results"
MUSIC = Path("/usr/share/games/wesnoth")
SAMPLE_RATE, CORES, MIN_HOURS = 48_000, 2, 2.0
FORMATS = ("wav", "flac")
CHEAPEST = "gain"
# The share of what each is measured against that a library has to reach.
# A1 nano, between the two, costs more than its files and less than to drown them.
MUSTS = {"a1-standard": {"of the engine": 0.90}, CHEAPEST: {"of files alone": 0.85}}
MUST_SAFETY = 0.05
SAFETY, BESIDE_UNSAFE = "cost of safety", "cost beside unsafe"
LONGER = 5
_BLOCK_FRAMES = 16384
_DISK_PIECE = 1 << 20
MAX_RUNS = 5


def graphs() -> dict[str, ModelGraph]:
    gain = ConvStack((ConvLayer(np.full((1, 1, 1), 0.5, np.float32)),))
    found = {
        name: models.create(name, seed=0).to_graph(SAMPLE_RATE)
        for name in ("a1-standard", "a1-nano")
    }
    return {**found, CHEAPEST: ModelGraph(gain, SAMPLE_RATE)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_library", description=__doc__)
    parser.add_argument("--music", type=Path, default=MUSIC, help="folder of audio files")
    parser.add_argument("--minutes", type=float, default=11.0, help="no repeats after so many")
    parser.add_argument("--hours", type=float, help="stop decoding after so much sound")
    parser.add_argument("--work", type=Path, help="where the temporary folder is made")
    parser.add_argument("-o", "--out", type=Path, help="result file")
    args = parser.parse_args()
    until = time.monotonic() + 60 * args.minutes
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        folder = Path(name)
        seconds, skipped = prepare(args.music, folder, args.hours)
        result = {
            "date": date.today().isoformat(),
            "machine": machine(),
            "music": {
                "hours": seconds / 3600,
                "files": len(find_audio(folder / "wav")),
                "skipped": skipped,
            },
            "cases": list(measure_all(folder, seconds, until)),
            "longer": measure_longer(folder, seconds),
        }
    out = args.out or RESULTS / f"{date.today().isoformat()}-library.json"
    with whole_file(out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    for line in summary(result):
        print(line)
    return 0


def prepare(music: Path, folder: Path, hours: float | None) -> tuple[float, list[str]]:
    """The music as 48 kHz WAV and FLAC below ``folder``: its length in seconds, and what could not
    be decoded, in a line each."""
    for kind in FORMATS:
        (folder / kind).mkdir()
    seconds, skipped = 0.0, []
    sources = list(enumerate(find_audio(music)))
    with ThreadPoolExecutor(CORES) as pool:
        while sources and (hours is None or seconds < 3600 * hours):
            batch, sources = sources[:CORES], sources[CORES:]
            for found in pool.map(lambda job: _prepare_one(folder, *job), batch):
                if isinstance(found, AudioFileError):
                    skipped.append(str(found))
                else:
                    seconds += found
            _tell(f"{seconds / 60:.0f} minutes decoded, {len(sources)} files are left")
    if not seconds:
        raise SystemExit(f"{music}: expected a folder with music, found none")
    return seconds, skipped


def _prepare_one(folder: Path, number: int, source: Path) -> float | AudioFileError:
    try:
        x_ct, rate = read_audio(source)
    except AudioFileError as error:
        return error
    x_ct = np.clip(resample(x_ct, rate, SAMPLE_RATE), -1.0, 1.0)
    for kind in FORMATS:
        write_audio(folder / kind / f"{number:03}.{kind}", x_ct, SAMPLE_RATE, "PCM_16")
    return float(x_ct.shape[1] / SAMPLE_RATE)


Runs = dict[tuple[str, str, str], list["Taken"]]


def measure_all(folder: Path, seconds: float, until: float) -> Iterator[dict[str, Any]]:
    made, out = graphs(), folder / "out"
    runs: Runs = {}
    cost: dict[str, float] = {}
    waiting = [CHEAPEST, *(name for name in made if name != CHEAPEST)]
    while waiting:
        for name in waiting:
            started = time.monotonic()
            _measure_model(name, made[name], folder, out, runs, seconds)
            cost[name] = time.monotonic() - started
        left = until - time.monotonic()
        waiting = []
        for name in sorted(cost, key=cost.__getitem__):
            left -= cost[name]
            if left > 0 and len(runs[name, "", "engine"]) < MAX_RUNS:
                waiting.append(name)
    for name in made:
        for kind in FORMATS:
            ways = {"files": runs["", kind, "files"], "engine": runs[name, "", "engine"]}
            ways["library"] = runs[name, kind, "library"]
            ways["cheapest"] = runs[CHEAPEST, kind, "library"]
            ways["unsafe"] = runs[CHEAPEST, kind, "unsafe"]
            ways["late"] = runs[CHEAPEST, kind, "late"]
            ways["unread"] = runs[CHEAPEST, kind, "unread"]
            ways["disk"] = runs["", kind, "disk"]
            yield case_of(name, kind, seconds, ways)


def _measure_model(
    name: str, graph: ModelGraph, folder: Path, out: Path, runs: Runs, seconds: float
) -> None:
    def keep(name: str, kind: str, way: str, taken: Taken) -> None:
        runs.setdefault((name, kind, way), []).append(taken)
        _tell(f"{name} {kind} {way}: {seconds / taken.wall:.0f}x real time")

    keep(name, "", "engine", engine_alone(Player(graph, threads=CORES), folder / "wav"))
    for kind in FORMATS:
        source = folder / kind
        if name != CHEAPEST:
            keep(name, kind, "library", library(graph, source, out))
            continue
        if ("", kind, "files") not in runs:  # what is not in memory yet, files and code
            library(graph, source, out)
        # What takes seconds is measured often enough to tell safety from noise.
        for _ in range(MAX_RUNS if kind == "wav" else 1):
            keep("", kind, "files", files_alone(source, out))
            for way, taken in safely_and_not(graph, source, out):
                keep(name, kind, way, taken)
            keep("", kind, "disk", disk_alone(source, out))


def safely_and_not(graph: ModelGraph, source: Path, out: Path) -> Iterator[tuple[str, Taken]]:
    yield "library", library(graph, source, out)
    with without_reading_back():
        yield "unsafe", library(graph, source, out, sync=False)
        yield "late", library(graph, source, out, sync=False, flush=True)
        yield "unread", library(graph, source, out)


def measure_longer(folder: Path, seconds: float) -> dict[str, Any]:
    """Safety over LONGER times as many files, which are links to those of the library."""
    graph, source, out = graphs()[CHEAPEST], folder / "longer", folder / "out"
    source.mkdir()
    for path in find_audio(folder / "wav"):
        for n in range(LONGER):
            os.link(path, source / f"{n}-{path.name}")
    runs: dict[str, list[Taken]] = {}
    for _ in range(MAX_RUNS):
        for way, taken in safely_and_not(graph, source, out):
            runs.setdefault(way, []).append(taken)
            _tell(
                f"{CHEAPEST} wav x {LONGER} {way}: {LONGER * seconds / taken.wall:.0f}x real time"
            )
    wall = {way: float(np.median([t.wall for t in all_of])) for way, all_of in runs.items()}
    return {
        "hours": LONGER * seconds / 3600,
        "files": len(find_audio(source)),
        "shares": {
            SAFETY: 1.0 - wall["late"] / wall["library"],
            BESIDE_UNSAFE: 1.0 - wall["unsafe"] / wall["library"],
        },
        "wall seconds": {way: [t.wall for t in all_of] for way, all_of in runs.items()},
        "CPU seconds": {way: [t.cpu for t in all_of] for way, all_of in runs.items()},
    }


@contextmanager
def without_reading_back() -> Iterator[None]:
    """Outputs that are not held against what was written, neither by block nor at their end."""

    with (
        patch.object(appending.Appender, "reads_back", False),
        patch.object(wave_sink.WaveSink, "_verify", lambda *_: None),
        patch.object(flac_sink.FlacSink, "_verify", lambda *_: None),
    ):
        yield


class Taken:
    """Wall and CPU seconds of one run."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    def __enter__(self) -> Taken:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter() - self._wall
        self.cpu += time.process_time() - self._cpu


def engine_alone(player: Player, folder: Path) -> Taken:
    taken = Taken()
    for path in find_audio(folder):
        x_ct, _ = read_audio(path)
        with taken:
            player.render(x_ct)
    return taken


def files_alone(folder: Path, out: Path) -> Taken:
    """Every file read and written as it is, by as many threads as there are cores."""
    queue = sorted(find_audio(folder), key=lambda path: probe(path).frames)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not queue:
                    return
                path = queue.pop()
            with (
                open_audio(path, block_frames=_BLOCK_FRAMES) as reader,
                BlockWriter(
                    out / path.name,
                    reader.info.sample_rate,
                    reader.info.channels,
                    None,
                    "PCM_16",
                    overwrite=True,
                ) as writer,
            ):
                for block_ct in reader:
                    writer.write(block_ct)

    out.mkdir(exist_ok=True)
    threads = [threading.Thread(target=work) for _ in range(CORES)]
    with Taken() as taken:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    _empty(out)
    return taken


def library(
    graph: ModelGraph, folder: Path, out: Path, sync: bool = True, flush: bool = False
) -> Taken:
    with Taken() as taken:
        report = render_library(graph, [folder], out, options=RunOptions(jobs=CORES, sync=sync))
        if flush:
            os.sync()
    if report.failed:
        raise RuntimeError(report.failed[0].message)
    _empty(out)
    return taken


def disk_alone(folder: Path, out: Path) -> Taken:
    """As many bytes as the files have into one file, in pieces of a MiB, none of them kept in
    memory."""
    count = sum(path.stat().st_size for path in find_audio(folder)) // _DISK_PIECE
    piece = mmap.mmap(-1, _DISK_PIECE)  # begins at a page, as the disk wants it
    piece.write(os.urandom(_DISK_PIECE))
    with Taken() as taken:
        fd = os.open(out / "disk", os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
        for _ in range(count):
            os.write(fd, piece)
        os.fsync(fd)
        os.close(fd)
    _empty(out)
    return taken


def _empty(folder: Path) -> None:
    """With the disk at rest after it: what a run left to be written or freed is not the next's."""
    for path in folder.iterdir():
        path.unlink()
    os.sync()


def case_of(name: str, kind: str, seconds: float, taken: dict[str, list[Taken]]) -> dict[str, Any]:
    wall = {way: float(np.median([t.wall for t in runs])) for way, runs in taken.items()}
    cpu = {way: float(np.median([t.cpu for t in runs])) for way, runs in taken.items()}

    def shares(of: dict[str, float]) -> dict[str, float]:
        return {
            "of the engine": of["engine"] / of["library"],
            "of files alone": of["files"] / of["library"],
            "of both": (of["engine"] + of["files"]) / of["library"],
            SAFETY: (of["cheapest"] - of["late"]) / of["library"],
            BESIDE_UNSAFE: (of["cheapest"] - of["unsafe"]) / of["library"],
            "cost of reading back": (of["cheapest"] - of["unread"]) / of["library"],
            "of the disk": of["disk"] / of["library"],
        }

    result: dict[str, Any] = {
        "model": name,
        "format": kind,
        "realtime": {way: seconds / value for way, value in wall.items()},
        "shares": shares(wall),
        "shares of CPU": shares(cpu),
        "wall seconds": {way: [t.wall for t in runs] for way, runs in taken.items()},
        "CPU seconds": {way: [t.cpu for t in runs] for way, runs in taken.items()},
    }
    result["must"] = {**MUSTS.get(name, {}), SAFETY: MUST_SAFETY, BESIDE_UNSAFE: MUST_SAFETY}
    result["holds"] = {
        share: found <= must if share in (SAFETY, BESIDE_UNSAFE) else found >= must
        for share, must in result["must"].items()
        for found in (result["shares"][share],)
    }
    return result


def summary(result: dict[str, Any]) -> Iterator[str]:
    hours = result["music"]["hours"]
    yield f"{hours:.2f} hours of music in {result['music']['files']} files"
    for line in result["music"]["skipped"]:
        yield f"skipped: {line}"
    if hours < MIN_HOURS:
        yield f"too little to be a figure: at least {MIN_HOURS:g} hours are asked for"
    for case in result["cases"]:
        speeds = ", ".join(f"{way} {x:.0f}x" for way, x in case["realtime"].items())
        shares = ", ".join(f"{name} {share:.1%}" for name, share in case["shares"].items())
        cpu = ", ".join(f"{name} {share:.1%}" for name, share in case["shares of CPU"].items())
        yield f"{case['model']}, {case['format']}: {speeds}"
        yield f"    {shares}"
        yield f"    by CPU: {cpu}"
        yield f"    holds: {case['holds']}"
    yield _longer_line(result["longer"])


def _longer_line(longer: dict[str, Any]) -> str:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in longer["shares"].items())
    return f"{longer['hours']:.1f} hours in {longer['files']} files, {CHEAPEST}, wav: {shares}"


def _tell(text: str) -> None:
    """Minutes pass: what happens is said wherever it is looked for, over the last on a terminal."""
    start, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}{text}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
