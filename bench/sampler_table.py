"""The README's table of the sampler, from its result file."""

from __future__ import annotations

from typing import Any

from fxfast.report.table import markdown


def sampler_table(result: dict[str, Any]) -> str:
    """Windows per second of every way, against both bases: the usual way and the best eager."""
    rows = []
    for case in result["cases"]:
        speeds = case["windows_per_second"]
        rows.append(
            (
                f"{case['length']}, {case['batch']}",
                *(_millions(speeds[way]) for way in ("usual", "eager", "ours", "ours int16")),
                _millions(speeds["ours with targets"]),
                f"{case['share_of_memcpy']:.0%}",
                f"{case['times_usual']:.1f}",
                f"{case['times_eager']:.1f}",
            )
        )
    table = markdown(
        (
            "samples, batch",
            "usual DataLoader",
            "best eager",
            "fxfast",
            "from int16",
            "with targets",
            "of memcpy",
            "times usual",
            "times best eager",
        ),
        rows,
    )
    first, threads = result["first batch"], result["threads"]
    two = " and ".join(
        f"{row['cpu_time_of_two_over_one']:.2f} (windows of {row['length']})" for row in threads
    )
    minutes = result["audio_seconds"] / 60
    usual, ours = first["usual"], first["ours"]
    words = (
        f"Windows per second, one core, {minutes:.0f} minutes of 48 kHz audio, inputs only unless "
        f"it says otherwise. Two bases, measured in the same run: the usual way is a Dataset that "
        f"slices, a RandomSampler and a DataLoader; the best eager way, which hardly anyone "
        f"writes, is index_select from an as_strided view into a buffer that is used again. "
        f"Memcpy copies the bytes of a batch in one piece. The first batch is there after "
        f"{1e3 * ours['seconds']:.2f} ms (the usual way: {usual['seconds']:.1f} s and "
        f"{usual['memory_bytes'] / 1e9:.1f} GB), and as soon after a resume "
        f"({1e3 * result['resume_seconds']:.2f} ms); the sampler holds "
        f"{result['memory_bytes_per_file']:.0f} bytes per file. Two threads together take "
        f"{two} times the CPU time of one for the same windows: neither memory nor a lock holds "
        f"them up."
    )
    return f"{table}\n\n{words}"


def _millions(speed: float) -> str:
    return f"{speed / 1e6:.1f} M" if speed >= 1e6 else f"{speed / 1e6:.2f} M"
