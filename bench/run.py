"""Run every benchmark and write bench/results/DATE-cpu.json: `python -m bench.run`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from bench import library, threads, training
from fxfast.cli.bench import add_peer_options
from fxfast.cli.progress import round_bar
from fxfast.report.compare import PEERS, Comparison, Options, compare
from fxfast.report.musts import must_lines
from fxfast.report.programs import programs_of
from fxfast.report.results import document, rounded, with_runs, write
from fxfast.report.suite import SUITE, audio_of, fused_isas, graph_of, options_of
from fxfast.report.table import peers_that_win

RESULTS = Path(__file__).resolve().parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each figure (5)")
    parser.add_argument("--runs", type=int, default=1, help="measure the whole table so often (1)")
    parser.add_argument(
        "--only", metavar="MODEL", action="append", help="this model alone (may be given again)"
    )
    parser.add_argument("--no-large", action="store_true", help="without the largest model")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-cpu.json")
    add_peer_options(parser)
    args = parser.parse_args(argv)
    started = time.perf_counter()
    runs = []
    for number in range(args.runs):
        runs.append(document(_models(args), args.rounds))
        if not args.only:
            runs[-1] |= _beside_models(args.rounds, number == 0)
    found = with_runs(runs)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(found, args.out)
    _print_summary(found)
    print(f"written in {time.perf_counter() - started:.0f} s: {args.out}")
    return 0


def _beside_models(rounds: int, is_first: bool) -> dict[str, Any]:
    """What is not a model's row: ratios that musts ask for, and in the first run training."""
    with round_bar("two files"):
        two = threads.two_files(rounds)
    with round_bar("library"):
        files = library.many_files(rounds)
    ratios = {
        "two threads": two["two_threads_over_one"]["arrays"],
        "library of lstm-16": files["batch_over_library"],
    }
    found = {"ratios": rounded(ratios), "two files": two, "many files": files}
    if is_first:
        with round_bar("training step"):
            found["training step"] = training.step(rounds)
    return found


def _models(args: argparse.Namespace) -> dict[str, Comparison]:
    isas = fused_isas()
    base = Options(
        isas[:2],
        isas[2:],
        rounds=args.rounds,
        target_seconds=0.03,
        peers=tuple(peer for peer in PEERS if not (args.no_compile and peer == "compile")),
        programs=programs_of(args.nam_core, args.neuralaudio),
        quiet=True,
    )
    found = {}
    for case in SUITE:
        if case.name not in args.only if args.only else case.large and args.no_large:
            continue
        graph = graph_of(case.name)
        with round_bar(case.name) as on_round:
            found[case.name] = compare(
                graph, audio_of(graph.sample_rate), options_of(case, base), on_round=on_round
            )
    return found


def _print_summary(result: dict[str, Any]) -> None:
    for name, model in result["models"].items():
        row, isa = model["rows"][0], next(iter(model["peak_flops"]))
        print(
            f"{row['name']:26} {name:14} {row['realtime']:8.1f}x real time, "
            f"{row['share_of_peak']:.0%} of the {isa} peak, error {row['error_db']:.0f} dB"
        )
    reasons = {
        (peer["name"], peer["reason"])
        for model in result["models"].values()
        for peer in model["skipped"]
        if "installed" in peer["reason"]
    }
    for name, reason in sorted(reasons):
        print(f"not measured: {name}: {reason}")
    for text in peers_that_win(result["models"]):
        print(f"a peer is faster: {text}")
    for line in must_lines(result["musts"]):
        print(line)


if __name__ == "__main__":
    sys.exit(main())
