"""``fxfast pairs``: make dry/wet pairs, add recorded ones, check them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxfast.pairs.check_pairs import CheckedPair, CheckRules
    from fxfast.pairs.make_pairs import MadePairs

_COMMANDS_HELP = """\
A command is cut into arguments and run without a shell, with {in}, {out}, {sr}, {preset} and
{NAME} of --set and --knob filled in. It reads a mono float WAV and writes one of the same length:
  ffmpeg:   --command "ffmpeg -v error -y -i {in} -af {preset} -c:a pcm_f32le {out}"
            --preset "acrusher=bits=8"
  sox:      --command "sox {in} -e floating-point -b 32 {out} overdrive {gain}" --set gain=20
  lv2apply: --command "lv2apply -i {in} -o {out} -c FUZZ 0.7 \
            http://guitarix.sourceforge.net/plugins/gx_fuzzface_#_fuzzface_"
  REAPER:   --command "examples/reaper-render effect.rpp {in} {out}", which fills a project
            and runs `reaper -renderproject`; the script says how the project is set up
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("pairs", help="make, add and check dry/wet pairs")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_make_parser(actions)
    _add_add_parser(actions)
    _add_check_parser(actions)


def _add_make_parser(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    make = actions.add_parser(
        "make",
        help="play dry recordings through an effect",
        description="Write PAIRS_DIR/dry, PAIRS_DIR/wet and PAIRS_DIR/pairs.jsonl; with several "
        "presets a folder of pairs for each. `fxfast effects` lists effects and presets.",
        epilog=_COMMANDS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    make.add_argument("dry", nargs="+", metavar="DRY", help="dry recordings: files or folders")
    make.add_argument(
        "--effect",
        metavar="NAME",
        help="a built-in effect (overdrive), or pedalboard:NAME or pedalboard:FILE.vst3",
    )
    make.add_argument(
        "--preset", metavar="NAME", help="a preset, several with commas between, or all"
    )
    make.add_argument(
        "--host",
        default="builtin",
        metavar="HOST",
        help="whose presets: builtin, ffmpeg, pedalboard, or a preset file (builtin)",
    )
    make.add_argument("--command", metavar="TEMPLATE", help="a program, see below")
    make.add_argument(
        "--set",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the effect; may be repeated",
    )
    make.add_argument(
        "--knob",
        dest="knobs",
        type=_settings,
        action="append",
        default=[],
        metavar="NAME=V1,V2,..",
        help="render at each of these values and write them down; several knobs: every combination",
    )
    make.add_argument("-o", "--out", required=True, metavar="PAIRS_DIR", help="folder to make")
    make.add_argument("--overwrite", action="store_true", help="replace earlier pairs there")
    make.add_argument("--timeout", type=float, default=300.0, metavar="SECONDS",
                      help="for one run of a command (300)")  # fmt: skip
    make.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="files at a time")
    make.add_argument("--cache", metavar="DIR", help="where results of commands are kept")
    make.add_argument("--no-cache", action="store_true", help="keep and use no results")
    make.add_argument("--keep-offset", action="store_true", help="do not shift the wet")
    _add_picture_option(make)
    make.add_argument("--json", action="store_true", help="print one JSON object per pair")
    make.set_defaults(run=run)


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
    _add_picture_option(parser)


def _add_picture_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="DIR",
        help="a picture of every pair that is not refused, as SVG: waveforms, correlation, "
        "transfer curve, spectra",
    )


def _picture(args: argparse.Namespace, pair: CheckedPair, folder: str = "") -> None:
    from fxfast.pairs.pictures import write_picture

    if args.pictures is not None and pair.dry is not None:
        write_picture(pair, args.pictures / folder / f"{pair.name}.svg")


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

        _picture(args, pair)
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


def run(args: argparse.Namespace) -> int:
    from fxfast.cli.pair_variants import folders
    from fxfast.errors import FxfastError, InputError
    from fxfast.pairs.make_pairs import make_pairs
    from fxfast.pairs.render_cache import RenderCache, default_cache_dir

    if args.jobs < 1:
        raise InputError(f"jobs: expected at least 1, got {args.jobs}")
    kept = None if args.no_cache else Path(args.cache or default_cache_dir())
    failed = False
    for out, variants in folders(args):
        try:
            made = make_pairs(
                args.dry,
                out,
                variants(),
                overwrite=args.overwrite,
                jobs=args.jobs,
                cache=RenderCache(kept),
                keep_offset=args.keep_offset,
                on_pair=_made_printer(args, out),
            )
        except FxfastError as error:
            if out == Path(args.out):
                raise
            print(f"fxfast: error: {error}", file=sys.stderr)
            failed = True
            continue
        failed |= bool(made.refused)
        if not args.json:
            _print_made(out, made)
    return 1 if failed else 0


def _print_made(out: Path, made: MadePairs) -> None:
    from fxfast.audio.files import printable

    if not made.records:
        return
    first = made.records[0]
    same = {True: "yes", False: "no", None: "not known"}[first.deterministic]
    print(
        f"{printable(out)}: pairs: {len(made.records)}, seconds: {made.audio_seconds:.1f}, "
        f"rate: {first.sample_rate} Hz, effect: {first.preset or first.effect}, "
        f"host: {first.host}, same samples when rendered twice: {same}, "
        f"{made.audio_seconds / max(made.wall_seconds, 1e-9):.0f}x real time"
    )


def _made_printer(args: argparse.Namespace, out: Path) -> Callable[[CheckedPair], None]:
    def show(pair: CheckedPair) -> None:
        _picture(args, pair, out.name if out != Path(args.out) else "")
        if args.json:
            print(json.dumps(pair.to_json()), flush=True)
        elif pair.status == "refused":
            print(f"fxfast: error: {'; '.join(pair.reasons)}", file=sys.stderr)
        elif pair.status != "ok":
            from fxfast.audio.files import printable

            print(f"{printable(pair.name)}: {pair.status}: {'; '.join(pair.reasons)}")

    return show


def _setting(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not name or not equals or number != number:
        raise argparse.ArgumentTypeError(f"expected NAME=NUMBER, got {text!r}")
    return name, number


def _settings(text: str) -> tuple[str, tuple[float, ...]]:
    name, _, values = text.partition("=")
    return name, tuple(_setting(f"{name}={value}")[1] for value in values.split(","))
