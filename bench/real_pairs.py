"""Trains on recordings of real devices and tests on one that training never saw.

    python -m bench.real_pairs [TASK ...] [--data FOLDER] [--work FOLDER] [--seconds N]
                               [--model NAME] [--out FILE]

Tasks: openamp_tubescreamer, openamp_bluesdriver (trained on clips 0 to 2, tested on clip 3; with
@0, @1 or @2 behind the name tested on that clip, trained on the other three) and cl1b_GC, cl1b_MC,
cl1b_HC (trained on bass, drums and sweep, tested on the guitar). A task that was stopped goes on
where it was. The result is bench/results/real_pairs_DATE.json, written after every task: the test
ESR beside that of dry as wet and of the best gain, and whether the must holds.

What a mark was missed for: openamp_bluesdriver_within trains on the beginning of the fourth clip
too and tests on its end; ``dry_band_db`` says what share of the energy of dry lies in each octave
of training and of the test; ``test_esr_own_gain`` is what is left when the test recording may have
a gain of its own, ``own_gain_db``: that of wet over the model.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import exchange, models
from fxfast.audio.files import read_audio
from fxfast.pairs.pair_set import Pair
from fxfast.report.measure import machine
from fxfast.report.results import rounded, write
from fxfast.training import ProgressBar, TrainConfig, dataset_of, train
from fxfast.training.evaluation import played
from fxfast.training.held_out import unscored_samples
from fxfast.training.material_checks import OCTAVES_HZ, octave_shares

ROOT = Path(__file__).resolve().parent.parent
PAIRS = ROOT.parent / "shared" / "data" / "pairs"
# Model, ESR that must be reached; None: a quarter of the best gain's.
TASKS: dict[str, tuple[str, float | None]] = {
    "openamp_tubescreamer": ("a1-standard", 0.03),
    "openamp_bluesdriver": ("a1-standard", 0.03),
    "cl1b_GC": ("compressor+coupling", None),
    "cl1b_MC": ("compressor", None),
    "cl1b_HC": ("compressor", None),
    "openamp_bluesdriver_within": ("a1-standard", 0.03),
    **{f"openamp_{pedal}@{clip}": ("a1-standard", 0.03)
       for pedal in ("tubescreamer", "bluesdriver") for clip in range(3)},
}  # fmt: skip
_WITHIN = "_within"
# The share of each training recording that is for validation, from where to where.
_VALIDATION_SPAN = (0.4, 0.52)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.real_pairs", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("tasks", nargs="*", help="all by default")
    parser.add_argument("--data", type=Path, default=PAIRS)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "real_pairs", help="runs")
    parser.add_argument("--seconds", type=float, default=600.0, help="at most, per task (600)")
    parser.add_argument("--model", help="a model for all, instead of the usual one")
    results = ROOT / "bench" / "results"
    parser.add_argument("--out", type=Path, default=results / f"real_pairs_{date.today()}.json")
    args = parser.parse_args()
    result: dict[str, Any] = {"date": date.today().isoformat(), "machine": machine(), "tasks": {}}
    if args.out.is_file():
        result = json.loads(args.out.read_text())
    for task in args.tasks or TASKS:
        if task not in TASKS:
            parser.error(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
        row = train_one(task, args)
        result["tasks"][task] = rounded(row)
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write(result, args.out)
        print(
            f"{task}: {row['model']}, {row['seconds']:.0f} s, test ESR {row['test_esr']:.5f} (dry "
            f"{row['dry_as_wet_esr']:.4f}, best gain {row['best_gain_esr']:.4f}), must "
            f"{row['must']:.4g}: {'holds' if row['must_holds'] else 'does not hold'}",
            flush=True,
        )
    return 0


def train_one(task: str, args: argparse.Namespace) -> dict[str, Any]:
    """The row of a task: trains it, or goes on with it."""
    preset, must = TASKS[task]
    preset = args.model or preset
    run = args.work / f"{task}-{preset}"
    config = TrainConfig(seconds=args.seconds, epochs=None)
    pairs, model = pairs_of(task, args.data), models.create(preset)
    with ProgressBar("training") as bar:
        found = train(config, pairs, model, run,
                      resume=(run / "checkpoint.pt").is_file(), observers=[bar])  # fmt: skip
    limit = found.best_gain_esr / 4 if must is None else must
    graph, skipped = exchange.load(run / "model.safetensors"), unscored_samples(model)
    (sound,) = played(graph, dataset_of(config, pairs), "test")
    left, gain_db = own_gain(sound.prediction[skipped:], sound.piece.wet[skipped:])
    return {
        "model": preset,
        "seconds": found.seconds,
        "epochs": found.epochs,
        "steps": found.steps,
        "test_esr": found.test_esr,
        "test_esr_own_gain": left,
        "own_gain_db": gain_db,
        "validation_esr": found.validation_esr,
        "dry_as_wet_esr": found.dry_as_wet_esr,
        "best_gain_esr": found.best_gain_esr,
        "overfitting": found.overfitting.words,
        "must": limit,
        "must_holds": bool(found.test_esr <= limit),
        "dry_band_db": {part: band_levels(pairs, part) for part in ("train", "test")},
    }


def own_gain(prediction: np.ndarray, wet: np.ndarray) -> tuple[float, float]:
    """The ESR of a prediction (T) times the factor that leaves least of wet (T), and its dB."""
    y, w = prediction.astype(np.float64), wet.astype(np.float64)
    yy, yw, ww = y @ y + 1e-20, y @ w, w @ w
    return float(1.0 - yw * yw / (yy * ww)), float(20.0 * np.log10(abs(yw) / yy + 1e-20))


def band_levels(pairs: list[Pair], split: str) -> dict[str, float]:
    """The share of the energy of dry in each octave, in dB, by the octave's lowest frequency."""
    shares = octave_shares([(p.dry, p.sample_rate) for p in pairs if p.split == split])
    return {f"{hz:g}": round(float(10.0 * np.log10(share + 1e-12)), 1)
            for hz, share in zip(OCTAVES_HZ, shares, strict=True)}  # fmt: skip


