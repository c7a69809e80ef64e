"""Trains a model for every preset of the zoo: `make zoo`.

    python -m bench.zoo [PRESET ...] [--zoo FOLDER] [--work FOLDER] [--seconds N] [--model NAME]
                        [--at-once N]

FOLDER holds dry.flac and PRESET.flac of equal length. What kind of model a preset gets is found
from its training part alone. A zoo that was stopped goes on where it was, within a run too; a
preset with a row in the result is not trained again. The result is bench/results/zoo_DATE.json,
written after every preset.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import exchange
from fxfast.data import Data, Split, from_pairs
from fxfast.identify import identify
from fxfast.models.choice import preset_for
from fxfast.pairs.pair_set import Pair, load_pairs
from fxfast.player import Player
from fxfast.report.measure import machine, thread_seconds
from fxfast.report.results import rounded, write
from fxfast.training.evaluation import evaluate_model

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
ZOO = ROOT.parent / "shared" / "data" / "zoo"
# The test at the end, its pictures and the export.
AFTER_TRAINING_SECONDS = 15.0
PARTS = (44.0, 6.0, 10.0)  # seconds of training, validation and test


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.zoo", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("presets", nargs="*", help="names; all files of the zoo by default")
    parser.add_argument("--zoo", type=Path, default=ZOO)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "zoo", help="runs and pairs")
    parser.add_argument("--seconds", type=float, default=600.0, help="at most, per preset (600)")
    parser.add_argument("--at-once", type=int, default=1, help="presets, which share the cores (1)")
    parser.add_argument("--model", help="a model for all, instead of the one that is found")
    parser.add_argument("--note", default="", help="a sentence about this run, for the table")
    parser.add_argument("--out", type=Path, default=RESULTS / f"zoo_{date.today()}.json")
    args = parser.parse_args()
    presets = args.presets or found_presets(args.zoo)
    result = previous(args.out) or {
        "date": date.today().isoformat(),
        "machine": machine(),
        "seconds_limit": args.seconds,
        "at_once": args.at_once,
        "note": args.note,
        "presets": {},
    }
    writing = threading.Lock()

    def row_of(preset: str) -> None:
        print(preset, file=sys.stderr, flush=True)
        row = rounded(train_one(preset, args))
        with writing:
            result["presets"][preset] = row
            args.out.parent.mkdir(parents=True, exist_ok=True)
            write(result, args.out)
            print(line(preset, row), flush=True)

    left = [preset for preset in presets if preset not in result["presets"]]
    with ThreadPoolExecutor(args.at_once) as pool:
        list(pool.map(row_of, left))
    rows = [row for row in result["presets"].values() if row["must_holds"]]
    print(f"{len(rows)} of {len(result['presets'])} musts hold; written: {args.out}")
    return 0


def found_presets(zoo: Path) -> list[str]:
    names = sorted(path.stem for path in zoo.glob("*.flac") if path.stem != "dry")
    if not names:
        raise SystemExit(f"{zoo}: expected dry.flac and files of presets, found none")
    return names


def previous(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def train_one(preset: str, args: argparse.Namespace) -> dict[str, Any]:
    """The row of a preset: trains it, or goes on with it, then scores and times the result."""
    folder = linked_pairs(args.zoo, preset, args.work / "pairs" / preset)
    pairs = load_pairs(folder)
    data = from_pairs(pairs, zoo_split())
    began = time.monotonic()
    family, model = family_and_model(data, pairs[0].sample_rate, args.model)
    looked = time.monotonic() - began
    run = args.work / "runs" / f"{preset}-{model}"
    left = max(1.0, args.seconds - looked - AFTER_TRAINING_SECONDS)
    trained = run_training(folder, run, model, left, args.at_once)
    graph = exchange.load(run)
    scores = evaluate_model(graph, data, "test").total
    row = {
        "family": family,
        "model": model,
        "weights": graph.parameters,
        "seconds": trained["seconds"] + looked,
        "epochs": trained["epochs"],
        "steps": trained["steps"],
        "stopped_by": trained["stopped_by"],
        "overfitting": trained["overfitting"]["words"],
        "scores": scores.to_json(),
        "times_real_time": render_speed(exchange.load(run), pairs[0]),
    }
    return {**row, **must_of(preset, row["scores"])}


def zoo_split() -> Split:
    train, validation, test = (part / sum(PARTS) for part in PARTS)
    return Split(train, validation, test)


def linked_pairs(zoo: Path, preset: str, folder: Path) -> Path:
    """A folder of pairs of the two files."""
    for side, name in (("dry", "dry"), ("wet", preset)):
        (folder / side).mkdir(parents=True, exist_ok=True)
        link = folder / side / f"{preset}.flac"
        if not link.exists():
            link.symlink_to((zoo / f"{name}.flac").resolve())
    return folder


def family_and_model(data: Data, sample_rate: int, forced: str | None) -> tuple[str, str]:
    pieces = [(piece.dry, piece.wet) for piece in data.train.pieces()]
    findings = identify(pieces, sample_rate)
    return findings.family, forced or preset_for(findings)


def run_training(
    folder: Path, run: Path, model: str, seconds: float, at_once: int
) -> dict[str, Any]:
    """`fxfast train` in a process of its own; goes on with a run that was stopped."""
    if not (run / "result.json").is_file():
        command = [sys.executable, "-c", "from fxfast.cli import console; console()", "train"]
        command += [str(folder), "--out", str(run), "--seconds", str(seconds), "--json"]
        if (run / "checkpoint.pt").is_file():
            command += ["--resume"]
        else:
            command += ["--model", model, "--split", *map(str, PARTS), "--no-check"]
        threads = max(1, len(os.sched_getaffinity(0)) // at_once)
        share = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=share)
    trained: dict[str, Any] = json.loads((run / "result.json").read_text())
    return trained


def render_speed(graph: Any, pair: Pair) -> float:
    """Times real time on one core; the median of three."""
    player = Player(graph, threads=1)
    player.render(pair.dry[: pair.sample_rate])
    taken = [thread_seconds(lambda: player.render(pair.dry)) for _ in range(3)]
    return float(len(pair.dry) / pair.sample_rate / np.median(taken))


def must_of(preset: str, scores: Mapping[str, Any]) -> dict[str, Any]:
    """What the effect has to reach on the test part, and whether it does."""
    esr, effect = scores["model"]["esr"], preset.rsplit("-", 1)[0]
    special = {"ts-2": 0.0004, "fuzz-2": 0.0021}
    limits = {"ts": 0.001, "fuzz": 0.005, "comp": 0.01, "reverb": 0.01, "delay": 0.002,
              "chorus": 0.02, "gate": 0.001}  # fmt: skip
    limit = special.get(preset, limits.get(effect, 1.0))
    if effect == "gate":
        loud, quiet = scores["model"]["loud_esr"], scores["model"]["quiet_error_dbfs"]
        holds = loud is not None and loud <= limit and (quiet is None or quiet < -60.0)
        return {"must": f"{limit:g} open, -60 dBFS closed", "must_holds": bool(holds)}
    if effect == "comp":
        limit = min(limit, scores["best_gain"]["esr"] / 4)
    return {"must": f"{limit:.2g}", "must_holds": bool(esr <= limit)}


def line(preset: str, row: Mapping[str, Any]) -> str:
    scores = row["scores"]
    return (
        f"{preset}: {row['family']}, {row['model']}, {row['seconds']:.0f} s, test ESR "
        f"{scores['model']['esr']:.5f} (dry {scores['dry_as_wet']['esr']:.4f}, best gain "
        f"{scores['best_gain']['esr']:.4f}), must {row['must']}: "
        f"{'holds' if row['must_holds'] else 'does not hold'}"
    )


if __name__ == "__main__":
    sys.exit(main())
