"""The README's table of the zoo, from its result file."""

from __future__ import annotations

from typing import Any

from fxfast.report.table import markdown


def zoo_table(result: dict[str, Any]) -> str:
    """A line for every preset: family, model, time, scores beside dry and best gain, speed."""
    header = ("preset", "family found", "model", "weights", "time", "test ESR", "dry as wet",
              "best gain", "quiet error", "must", "rendering")  # fmt: skip
    rows = [_row(preset, row) for preset, row in sorted(result["presets"].items())]
    machine = result["machine"]
    holding = sum(row["must_holds"] for row in result["presets"].values())
    words = (
        f"At most {result['seconds_limit']:.0f} s per preset; trained on 44 s, scored on the last "
        f"10 s of 60 s that training never saw; quiet error is that in frames where the wet sound "
        f"is below -66 dBFS; rendering in times real time on one core. {holding} of {len(rows)} "
        f"musts hold. Machine: {machine['processor']}, {machine['cores']} cores. {result['note']}"
    )
    return f"{markdown(header, rows)}\n\n{words.strip()}"


def _row(preset: str, row: dict[str, Any]) -> tuple[str, ...]:
    scores = row["scores"]
    quiet = scores["model"]["quiet_error_dbfs"]
    return (
        preset,
        row["family"],
        row["model"],
        f"{row['weights']:,}",
        f"{row['seconds']:.0f} s",
        *(_ratio(scores[side]["esr"]) for side in ("model", "dry_as_wet", "best_gain")),
        "-" if quiet is None else f"{quiet:.0f} dBFS",
        f"{row['must']}{'' if row['must_holds'] else ' (not reached)'}",
        f"{row['times_real_time']:,.0f}x",
    )


def _ratio(value: float) -> str:
    return f"{value:.4f}" if value >= 1e-3 else f"{value:.2g}"
