"""The README's table of whole libraries from a result of `python -m bench.bench_library`."""

from __future__ import annotations

from statistics import median
from typing import Any

from fxfast.report.table import markdown

_HEADER = (
    "model, format",
    "library",
    "engine alone",
    "files alone",
    "of the engine",
    "of files alone",
    "of what two cores allow",
    "safety",
    "safety, beside nothing on the disk",
)


def library_table(result: dict[str, Any]) -> str:
    """Speeds, shares, which of the goals hold, and where they cannot."""
    rows = []
    for case in result["cases"]:
        speeds, shares = case["realtime"], case["shares"]
        rows.append(
            [
                f"{case['model']}, {case['format'].upper()}",
                *(f"{speeds[way]:,.0f}x" for way in ("library", "engine", "files")),
                *(f"{shares[name]:.0%}" for name in ("of the engine", "of files alone", "of both")),
                *(f"{shares[name]:.1%}" for name in ("cost of safety", "cost beside unsafe")),
            ]
        )
    music, longer = result["music"], result["longer"]
    text = (
        f"{music['hours']:.2g} hours of stereo music in {music['files']} files of 48 kHz and "
        "16 bit, times real time by the wall clock on two cores, everything in one run. Engine "
        "alone: the decoded files in memory, two threads. Files alone: decoded and encoded as they "
        "are, with the same reader and writer, two threads. What two cores allow: engine and files "
        "cost in a library what they cost alone, so this is the share that the library itself "
        "leaves. Safety: the share of the run that reading files back and bringing each to the "
        "disk takes beside a run that writes them without a look and flushes the file system once "
        "at its end, so that as much is on the disk (less than nothing: flushing meanwhile is "
        "quicker); and beside one that ends while they are in memory alone"
        f"{_at_the_disk(result)} In a library of "
        f"{longer['hours']:.1f} hours ({longer['files']} files, "
        f"{len(longer['wall seconds']['late'])} runs), gain on WAV, the two are "
        f"{longer['shares']['cost of safety']:.1%} and "
        f"{longer['shares']['cost beside unsafe']:.1%}. "
        f"Medians of several runs: {_runs_of(result)}."
    )
    return f"{markdown(_HEADER, rows)}\n\n{text}\n\n{_goals(result)}"


def _at_the_disk(result: dict[str, Any]) -> str:
    """What safety is made of where the model costs nothing: mostly the disk."""
    case = next(c for c in result["cases"] if (c["model"], c["format"]) == ("gain", "wav"))
    seconds = {way: median(times) for way, times in case["wall seconds"].items()}
    return (
        f": gain on WAV takes {seconds['library']:.2f} seconds, the latter "
        f"{seconds['unsafe']:.2f}, and one that brings each file to the disk but reads none back "
        f"{seconds['unread']:.2f}; the disk takes as many bytes in {seconds['disk']:.2f} seconds "
        "when nothing else is done."
    )


def _goals(result: dict[str, Any]) -> str:
    told = []
    for case in result["cases"]:
        for name, must in case["must"].items():
            share, holds = case["shares"][name], case["holds"][name]
            goal = "at most" if name.startswith("cost") else "at least"
            left = "" if holds else _what_is_left(case, name, must)
            told.append(
                f"{case['model']}, {case['format'].upper()}, {name} {goal} {must:.0%}: "
                f"{'holds' if holds else 'does not hold'} ({share:.0%}{left})"
            )
    machine = result["machine"]
    where = f"Machine: {machine['processor']}, {machine['cores']} cores."
    return "Goals: " + "; ".join(told) + ".\n\n" + where


def _what_is_left(case: dict[str, Any], name: str, must: float) -> str:
    """Said where engine and files, at what they cost alone, leave less than the goal."""
    speeds = case["realtime"]
    both = 1.0 / speeds["engine"] + 1.0 / speeds["files"]
    alone = {"of the engine": speeds["engine"], "of files alone": speeds["files"]}.get(name)
    if alone is None or 1.0 / alone / both >= must:
        return ""
    return f"; engine and files at what they cost alone leave {1.0 / alone / both:.0%}"


def _runs_of(result: dict[str, Any]) -> str:
    return ", ".join(
        f"{case['model']} {case['format'].upper()} {len(case['wall seconds']['library'])}"
        for case in result["cases"]
    )
