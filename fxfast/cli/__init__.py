"""The command ``fxfast``: one module per subcommand; each parses, calls and prints."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from fxfast import __version__
from fxfast.errors import FxfastError

COMMANDS = (
    *("demo", "signals", "effects", "pairs", "pack", "identify", "train", "evaluate"),
    *("export", "render", "inspect", "bench", "doctor"),
)


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser; of some commands alone where it is known that the others are not asked for."""
    parser = argparse.ArgumentParser(
        prog="fxfast",
        description="Learn an audio effect from a recording and render audio libraries through it.",
    )
    parser.add_argument("--version", action="version", version=f"fxfast {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in commands:
        importlib.import_module(f"fxfast.cli.{name}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 good, 1 failed, 2 usage, 130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    # Each command's module takes milliseconds to import; an unknown word is told of all of them.
    is_known = bool(words) and words[0] in COMMANDS
    args = build_parser(words[:1] if is_known else COMMANDS).parse_args(words)
    try:
        return int(args.run(args))
    except FxfastError as error:
        print(f"fxfast: error: {error}", file=sys.stderr)
        starts = getattr(args, "errors_of_start", ())
        return 2 if isinstance(error, starts) else 1
    except KeyboardInterrupt:
        print("fxfast: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away: not an error, but nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def console() -> None:
    """Entry point of the installed command."""
    sys.exit(main())
