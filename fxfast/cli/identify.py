"""``fxfast identify``: what kind of effect lies between dry and wet."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxfast.identify import Findings


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "identify",
        help="tell what kind of effect pairs hold",
        description="Find out from dry and wet alone whether the effect is linear, distorts, "
        "echoes, swings or follows the level, with its memory and time constants, and which kind "
        "of model suits it.",
    )
    parser.add_argument("pairs", metavar="PAIRS", type=Path, help="folder or packed file")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the findings; exit code 1 when dry and wet do not belong together."""
    from fxfast.identify import describe

    findings = identify_pairs(args.pairs)
    print(json.dumps(findings.as_dict()) if args.json else describe(findings))
    return 1 if findings.family == "unrelated" else 0


def identify_pairs(path: Path) -> Findings:
    """The findings of a folder of pairs or of a packed file."""
    from fxfast.identify import identify
    from fxfast.pairs.pair_set import load_pairs

    if not path.is_file():
        pairs = load_pairs(path)
        return identify([(pair.dry, pair.wet) for pair in pairs], pairs[0].sample_rate)
    from fxfast.data import load

    data = load(path)
    return identify([(piece.dry, piece.wet) for piece in data.train.pieces()], data.sample_rate)
