"""fxfast render: audio files, folders and globs through a model into a folder."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from fxfast.cli.model_options import add_model, load_model
from fxfast.cli.progress import file_bar
from fxfast.cli.render_options import add_processing, processing_of
from fxfast.errors import FxfastError

if TYPE_CHECKING:
    from fxfast.rendering import LibraryReport

# As fxfast.rendering.output_format has them; its import would make every command slow.
_FORMATS = ("keep", "wav", "flac")
_SUBTYPES = ("keep", "pcm_16", "pcm_24", "float")
_DESCRIPTION = (
    "Render WAV, FLAC, OGG and AIFF files through a model into WAV or FLAC files of the same "
    "length, rate and channel count. A folder's files keep their tree below DIR, and so do the "
    "matches of a quoted glob. A bad file does not stop the others; the exit code is 1 if any "
    "file failed."
)


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``render``."""
    parser = subparsers.add_parser(
        "render", help="render audio files through a model", description=_DESCRIPTION
    )
    add_model(parser)
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="file, folder or glob")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the output")
    add_processing(parser)
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default="keep",
        help="container; keep: wav and flac stay, aiff becomes wav, ogg becomes flac",
    )
    parser.add_argument(
        "--subtype",
        choices=_SUBTYPES,
        default="keep",
        help="sample format; keep: as the input, 24 bit for ogg and for floats in flac",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="files at once (default: one for each CPU core)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check and list the files, write nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON document")
    parser.add_argument(
        "--isa", metavar="NAME", help="force an instruction set (see fxfast doctor)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Renders; returns 0, or 1 if any file failed."""
    try:
        report = _render(args)
    except FxfastError as error:
        if args.json:
            print(json.dumps({"error": {"code": error.code, "message": str(error)}}))
        raise
    if args.json:
        print(json.dumps({"model": args.model, **report.to_json()}, indent=1))
    else:
        _print_summary(report)
    return 1 if report.failed else 0


def _render(args: argparse.Namespace) -> LibraryReport:
    from fxfast.rendering import render_library

    graph = load_model(args)
    with file_bar() as bar:
        return render_library(
            graph,
            args.inputs,
            args.out,
            jobs=args.jobs,
            dry_run=args.dry_run,
            overwrite=args.overwrite,
            processing=processing_of(args),
            format=args.format,
            subtype=args.subtype,
            isa=args.isa,
            on_plan=bar.start,
            on_file=bar.advance,
        )


def _print_summary(report: LibraryReport) -> None:
    total = len(report.files)
    if report.dry_run:
        for file in report.files:
            if file.status != "failed":
                print(f"{file.input} -> {file.output}")
        print(
            f"dry run: {report.count('skipped')} of {total} files can be rendered, "
            f"{report.audio_seconds:.1f} s of audio; nothing was written"
        )
    else:
        print(
            f"rendered {report.count('rendered')} of {total} files: "
            f"{report.audio_seconds:.1f} s of audio in {report.wall_seconds:.1f} s, "
            f"{report.realtime_factor:.1f}x real time"
        )
    if report.clipped:
        files = sum(file.clipped > 0 for file in report.files)
        print(f"clipped: {report.clipped} samples at full scale in {files} files")
    for file in report.failed:
        print(f"failed: {file.code} {file.message}")
