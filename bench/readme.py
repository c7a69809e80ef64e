"""Write the README's tables from the newest result files: `python -m bench.readme [--check]`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

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
        ("models", "cpu", models_table),
    ):
        path = newest(kind)
        body = f"{make(json.loads(path.read_text()))}\n\nFrom `bench/results/{path.name}`.\n"
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text, count = re.subn(pattern, partial(_between, body), text, flags=re.S)
        if count != 1:
            raise RuntimeError(f"README.md: expected one part marked {name}, got {count}")
    return text


def _between(body: str, markers: re.Match[str]) -> str:
    return markers[1] + body + markers[2]


def newest(name: str) -> Path:
    """The newest result file of a kind; files are named DATE-kind.json."""
    found = sorted(RESULTS.glob(f"*-{name}.json"))
    if not found:
        raise RuntimeError(f"bench/results: expected a *-{name}.json, got none")
    return found[-1]


def _markdown(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


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

    table = _markdown(
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
                f"{result['share_of_peak']:.0%} of the measured peak of {peak:.0f} GFLOP/s",
            ),
        ],
    )
    peers = _markdown(
        ("the same audio by one core of", "speed", "the engine is as fast"),
        [
            peer("eager windows", "batches of 200 windows of 64 samples"),
            peer("eager dense", f"dense, chunks of {chunk} (its fastest)"),
            peer("eager dense, whole file", "dense, whole file"),
        ],
    )
    return f"{table}\n\n{peers}\n\n{_machine(result['machine'])}"


def cpu_table(result: dict[str, Any]) -> str:
    offline, streaming = result["offline"], result["streaming"]
    rows = _rows_by_name(offline)
    engine_rows = [
        (
            isa,
            f"{rows[f'engine {isa}']['realtime']:.1f}x",
            f"{share:.0%} of {offline['peak_flops'][isa] / 1e9:.0f} GFLOP/s",
            f"{rows[f'engine {isa}']['error_db']:.0f} dB",
        )
        for isa, share in offline["share_of_peak"].items()
    ]
    table = _markdown(
        ("engine, one core", "times real time", "share of the measured peak", "error"), engine_rows
    )
    blocks = streaming["realtime_by_block_samples"]
    stream = _markdown(
        ("streaming, block of", *blocks),
        [("times real time", *(f"{x:.1f}x" for x in blocks.values()))],
    )
    two = result["two files"]["two_threads_over_one"]
    ratios = offline["times_as_fast_as"]
    step = result["training step"]["times_as_fast"]
    words = (
        f"Eager PyTorch in the same run: {rows['eager dense']['realtime']:.1f}x dense at its "
        f"fastest chunk (the engine is {ratios['eager dense']:.2f} times as fast), "
        f"{rows['eager dense, whole file']['realtime']:.1f}x on the whole file "
        f"({ratios['eager dense, whole file']:.2f} times), "
        f"{rows['eager windows']['realtime']:.2f}x window by window "
        f"({ratios['eager windows']:.1f} times). Two files on two threads take "
        f"{two['arrays']:.2f} times less time than one after the other "
        f"({two['library']:.2f} with files read and written). A training step with the fxfast "
        f"convolution is {step:.2f} times as fast as with torch's own."
    )
    return f"{table}\n\n{stream}\n\n{words}\n\n{_machine(result['machine'])}"


def models_table(result: dict[str, Any]) -> str:
    rows = []
    for name, model in result["models"].items():
        ways = _rows_by_name(model)
        isas = list(model["share_of_peak"])
        speeds = [f"{ways[f'engine {isa}']['realtime']:.0f}x" for isa in isas]
        rows.append(
            (
                f"`{name}`",
                f"{model['multiply_adds_per_sample']:,}",
                *speeds,
                f"{model['share_of_peak'][isas[0]]:.0%}",
                f"{ways['eager dense']['realtime']:.1f}x",
                f"{model['times_as_fast_as_eager']:.1f}",
                f"{ways[f'engine {isas[0]}']['error_db']:.0f} dB",
            )
        )
    header = ("preset", "multiply-adds", *isas, "of the peak", "eager", "times eager", "error")
    return _markdown(header, rows)


def _machine(machine: dict[str, Any]) -> str:
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, "
        f"torch {machine['torch']}, Python {machine['python']}."
    )


if __name__ == "__main__":
    sys.exit(main())
