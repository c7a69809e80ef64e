"""How figures are taken, and the equal work behind the comparison."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nets import random_graph

from fxfast.native import engine
from fxfast.report.compare import compare, eager_net
from fxfast.report.measure import Timing, machine, multiply_add_peak, rounds


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


def test_every_way_renders_the_same_samples() -> None:
    graph = random_graph([(6, 9, 1, "relu"), (1, 4, 1, "none")])
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)
    isas = tuple(name for name, supported in engine().isas() if supported)
    comparison = compare(graph, audio, isas, count=1, windows_seconds=0.02)
    assert {row.name for row in comparison.rows} == {
        *(f"engine {isa}" for isa in isas),
        *("eager dense", "eager dense, whole file", "eager windows"),
    }
    for row in comparison.rows:
        assert row.error_db < -110, row.name
        assert row.realtime > 0
    assert comparison.ratio("eager dense", "eager dense") == 1.0
    assert torch.get_num_threads() >= 1


def test_the_eager_net_is_the_graph() -> None:
    graph = random_graph([(3, 4, 2, "prelu"), (1, 2, 1, "tanh")], skip=True)
    net = eager_net(graph)
    x = torch.randn(1, 1, 50)
    assert net(x).shape == (1, 1, 50 - graph.receptive_field + 1)
