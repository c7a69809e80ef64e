"""How figures are taken, the floor, and the equal work behind the comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import random_graph

from fxfast import models
from fxfast.graph import Linear, ModelGraph
from fxfast.native import engine
from fxfast.report import suite
from fxfast.report.compare import Comparison, Options, compare, eager_net
from fxfast.report.floor import activation_values, floor_multiply_adds, floor_realtime
from fxfast.report.measure import (
    Timing,
    machine,
    multiply_add_peak,
    peak_growth_bytes,
    rounds,
    run_length,
)
from fxfast.report.ways import Budget, Way, relative_db, row_of, streams_of


def test_rounds_take_all_figures_in_turn() -> None:
    calls: list[str] = []

    def note(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    done: list[tuple[int, int]] = []
    taken = rounds(
        {"a": lambda: note("a"), "b": lambda: note("b")},
        2,
        on_round=lambda i, n: done.append((i, n)),
    )
    assert calls == ["a", "b"] * 3  # a warm-up and two rounds
    assert taken == {"a": [3.0, 5.0], "b": [4.0, 6.0]}
    assert done == [(0, 2), (1, 2)]


def test_timing_is_the_median_and_its_spread() -> None:
    timing = Timing.of([3.0, 1.0, 2.0, 100.0, 2.5])
    assert timing.median == 2.5
    assert timing.p10 == pytest.approx(1.4)
    assert timing.runs == 5


@pytest.mark.parametrize(
    ("seconds_per_sample", "limit", "expected"),
    [
        (1e-5, 100_000, 6000),
        (1e-9, 100_000, 100_000),  # all of the audio
        (1e-5, 100, 100),  # less audio than the search begins with
        (1.0, 100_000, 256),  # slow: no less than that
    ],
)
def test_the_length_of_a_run(seconds_per_sample: float, limit: int, expected: int) -> None:
    found = run_length(lambda samples: samples * seconds_per_sample, limit, 0.06)
    assert found == pytest.approx(expected, rel=0.01)


def test_the_peak_of_memory_is_that_of_the_work() -> None:
    def work() -> None:
        np.ones(40 << 20, np.uint8)

    growth = peak_growth_bytes(work)
    if growth is None:
        pytest.skip("this system does not tell the peak of memory")
    assert 39 << 20 <= growth < 80 << 20


def test_wider_vectors_have_a_higher_peak() -> None:
    names = [name for name, supported in engine().isas() if supported]
    peaks = [multiply_add_peak(name, 0.02) for name in names]
    assert min(peaks) > 1e8
    assert peaks[0] > 2 * peaks[-1]  # the best against the scalar reference


def test_machine_names_what_was_measured() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["commit"] != ""
    assert "reference" in found["instruction sets"]


# --- the floor ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "multiply_adds", "tanh", "relu"),
    [
        ("a1-standard", 13320, 10 * 16 + 10 * 8, 0),
        ("a1-nano", 732, 7 * 4 + 13 * 2, 0),
        ("a1-wide", 44472, 10 * 32 + 10 * 8, 0),
        ("a2-full", 11776, 0, 23 * 8),
        ("conv-64-32", 64 * 33 + 64 * 32 * 17 + 32 * 16, 0, 64 + 32),
        ("lstm-16", 4 * 16 * 17 + 16, 5 * 16, 0),
        ("lstm-2x16", 4 * 16 * (17 + 32) + 16, 2 * 5 * 16, 0),
        ("gru-16", 3 * 16 * 17 + 16, 3 * 16, 0),
        ("linear-2s", 96_000, 0, 0),
    ],
)
def test_the_floor_counts_multiply_adds_and_activations(
    name: str, multiply_adds: int, tanh: int, relu: int
) -> None:
    graph = suite.graph_of(name)
    assert graph.macs_per_sample == multiply_adds
    assert activation_values(graph) == {"tanh": tanh, "relu": relu}
    assert floor_multiply_adds(graph) == multiply_adds + 10 * tanh + relu


def test_the_floor_of_a1_standard_by_hand() -> None:
    # 13320 / 16 + 240 / 16 * 10 = 982.5 instructions of 16 lanes, at 240e9 / 32 a second.
    expected = 240e9 / 32 / 982.5 / 48_000
    assert floor_realtime(suite.graph_of("a1-standard"), 240e9) == pytest.approx(expected)
    assert expected == pytest.approx(159.0, abs=0.1)


def test_the_floor_of_mixed_activations() -> None:
    graph = random_graph([(6, 9, 1, "relu"), (4, 3, 1, "tanh"), (1, 4, 1, "none")])
    assert activation_values(graph) == {"tanh": 4, "relu": 6}


def test_the_suite_covers_every_preset_but_makes_no_other_twice() -> None:
    cases = [case.name for case in suite.SUITE]
    assert len(set(cases)) == len(cases)
    assert set(models.presets()) <= set(cases)
    assert set(suite.names()) == set(cases)


def test_a_large_case_is_measured_in_few_ways() -> None:
    options = Options(("a", "b"), ("c",))
    large = next(case for case in suite.SUITE if case.large)
    found = suite.options_of(large, options)
    assert (found.isas, found.offline_isas, found.peers) == (("a",), (), ("eager",))
    plain = suite.options_of(suite.Case("lstm-16", (1, 32)), options)
    assert (plain.isas, plain.streams) == (("a", "b"), (1, 32))
    assert "compile" not in plain.peers


# --- ways ---------------------------------------------------------------------------


def test_streams_begin_at_different_places() -> None:
    audio = np.arange(6, dtype=np.float32)
    assert np.array_equal(
        streams_of(audio, 3, 4), np.array([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 0, 1]])
    )
    assert np.array_equal(streams_of(audio, 1, 8)[0], [0, 1, 2, 3, 4, 5, 0, 1])


def test_the_fastest_chunk_is_chosen_and_slow_ones_are_not_tried() -> None:
    tried: list[int] = []

    def run(chunk: int) -> float:
        tried.append(chunk)
        return {1: 1.0, 2: 1.5, 4: 4.0, 8: 100.0, 16: 1.0}[chunk]

    assert Budget(1.0, 100, 1).one_of((1, 2, 4, 8, 16), run) == 2
    assert set(tried) == {1, 2, 4, 8}


def test_a_row_counts_all_streams() -> None:
    way = Way("w", "e", lambda n: 0.5, 100, np.ones(3, np.float32), streams=4)
    row = row_of(way, [0.5, 0.5], 10, 1000, np.ones(3))
    assert row.audio_seconds == 0.4
    assert row.realtime == pytest.approx(0.8)
    assert row.useful_flops == pytest.approx(2 * 10 * 400 / 0.5)
    assert row.error_db == -300
    assert not row.is_approximate


def test_the_error_is_relative_and_marks_what_is_approximate() -> None:
    truth = np.full(100, 0.5)
    assert relative_db((truth * 1.01).astype(np.float32), truth) == pytest.approx(-40, abs=0.01)
    way = Way("w", "e", lambda n: 0.5, 100, (truth * 1.01).astype(np.float32))
    assert row_of(way, [0.5], 10, 1000, truth).is_approximate
    unknown = Way("w", "e", lambda n: 0.5, 100)
    assert row_of(unknown, [0.5], 10, 1000, truth).error_db is None


# --- the comparison -----------------------------------------------------------------


def short_comparison(graph: ModelGraph, **options: object) -> Comparison:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
    chosen = {"rounds": 1, "target_seconds": 0.002, "peers": ("eager",), "blocks": (48,)}
    isas = tuple(name for name, supported in engine().isas() if supported)
    return compare(graph, audio, Options(**{"isas": isas, **chosen, **options}))  # type: ignore[arg-type]


def test_every_way_renders_the_same_samples() -> None:
    graph = random_graph([(6, 9, 1, "relu"), (1, 4, 1, "none")])
    isas = tuple(name for name, supported in engine().isas() if supported)
    comparison = short_comparison(graph, streams=(1, 3), windows_seconds=0.02)
    ours = {f"engine {isa}{kind}" for isa in isas for kind in ("", ", 3 streams", ", blocks of 48")}
    eager = {"eager dense", "eager dense, 3 streams", "eager dense, whole file", "eager windows"}
    assert {row.name for row in comparison.rows} == ours | eager
    for row in comparison.rows:
        assert row.error_db is not None
        assert row.error_db < -110, row.name
        assert row.realtime > 0
    assert comparison.ratio("eager dense", "eager dense") == 1.0
    assert comparison.eager_chunk is not None
    assert torch.get_num_threads() >= 1


def test_some_instruction_sets_render_whole_audio_only() -> None:
    graph = random_graph([(2, 3, 1, "none"), (1, 1, 1, "none")])
    comparison = short_comparison(graph, isas=("portable",), offline_isas=("reference",), peers=())
    assert [row.name for row in comparison.rows] == [
        *("engine portable", "engine portable, blocks of 48", "engine reference")
    ]


def test_a_recurrent_model_beside_eager_layers() -> None:
    graph = suite.graph_of("lstm-2x8")
    comparison = short_comparison(graph, isas=("portable",), streams=(1, 2))
    assert [
        row.error_db for row in comparison.rows if not row.error_db or row.error_db > -110
    ] == []
    assert {row.streams for row in comparison.rows if row.engine == "PyTorch eager"} == {1, 2}


def test_an_impulse_response_beside_scipy() -> None:
    taps = np.random.default_rng(1).standard_normal(300).astype(np.float32) / 30
    comparison = short_comparison(
        ModelGraph(Linear(taps, 0.25), 48_000), isas=("portable",), peers=("eager", "scipy")
    )
    assert comparison.row("scipy oaconvolve").error_db < -110  # type: ignore[operator]
    assert comparison.row("engine portable").error_db < -110  # type: ignore[operator]
    eager = next(row for row in comparison.rows if row.engine == "PyTorch eager")
    assert eager.error_db < -110  # type: ignore[operator]
    assert not comparison.skipped


def test_the_json_of_a_comparison() -> None:
    graph = random_graph([(2, 3, 1, "tanh"), (1, 1, 1, "none")])
    found = short_comparison(graph, isas=("portable",)).to_json()
    assert set(found) == {
        *("kind", "sample_rate_hz", "parameters", "multiply_adds_per_sample"),
        *("activation_values_per_sample", "receptive_field_samples", "audio_seconds"),
        *("error_against", "peak_flops", "floor_realtime", "eager_chunk_samples"),
        *("rows", "skipped"),
    }
    for row in found["rows"]:
        assert set(row) == {
            *("name", "engine", "isa", "mode", "block", "streams", "audio_seconds", "timing"),
            *("realtime", "useful_flops", "error_db", "memory", "note", "approximate"),
            *("share_of_peak", "share_of_floor"),
        }
    ours = found["rows"][0]
    floor = found["floor_realtime"]["portable"]
    assert ours["share_of_floor"] == pytest.approx(ours["realtime"] / floor)
    assert ours["memory"]["state_bytes"] > 0
    assert ours["memory"]["plan_bytes"] > 0


def test_the_eager_net_is_the_graph() -> None:
    graph = random_graph([(3, 4, 2, "prelu"), (1, 2, 1, "tanh")], skip=True)
    net = eager_net(graph)
    x = torch.randn(1, 1, 50)
    assert net(x).shape == (1, 1, 50 - graph.receptive_field + 1)
