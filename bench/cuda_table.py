"""The README's tables of the CUDA engine, from its result file."""

from __future__ import annotations

from typing import Any

from fxfast.report.table import markdown

Row = dict[str, Any]
HOUR, SONG = "fxfast, one hour", "fxfast, one file of 5 minutes"
# What was wanted of an H200, float32, from device memory: ratios of one run.
LEAST_REALTIME, LEAST_TIMES_EAGER, MOST_SONG_SECONDS = 16_000.0, 5.0, 0.010
LEAST_CONV_SHARE, LEAST_TIMES_CUDNN = 0.40, 5.0
LEAST_COPY_SHARE, MOST_TIMES_ALONE = 0.60, 1.3


def cuda_table(result: dict[str, Any]) -> str:
    """What was wanted and found, every model beside PyTorch, and how it was measured."""
    return "\n\n".join((_musts(result), _models(result), _words(result)))


def _named(rows: list[Row], name: str) -> Row:
    return next(row for row in rows if row["name"] == name)


def _starting(rows: list[Row], *starts: str) -> list[Row]:
    return [row for row in rows if row["name"].startswith(starts) and "failed" not in row]


def _fastest(rows: list[Row], *starts: str) -> float | None:
    return max((row["realtime"] for row in _starting(rows, *starts)), default=None)


def _musts(result: dict[str, Any]) -> str:
    standard, conv = result["a1-standard"], result["conv-64-32"]
    hour, song = _named(standard, HOUR), _named(standard, SONG)
    eager = _fastest(standard, "eager")
    assert eager is not None
    times = hour["realtime"] / eager
    share = _named(conv, HOUR)["share_of_peak"]
    alone, whole = result["library"]
    ratio = whole["seconds"] / alone["seconds"]
    rows = [
        (
            "A1 standard, one hour in segments",
            f"{hour['realtime']:,.0f}x, {times:.1f} times eager",
            f"{LEAST_REALTIME:,.0f}x, {LEAST_TIMES_EAGER:.0f} times",
            hour["realtime"] >= LEAST_REALTIME and times >= LEAST_TIMES_EAGER,
        ),
        (
            "A1 standard, one file of 5 minutes",
            f"{1e3 * song['seconds']:.1f} ms",
            f"{1e3 * MOST_SONG_SECONDS:.0f} ms",
            song["seconds"] <= MOST_SONG_SECONDS,
        ),
        (
            "conv stack 64-32",
            f"{share:.0%} of the peak",
            f"{LEAST_CONV_SHARE:.0%}",
            share >= LEAST_CONV_SHARE,
        ),
    ]
    for name, text in (("lstm-16", "LSTM 1x16"), ("lstm-40", "LSTM 1x40")):
        ours, cudnn = (_starting(result[name], way)[0] for way in ("fxfast", "cuDNN"))
        times = ours["realtime"] / cudnn["realtime"]
        rows.append(
            (
                f"{text}, {ours['name'].split(', ')[1]}",
                f"{ours['realtime']:,.0f}x, {times:.1f} times cuDNN",
                f"{LEAST_TIMES_CUDNN:.0f} times",
                times >= LEAST_TIMES_CUDNN,
            )
        )
    for length in (64, 12_288):
        found = _starting(result["sampler"], f"windows of {length},")
        best = max(found, key=lambda row: row["share_of_copy"])
        rows.append(
            (
                f"sampler, {best['name']}",
                f"{best['share_of_copy']:.0%} of a copy's bandwidth",
                f"{LEAST_COPY_SHARE:.0%}",
                best["share_of_copy"] >= LEAST_COPY_SHARE,
            )
        )
    rows.append(
        (
            f"library, {whole['name'].split(', ')[1]} of a minute, WAV in memory",
            f"{ratio:.2f} times decoding and encoding alone",
            f"{MOST_TIMES_ALONE} times",
            ratio <= MOST_TIMES_ALONE,
        )
    )
    return markdown(
        ("work", "found", "wanted", "holds"),
        [(work, found, wanted, "yes" if holds else "no") for work, found, wanted, holds in rows],
    )


def _models(result: dict[str, Any]) -> str:
    rows = []
    for name, ways in result.items():
        if not isinstance(ways, list) or not any(row["name"] == HOUR for row in ways):
            continue
        hour, song = _named(ways, HOUR), _named(ways, SONG)
        eager = _fastest(ways, "eager PyTorch,")
        graphed = _fastest(ways, "eager PyTorch in")
        rows.append(
            (
                name,
                f"{hour['realtime']:,.0f}x",
                f"{hour['share_of_peak']:.0%}",
                f"{1e3 * song['seconds']:.1f} ms",
                f"{eager:,.0f}x" if eager else "-",
                f"{graphed:,.0f}x" if graphed else "-",
            )
        )
    header = ("model", "one hour", "of the peak", "5 minutes", "eager, best batch", "CUDA graph")
    return markdown(header, rows)


def _words(result: dict[str, Any]) -> str:
    limits = {row["name"]: row for row in result["limits"]}
    host = result["host to host"][0]
    defaults = result.get("tf32") is not False
    tf32 = " (its defaults: cuDNN may use TF32, fxfast does not)" if defaults else ""
    ahead = ", ".join(
        name
        for name, ways in result.items()
        if isinstance(ways, list)
        and any(row["name"] == HOUR for row in ways)
        and (_fastest(ways, "eager") or 0.0) > _named(ways, HOUR)["realtime"]
    )
    return (
        f"{result['gpu']}, float32, from device memory to device memory, medians, PyTorch "
        f"{result['torch']}{tf32} in the same run; x is times real time at 48 kHz. The peak is of "
        f"multiply-adds in registers, {limits['multiply-adds']['flops'] / 1e12:.0f} TFLOP/s; a "
        f"copy moves {limits['copy']['bytes_per_second'] / 1e12:.1f} TB/s, read and written. From "
        f"host memory to host memory an hour through A1 standard takes {host['seconds']:.2f} s."
        + (f" Faster than fxfast: eager PyTorch with {ahead}." if ahead else "")
    )
