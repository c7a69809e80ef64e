"""The options of fxfast render that say what happens to the samples besides the model."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from fxfast.cli.model_options import load_model_file
from fxfast.errors import InputError

if TYPE_CHECKING:
    from fxfast.audio.paths import AnyPath
    from fxfast.graph import ModelGraph
    from fxfast.rendering import Processing

# As fxfast.rendering.processing has them; its import would make every command slow.
_CHANNELS = ("each", "mid-side", "mono-sum", "left")
_NORMALIZE = ("peak", "loudness")
_NONFINITE = ("error", "zero")


def add_processing(parser: argparse.ArgumentParser) -> None:
    """Adds the options that ``processing_of`` reads."""
    parser.add_argument(
        "--resample",
        action="store_true",
        help="convert files of another rate to the model's rate and back (default: refuse them)",
    )
    parser.add_argument(
        "--ignore-rate",
        action="store_true",
        help="play files of another rate as if they had the model's",
    )
    parser.add_argument(
        "--channels",
        choices=_CHANNELS,
        default="each",
        help="each channel by itself; stereo as mid and side; or one channel of output, from the "
        "mean of the channels or the first (default: each)",
    )
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--gain", metavar="DB", type=float, default=0.0, help="gain after the model")
    level.add_argument(
        "--normalize",
        choices=_NORMALIZE,
        help="bring each file to a peak or an integrated loudness (ITU-R BS.1770-4)",
    )
    parser.add_argument(
        "--target",
        metavar="DB",
        type=float,
        help="level of --normalize: dBFS (default: -1) or LUFS (default: -23)",
    )
    parser.add_argument(
        "--dither",
        action="store_true",
        help="add triangular noise of two steps from peak to peak before rounding to integers",
    )
    parser.add_argument(
        "--nonfinite",
        choices=_NONFINITE,
        default="error",
        help="NaN and infinity in the input: refuse the file, or take them as 0 (default: error)",
    )
    parser.add_argument(
        "--lenient",
        action="store_true",
        help="render what is there of a damaged file and mark it (default: refuse it)",
    )
    parser.add_argument(
        "--no-empty", action="store_true", help="refuse files without a single frame"
    )
    parser.add_argument(
        "--knob",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="where a knob of a conditioned model stands (default: the model's own)",
    )
    parser.add_argument(
        "--knob-curve",
        metavar="FILE",
        help="CSV of a column time_s and one for each knob that turns, from the start of a file",
    )


def add_chain(parser: argparse.ArgumentParser) -> None:
    """Adds the option whose values ``load_chain_of`` loads."""
    parser.add_argument(
        "--chain",
        metavar="FILE",
        nargs="+",
        action="append",
        default=[],
        help="models one after the other in place of a MODEL, impulse responses (audio files) "
        "among them; after the inputs, or before another option",
    )


def load_chain_of(files: list[str], args: argparse.Namespace) -> ModelGraph:
    """The files of a ``--chain`` as one model; responses of another rate as ``--resample`` says."""
    from fxfast.rendering.chain import load_chain

    def load(path: AnyPath) -> ModelGraph:
        return load_model_file(os.fspath(path), args)

    return load_chain(files, load, resample_responses=args.resample)


def _knobs_of(texts: list[str]) -> tuple[tuple[str, float], ...]:
    found = []
    for text in texts:
        name, separator, value = text.rpartition("=")
        try:
            found.append((name, float(value)))
        except ValueError:
            separator = ""
        if not separator or not name:
            raise InputError(f"--knob: expected NAME=VALUE with a number, got {text!r}")
    return tuple(found)


def processing_of(args: argparse.Namespace) -> Processing:
    """What the options say. Raises ``InputError`` for a level without a meaning."""
    from fxfast.rendering import Processing
    from fxfast.rendering.knobs import read_curve

    processing = Processing(
        resample=args.resample,
        ignore_rate=args.ignore_rate,
        channels=args.channels,
        gain_db=args.gain,
        normalize=args.normalize,
        target_db=args.target,
        dither=args.dither,
        nonfinite=args.nonfinite,
        lenient=args.lenient,
        no_empty=args.no_empty,
        knobs=_knobs_of(args.knob),
        curve=None if args.knob_curve is None else read_curve(args.knob_curve),
    )
    processing.check()
    return processing
