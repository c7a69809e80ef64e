"""The whole path in one run: audio, pairs, training, export, a rendered library, figures.

Everything is generated, so the demo needs no recording; what it does to its own files is what
a user does to real ones, by the same functions. In order: ``generate``, ``learn``, ``render``,
``measure``, ``conclude``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import exchange, models
from fxfast.audio.files import probe, read_audio, write_audio
from fxfast.audio.signals import guitar_like
from fxfast.errors import OutputExistsError, RunError
from fxfast.exchange.torchscript import export_torchscript
from fxfast.graph import ModelGraph
from fxfast.native import engine
from fxfast.pairs.make_pairs import make_pairs
from fxfast.pairs.pair_set import load_pairs
from fxfast.rendering import LibraryReport, Processing, Watcher, render_library
from fxfast.report.compare import Comparison, Options, compare
from fxfast.report.measure import machine
from fxfast.training import Observer, TrainConfig, TrainResult, train
from fxfast.whole_file import whole_file

SAMPLE_RATE = 48_000
MODEL = "conv-64-32"
MARKER = ".fxfast-demo"
DRY_SECONDS = (32.0, 32.0, 32.0)
# Suffix, subtype and rate of the library's files, taken in turn with lengths and channels.
_KINDS = (
    (".wav", "PCM_16", 48_000),
    (".wav", "PCM_24", 44_100),
    (".flac", "PCM_16", 44_100),
    (".wav", "FLOAT", 48_000),
    (".flac", "PCM_24", 96_000),
    (".wav", "PCM_16", 22_050),
    (".flac", "PCM_16", 48_000),
)
_LIBRARY_FILES = 28
_COMPARE_SECONDS = 10.0
_WINDOWS_SECONDS = 1.0


@dataclass(frozen=True)
class DemoResult:
    """What the demo found; ``to_json`` is what it leaves in demo.json."""

    training: TrainResult
    library: LibraryReport
    comparison: Comparison
    isa: str

    def to_json(self) -> dict[str, Any]:
        return {
            "date": date.today().isoformat(),
            "machine": machine(),
            "model": MODEL,
            "training": {**asdict(self.training), "run_dir": Path(self.training.run_dir).name},
            "library": {
                "files": len(self.library.files),
                "failed": len(self.library.failed),
                "audio_seconds": self.library.audio_seconds,
                "wall_seconds": self.library.wall_seconds,
                "realtime": self.library.realtime_factor,
            },
            "isa": self.isa,
            "share_of_peak": self.comparison.share_of_peak(self.isa),
            "comparison": self.comparison.to_json(),
        }


def generate(out_dir: Path, seed: int) -> None:
    """Dry guitar and its overdriven twin as pairs, and a library to render, in ``out_dir``.

    An earlier demo there is replaced. Raises ``OutputExistsError`` when ``out_dir`` holds
    anything but an earlier demo.
    """
    _clear(out_dir)
    for number, seconds in enumerate(DRY_SECONDS):
        dry = guitar_like(seconds, SAMPLE_RATE, seed=seed + number)
        _write(out_dir / "dry" / f"take-{number + 1}.wav", dry, SAMPLE_RATE, "PCM_24")
    make_pairs([out_dir / "dry"], out_dir / "pairs", "overdrive")
    _make_library(out_dir / "library", seed + 100)


def learn(
    out_dir: Path, seconds: float, seed: int, observers: Sequence[Observer] = ()
) -> TrainResult:
    """Train on the pairs for ``seconds`` and export the best model as a scripted one."""
    config = TrainConfig(seconds=seconds, epochs=None, seed=seed)
    model = models.create(MODEL, seed=seed)
    pairs = load_pairs(out_dir / "pairs")
    result = train(config, pairs, model, out_dir / "run", observers=observers)
    export_torchscript(exchange.load(out_dir / "run"), out_dir / "model.ts")
    return result


def render(
    out_dir: Path,
    watcher: Watcher | None = None,
) -> LibraryReport:
    """Render the library through the trained model.

    Raises ``RunError`` when a rendered file is not what its input promised.
    """
    graph = exchange.load(out_dir / "run")
    source, target = out_dir / "library", out_dir / "wet"
    report = render_library(
        graph,
        [source],
        target,
        processing=Processing(resample=True),
        watcher=watcher,
    )
    _check_library(report)
    return report


def measure(
    out_dir: Path, seed: int, on_round: Callable[[int, int], None] | None = None
) -> Comparison:
    """The trained model on the engine beside eager PyTorch and the machine's peak."""
    audio = guitar_like(_COMPARE_SECONDS, SAMPLE_RATE, seed=seed + 1000)
    isa = str(engine().chosen_isa())
    options = Options((isa,), blocks=(), peers=("eager",), windows_seconds=_WINDOWS_SECONDS)
    return compare(exchange.load(out_dir / "run"), audio, options, on_round=on_round)