def pairs_of(task: str, data: Path) -> list[Pair]:
    """The recordings of a task: the last, or the one named, for the test, the middle of the others
    for validation; within the recordings only the end of the last for the test."""
    within = task.endswith(_WITHIN)
    task, _, held_out = task.removesuffix(_WITHIN).partition("@")
    folder, _, setting = task.partition("_") if task.startswith("cl1b") else (task, "", "")
    names = ["bass", "drumHH", "drumKick", "sweep", "guitar"] if setting else [
        f"clip{number}" for number in range(4)
    ]  # fmt: skip
    if held_out:
        names.append(names.pop(int(held_out)))
    pairs = [
        read_pair(data / folder, name, f"wet_{setting}" if setting else "wet") for name in names
    ]
    known = [part for pair in pairs[:-1] for part in parted(pair)]
    if not within:
        return [*known, replace(pairs[-1], split="test")]
    *begin, end = parted(pairs[-1])
    return [*known, *begin, replace(end, split="test")]


def read_pair(folder: Path, name: str, wet_name: str) -> Pair:
    sounds = []
    for side in ("dry", wet_name):
        audio, rate = read_audio(folder / f"{name}_{side}.flac")[:2]
        sounds.append(np.ascontiguousarray(audio[0], np.float32))
    samples = min(map(len, sounds))
    return Pair(name, sounds[0][:samples], sounds[1][:samples], rate)


def parted(pair: Pair) -> list[Pair]:
    """All but the middle for training, for the end of a note is no measure of it; of a recording
    too short to tell anything all."""
    first, end = (round(share * len(pair.dry)) for share in _VALIDATION_SPAN)
    if len(pair.dry) < pair.sample_rate:
        return [replace(pair, split="train")]
    spans = (("begin", "train", slice(0, first)), ("middle", "validation", slice(first, end)),
             ("end", "train", slice(end, None)))  # fmt: skip
    return [
        Pair(f"{pair.name} {part}", pair.dry[span], pair.wet[span], pair.sample_rate, split=split)
        for part, split, span in spans
    ]


if __name__ == "__main__":
    sys.exit(main())
