"""``.nam`` files against what the real trainer and NAM Core made of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from nam_documents import PARITY_FILES, PARITY_PAIRS
from programs import run_program
from tolerances import TOLERANCES

from fxfast import exchange
from fxfast.graph import ModelGraph
from fxfast.lowering import lower
from fxfast.native import engine
from fxfast.player import Player


def play(graph: ModelGraph, x: np.ndarray) -> np.ndarray:
    return run_program(lower(graph), x, np.float64, graph.receptive_field)


def test_there_are_eighteen_pairs() -> None:
    assert len(PARITY_PAIRS) == 18


@pytest.mark.parametrize("isa", [name for name, supported in engine().isas() if supported])
@pytest.mark.parametrize(
    ("model", "given", "expected", "slim"), PARITY_PAIRS, ids=[pair[2] for pair in PARITY_PAIRS]
)
def test_parity_from_the_first_sample(
    model: str, given: str, expected: str, slim: float | None, isa: str
) -> None:
    if not PARITY_FILES.exists():
        pytest.skip(f"no parity files in {PARITY_FILES}")
    graph = exchange.load(PARITY_FILES / f"{model}.nam", slim=slim)
    x = np.array(json.loads((PARITY_FILES / f"{given}.json").read_text()))
    y = np.array(json.loads((PARITY_FILES / f"{expected}.json").read_text()))
    tolerance = TOLERANCES["nam_parity"].value
    played = Player(graph, threads=1, isa=isa).render(x.astype(np.float32))
    assert np.abs(played - y).max() < tolerance
    if not graph.is_recurrent:
        assert np.abs(play(graph, x) - y).max() < tolerance


def test_the_model_with_every_option_loads() -> None:
    if not PARITY_FILES.exists():
        pytest.skip(f"no parity files in {PARITY_FILES}")
    graph = exchange.load(PARITY_FILES / "wavenet_a2_max.nam")
    assert graph.parameters > 1052 + 818
    assert graph.metadata["nam"]["unknown"][""]["notes"]
    assert np.isfinite(play(graph, np.ones(200))).all()
