"""``fxfast identify``: what kind of effect lies between dry and wet."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from fxfast.data import Piece
    from fxfast.identify import Findings
    from fxfast.pairs.pair_set import Pair

    Setting = tuple[tuple[str, float], ...]
    Sounds = list[tuple[np.ndarray, np.ndarray]]


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
    """The findings of a folder of pairs or of a packed file; of pairs whose knobs are turned, those
    at the setting of which there is most."""
    from fxfast.identify import identify
    from fxfast.pairs.pair_set import load_pairs

    if not path.is_file():
        pairs = load_pairs(path)
        return identify(_most(pairs), pairs[0].sample_rate)
    from fxfast.data import load

    data = load(path)
    return identify(_most(data.train.pieces()), data.sample_rate)


def by_setting(pairs: Iterable[Pair | Piece]) -> dict[Setting, Sounds]:
    """Dry and wet at each setting of the knobs, in order: two settings are two effects, and what
    differs between them would count as distortion or as a gain that moves."""
    settings: dict[Setting, Sounds] = {}
    for pair in pairs:
        key = tuple(sorted(pair.knobs.items()))
        settings.setdefault(key, []).append((pair.dry, pair.wet))
    return dict(sorted(settings.items()))


def _most(pairs: Iterable[Pair | Piece]) -> Sounds:
    return max(by_setting(pairs).values(), key=lambda found: sum(len(dry) for dry, _ in found))
