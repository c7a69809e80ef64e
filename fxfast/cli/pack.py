"""``fxfast pack``: dry/wet pairs in one file that training maps into memory."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fxfast.errors import InputError


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "pack",
        help="put dry/wet pairs in one file for training",
        description="Write the pairs in PAIRS_DIR/dry and PAIRS_DIR/wet, with their split into "
        "training, validation and test parts, to one file for fxfast train.",
    )
    parser.add_argument("pairs_dir", metavar="PAIRS_DIR", type=Path)
    parser.add_argument("-o", "--out", required=True, metavar="DATA.fxpack", type=Path)
    parser.add_argument("--dtype", choices=("float32", "int16"), default="float32")
    parser.add_argument(
        "--split",
        nargs=3,
        type=float,
        default=(0.75, 0.125, 0.125),
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="the parts as fractions (0.75 0.125 0.125)",
    )
    parser.add_argument(
        "--by", choices=("time", "file"), default="time", help="split each file, or the files"
    )
    parser.add_argument("--guard", type=int, default=0, help="samples left out at each border")
    parser.add_argument(
        "--knobs",
        metavar="KNOBS.json",
        type=Path,
        help="knob values from 0 to 1, instead of those of the pairs: "
        '{"KNOB": {"PAIR": VALUE, ...}, ...}',
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier file")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from fxfast.audio.files import printable
    from fxfast.data import Split, load, pack
    from fxfast.pairs.pair_set import find_pairs, read_pairs

    found = find_pairs(args.pairs_dir)
    train, validation, test = args.split
    names, knobs = _knobs(args.knobs, [pair.name for pair in found])
    pack(
        read_pairs(found),
        args.out,
        dtype=args.dtype,
        split=Split(train, validation, test, args.guard, args.by),
        knobs=knobs,
        knob_names=names,
        overwrite=args.overwrite,
    )
    data = load(args.out)
    seconds = {part: data.part(part).samples / data.sample_rate for part in ("train", "validation",
                                                                             "test")}  # fmt: skip
    parts = ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items())
    print(f"{printable(args.out)}: {len(found)} pairs, {args.dtype}: {parts}")
    return 0


def _knobs(path: Path | None, pairs: list[str]) -> tuple[list[str], dict[str, list[float]] | None]:
    """Names of the knobs, and the values of every pair."""
    if path is None:
        return [], None
    try:
        table: Any = json.loads(path.read_text(encoding="utf-8"))
        values = {pair: [float(by_pair[pair]) for by_pair in table.values()] for pair in pairs}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a value for every knob and pair, got {type(error).__name__}: {error}"
        ) from error
    return list(table), values
