"""Write the README's tables from the newest result files: `python -m bench.readme [--check]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any

from bench.cuda_table import cuda_table
from bench.library_table import library_table
from bench.sampler_table import sampler_table
from bench.training_table import training_table
from bench.zoo_table import zoo_table
from fxfast.report.musts import MUST_HEADER, must_rows
from fxfast.report.table import decibels, markdown, models_table, peers_that_win

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether it is up to date")
    args = parser.parse_args()
    text = README.read_text()
    wanted = filled(text)
    if args.check and text != wanted:
        print("README.md: expected the tables of the newest result files, got others")
        return 1
    if not args.check:
        README.write_text(wanted)
    return 0


def filled(text: str) -> str:
    """The README with the part between each pair of markers made from its result file."""
    for name, kind, make in (
        ("demo", "demo", demo_table),
        ("cpu", "cpu", cpu_table),
        ("models", "cpu", all_models),
        ("musts", "cpu", all_musts),
        ("sampler", "sampler", sampler_table),
        ("library", "library", library_table),
        ("zoo", "zoo", zoo_table),
        ("cuda", "cuda", cuda_table),
    ):
        if kind in ("zoo", "library", "cuda") and not found_of(kind):
            continue
        path = newest(kind)
        body = f"{make(json.loads(path.read_text()))}\n\nFrom `bench/results/{path.name}`.\n"
        text = _with_part(text, name, body)
    if paths := found_of("training-*"):
        names = " and ".join(f"`bench/results/{path.name}`" for path in paths)
        table = training_table([json.loads(path.read_text()) for path in paths])
        text = _with_part(text, "training", f"{table}\n\nFrom {names}.\n")
    return text


def _with_part(text: str, name: str, body: str) -> str:
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    text, count = re.subn(pattern, partial(_between, body), text, flags=re.S)
    if count != 1:
        raise RuntimeError(f"README.md: expected one part marked {name}, got {count}")
    return text


def _between(body: str, markers: re.Match[str]) -> str:
    return markers[1] + body + markers[2]


def found_of(name: str) -> list[Path]:
    return sorted(RESULTS.glob("zoo_*.json" if name == "zoo" else f"*-{name}.json"))


def newest(name: str) -> Path:
    """The newest result file of a kind; files are named DATE-kind.json, those of the zoo
    zoo_DATE.json."""
    found = found_of(name)
    if not found:
        raise RuntimeError(f"bench/results: expected a *-{name}.json, got none")
    return found[-1]


def _rows_by_name(comparison: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in comparison["rows"]}


def demo_table(result: dict[str, Any]) -> str:
    training, library, isa = result["training"], result["library"], result["isa"]
    rows = _rows_by_name(result["comparison"])
    ours = rows[f"engine {isa}"]["realtime"]
    peak = result["comparison"]["peak_flops"][isa] / 1e9
    chunk = result["comparison"]["eager_chunk_samples"]

    def peer(name: str, note: str) -> tuple[str, str, str]:
        speed = rows[name]["realtime"]
        return (f"eager PyTorch, {note}", f"{speed:.1f}x real time", f"{ours / speed:.1f} times")

    table = markdown(
        ("demo", "value", "beside"),
        [
            (
                "test ESR (energy of the error over that of the target)",
                f"{training['test_esr']:.4f}",
                f"{training['dry_as_wet_esr']:.3f} for the dry signal itself",
            ),
            ("training", f"{training['seconds']:.0f} s", f"{training['epochs']} epochs"),
            (
                f"library of {library['files']} files, decoded, resampled, rendered, encoded",
                f"{library['realtime']:.0f}x real time",
                f"{library['audio_seconds']:.0f} s of audio in {library['wall_seconds']:.1f} s",
            ),
            (
                f"engine, one core, {isa}",
                f"{ours:.1f}x real time",
                f"{result['share_of_peak']:.0%} of the measured peak of {peak:.0f} GFLOP/s, "
                "by transforms",
            ),
        ],
    )
    peers = markdown(
        ("the same audio by one core of", "speed", "the engine is as fast"),
        [
            peer("eager windows", "batches of 200 windows of 64 samples"),
            peer("eager dense", f"dense, chunks of {chunk} (its fastest)"),
            peer("eager dense, whole file", "dense, whole file"),
        ],
    )
    return f"{table}\n\n{peers}\n\n{_machine(result['machine'])}"


def cpu_table(result: dict[str, Any]) -> str:
    """The first network that people build, in detail."""
    model = result["models"]["conv-64-32"]
    rows = _rows_by_name(model)
    table = markdown(
        (
            "engine, one core",
            "times real time",
            "direct multiply-adds over the peak (by transforms)",
            "error",
        ),
        [
            (
                isa,
                f"{row['realtime']:.1f}x",
                f"{row['share_of_peak']:.0%} of {peak / 1e9:.0f} GFLOP/s",
                decibels(row["error_db"]),
            )
            for isa, peak in model["peak_flops"].items()
            for row in (rows[f"engine {isa}"],)
        ],
    )
    best = next(iter(model["peak_flops"]))
    streams = [r for r in model["rows"] if r["isa"] == best and r["mode"] == "stream"]
    stream = markdown(
        ("streaming, block of", *(str(row["block"]) for row in streams)),
        [("times real time", *(f"{row['realtime']:.1f}x" for row in streams))],
    )
    ours = rows[f"engine {best}"]["realtime"]
    dense, whole, windows = (
        rows[name]["realtime"]
        for name in ("eager dense", "eager dense, whole file", "eager windows")
    )
    two = result["two files"]["two_threads_over_one"]
    words = (
        f"Eager PyTorch in the same run: {dense:.1f}x dense at its fastest chunk (the engine is "
        f"{ours / dense:.2f} times as fast), {whole:.1f}x on the whole file "
        f"({ours / whole:.2f} times), {windows:.2f}x window by window "
        f"({ours / windows:.1f} times). Two files on two threads take {two['arrays']:.2f} times "
        f"less time than one after the other ({two['library']:.2f} with files read and written). "
        f"A training step with the fxfast convolution is "
        f"{result['training step']['times_as_fast']:.2f} times as fast as with torch's own."
    )
    return f"{table}\n\n{stream}\n\n{words}\n\n{_machine(result['machine'])}"


def all_models(result: dict[str, Any]) -> str:
    models = result["models"]
    wins = peers_that_win(models)
    found = "; ".join(wins) if wins else "none in this run"
    return f"{models_table(models)}\n\nWhere a peer is faster: {found}."


def all_musts(result: dict[str, Any]) -> str:
    """Whether each row of the speed table is where it has to be, in every run."""
    found = result.get("musts")
    if not found:
        return "Not told by this file."
    runs = 1 + len(result["further runs"])
    times = "one run" if runs == 1 else f"{runs} runs"
    return f"{markdown(MUST_HEADER, must_rows(found))}\n\nReached in {times}, one after the other."


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, "
        f"torch {machine['torch']}, Python {machine['python']}."
    )


if __name__ == "__main__":
    sys.exit(main())