def conclude(
    out_dir: Path, training: TrainResult, library: LibraryReport, comparison: Comparison
) -> DemoResult:
    """Everything that was found, also left in ``out_dir``/demo.json."""
    result = DemoResult(training, library, comparison, str(engine().chosen_isa()))
    with whole_file(out_dir / "demo.json") as temporary:
        temporary.write_text(json.dumps(result.to_json(), indent=1) + "\n")
    return result


def figures(result: DemoResult, graph: ModelGraph) -> list[tuple[str, str, str]]:
    """The closing table: what, how much, against what."""
    training, comparison = result.training, result.comparison
    ours = comparison.row(f"engine {result.isa}")
    windows = comparison.row("eager windows")
    dense = comparison.row("eager dense")
    whole = comparison.row("eager dense, whole file")
    ratio = {row.name: ours.realtime / row.realtime for row in comparison.rows}
    share, peak = comparison.share_of_peak(result.isa), comparison.peak_flops[result.isa]
    return [
        (
            "test ESR",
            f"{training.test_esr:.4f}",
            f"{training.dry_as_wet_esr:.3f} with dry as wet, "
            f"{training.best_gain_esr:.3f} with the best gain",
        ),
        ("training", f"{training.seconds:.0f} s", f"{training.epochs} epochs"),
        (
            "library, all cores",
            f"{result.library.realtime_factor:.0f}x real time",
            f"{len(result.library.files)} files, {result.library.audio_seconds:.0f} s of audio "
            f"in {result.library.wall_seconds:.2f} s, files read and written",
        ),
        (
            "engine, one core",
            f"{ours.realtime:.1f}x real time",
            f"{share:.0%} of the {result.isa} multiply-add peak of {peak / 1e9:.0f} GFLOP/s"
            f"{', by transforms' if share > 1 else ''}",
        ),
        (
            "eager PyTorch, dense",
            f"{dense.realtime:.1f}x real time",
            f"chunks of {comparison.eager_chunk}: the engine is {ratio[dense.name]:.1f} times "
            "as fast",
        ),
        (
            "eager PyTorch, dense",
            f"{whole.realtime:.1f}x real time",
            f"whole file: the engine is {ratio[whole.name]:.1f} times as fast",
        ),
        (
            "eager PyTorch, windows",
            f"{windows.realtime:.1f}x real time",
            f"batches of 200 windows of {graph.receptive_field}: the engine is "
            f"{ratio[windows.name]:.0f} times as fast",
        ),
    ]


def _clear(out_dir: Path) -> None:
    if out_dir.exists() and any(out_dir.iterdir()):
        if not (out_dir / MARKER).exists():
            raise OutputExistsError(
                f"{out_dir}: expected a new folder or an earlier demo's, got one with other files"
            )
        shutil.rmtree(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / MARKER).touch()


def _write(path: Path, x: np.ndarray, sample_rate: int, subtype: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, x, sample_rate, subtype)


def _make_library(folder: Path, seed: int) -> None:
    """Files of many lengths, rates, channel counts and formats in nested folders."""
    for number in range(_LIBRARY_FILES):
        suffix, subtype, sample_rate = _KINDS[number % len(_KINDS)]
        channels = 2 if number % 3 == 1 else 1
        seconds = 2.0 + 1.7 * (number % 11)
        x_ct = np.stack([guitar_like(seconds, sample_rate, seed + 2 * number + c)
                         for c in range(channels)])  # fmt: skip
        part = ("clean", "clean/takes", "ideas")[number % 3]
        _write(folder / part / f"riff-{number + 1:02}{suffix}", x_ct, sample_rate, subtype)


def _check_library(library: LibraryReport) -> None:
    if library.failed:
        raise RunError(f"library: expected every file rendered, got {library.failed[0].message}")
    for file in library.files:
        before, after = probe(file.input), probe(file.output)
        for what in ("frames", "sample_rate", "channels", "subtype"):
            expected, got = getattr(before, what), getattr(after, what)
            if expected != got:
                raise RunError(f"{file.output}: expected {what} {expected}, got {got}")
        if not np.any(read_audio(file.output)[0]):
            raise RunError(f"{file.output}: expected sound, got silence")
