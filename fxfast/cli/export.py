"""fxfast export: a trained model as a file for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fxfast.cli.model_options import add_model, load_model
from fxfast.errors import OutputExistsError

FORMATS = ("torchscript", "safetensors", "nam")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``export``."""
    parser = subparsers.add_parser(
        "export",
        help="write a model for other programs",
        description="Write a model in another format: torchscript is a streaming module for "
        "torch and libtorch (with libfxfast_torch.so), safetensors the native model file, nam "
        "the JSON of NeuralAmpModeler.",
    )
    add_model(parser, "RUN_OR_MODEL")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help="file to write"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE if it exists")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the file and prints its name."""
    if args.output.exists() and not args.overwrite:
        raise OutputExistsError(
            f"{args.output}: expected a new file, got one that exists (replace it with --overwrite)"
        )
    graph = load_model(args)
    if args.format == "torchscript":
        from fxfast.exchange.torchscript import export_torchscript

        export_torchscript(graph, args.output)
    elif args.format == "nam":
        from fxfast.exchange import nam_write

        nam_write.save(graph, args.output)
    else:
        from fxfast.exchange import safetensors

        safetensors.save(graph, args.output)
    print(args.output)
    return 0
