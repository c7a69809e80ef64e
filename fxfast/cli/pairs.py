"""``fxfast pairs``: make dry/wet pairs with a built-in effect, list the effects."""

from __future__ import annotations

import argparse


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
