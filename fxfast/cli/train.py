"""fxfast train: pairs in, a run folder with the trained model out."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxfast.cli.auto_model import chosen_model
from fxfast.errors import InputError, OutputExistsError
from fxfast.whole_file import is_taken

if TYPE_CHECKING:
    from fxfast.data import Data
    from fxfast.models import AudioModel
    from fxfast.training import Observer, SanityResult, TrainConfig, TrainResult

# Options that are fields of TrainConfig. None means: the default, or with --resume what
# the run has.
_CONFIG_FIELDS = (
    "seconds",
    "epochs",
    "patience",
    "batch_blocks",
    "block_samples",
    "segment_blocks",
    "learning_rate",
    "final_learning_rate",
    "schedule",
    "decay",
    "max_gradient_norm",
    "pre_emphasis",
    "dc_weight",
    "stft_weight",
    "guard_samples",
    "seed",
    "device",
)

# A run that leaves so much of what a plain gain leaves, and more than a little: it learnt nothing.
USELESS, USELESS_ESR = 0.9, 0.01
USELESS_WORDS = (
    "hardly better than a plain gain: the effect is not learnt; train for longer, or another kind "
    "of model (--model auto, `fxfast identify`), or look at the pairs (`fxfast pairs check`)\n"
)


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a model on dry/wet pairs",
        description="Train a model on the pairs in PAIRS/dry and PAIRS/wet, each split by time "
        "into training, validation and test parts that share no sample, or on a file that "
        "fxfast pack wrote, with its split.",
    )
    parser.add_argument(
        "pairs", metavar="PAIRS", type=Path, nargs="+", help="folders of pairs, or a packed file"
    )
    parser.add_argument(
        "--include",
        metavar="PAIRS",
        type=Path,
        nargs="+",
        default=[],
        help="more folders, for training alone",
    )
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="architecture by name, e.g. conv-64-32; auto: the one that suits what the pairs hold, "
        "with the knobs that are turned in them as inputs",
    )
    parser.add_argument("--out", metavar="RUN_DIR", type=Path, help="folder of the run")
    parser.add_argument(
        "--split",
        nargs=3,
        type=float,
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="proportions of every pair, in this order of time (default 0.75 0.125 0.125)",
    )
    parser.add_argument(
        "--guard", dest="guard_samples", type=int, help="samples left out between the parts"
    )
    parser.add_argument(
        "--no-check", action="store_true", help="train on pairs that seem not to be fit for it"
    )
    parser.add_argument("--seconds", type=float, help="stop after this training time")
    parser.add_argument("--epochs", type=int, help="stop after this many epochs (default 30)")
    parser.add_argument(
        "--patience", type=int, help="stop after this many epochs without a better validation ESR"
    )
    parser.add_argument(
        "--batch", dest="batch_blocks", type=int, help="blocks per step (lanes of a recurrent net)"
    )
    parser.add_argument(
        "--block",
        dest="block_samples",
        type=int,
        help="target samples per block (of a recurrent net: from one step to the next)",
    )
    parser.add_argument(
        "--segment",
        dest="segment_blocks",
        type=int,
        help="blocks through which a recurrent net keeps its state",
    )
    _add_learning(parser)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--resume", action="store_true", help="go on with the run in RUN_DIR")
    parser.add_argument(
        "--sanity",
        action="store_true",
        help="only check that this set-up can learn the identity (exit code 1 if not)",
    )
    parser.add_argument(
        "--inspect",
        metavar="STEPS",
        type=_steps,
        default=(),
        help="print shapes, target and prediction at these steps, e.g. 0,10,100",
    )
    parser.add_argument(
        "--tensorboard", action="store_true", help="write curves to RUN_DIR/tensorboard as well"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def _add_learning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lr", dest="learning_rate", type=float, help="highest learning rate")
    parser.add_argument(
        "--final-lr", dest="final_learning_rate", type=float, help="last and lowest learning rate"
    )
    parser.add_argument(
        "--schedule",
        choices=("cosine", "exponential", "constant"),
        help="how the learning rate falls: over the whole budget (cosine), by --decay every epoch, "
        "not at all",
    )
    parser.add_argument("--decay", type=float, help="factor of an epoch (default 0.993)")
    parser.add_argument(
        "--clip",
        dest="max_gradient_norm",
        metavar="NORM",
        type=float,
        help="scale larger gradients down to this norm (default 1; 0: never)",
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--pre-emphasis",
        type=float,
        nargs="?",
        const=0.95,
        metavar="COEFFICIENT",
        help="first-order pre-emphasis of the loss (0.95 when no value is given)",
    )
    parser.add_argument(
        "--dc-weight", type=float, metavar="WEIGHT", help="so much of the DC loss in the loss"
    )
    parser.add_argument(
        "--stft-weight",
        type=float,
        metavar="WEIGHT",
        help="so much of the multi-resolution STFT loss in the loss",
    )


def _steps(text: str) -> tuple[int, ...]:
    try:
        steps = tuple(int(part) for part in text.split(","))
    except ValueError:
        steps = (-1,)
    if min(steps) < 0:
        raise argparse.ArgumentTypeError(f"expected step numbers like 0,10,100, got {text!r}")
    return steps


def run(args: argparse.Namespace) -> int:
    """Trains, or checks the set-up with ``--sanity``; the exit code."""
    from fxfast.training import ProgressBar, check_identity, train

    _require_options(args)
    if args.resume and args.model == "auto":
        args.model = None  # that of the run
    config, named = _set_up(args)
    data = _material(args, config)
    if args.model == "auto":
        args.model = chosen_model(data, sys.stderr if args.json else sys.stdout)
    model = _conditioned(args, config, named, data)
    with ProgressBar("sanity check" if args.sanity else "training") as bar, ExitStack() as stack:
        observers: list[Observer] = [bar, *_observers(args)]
        for observer in observers:
            stack.callback(observer.close)
        if args.sanity:
            sanity = check_identity(config, data, model, observers=observers)
        else:
            result = train(config, data, model, args.out, resume=args.resume, observers=observers)
    if args.sanity:
        print(json.dumps(asdict(sanity)) if args.json else _sanity_line(sanity))
        return 0 if sanity.passed else 1
    _draw(data, args)
    print(json.dumps(asdict(result)) if args.json else _summary(result))
    return 0


def _material(args: argparse.Namespace, config: TrainConfig) -> Data:
    """The pairs and their split, with a warning on standard error for what may spoil the result."""
    from fxfast.training import dataset_of
    from fxfast.training.material import gather
    from fxfast.training.material_checks import (
        check_amount,
        check_coverage,
        check_material,
    )

    material = gather(args.pairs, args.include)
    data = dataset_of(config, material)
    if not (args.no_check or args.resume or args.sanity):
        warnings = [*check_material(material), *check_amount(data), *check_coverage(data)]
        for warning in warnings:
            print(f"fxfast: warning: {warning}", file=sys.stderr)
    return data


def _conditioned(
    args: argparse.Namespace, config: TrainConfig, named: AudioModel | None, data: Data
) -> AudioModel:
    """The model with the knobs that are turned in the data as inputs, if it can have any."""
    from fxfast import models

    takes_knobs = args.model is not None and models.takes_knobs(args.model)
    if takes_knobs and data.controls:
        return models.create(args.model, seed=config.seed, knobs=data.controls)
    model = named or models.create(args.model, seed=config.seed)
    if args.model is None or not data.controls:
        return model
    names = ", ".join(knob.name for knob in data.controls)
    print(
        f"fxfast: warning: pairs: knobs differ ({names}) and {args.model} takes none: it learns "
        f"what they have in common (a1-standard takes them)",
        file=sys.stderr,
    )
    return model


def _draw(data: Data, args: argparse.Namespace) -> None:
    from fxfast.errors import BuildError
    from fxfast.training.pictures import write_picture

    try:
        write_picture(args.out, data)
    except BuildError as error:
        print(f"fxfast: no picture of the run: {error}", file=sys.stderr)


def _fractions(parts: list[float]) -> dict[str, float]:
    if min(parts) <= 0:
        raise InputError(f"--split: expected three numbers above 0, got {parts}")
    names = ("train_fraction", "validation_fraction", "test_fraction")
    return {name: part / sum(parts) for name, part in zip(names, parts, strict=True)}


def _require_options(args: argparse.Namespace) -> None:
    if args.sanity and args.resume:
        raise InputError("--sanity: expected a run from the start, got --resume as well")
    if args.out is None and not args.sanity:
        raise InputError("--out: expected the folder of the run, got none")
    if args.model is None and not args.resume:
        raise InputError("--model: expected the name of a model, got none")
    if args.out is not None and not args.resume and not args.sanity and is_taken(args.out):
        # Before the audio is read: this is the quickest mistake to tell.
        raise OutputExistsError(
            f"{args.out}: expected a new folder for the run, got one that exists "
            f"(go on with --resume or name another)"
        )


def _set_up(args: argparse.Namespace) -> tuple[TrainConfig, AudioModel | None]:
    """The settings and the model, None where the pairs are to say which."""
    from fxfast import models
    from fxfast.training import TrainConfig, read_description

    given = {name: getattr(args, name) for name in _CONFIG_FIELDS}
    given = {name: value for name, value in given.items() if value is not None}
    if args.split is not None:
        given |= _fractions(args.split)
    if not args.resume:
        if "seconds" in given and "epochs" not in given:
            given["epochs"] = None
        config = TrainConfig(**given)
        if args.model == "auto":
            return config, None
        return config, models.create(args.model, seed=config.seed)
    description = read_description(args.out)
    config = TrainConfig(**{**asdict(description.train), **given})
    if args.model is not None:
        return config, models.create(args.model, seed=config.seed)
    return config, models.from_description(description.model, seed=config.seed)


def _observers(args: argparse.Namespace) -> list[Observer]:
    from fxfast.training import StepInspector

    def write(text: str) -> None:
        print(text, file=sys.stderr if args.json else sys.stdout)

    observers: list[Observer] = [StepInspector(args.inspect, write)] if args.inspect else []
    if args.tensorboard and not args.sanity:
        from fxfast.training.tensorboard_log import TensorBoardLog

        observers.append(TensorBoardLog(args.out))
    return observers


def _sanity_line(result: SanityResult) -> str:
    verdict = "the set-up learns the identity" if result.passed else "the set-up FAILS"
    return f"{verdict}: test ESR {result.esr:.6f}, bound {result.bound} ({result.seconds:.0f} s)"


def _summary(result: TrainResult) -> str:
    useless = result.test_esr > max(USELESS * result.best_gain_esr, USELESS_ESR)
    return (
        f"test ESR {result.test_esr:.6f}  (dry as wet {result.dry_as_wet_esr:.4f}, "
        f"best gain {result.best_gain_esr:.4f})\n"
        f"{USELESS_WORDS * useless}"
        f"{result.epochs} epochs, {result.steps} steps, {result.seconds:.0f} s, "
        f"stopped by {result.stopped_by}; best epoch {result.best_epoch}\n"
        f"{result.overfitting.words}\n"
        f"{Path(result.run_dir) / 'model.safetensors'}"
    )
