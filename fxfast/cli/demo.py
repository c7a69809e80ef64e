"""``fxfast demo``: the whole path on generated audio, with the figures at the end."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="make pairs, train, export and render generated audio; show the figures",
        description="Generate guitar-like audio, apply the built-in overdrive, train a small "
        "network on the pairs, export it, render a folder of files through it and compare the "
        "speed with eager PyTorch on this machine. Takes about one minute and a half.",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("demo-out"))
    parser.add_argument("--seconds", type=float, default=45.0, help="training time (45)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from fxfast import demo, exchange
    from fxfast.cli.library_watch import watched_run
    from fxfast.cli.progress import round_bar
    from fxfast.training import ProgressBar

    _say(args, "generating dry guitar, its overdriven twin and a library to render")
    demo.generate(args.out, args.seed)
    _say(args, f"training {demo.MODEL} for {args.seconds:.0f} s")
    with ProgressBar("training") as bar:
        training = demo.learn(args.out, args.seconds, args.seed, (bar,))
    _say(args, "rendering the library")
    with watched_run() as watcher:
        library = demo.render(args.out, watcher)
    _say(args, "measuring the engine and eager PyTorch")
    with round_bar("measuring") as on_round:
        comparison = demo.measure(args.out, args.seed, on_round)
    result = demo.conclude(args.out, training, library, comparison)
    if args.json:
        print(json.dumps(result.to_json(), indent=1))
    else:
        _print_table(args.out, demo.figures(result, exchange.load(args.out / "run")))
    return 0


def _say(args: argparse.Namespace, text: str) -> None:
    if not args.json:
        print(text, file=sys.stderr, flush=True)


def _print_table(out: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"fxfast demo: {out}", title_justify="left")
    for column in ("figure", "value", "beside"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print(
        f"model: {out / 'run' / 'model.safetensors'}, scripted: {out / 'model.ts'}, "
        f"rendered files: {out / 'wet'}, figures: {out / 'demo.json'}"
    )
