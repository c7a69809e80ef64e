"""``fxfast demo``: the whole path on generated audio, with the figures at the end."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "demo",
        help="make pairs, train, export and render generated audio; show the figures",
        description="Generate guitar-like audio, apply the built-in overdrive, train a small "
        "network on the pairs, export it, render a folder of files through it and compare the "
        "speed with eager PyTorch on this machine. Takes about three minutes.",
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("demo-out"))
    parser.add_argument("--seconds", type=float, default=75.0, help="training time (75)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from fxfast import exchange
    from fxfast.demo import figures, run_demo
    from fxfast.training import ProgressBar

    log = Console(stderr=True)

    def on_step(text: str) -> None:
        if not args.json:
            log.print(f"[dim]{text}[/dim]" if log.is_terminal else text)

    with ProgressBar("training") as bar:
        result = run_demo(
            args.out,
            training_seconds=args.seconds,
            seed=args.seed,
            observers=(bar,),
            on_step=on_step,
        )
    if args.json:
        print(json.dumps(result.to_json(), indent=1))
        return 0
    table = Table(title=f"fxfast demo: {args.out}", title_justify="left")
    for column in ("figure", "value", "beside"):
        table.add_column(column)
    for row in figures(result, exchange.load(args.out / "run")):
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)
    print(
        f"model: {args.out / 'run' / 'model.safetensors'}, scripted: {args.out / 'model.ts'}, "
        f"rendered files: {args.out / 'wet'}, figures: {args.out / 'demo.json'}"
    )
    return 0
