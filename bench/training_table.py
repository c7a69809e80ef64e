"""The README's table of the trainers, from their result files."""

from __future__ import annotations

from typing import Any

from fxfast.report.table import markdown


def training_table(results: list[dict[str, Any]]) -> str:
    """The NAM trainer and ours on the same pair, net and time."""
    rows = []
    for result in results:
        ours, nam = result["fxfast"], result["nam"]
        rows.append(
            (
                result["preset"],
                f"{ours['test_esr']:.2g}",
                f"{nam['test_esr']:.2g}",
                f"{ours['samples_per_second'] / 1e3:.0f} k/s",
                f"{nam['samples_per_second'] / 1e3:.0f} k/s",
            )
        )
    header = ("pair", "fxfast test ESR", "NAM trainer", "fxfast samples", "NAM trainer")
    first = results[0]
    return (
        f"{markdown(header, rows)}\n\n{first['model']}, {first['seconds_limit']:.0f} s each, "
        f"trained on 44 s and scored on the last 10 s of 60 s; a sample is one of the loss, every "
        f"time it is used. One core each, both pairs side by side."
    )
