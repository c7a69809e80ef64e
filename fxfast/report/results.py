"""The JSON document of a benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from fxfast.errors import InputError
from fxfast.report.compare import Comparison
from fxfast.report.engine_ways import ENGINE
from fxfast.report.measure import machine
from fxfast.report.musts import verdicts
from fxfast.report.scipy_way import ENGINE as SCIPY
from fxfast.whole_file import whole_file

SCHEMA = 1


def document(models: Mapping[str, Comparison], rounds: int) -> dict[str, Any]:
    """Date, machine and commit, and the figures of every model by its name."""
    return {
        "schema": SCHEMA,
        "date": date.today().isoformat(),
        "machine": machine(),
        "rounds": rounds,
        "models": {name: rounded(comparison.to_json()) for name, comparison in models.items()},
    }


def with_runs(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The document of the first of some runs, with what the others measured of the engine, and
    whether each must holds in all of them."""
    others = [
        {
            "models": {name: _engine_alone(model) for name, model in run["models"].items()},
            "ratios": run.get("ratios", {}),
        }
        for run in found[1:]
    ]
    return {**found[0], "further runs": others, "musts": rounded(verdicts(found))}


def _engine_alone(model: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("engine", "isa", "mode", "block", "streams", "realtime", "share_of_peak")
    rows = [
        {key: row[key] for key in (*kept, "share_of_floor")}
        for row in model["rows"]
        if row["engine"] in (ENGINE, SCIPY)
    ]
    return {"peak_flops": model["peak_flops"], "rows": rows}


def rounded(value: Any) -> Any:
    """The value with six significant digits in every float, which is more than was measured."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def write(result: Mapping[str, Any], path: Path) -> None:
    """Whole or not at all. Raises ``InputError`` when it cannot be written."""
    try:
        with whole_file(path) as temporary:
            temporary.write_text(json.dumps(result, indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error
