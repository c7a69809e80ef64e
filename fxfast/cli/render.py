"""fxfast render: audio files, folders and globs through models into a folder."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxfast.cli.library_options import add_files, add_run, names_of, options_of
from fxfast.cli.model_options import add_model_choices
from fxfast.cli.render_options import add_chain, add_processing, load_chain_of, processing_of
from fxfast.errors import (
    AudioFileError,
    BuildError,
    FxfastError,
    InputError,
    LockedError,
    ModelError,
    RunError,
)

if TYPE_CHECKING:
    from fxfast.graph import ModelGraph
    from fxfast.rendering import LibraryReport

_DESCRIPTION = (
    "Render WAV, FLAC, OGG and AIFF files through a model into WAV or FLAC files of the same "
    "length, rate and channel count. A folder's files keep their tree below DIR, and so do the "
    "matches of a quoted glob. Run again, it does only what is missing. A bad file does not stop "
    "the others; the exit code is 0, 1 if any file failed, 2 if the run cannot start, 130 if it "
    "was interrupted."
)
# What says that a run cannot start, before any file was touched.
_ERRORS_OF_START = (InputError, ModelError, BuildError, LockedError, AudioFileError)
_USAGE = "fxfast render [OPTION ...] MODEL INPUT [INPUT ...] --out DIR"


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``render``."""
    parser = subparsers.add_parser(
        "render", help="render audio files through a model", description=_DESCRIPTION, usage=_USAGE
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="model file, .nam file or run directory; then files, folders and globs to render",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        action="append",
        default=[],
        help="a model, in place of the first PATH; several: every file through each",
    )
    add_chain(parser)
    add_model_choices(parser)
    add_files(parser)
    add_processing(parser)
    add_run(parser)
    parser.set_defaults(run=run, errors_of_start=_ERRORS_OF_START)


def run(args: argparse.Namespace) -> int:
    """Renders; returns 0, 1 if any file failed, 130 if it was interrupted."""
    try:
        report = _render(args)
    except FxfastError as error:
        if args.json:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
        raise
    try:
        _print_report(args, report)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads the summary; the files are there all the same.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return report.exit_code


def _render(args: argparse.Namespace) -> LibraryReport:
    from fxfast.cli.library_watch import stopping_signals, watched_run
    from fxfast.rendering import render_library

    if args.report is not None:
        _check_report(args.report)
    models, inputs = _models_and_inputs(args)
    options, names, processing = options_of(args), names_of(args), processing_of(args)
    with watched_run() as watcher, stopping_signals(watcher):
        report = render_library(
            models,
            inputs,
            args.out,
            listed=args.list,
            list_root=args.list_root,
            options=options,
            names=names,
            processing=processing,
            subtype=args.subtype,
            dry_run=args.dry_run,
            isa=args.isa,
            device=args.device,
            watcher=watcher,
        )
        if args.report is not None:
            _write_report(report, args.report)
    return report


def _check_report(path: str) -> None:
    """Raise ``InputError`` for a report that could not be written: before hours of work."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise InputError(
            f"--report: expected a file in a folder that can be written to, got {path!r}"
        )


def _write_report(report: LibraryReport, path: str) -> None:
    from fxfast.audio.paths import printable, reason

    try:
        report.files.write_lines(path)
    except OSError as error:
        raise RunError(f"{printable(path)}: cannot be written: {reason(error)}") from error


def _models_and_inputs(args: argparse.Namespace) -> tuple[dict[str, ModelGraph], list[str]]:
    """The models by name, and what is to be rendered."""
    paths = list(args.paths)
    chains = [*args.chain, *([file] for file in args.model)]
    if not chains and not paths:
        raise InputError("MODEL: expected a model file, .nam file or run directory, got none")
    chains = chains or [[paths.pop(0)]]
    names = ["+".join(Path(os.path.abspath(file)).stem for file in files) for files in chains]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InputError(f"--model: expected files of different names, got two {min(repeated)!r}")
    loaded = [load_chain_of(files, args) for files in chains]
    return dict(zip(names, loaded, strict=True)), paths


def _print_report(args: argparse.Namespace, report: LibraryReport) -> None:
    if args.json:
        print(json.dumps(report.to_json(), indent=1))
        return
    total = len(report.files)
    if report.dry_run:
        _print_plan(report)
    else:
        done = report.count("done")
        print(
            f"rendered {report.count('rendered')} of {total - done} files: "
            f"{report.audio_seconds:.1f} s of audio in {report.wall_seconds:.1f} s, "
            f"{report.realtime_factor:.1f}x real time"
        )
        if done:
            print(f"done before: {done} files")
    if report.clipped:
        files = sum(file.clipped > 0 for file in report.files)
        print(f"clipped: {report.clipped} samples at full scale in {files} files")
    for note in report.notes:
        print(note)
    for file in report.failed:
        print(f"failed: {file.code} {file.message}")
    if report.interrupted:
        print("interrupted; the same command goes on where it stopped")


def _print_plan(report: LibraryReport) -> None:
    for file in report.files:
        if file.status == "planned":
            print(f"{file.input} -> {file.output}")
    done = f", {report.count('done')} are done" if report.count("done") else ""
    print(
        f"dry run: {report.count('planned')} of {len(report.files)} files can be rendered{done}, "
        f"{report.audio_seconds:.1f} s of audio; nothing was written"
    )
