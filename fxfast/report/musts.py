"""What each row of the benchmark has to reach, and whether it does.

Times real time depend on the machine; the share of what the machine can do much less. So a must
that is given as times real time on a core of 240 GFLOP/s (120 with AVX2) is held by the same share
of the floor of the core that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median
from typing import Any, Literal

from fxfast.report.engine_ways import ENGINE, QUIET_MODES
from fxfast.report.floor import floor_realtime
from fxfast.report.scipy_way import ENGINE as SCIPY
from fxfast.report.suite import SUITE, graph_of

Kind = Literal["floor", "peak", "peer", "normal audio", "ratio"]
Values = Mapping[str, Any]
CORE_FLOPS = {"avx2": 120e9, "best": 240e9}


@dataclass(frozen=True)
class Must:
    """A row of the table, the case that measures it, and what it has to reach.

    ``kind`` "floor" and "peak": a share of them. "peer": times as fast as that engine. "normal
    audio": the most times as long as normal audio may take. "ratio": at least that, of a figure
    that is no model's row.
    """

    row: str
    case: str
    kind: Kind
    must: float
    goal: float
    isa: str = "best"
    mode: str = "offline"
    block: int | None = None
    streams: int = 1

    def holds(self, reached: float) -> bool:
        return reached <= self.must if self.kind == "normal audio" else reached >= self.must

    def reached(self, model: Values) -> float | None:
        """What a model's measured rows reach, or None where they do not tell."""
        ours = self._row(model, self.mode, self.block)
        if ours is None:
            return None
        if self.kind in ("floor", "peak"):
            return float(ours[f"share_of_{self.kind}"])
        if self.kind == "peer":
            peers = [row["realtime"] for row in model["rows"] if row["engine"] == SCIPY]
            return float(ours["realtime"] / max(peers)) if peers else None
        plain = self._row(model, "offline", None)
        return None if plain is None else float(plain["realtime"] / ours["realtime"])

    def _row(self, model: Values, mode: str, block: int | None) -> Values | None:
        best = next(iter(model["peak_flops"]))
        isa = best if self.isa == "best" else self.isa
        wanted = (ENGINE, isa, mode, block, self.streams)
        for row in model["rows"]:
            if tuple(row[k] for k in ("engine", "isa", "mode", "block", "streams")) == wanted:
                return row  # type: ignore[no-any-return]
        return None


@cache
def _floor(case: str, isa: str) -> float:
    return floor_realtime(graph_of(case), CORE_FLOPS[isa])


def _at_240(
    row: str,
    case: str,
    must: float,
    goal: float,
    *,
    isa: str = "best",
    block: int | None = None,
    streams: int = 1,
) -> Must:
    floor, mode = _floor(case, isa), "offline" if block is None else "stream"
    where = f"{row}: {must:g}x / {goal:g}x"
    return Must(where, case, "floor", must / floor, goal / floor, isa, mode, block, streams)


def _of_floor(row: str, case: str, must: float, goal: float) -> Must:
    return Must(f"{row}: {must:.0%} / {goal:.0%} of the floor", case, "floor", must, goal)


