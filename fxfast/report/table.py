"""A benchmark's figures as tables, made from the JSON values of its result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fxfast.report.engine_ways import ENGINE, QUIET_MODES
from fxfast.report.onnx_way import ENGINE as ONNX
from fxfast.report.torch_ways import COMPILED, EAGER

NOTHING = "-"
BLOCK = 48
_COLUMNS = (EAGER, COMPILED, ONNX)
_HEADERS = {EAGER: "eager", COMPILED: "`torch.compile`", ONNX: ONNX}

Values = Mapping[str, Any]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def models_table(models: Mapping[str, Values]) -> str:
    """A line for each model and number of streams: the engine beside its peers."""
    isas = list(dict.fromkeys(isa for model in models.values() for isa in model["peak_flops"]))
    header = (
        "model",
        *isas[:2],
        *("of the peak", "of the floor", f"in blocks of {BLOCK}"),
        *(_HEADERS[peer] for peer in _COLUMNS),
        *("best other engine", "times the best peer", "error"),
    )
    return markdown(header, [row for name in models for row in _rows(name, models[name], isas)])


def _rows(name: str, model: Values, isas: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for streams in _stream_counts(model):
        ours = _engine(model, _best_isa(model), streams)
        if ours is None:
            continue
        others = [row for row in _peers(model, streams) if row["engine"] not in _COLUMNS]
        best = max(_peers(model, streams), key=_speed, default=None)
        blocks = _engine(model, _best_isa(model), 1, BLOCK) if streams == 1 else None
        # By transforms it does less work than the shares count.
        transformed = model["kind"] == "linear" or ours["share_of_peak"] > 1
        floor = NOTHING if transformed else f"{ours['share_of_floor']:.0%}"
        peak = NOTHING if transformed else f"{ours['share_of_peak']:.0%}"
        yield (
            f"{name}, {streams} streams" if streams > 1 else name,
            *(_realtime(_engine(model, isa, streams)) for isa in isas[:2]),
            peak,
            floor,
            _realtime(blocks),
            *(_realtime(_fastest(model, peer, streams)) for peer in _COLUMNS),
            _other(max(others, key=_speed, default=None)),
            NOTHING if best is None else f"{_speed(ours) / _speed(best):.1f}",
            decibels(ours["error_db"]),
        )


def peers_that_win(models: Mapping[str, Values]) -> list[str]:
    """Every row in which a peer, approximate ones included, is faster than the engine."""
    found = []
    for name, model in models.items():
        for streams in _stream_counts(model):
            ours = _engine(model, _best_isa(model), streams)
            best = max(_peers(model, streams), key=_speed, default=None)
            where = f"{name}, {streams} streams" if streams > 1 else name
            found += _win(where, ours, best)
        stream = [r for r in model["rows"] if r["engine"] != ENGINE and r["block"] == BLOCK]
        best = max(stream, key=_speed, default=None)
        ours = _engine(model, _best_isa(model), 1, BLOCK)
        found += _win(f"{name} in blocks of {BLOCK}", ours, best)
    return found


def _win(where: str, ours: Values | None, best: Values | None) -> list[str]:
    if ours is None or best is None or _speed(best) <= _speed(ours):
        return []
    times = _speed(best) / _speed(ours)
    return [f"{where}: {best['name']}, {times:.2f} times as fast{_accuracy(best)}"]


def comparison_rows(model: Values) -> list[tuple[str, ...]]:
    """Every row of one model: way, speed, spread, shares, error, memory."""
    return [
        (
            row["name"],
            _realtime(row),
            f"{_spread(row['timing']):.1%}",
            f"{row['share_of_peak']:.0%}",
            f"{row['share_of_floor']:.0%}",
            decibels(row["error_db"]),
            _memory(row["memory"]),
        )
        for row in model["rows"]
    ]


COMPARISON_HEADER = (
    *("way", "x real time", "spread", "of the peak", "of the floor", "error", "memory"),
)


def decibels(error_db: float | None) -> str:
    return NOTHING if error_db is None else f"{error_db:.0f} dB"


def _spread(timing: Values) -> float:
    """Half of what lies between the 10th and the 90th percentile, relative to the median."""
    return float((timing["p90"] - timing["p10"]) / (2 * timing["median"]))


def _memory(memory: Values) -> str:
    names = {
        "state_bytes": "state",
        "plan_bytes": "plan",
        "peak_growth_bytes": "run",
        "process_bytes": "process",
    }
    parts = [f"{_size(memory[key])} {text}" for key, text in names.items() if memory.get(key)]
    return ", ".join(parts) or NOTHING


def _size(count: int) -> str:
    return f"{count / 1024:.0f} KiB" if count < 1 << 20 else f"{count / (1 << 20):.1f} MiB"


def _speed(row: Values) -> float:
    return float(row["realtime"])


def _realtime(row: Values | None) -> str:
    if row is None:
        return NOTHING
    digits = 0 if _speed(row) >= 100 else 1
    return f"{_speed(row):,.{digits}f}x"


def _other(row: Values | None) -> str:
    return NOTHING if row is None else f"{_realtime(row)} {row['name']}{_accuracy(row)}"


def _accuracy(row: Values) -> str:
    """What to know of a peer that does not do equal work."""
    if row["error_db"] is None:
        return " (its own audio, error not known)"
    return f" (approximate, {decibels(row['error_db'])})" if row["approximate"] else ""


def _best_isa(model: Values) -> str:
    return str(next(iter(model["peak_flops"])))


def _stream_counts(model: Values) -> list[int]:
    return sorted({row["streams"] for row in model["rows"] if row["engine"] == ENGINE})


def _engine(model: Values, isa: str, streams: int, block: int | None = None) -> Values | None:
    for row in model["rows"]:
        where = (row["engine"], row["isa"], row["streams"], row["block"])
        is_quiet = row["mode"] in QUIET_MODES
        if where == (ENGINE, isa, streams, block) and not is_quiet:
            return row  # type: ignore[no-any-return]
    return None


def _peers(model: Values, streams: int) -> list[Values]:
    """Those of whole audio; a program that plays one stream plays many one after the other."""
    return [
        row
        for row in model["rows"]
        if row["engine"] != ENGINE
        and row["mode"] == "offline"
        and (row["streams"] == streams or row["engine"] not in _COLUMNS)
    ]


def _fastest(model: Values, peer: str, streams: int) -> Values | None:
    found = [row for row in _peers(model, streams) if row["engine"] == peer]
    return max(found, key=_speed, default=None)
