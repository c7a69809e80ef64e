"""``fxfast pairs``: make dry/wet pairs, add recorded ones, check them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxfast.pairs.check_pairs import CheckedPair, CheckRules


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("pairs", help="make dry/wet pairs")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    make = actions.add_parser(
        "make",
        help="play dry recordings through an effect",
        description="Write PAIRS_DIR/dry, PAIRS_DIR/wet and PAIRS_DIR/pairs.json.",
    )
    make.add_argument("dry", nargs="+", metavar="DRY", help="dry recordings: files or folders")
    make.add_argument("--effect", default="overdrive", metavar="NAME", help="effect (overdrive)")
    make.add_argument(
        "--set",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the effect; may be repeated",
    )
    make.add_argument("-o", "--out", required=True, metavar="PAIRS_DIR", help="folder to make")
    make.add_argument("--overwrite", action="store_true", help="replace earlier pairs there")
    make.set_defaults(run=run)

    _add_add_parser(actions)
    _add_check_parser(actions)

    effects = actions.add_parser("list-effects", help="list the effects and their parameters")
    effects.set_defaults(run=run_list_effects)


def run(args: argparse.Namespace) -> int:
    from fxfast.audio.files import printable
    from fxfast.pairs.make_pairs import make_pairs

    manifest = make_pairs(
        args.dry, args.out, args.effect, dict(args.settings), overwrite=args.overwrite
    )
    rate = manifest["sample_rate"]
    seconds = sum(pair["frames"] for pair in manifest["pairs"]) / rate
    print(
        f"{printable(args.out)}: pairs: {len(manifest['pairs'])}, seconds: {seconds:.1f}, "
        f"rate: {rate} Hz, effect: {manifest['effect']}"
    )
    return 0


def _add_add_parser(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    add = actions.add_parser(
        "add",
        help="add your own recordings, checked and put right",
        description="Check a dry and a wet recording, or two folders of them with the same "
        "names; shift, turn and resample the wet one as needed; add them to PAIRS_DIR.",
    )
    add.add_argument("dry", metavar="DRY", help="what went into the effect: a file or a folder")
    add.add_argument("wet", metavar="WET", help="what came out: a file or a folder")
    add.add_argument("-o", "--out", required=True, metavar="PAIRS_DIR", help="folder to add to")
    add.add_argument("--name", help="name of the pair (that of the wet file)")
    add.add_argument(
        "--knob",
        dest="knobs",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="where a knob of the effect stood; may be repeated",
    )
    add.add_argument("--split", default="", choices=("train", "validation", "test"))
    add.add_argument("--keep-offset", action="store_true", help="do not shift the wet")
    add.add_argument("--keep-polarity", action="store_true", help="do not turn the wet over")
    _add_check_options(add)
    add.set_defaults(run=run_add)


def _add_check_parser(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    check = actions.add_parser(
        "check",
        help="check a folder of pairs, which is left as it is",
        description="Check PAIRS_DIR/dry against PAIRS_DIR/wet: offset, polarity, gain, drift, "
        "clipping, DC, silence, noise, rate, length, swapped sides, and whether they belong "
        "together. What `pairs add` would put right is shown as fixed.",
    )
    check.add_argument("pairs_dir", metavar="PAIRS_DIR", help="folder with dry/ and wet/")
    _add_check_options(check)
    check.set_defaults(run=run_check)


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object per pair")
    parser.add_argument("--channel", type=int, default=1, help="channel of stereo files (1)")
    parser.add_argument(
        "--max-offset", type=float, default=2.0, metavar="SECONDS", help="largest offset (2)"
    )
    parser.add_argument("--jobs", type=int, default=1, help="files at a time (1)")


def run_add(args: argparse.Namespace) -> int:
    from fxfast.pairs.add_pairs import add_pairs

    checked = add_pairs(
        args.dry,
        args.wet,
        args.out,
        name=args.name,
        rules=_rules(args),
        knobs=dict(args.knobs),
        split=args.split,
        jobs=args.jobs,
        on_pair=_printer(args),
    )
    return _conclude(args, checked)


def run_check(args: argparse.Namespace) -> int:
    from fxfast.pairs.add_pairs import check_folder

    checked = check_folder(
        args.pairs_dir, rules=_rules(args), jobs=args.jobs, on_pair=_printer(args)
    )
    return _conclude(args, checked)


def _rules(args: argparse.Namespace) -> CheckRules:
    from fxfast.errors import InputError
    from fxfast.pairs.check_pairs import CheckRules

    for name in ("channel", "jobs", "max_offset"):
        if not getattr(args, name) > 0:
            raise InputError(f"{name}: expected more than 0, got {getattr(args, name)}")
    return CheckRules(
        fix_offset=not getattr(args, "keep_offset", False),
        fix_polarity=not getattr(args, "keep_polarity", False),
        max_offset_seconds=args.max_offset,
        channel=args.channel - 1,
    )


def _printer(args: argparse.Namespace) -> Callable[[CheckedPair], None]:
    def show(pair: CheckedPair) -> None:
        from fxfast.audio.files import printable

        if args.json:
            print(json.dumps(pair.to_json()), flush=True)
            return
        found = pair.alignment
        figures = (
            ""
            if found is None
            else (
                f" offset {found.offset_samples:.2f} samples, polarity {found.polarity:+d}, "
                f"gain {found.gain_db:+.1f} dB, drift {found.drift_ppm:.1f} ppm, "
                f"confidence {found.confidence:.2f}"
            )
        )
        print(f"{printable(pair.name)}: {pair.status}:{figures}")
        for reason in pair.reasons:
            print(f"  {reason}")

    return show


def _conclude(args: argparse.Namespace, checked: Sequence[CheckedPair]) -> int:
    from fxfast.pairs.check_pairs import summary

    if not args.json:
        print(summary(checked))
    return 1 if any(pair.status == "refused" for pair in checked) else 0


def run_list_effects(args: argparse.Namespace) -> int:
    from fxfast.pairs.effects import EFFECTS

    for effect in EFFECTS.values():
        print(f"{effect.name}: {effect.summary} ({effect.source})")
        for knob in effect.parameters:
            span = f"{knob.minimum:g} to {knob.maximum:g} {knob.unit}".rstrip()
            print(f"  {knob.name}={knob.default:g}  {span}: {knob.meaning}")
    return 0


def _setting(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not name or not equals or number != number:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER, got {text!r}")
    return name, number
