"""``fxfast signals``: write dry test signals and prepare recordings."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "signals",
        help="write dry test signals",
        description="Write varied dry signals as mono float WAV: plucked strings with bends, "
        "chords, strums and mutes, sweeps, level steps, bursts and silence; and signals.jsonl "
        "with all that was drawn. The same seed gives the same samples; file i uses seed + i.",
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each (60)")
    parser.add_argument("--count", type=int, default=1, help="number of generated files (1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first file (0)")
    parser.add_argument("--rate", type=int, default=48000, help="sample rate in Hz (48000)")
    parser.add_argument("--instrument", default="guitar", help="guitar or bass (guitar)")
    parser.add_argument(
        "--include",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="recordings to learn from, of any format and rate; may be repeated",
    )
    parser.add_argument(
        "--test",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="recordings that are held out; may be repeated",
    )
    parser.add_argument(
        "--normalise", action="store_true", help="bring the peak of each recording to -1.4 dBFS"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from fxfast.audio.files import printable
    from fxfast.audio.signal_files import SignalRequest, write_signals

    def show(name: str, frames: int) -> None:
        path = printable(Path(args.out) / name)
        print(f"{path}: {frames / args.rate:g} s at {args.rate} Hz")

    request = SignalRequest(
        seconds=args.seconds,
        count=args.count,
        seed=args.seed,
        sample_rate=args.rate,
        instrument=args.instrument,
        include=tuple(args.include),
        held_out=tuple(args.test),
        normalise=args.normalise,
    )
    report = write_signals(args.out, request, overwrite=args.overwrite, on_file=show)
    for failure in report.failures:
        print(f"fxfast: error: {failure}", file=sys.stderr)
    return 1 if report.failures else 0
