"""``fxfast signals``: write generated dry guitar."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "signals",
        help="write generated dry guitar",
        description="Write generated dry guitar as mono float WAV: guitar-000.wav and so on. "
        "The same seed gives the same samples; file i uses seed + i.",
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each (60)")
    parser.add_argument("--count", type=int, default=1, help="number of files (1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first file (0)")
    parser.add_argument("--rate", type=int, default=48000, help="sample rate in Hz (48000)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from fxfast.audio.files import printable, write_audio
    from fxfast.audio.paths import reason
    from fxfast.audio.signals import guitar_like
    from fxfast.errors import AudioFileError, InputError

    if args.count < 1:
        raise InputError(f"count: expected at least 1, got {args.count}")
    folder = Path(args.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(f"{printable(folder)}: cannot be made: {reason(error)}") from error
    for index in range(args.count):
        path = folder / f"guitar-{index:03d}.wav"
        sound = guitar_like(args.seconds, args.rate, args.seed + index)
        write_audio(path, sound, args.rate, overwrite=args.overwrite)
        print(f"{printable(path)}: {len(sound) / args.rate:g} s at {args.rate} Hz")
    return 0