@cache
def musts() -> tuple[Must, ...]:
    """Every row: speed first, then silence and denormals, then what is no single model's."""
    speed = (
        _at_240("A1 standard, offline", "a1-standard", 150, 180),
        _at_240("A1 standard, blocks of 48", "a1-standard", 140, 160, block=48),
        _at_240("A1 standard, AVX2", "a1-standard", 72, 85, isa="avx2"),
        _at_240("A2 full, offline", "a2-full", 130, 170),
        Must("wider A1: 46x (82% of the peak) / 52x", "a1-wide", "peak", 0.82, 0.82 * 52 / 46),
        _of_floor("A1 lite", "a1-lite", 0.6, 0.8),
        _of_floor("A1 feather", "a1-feather", 0.6, 0.8),
        _of_floor("A1 nano", "a1-nano", 0.45, 0.65),
        _of_floor("A2 lite", "a2-lite", 0.45, 0.65),
        _at_240("conv stack, offline", "conv-64-32", 200, 250),
        _at_240("conv stack, blocks of 512", "conv-64-32", 62, 65, block=512),
        _at_240("LSTM 1x16, one stream", "lstm-16", 500, 600),
        _at_240("LSTM 1x16, two streams", "lstm-16", 800, 950, streams=2),
        _at_240("LSTM 1x16, 32 streams", "lstm-16", 1200, 1600, streams=32),
        _at_240("LSTM 1x40, one stream", "lstm-40", 210, 245),
        _at_240("LSTM 1x40, 32 streams", "lstm-40", 280, 330, streams=32),
        _at_240("LSTM 2x8, one stream", "lstm-2x8", 350, 450),
        _at_240("LSTM 2x16, one stream", "lstm-2x16", 250, 320),
        Must(
            row="LSTM 6x800, 32 streams: 60% / 85% of the peak",
            case="lstm-6x800",
            kind="peak",
            must=0.6,
            goal=0.85,
            streams=32,
        ),
        Must("Linear, 2 s: 10 / 30 times oaconvolve", "linear-2s", "peer", 10, 30),
    )
    return speed + _quiet() + RATIOS


def _quiet() -> tuple[Must, ...]:
    cases = [case.name for case in SUITE if not case.large]
    return tuple(
        Must(f"{mode}: at most 1.1 times normal audio", case, "normal audio", 1.1, 1.0, mode=mode)
        for case in cases
        for mode in QUIET_MODES
    )


RATIOS = (
    Must("two threads: 1.9 times one", "two threads", "ratio", 1.9, 2.0),
    Must("library of 64 files: 0.9 of a batch of streams", "library of lstm-16", "ratio", 0.9, 1),
)


def verdicts(runs: Sequence[Values]) -> list[dict[str, Any]]:
    """For every must that the results of some runs tell of: what each reached, and if all hold.

    A run has its ``models`` by name and may have ``ratios`` by name.
    """
    found = []
    for must in musts():
        reached = [value for run in runs for value in _of_run(must, run)]
        if reached:
            found.append(
                {
                    **must.__dict__,
                    "reached": reached,
                    "held": all(must.holds(value) for value in reached),
                }
            )
    return found


def _of_run(must: Must, run: Values) -> Iterator[float]:
    if must.kind == "ratio":
        value = run.get("ratios", {}).get(must.case)
    else:
        model = run["models"].get(must.case)
        value = None if model is None else must.reached(model)
    if value is not None:
        yield float(value)


MUST_HEADER = ("row", "must", "reached", "held")


def must_rows(found: Sequence[Values]) -> list[tuple[str, ...]]:
    """A line for each, silence and denormals of all models in one."""
    lines: list[tuple[str, ...]] = []
    for verdict in found:
        if verdict["kind"] != "normal audio":
            reached = ", ".join(_value(verdict, value) for value in verdict["reached"])
            lines.append(
                (verdict["row"], _must(verdict), reached, "yes" if verdict["held"] else "NO")
            )
    for mode in QUIET_MODES:
        of_mode = [v for v in found if v["kind"] == "normal audio" and v["mode"] == mode]
        if of_mode:
            worst = max(of_mode, key=lambda v: median(v["reached"]))
            reached = ", ".join(f"{value:.2f}" for value in worst["reached"])
            failing = ", ".join(v["case"] for v in of_mode if not v["held"])
            lines.append(
                (
                    worst["row"],
                    f"{worst['must']:.1f} times",
                    f"worst of {len(of_mode)} models: {reached} ({worst['case']})",
                    f"NO: {failing}" if failing else "yes",
                )
            )
    return lines


def must_lines(found: Sequence[Values]) -> list[str]:
    """The same as text."""
    return [
        f"must: {row}: {must}, reached {reached}: {'held' if held == 'yes' else held}"
        for row, must, reached, held in must_rows(found)
    ]


def _must(verdict: Values) -> str:
    words = {"floor": " of the floor", "peak": " of the peak"}.get(verdict["kind"], "")
    return _value(verdict, verdict["must"]) + words


def _value(verdict: Values, value: float) -> str:
    return f"{value:.1%}" if verdict["kind"] in ("floor", "peak") else f"{value:.2f}"
