"""fxfast evaluate: how near a model comes, in every figure, for every file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxfast.cli.model_options import add_model, load_model

if TYPE_CHECKING:
    from fxfast.data import Data
    from fxfast.training.evaluation import Evaluation

_PARTS = ("train", "validation", "test", "all")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="score a model on dry/wet pairs",
        description="Render the dry sides of PAIRS and compare with the wet ones: error-to-signal "
        "ratio with and without pre-emphasis, DC, multi-resolution STFT distance, log-spectral "
        "distance and the error in quiet frames, for every file and in total, beside the figures "
        "of the dry signal itself and of the best gain.",
    )
    add_model(parser)
    parser.add_argument("pairs", metavar="PAIRS", type=Path, help="folder or packed file")
    parser.add_argument(
        "--part",
        choices=_PARTS,
        help="the part of every pair that counts (the test part by the split of a run folder or a "
        "packed file; all of it for a model file)",
    )
    parser.add_argument(
        "-o",
        "--out",
        metavar="DIR",
        type=Path,
        help="folder for the residual audio (wet less model) of every file",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table or the JSON document."""
    from fxfast.training.evaluation import evaluate_model, total_line

    graph = load_model(args)
    data, part = _data(args)
    result = evaluate_model(graph, data, part, args.out)
    if args.json:
        print(json.dumps({"model": str(args.model), **result.to_json()}))
        return 0
    _print(result)
    print(f"{part}, {result.seconds:.1f} s: {total_line(result.total)}")
    if args.out is not None:
        print(f"residuals: {args.out}")
    return 0


def _data(args: argparse.Namespace) -> tuple[Data, str]:
    """The data with the split that counts, and the part of it."""
    from fxfast.data import Data, Split, from_pairs
    from fxfast.training import dataset_of, read_description
    from fxfast.training.material import gather

    material = gather([args.pairs])
    if isinstance(material, Data):
        return material, args.part or "test"
    run_dir = Path(args.model)
    if run_dir.is_dir():
        return dataset_of(read_description(run_dir).train, material), args.part or "test"
    if args.part in (None, "all"):
        return from_pairs(material), "all"
    return from_pairs(material, Split()), args.part


def _print(result: Evaluation) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fxfast.training.evaluation import table

    header, *rows = table(result)
    console = Console(width=None if sys.stdout.isatty() else 160)
    printed = Table(box=None, pad_edge=False)
    for index, title in enumerate(header):
        printed.add_column(title, justify="right" if index else "left", no_wrap=bool(index))
    for row in rows:
        printed.add_row(*(Text(cell) for cell in row))
    console.print(printed)
