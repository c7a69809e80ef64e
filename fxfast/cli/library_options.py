"""The options of fxfast render that say which files, where to, and how the run goes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxfast.rendering import OutputNames, RunOptions

# As fxfast.rendering.output_format has them; its import would make every command slow.
_FORMATS = ("keep", "wav", "flac")
_SUBTYPES = ("keep", "pcm_16", "pcm_24", "float")


def add_files(parser: argparse.ArgumentParser) -> None:
    """Adds what says which files are read and how outputs are named."""
    files = parser.add_argument_group("files")
    files.add_argument("--out", metavar="DIR", required=True, help="folder of the output")
    files.add_argument(
        "--list", metavar="FILE", help="a text file with a path on each line, in place of inputs"
    )
    files.add_argument(
        "--list-root",
        metavar="DIR",
        help="what the paths of --list are below; nothing outside is read (default: its folder)",
    )
    files.add_argument(
        "--follow",
        action="store_true",
        help="follow links in input folders, though never out of them",
    )
    files.add_argument(
        "--format",
        choices=_FORMATS,
        default="keep",
        help="container; keep: wav and flac stay, aiff becomes wav, ogg becomes flac",
    )
    files.add_argument(
        "--subtype",
        choices=_SUBTYPES,
        default="keep",
        help="sample format; keep: as the input, 24 bit for ogg and for floats in flac",
    )
    files.add_argument(
        "--name",
        metavar="PATTERN",
        default="",
        help="name of an output below --out, without its suffix, of {model}, {path}, {folder}, "
        "{stem} (default: {path}, and {model}/{path} for several models)",
    )
    files.add_argument(
        "--keep-suffix",
        action="store_true",
        help="keep the suffix of the input in front of another one: a.aiff.wav",
    )
    files.add_argument(
        "--allow-similar",
        action="store_true",
        help="let names of outputs differ by nothing but case or Unicode form, where the disk can",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds what says how the run goes."""
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--jobs", metavar="N", type=int, help="files at once (default: one for each CPU core)"
    )
    run.add_argument(
        "--dry-run", action="store_true", help="check and list the files, write nothing"
    )
    run.add_argument(
        "--overwrite", action="store_true", help="render everything, over outputs that exist too"
    )
    run.add_argument(
        "--hash",
        action="store_true",
        help="tell whether an input has changed by its contents, not by its size and time",
    )
    run.add_argument(
        "--timeout", metavar="SECONDS", type=float, help="give up a file that takes longer"
    )
    run.add_argument(
        "--memory", metavar="MIB", type=float, help="work on fewer files at once to stay below this"
    )
    run.add_argument(
        "--grace",
        metavar="SECONDS",
        type=float,
        default=2.0,
        help="after a first interrupt, files in hand may go on for this long (default: 2)",
    )
    run.add_argument(
        "--in-process",
        action="store_true",
        help="no child process: a crash of a decoder ends the run",
    )
    run.add_argument("--report", metavar="FILE", help="write a line of JSON for each input")
    run.add_argument("--json", action="store_true", help="print the report as one JSON document")
    run.add_argument(
        "--device",
        metavar="NAME",
        default="cpu",
        help="cpu (default); cuda: a GPU, or the CPU with a message where there is none; cuda:0, "
        "cuda:1, ...: that GPU or an error; auto: as cuda, and the CPU for models it cannot play, "
        "or plays slower",
    )
    run.add_argument("--isa", metavar="NAME", help="force an instruction set (see fxfast doctor)")


def names_of(args: argparse.Namespace) -> OutputNames:
    from fxfast.rendering import OutputNames

    return OutputNames(args.format, args.name, args.keep_suffix, args.allow_similar)


def options_of(args: argparse.Namespace) -> RunOptions:
    """What the options say. Raises ``InputError`` for a number without a meaning."""
    from fxfast.rendering import RunOptions

    options = RunOptions(
        jobs=args.jobs,
        overwrite=args.overwrite,
        by_hash=args.hash,
        follow=args.follow,
        isolate=not args.in_process,
        timeout_s=args.timeout,
        memory_mib=args.memory,
        grace_s=args.grace,
    )
    options.check()
    return options
