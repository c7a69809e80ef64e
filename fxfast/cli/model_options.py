"""The model argument that commands share, and the options that choose from the file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxfast.graph import ModelGraph


def add_model(
    parser: argparse.ArgumentParser, metavar: str = "MODEL", nargs: str | None = None
) -> None:
    """Adds the argument and its options."""
    parser.add_argument(
        "model", metavar=metavar, nargs=nargs, help="model file, .nam file or run directory"
    )
    add_model_choices(parser)


def add_model_choices(parser: argparse.ArgumentParser) -> None:
    """Adds the options alone, for a command that has its model elsewhere."""
    parser.add_argument(
        "--slim",
        metavar="SIZE",
        type=float,
        help="0 to 1: which model of a .nam that holds several sizes (default: the full size)",
    )
    parser.add_argument(
        "--linear-tap-order",
        choices=("newest-first", "oldest-first"),
        default="newest-first",
        help="for .nam files of architecture Linear; oldest-first: trainers before August 2026",
    )


def load_model(args: argparse.Namespace) -> ModelGraph:
    """The model that the arguments name."""
    return load_model_file(args.model, args)


def load_model_file(path: str, args: argparse.Namespace) -> ModelGraph:
    """A model file, as the options choose from it."""
    from fxfast.exchange import load

    return load(path, slim=args.slim, linear_tap_order=args.linear_tap_order)
