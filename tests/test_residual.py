"""The node that adds its input: checks, lowering, the native file, inspect, no .nam."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from programs import check_program, run_program
from test_exchange_native_nodes import assert_same, make_recurrent
from test_exchange_safetensors import File, refused
from tolerances import TOLERANCES
from wavenet_reference import reference_graph
from wavenets import Options, random_stack, random_wavenet

from fxfast import Player, exchange
from fxfast.cli import main
from fxfast.errors import ModelError
from fxfast.graph import Linear, ModelGraph, Node, Residual, Sequential
from fxfast.lowering import lower
from fxfast.program import AddOp

RATE = 48_000
CHILDREN: dict[str, Callable[[], Node]] = {
    "filter": lambda: Linear(np.array([0.5, -0.25, 2.0], np.float32), 0.5),
    "stack": lambda: random_stack(1, [1, 3, 1], "tanh"),
    "chain": lambda: Sequential((random_stack(2, [1, 2]), random_stack(3, [2, 1]))),
    "wavenet": lambda: random_wavenet(1, [Options()]),
}


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, samples)


@pytest.mark.parametrize("name", list(CHILDREN))
def test_adds_the_input_to_the_child_in_one_operation(name: str) -> None:
    child = ModelGraph(CHILDREN[name](), RATE)
    graph = ModelGraph(Residual(child.root), RATE)
    program, x = lower(graph), noise(150)
    check_program(program)
    assert isinstance(program.ops[-1], AddOp)
    assert len(program.ops) == len(lower(child).ops) + 1
    got = run_program(program, x, np.float64, graph.receptive_field)
    expected = reference_graph(child, x) + x
    assert np.abs(got - expected).max() <= TOLERANCES["lowered_float64"].value * 10
    for what in ("parameters", "macs_per_sample", "receptive_field", "is_recurrent"):
        assert getattr(graph, what) == getattr(child, what)


def test_inside_a_chain_and_around_itself() -> None:
    inner = Residual(random_stack(1, [1, 3, 1], "tanh"))
    doubled = Residual(Sequential((inner, Residual(inner))))
    x = noise(300).astype(np.float32)
    inside = Player(ModelGraph(inner, RATE)).render(x)
    again = Player(ModelGraph(inner, RATE)).render(inside) + inside
    got = Player(ModelGraph(doubled, RATE)).render(x)
    # From rest a stream settles, which the second model played apart does not know of.
    start = ModelGraph(doubled, RATE).receptive_field
    assert np.abs(got - (again + x))[start:].max() <= TOLERANCES["random_graph"].value * 10


def test_around_recurrent_layers() -> None:
    root = make_recurrent("gru", "lstm")
    graph, x = ModelGraph(Residual(root), RATE), noise(500).astype(np.float32)
    assert graph.is_recurrent
    np.testing.assert_array_equal(
        Player(graph).render(x), Player(ModelGraph(root, RATE)).render(x) + x
    )


WIDE = random_stack(1, [1, 2])
DEEP: Node = Linear(np.ones(2, np.float32))
for _ in range(8):
    DEEP = Residual(DEEP)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (Residual(1), "root.child: expected a node, got int"),  # type: ignore[arg-type]
        (Residual(WIDE), "root.child: expected 1 output channel to add the input to, got 2"),
        (Residual(random_stack(1, [2, 1])), "root.child.layers[0].weight: expected 1 input"),
        (DEEP, "root.child.child.child.child.child.child.child.child: expected at most 8 nested"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_named(root: Node, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelGraph(root, RATE)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", list(CHILDREN))
def test_native_file_keeps_every_bit(name: str, tmp_path: Path) -> None:
    graph = ModelGraph(Residual(CHILDREN[name]()), RATE, metadata={"a": 1})
    exchange.save(graph, tmp_path / "m.safetensors")
    found = exchange.load(tmp_path / "m.safetensors")
    assert_same(found.root, graph.root)
    assert found.metadata == graph.metadata
    file = File((tmp_path / "m.safetensors").read_bytes())
    assert file.graph["format_version"] == 2
    assert all(key.startswith("root.child.") for key in file.header if key != "__metadata__")


def test_broken_native_files_are_refused(tmp_path: Path) -> None:
    exchange.save(ModelGraph(Residual(CHILDREN["filter"]()), RATE), tmp_path / "m.safetensors")
    good = (tmp_path / "m.safetensors").read_bytes()
    nested = {"kind": "linear", "bias": 0.0}
    for _ in range(12):
        nested = {"kind": "residual", "child": nested}  # type: ignore[dict-item]
    for root, message in (
        ({"kind": "residual"}, "root: expected 'child', got none"),
        ({"kind": "residual", "child": []}, "root.child: expected an object, got a list"),
        ({"kind": "residual", "child": nested, "skip": True}, "expected only known keys"),
        (nested, "expected at most 8 nested nodes, got more"),
    ):
        file = File(good)
        file.graph["root"] = root
        assert message in refused(file.pack(), tmp_path)


def test_inspect_shows_the_rows_of_the_child(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = Residual(CHILDREN["chain"]())
    exchange.save(ModelGraph(root, RATE), tmp_path / "m.safetensors")
    assert main(["inspect", str(tmp_path / "m.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in found["layers"]]
    assert names == ["child.children[0].layers[0]", "child.children[1].layers[0]"]
    assert found["kind"] == "residual"
    assert sum(row["parameters"] for row in found["layers"]) == root.parameters


def test_nam_has_no_place_for_it(tmp_path: Path) -> None:
    stack = replace(random_stack(1, [1, 3, 1]), skip=False)
    for root, place in ((Residual(stack), "root"), (Sequential((Residual(stack),)), "children[0]")):
        with pytest.raises(ModelError, match=r"for \.nam, got residual") as caught:
            exchange.save(ModelGraph(root, RATE), tmp_path / "m.nam")
        assert place in str(caught.value)
        assert not (tmp_path / "m.nam").exists()
