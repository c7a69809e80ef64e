"""The trainer of .nam files and ours on the same pair, for the same time, on the same cores:

    python -m bench.bench_training [--preset ts-2] [--seconds 600] [--zoo FOLDER]

Both train A1 standard on 44 s and validate on the next 6 s; both models are then played by the
engine and scored on the last 10 s. The other trainer runs with its default learning settings in the
environment that tools/nam-env makes, ours with its own defaults. Writes
bench/results/DATE-training.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

from bench.zoo import RESULTS, ROOT, ZOO, linked_pairs, zoo_split
from fxfast import exchange, models
from fxfast.data import Data, from_arrays, from_pairs
from fxfast.pairs.pair_set import load_pairs
from fxfast.report.measure import machine
from fxfast.report.results import rounded, write
from fxfast.training import TrainConfig, train
from fxfast.training.evaluation import evaluate_model

MODEL = "a1-standard"
NAM_PYTHON = ROOT / "build" / "nam-env" / "bin" / "python"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_training", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--preset", default="ts-2")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each (600)")
    parser.add_argument("--zoo", type=Path, default=ZOO)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{date.today()}-training.json")
    args = parser.parse_args()
    if not NAM_PYTHON.exists():
        raise SystemExit(f"{NAM_PYTHON}: expected the other trainer, found none: tools/nam-env")
    with tempfile.TemporaryDirectory(prefix="fxfast-training-") as folder:
        result = measure(args.zoo, args.preset, args.seconds, Path(folder))
    write(rounded(result), args.out)
    for name in ("nam", "fxfast"):
        row = result[name]
        print(
            f"{name}: test ESR {row['test_esr']:.5f}, {row['steps']} steps of "
            f"{row['samples_per_step']} samples, {row['steps_per_second']:.2f} steps/s, "
            f"{row['samples_per_second'] / 1e3:.0f} k samples/s "
            f"({row['samples_per_cpu_second'] / 1e3:.0f} k per second of CPU time)"
        )
    print(f"written: {args.out}")
    return 0


def measure(zoo: Path, preset: str, seconds: float, work: Path) -> dict[str, Any]:
    """Both, one after the other."""
    pairs = load_pairs(linked_pairs(zoo, preset, work / "pairs"))
    data = from_pairs(pairs, zoo_split())
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "preset": preset,
        "model": MODEL,
        "seconds_limit": seconds,
        "fxfast": ours(data, seconds, work),
        "nam": theirs(data, seconds, work),
    }


def ours(data: Data, seconds: float, work: Path) -> dict[str, Any]:
    began, cpu = time.monotonic(), time.process_time()
    config = TrainConfig(seconds=seconds, epochs=None)
    result = train(config, data, models.create(MODEL), work / "run")
    log = [json.loads(line) for line in (work / "run/log.jsonl").read_text().splitlines()]
    settings = json.loads((work / "run/config.json").read_text())["train"]
    steps, curve = 0, []
    for epoch in log:
        steps += epoch["steps"]
        curve.append({"step": steps, "seconds": epoch["elapsed_seconds"],
                      "esr": epoch["validation_esr"]})  # fmt: skip
    return row(
        evaluate_model(exchange.load(work / "run"), data, "test").total.model.esr,
        steps=result.steps,
        samples_per_step=settings["batch_blocks"] * settings["block_samples"],
        seconds=time.monotonic() - began,
        cpu_seconds=time.process_time() - cpu,
        curve=curve,
    )


def theirs(data: Data, seconds: float, work: Path) -> dict[str, Any]:
    import soundfile as sf

    piece = next(iter(from_whole(data).pieces()))
    for side, audio in (("dry", piece.dry), ("wet", piece.wet)):
        sf.write(work / f"{side}.wav", audio, data.sample_rate, subtype="PCM_24")
    script = Path(__file__).with_name("nam_training.py")
    command = [str(NAM_PYTHON), "-I", str(script), str(work), str(seconds)]
    subprocess.run(command, check=True, stdout=sys.stderr)
    values = json.loads((work / "nam.json").read_text())
    graph = exchange.load(work / "model.nam")
    return row(evaluate_model(graph, data, "test").total.model.esr, **values)


def from_whole(data: Data) -> Data:
    """The same files uncut."""
    sides = [data.audio.samples_of(file) for file in range(len(data.names))]
    return from_arrays(sides, data.sample_rate, names=data.names)


def row(test_esr: float | None, **values: Any) -> dict[str, Any]:
    samples = values["steps"] * values["samples_per_step"]
    return {
        "test_esr": test_esr,
        "steps_per_second": values["steps"] / values["seconds"],
        "samples_per_second": samples / values["seconds"],
        "samples_per_cpu_second": samples / values["cpu_seconds"],
        **values,
    }


if __name__ == "__main__":
    sys.exit(main())
