"""What the benchmark's rows have to reach, and how a result file tells it."""

from __future__ import annotations

from typing import Any

import pytest

from fxfast.report import suite
from fxfast.report.engine_ways import ENGINE
from fxfast.report.floor import floor_realtime
from fxfast.report.musts import Must, must_lines, must_rows, musts, verdicts
from fxfast.report.results import with_runs


def row(**values: Any) -> dict[str, Any]:
    plain = {"engine": ENGINE, "isa": "avx512", "mode": "offline", "block": None, "streams": 1}
    return plain | {"realtime": 100.0, "share_of_floor": 0.7, "share_of_peak": 0.5} | values


def run(case: str, *rows: dict[str, Any], **others: Any) -> dict[str, Any]:
    model = {"peak_flops": {"avx512": 2e11, "avx2": 1e11}, "rows": list(rows)}
    return {"models": {case: model}, **others}


def held(found: list[dict[str, Any]]) -> dict[str, bool]:
    return {verdict["row"]: verdict["held"] for verdict in found}


def test_a_must_at_240_is_the_same_share_of_any_floor() -> None:
    must = next(m for m in musts() if m.row.startswith("A1 standard, offline"))
    floor = floor_realtime(suite.graph_of("a1-standard"), 240e9)
    assert must.must == pytest.approx(150 / floor)
    assert must.goal == pytest.approx(180 / floor)
    narrow = next(m for m in musts() if m.isa == "avx2")
    assert narrow.must == pytest.approx(72 / (floor / 2))


def test_every_must_names_a_case_that_measures_it() -> None:
    for must in musts():
        if must.kind == "ratio":
            continue
        case = suite.case_of(must.case)
        assert case is not None, must.row
        assert must.streams in case.streams, must.row
        assert must.block is None or must.block in case.blocks, must.row
        assert must.must <= must.goal or must.kind == "normal audio"


def test_each_row_is_judged_by_its_own_measurement() -> None:
    found = verdicts(
        [
            run(
                "lstm-16",
                row(share_of_floor=0.5),
                row(share_of_floor=0.5, streams=2),
                row(share_of_floor=0.99, streams=32),
                row(share_of_floor=0.01, isa="avx2"),
                row(mode="silence", realtime=95.0),
                row(mode="denormals", realtime=50.0),
            )
        ]
    )
    assert held(found) == {
        "LSTM 1x16, one stream: 500x / 600x": True,
        "LSTM 1x16, two streams: 800x / 950x": False,
        "LSTM 1x16, 32 streams: 1200x / 1600x": True,
        "silence: at most 1.1 times normal audio": True,
        "denormals: at most 1.1 times normal audio": False,
    }


def test_a_must_holds_in_all_runs_or_not() -> None:
    runs = [run("a1-lite", row(share_of_floor=share)) for share in (0.61, 0.59, 0.7)]
    (found,) = [v for v in with_runs(runs)["musts"] if v["kind"] == "floor"]
    assert found["reached"] == [0.61, 0.59, 0.7]
    assert not found["held"]
    assert with_runs(runs[:1])["musts"][0]["held"]
    assert len(with_runs(runs)["further runs"]) == 2


def test_peers_and_ratios() -> None:
    peer = row(engine="scipy", isa=None, realtime=11.0)
    found = verdicts([run("linear-2s", row(realtime=100.0), peer)])
    assert [(v["reached"], v["held"]) for v in found if v["kind"] == "peer"] == [
        ([100 / 11], False)
    ]
    assert verdicts([run("linear-2s", row(realtime=100.0))]) == []  # no peer, no verdict
    (two,) = verdicts([{"models": {}, "ratios": {"two threads": 1.95}}])
    assert two["held"]


def test_what_is_not_measured_is_not_judged() -> None:
    assert verdicts([run("a1-standard", row(isa="portable"))]) == []
    assert verdicts([run("model.nam", row())]) == []


def test_the_rows_of_a_table() -> None:
    found = verdicts(
        [
            run("a1-nano", row(share_of_floor=0.4), row(mode="silence", realtime=80.0)),
            run("a1-nano", row(share_of_floor=0.5), row(mode="silence", realtime=100.0)),
        ]
    )
    assert must_rows(found) == [
        ("A1 nano: 45% / 65% of the floor", "45.0% of the floor", "40.0%, 50.0%", "NO"),
        (
            "silence: at most 1.1 times normal audio",
            "1.1 times",
            "worst of 1 models: 1.25, 1.00 (a1-nano)",
            "NO: a1-nano",
        ),
    ]
    assert must_lines(found)[0].endswith("reached 40.0%, 50.0%: NO")


def test_a_limit_from_above() -> None:
    must = Must("r", "c", "normal audio", 1.1, 1.0)
    assert must.holds(1.1)
    assert not must.holds(1.11)
