"""The options of fxfast render that say what happens to the samples besides the model."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def processing_of(args: argparse.Namespace) -> Processing:
    """What the options say. Raises ``InputError`` for a level without a meaning."""
    from fxfast.rendering import Processing

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
    )
    processing.check()
    return processing
