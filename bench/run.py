"""Run every benchmark and write bench/results/DATE-cpu.json: `python -m bench.run`."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from bench import engine, models, training
from fxfast.report.measure import machine

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="runs of each figure (9)")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-cpu.json")
    args = parser.parse_args()
    result: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine()}
    for name, measure in (
        ("offline", engine.offline),
        ("streaming", engine.streaming),
        ("two files", engine.two_files),
        ("training step", training.step),
        ("models", models.presets),
    ):
        print(f"measuring: {name}", file=sys.stderr)
        result[name] = measure(args.rounds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    _print_summary(result)
    print(f"written: {args.out}")
    return 0


def _print_summary(result: dict[str, Any]) -> None:
    offline = result["offline"]
    for row in offline["rows"]:
        print(f"{row['name']:26} {row['realtime']:8.1f}x real time  error {row['error_db']:.0f} dB")
    for isa, share in offline["share_of_peak"].items():
        peak = offline["peak_flops"][isa] / 1e9
        print(f"share of the {isa} peak ({peak:.0f} GFLOP/s): {share:.1%}")
    for peer, ratio in offline["times_as_fast_as"].items():
        print(f"times as fast as {peer}: {ratio:.2f}")
    blocks = result["streaming"]["realtime_by_block_samples"]
    print("streaming by block: " + ", ".join(f"{b}: {x:.1f}x" for b, x in blocks.items()))
    for way, ratio in result["two files"]["two_threads_over_one"].items():
        print(f"two files on two threads over one ({way}): {ratio:.2f}")
    step = result["training step"]
    for name, model in result["models"].items():
        speeds = {row["name"]: row["realtime"] for row in model["rows"]}
        print(name + ": " + ", ".join(f"{way} {x:.1f}x" for way, x in speeds.items()))
    print(f"training step, fxfast op over torch's own: {step['times_as_fast']:.2f}")


if __name__ == "__main__":
    sys.exit(main())
