"""Version 2 of the native file: every node comes back, and nothing else gets in."""

from __future__ import annotations

import copy
import json
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_time import assert_takes_less
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import random_graph
from test_exchange_safetensors import File, load_bytes, make_graph, pack, refused
from wavenets import PRESETS, WEIGHT_KINDS, Options, random_stack, random_wavenet

from fxfast import exchange
from fxfast.errors import ModelError
from fxfast.exchange.safetensors import GRAPH_KEY, MAX_HEADER_BYTES
from fxfast.graph import (
    CELL_GATES,
    FILM_PLACES,
    Linear,
    ModelGraph,
    Node,
    Recurrent,
    RecurrentLayer,
    Sequential,
)

RATE = 44_100
MEBIBYTE = 1 << 20


def make_net() -> Node:
    """Every kind of tensor and every kind of node but the filter."""
    options = Options(
        4, 2, modes=["none", "gated", "blended"], taps=[3, 2, 1], kinds=["prelu", "leaky_hardtanh"],
        secondary_kinds=["leaky_relu"], groups=2, groups_1x1=2, head1x1=4, films=FILM_PLACES,
        head_taps=3, head_dilation=5, head_out=4, groups_mixin=2, film_groups=2,
    )  # fmt: skip
    plain = Options(2, 4, head_bias=False, layer1x1=False, groups_mixin=2, head_out=3)
    condition = Sequential((random_stack(1, [1, 2], "softsign"), random_stack(2, [2, 2])))
    return random_wavenet(
        3, [options, plain], head=[("prelu", 2, 2), ("none", 1, 1)], condition=condition
    )


def make_recurrent(*cells: str) -> Node:
    random, channels, layers = np.random.default_rng(4), 1, []
    for cell in cells:
        rows = CELL_GATES[cell] * 3
        shapes = ((rows, channels), (rows, 3), (rows,), (rows,), (2, 3))
        arrays = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
        layers.append(RecurrentLayer(cell, *arrays))
        channels = 3
    return Sequential((Recurrent(tuple(layers)), random_stack(1, [3, 1])))


def graph_of(root: Node) -> ModelGraph:
    return ModelGraph(root, RATE, metadata={"name": "überdrive", "losses": [0.5, None, {}]})


def assert_same(found: Any, expected: Any, name: str = "root") -> None:
    assert type(found) is type(expected), name
    if is_dataclass(expected):
        for each in fields(expected):
            ours, theirs = getattr(found, each.name), getattr(expected, each.name)
            assert_same(ours, theirs, f"{name}.{each.name}")
    elif isinstance(expected, tuple):
        assert len(found) == len(expected), name
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{name}[{index}]")
    elif isinstance(expected, dict):
        assert list(found) == list(expected), name
        for key in expected:
            assert_same(found[key], expected[key], f"{name}.{key}")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == np.float32, name
        assert found.shape == expected.shape, name
        assert found.tobytes() == expected.tobytes(), name
    else:
        assert found == expected, name


ROOTS: dict[str, Callable[[], Node]] = {
    "every option": make_net,
    "filter": lambda: Linear(np.arange(1, 7, dtype=np.float32)[::-1], 0.1),
    "chain": lambda: Sequential((Linear(np.ones(3, np.float32)), random_stack(1, [1, 2, 1]))),
    "stack": lambda: random_stack(1, [1, 3, 1], "silu"),
    "recurrent": lambda: make_recurrent("gru", "lstm"),
    "skip": lambda: replace(random_stack(1, [1, 3, 1], "hardswish"), skip=True),
    **{f"with {kind}": (lambda kind=kind: random_wavenet(1, [Options(kinds=[kind])]))
       for kind in WEIGHT_KINDS},
    **{f"preset {name}": PRESETS[name] for name in ("standard", "a2-full")},
}  # fmt: skip


@pytest.mark.parametrize("name", list(ROOTS))
def test_round_trip_keeps_every_bit(name: str, tmp_path: Path) -> None:
    graph = graph_of(ROOTS[name]())
    for file in ("a.safetensors", "b.safetensors"):
        exchange.save(graph, tmp_path / file)
    found = exchange.load(tmp_path / "a.safetensors")
    assert (found.sample_rate, found.metadata) == (graph.sample_rate, graph.metadata)
    assert_same(found.root, graph.root)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert File((tmp_path / "a.safetensors").read_bytes()).graph["format_version"] == 2


def test_a_plain_stack_stays_version_1(tmp_path: Path) -> None:
    for graph in (make_graph(), random_graph([(2, 3, 1, "tanh"), (1, 1, 1, "none")])):
        exchange.save(graph, tmp_path / "m.safetensors")
        assert File((tmp_path / "m.safetensors").read_bytes()).graph["format_version"] == 1


def test_the_weights_have_the_names_of_the_fields(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    net = make_net()
    exchange.save(graph_of(net), tmp_path / "m.safetensors")
    weights = load_file(tmp_path / "m.safetensors")
    layer = net.arrays[0].layers[1]
    for name, array in (
        ("conv_weight", layer.conv_weight),
        ("secondary.slopes", layer.secondary.slopes),
        ("films.conv_pre_film.bias", layer.films["conv_pre_film"].bias),
    ):
        assert weights[f"root.arrays.0.layers.1.{name}"].tobytes() == array.tobytes()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    exchange.save(graph_of(make_net()), path)
    return path.read_bytes()


def test_every_truncation_is_refused(good: bytes, tmp_path: Path) -> None:
    for end in {0, 8, 9, len(good) - 1, *range(0, len(good), 211)}:
        refused(good[:end], tmp_path)
    assert "file size: expected" in refused(good + b"\0", tmp_path)


Edit = tuple[tuple[Any, ...], Any, str]
LAYER = ("root", "arrays", 0, "layers", 1)
NESTED: dict[str, Any] = {"kind": "linear", "bias": 0.0}
for _ in range(12):
    NESTED = {"kind": "sequential", "children": [NESTED]}
# Where in the graph, what is put there, and the message. The net has 3 layers of 4 channels.
EDITS: list[Edit] = [
    (("skip",), False, "fxfast.graph: expected only known keys, got 'skip'"),
    (("sample_rate",), 0, "sample_rate: expected an integer from 1 to 1000000, got 0"),
    (("metadata",), [], "metadata: expected an object, got a list"),
    (("root",), [], "root: expected an object, got a list"),
    (("root",), {}, "root.kind: expected one of conv_stack, wavenet, sequential, linear"),
    (("root",), NESTED, "expected at most 8 nested nodes, got more"),
    (("root", "kind"), "lstm\n", "root.kind: expected one of conv_stack, wavenet"),
    (("root", "kind"), 1 << 1000, "root.kind: expected one of conv_stack, wavenet, sequential, li"),
    (("root", "kind"), [], "root.kind: expected one of conv_stack, wavenet"),
    (("root", "more"), 1, "root: expected only known keys, got 'more'"),
    (("root", "head_scale"), 1, "root.head_scale: expected a number with a point, got 1"),
    (("root", "head_scale"), 1e300, "root.head_scale: expected a finite float, got inf"),
    (("root", "head_scale"), "x" * 999, "root.head_scale: expected a number with a point, got 'xx"),
    (("root", "condition"), 1, "root.condition: expected an object, got 1"),
    (("root", "arrays"), {}, "root.arrays: expected a list of at most 1024, got an object"),
    (("root", "arrays"), [0] * 1025, "root.arrays: expected a list of at most 1024, got 1025"),
    (("root", "arrays"), [], "root.arrays: expected 1 to 1024, got 0"),
    (("root", "arrays", 0), None, "root.arrays[0]: expected an object, got None"),
    (("root", "arrays", 1, "layers"), [], "root.arrays[1].layers: expected 1 to 1024, got 0"),
    (("root", "arrays", 1, "head_dilation"), 0, "arrays[1].head_dilation: expected an integer"),
    (("root", "arrays", 0, "head_dilation"), 1 << 23, "receptive field: expected at most"),
    (("root", "arrays", 1, "head_bias"), True, "expected 'root.arrays.1.head_bias', got none"),
    (("root", "head", 0, "bias"), False, "expected only known keys, got 'root.head.0.bias'"),
    (("root", "head", 0, "bias"), 0, "root.head[0].bias: expected true or false, got 0"),
    (("root", "head", 0, "activation"), "gelu", "root.head[0].activation: expected one of none"),
    ((*LAYER, "dilation"), 0, "root.arrays[0].layers[1].dilation: expected an integer from 1"),
    ((*LAYER, "dilation"), 1 << 24, "receptive field: expected at most 16777216 samples, got"),
    ((*LAYER, "groups"), 3, "layers[1].conv_weight groups: expected a divisor of 4 input and"),
    ((*LAYER, "groups"), 4, "layers[1].conv_weight: expected 1 input channels per group, got"),
    ((*LAYER, "groups"), True, "layers[1].groups: expected an integer from 1 to 4096, got True"),
    ((*LAYER, "groups_mixin"), 1, "layers[1].mixin_weight: expected 2 input channels, got"),
    ((*LAYER, "mode"), "x", "layers[1].mode: expected one of none, gated, blended, got 'x'"),
    ((*LAYER, "mode"), "none", "layers[1].secondary: expected none in mode none, got some"),
    ((*LAYER, "secondary"), None, "layers[1].secondary: expected an Activation in mode gated"),
    ((*LAYER, "activation"), "prelu", "expected 'root.arrays.0.layers.1.activation.slopes', got"),
    ((*LAYER, "bias"), False, "tensors: expected only known keys, got 'root.arrays.0.layers.1.co"),
    ((*LAYER, "layer1x1"), [], "layers[1].layer1x1: expected an object, got a list"),
    ((*LAYER, "layer1x1"), None, "layers[1].films: expected keys among conv_pre_film"),
    ((*LAYER, "layer1x1", "groups"), 4, "layers[1].layer1x1.weight groups: expected a divisor of"),
    ((*LAYER, "films"), [], "layers[1].films: expected an object, got a list"),
    ((*LAYER, "films", "x\ny"), {}, "layers[1].films key: expected one of conv_pre_film"),
    ((*LAYER, "films", "conv_pre_film"), None, "films.conv_pre_film: expected an object, got None"),
    ((*LAYER, "films", "conv_pre_film", "groups"), 1, "conv_pre_film.weight: expected 2 input"),
    (("root", "condition", "children"), [], "root.condition.children: expected 1 to 1024, got 0"),
    (("root", "condition", "children", 0, "skip"), 1, "skip: expected true or false, got 1"),
    (("root", "condition", "children", 0, "skip"), True, "expected 1 output channels for the skip"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), EDITS, ids=lambda v: str(v)[:60])
def test_broken_graph(
    good: bytes, tmp_path: Path, path: tuple[Any, ...], value: Any, message: str
) -> None:
    file = File(good)
    place = file.graph
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert message in refused(file.pack(), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "root.children[0].layers[0].cell: expected one of lstm, gru, got 'rnn'"),
        ({"cell": "gru"}, "root.children[0].layers[0].weight_hh: expected shape (9, 3), got (12,"),
        ({"units": 3}, "root.children[0].layers[0]: expected only known keys, got 'units'"),
    ],
)
def test_broken_recurrent_layer(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = File(_saved(make_recurrent("lstm")))
    file.graph["root"]["children"][0]["layers"][0].update(change)
    assert message in refused(file.pack(), tmp_path)


def test_every_missing_key_and_tensor_is_named(good: bytes, tmp_path: Path) -> None:
    def without_each(value: Any) -> Any:
        if isinstance(value, dict):
            for key in value.keys() - {"head_dilation"}:  # 1 where it is missing
                kept = value.pop(key)
                yield key
                value[key] = kept
                yield from without_each(kept)
        elif isinstance(value, list):
            for item in value[:1]:
                yield from without_each(item)

    file = File(good)
    for key in without_each(file.graph["root"]):
        message = refused(file.pack(), tmp_path)
        assert repr(key) in message or "kind" in message or "only known keys" in message
    for name in [name for name in file.header if name != "__metadata__"]:
        entry = file.header.pop(name)
        assert f"tensors: expected {name!r}, got none" in refused(file.pack(), tmp_path)
        file.header[name] = entry


TENSOR = "root.arrays.0.layers.1.conv_weight"
SIZES = "expected 3 sizes of at least 1 with a product of at most 67108864, got"
TENSOR_EDITS: list[tuple[str, Any, str]] = [
    ("dtype", "F64", f"{TENSOR}.dtype: expected 'F32', got 'F64'"),
    ("shape", [4, 2], f"{TENSOR}.shape: {SIZES} [4, 2]"),
    ("shape", [4, 2, True], f"{TENSOR}.shape: {SIZES} a list"),
    ("shape", [4, 0, 2], f"{TENSOR}.shape: {SIZES} [4, 0, 2]"),
    ("shape", [-4, -2, 2], f"{TENSOR}.shape: {SIZES} [-4, -2, 2]"),
    ("shape", [1 << 40, 1 << 40, 2], f"{TENSOR}.shape: {SIZES} [1099511627776, 1099511627776, 2]"),
    ("shape", "422", f"{TENSOR}.shape: {SIZES} '422'"),
    ("shape", [2, 4, 2], "layers[1].conv_weight: expected 2 input channels per group, got"),
    ("data_offsets", [0, 64], f"{TENSOR}.data_offsets: expected to begin at"),
    ("data_offsets", [-64, 0], "data_offsets: expected to begin at"),
    ("data_offsets", [0, 60], f"{TENSOR}.data_offsets: expected 64 bytes, got [0, 60]"),
    ("data_offsets", [0.0, 64.0], f"{TENSOR}.data_offsets: expected two integers"),
    ("more", 1, f"{TENSOR}: expected only known keys, got 'more'"),
]


@pytest.mark.parametrize(("key", "value", "message"), TENSOR_EDITS)
def test_broken_tensor(good: bytes, tmp_path: Path, key: str, value: Any, message: str) -> None:
    file = File(good)
    assert file.header[TENSOR]["shape"] == [4, 2, 2]
    file.header[TENSOR][key] = value
    found = refused(file.pack(), tmp_path)
    # Which of two tensors is named that want the same bytes depends on the order.
    anywhere = message.endswith("begin at") and "data_offsets: expected to begin at" in found
    assert message in found or anywhere


def test_two_tensors_cannot_share_bytes(good: bytes, tmp_path: Path) -> None:
    file = File(good)
    other = TENSOR.replace("layers.1", "layers.2").replace("conv_weight", "layer1x1.bias")
    file.header[other]["data_offsets"] = list(
        file.header[TENSOR.replace("conv_weight", "layer1x1.bias")]["data_offsets"]
    )
    assert "data_offsets: expected to begin at" in refused(file.pack(), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_weights_must_be_finite(good: bytes, tmp_path: Path, value: float) -> None:
    file = File(good)
    begin = file.header[TENSOR]["data_offsets"][0]
    file.data = file.data[:begin] + np.float32(value).tobytes() + file.data[begin + 4 :]
    message = refused(file.pack(), tmp_path)
    assert "root.arrays[0].layers[1].conv_weight[0, 0, 0]: expected finite values" in message


def _file(root: Any, tensors: dict[str, list[int]]) -> bytes:
    graph = {"format_version": 2, "sample_rate": 1, "root": root, "metadata": {}}
    header: dict[str, Any] = {"__metadata__": {GRAPH_KEY: json.dumps(graph)}}
    end = 0
    for name, shape in tensors.items():
        begin, end = end, end + 4 * int(np.prod(shape, dtype=object))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    return pack(header, b"\0" * 64)


def _claims() -> dict[str, bytes]:
    """Files of some bytes that announce as much as a header can."""
    linear = {"kind": "linear", "bias": 0.0}
    layer = copy.deepcopy(File(_saved(random_wavenet(1, [Options()]))).graph["root"])
    layer["arrays"][0]["layers"] = layer["arrays"][0]["layers"][:1] * 1024
    layer["arrays"] = layer["arrays"] * 5
    wide = {"kind": "conv_stack", "skip": False, "layers": []}
    wide["layers"] = [{"dilation": 1, "bias": False, "activation": "none"}] * 1024
    shapes = [[4096, 1, 1], *[[4096, 4096, 4]] * 1022, [1, 4096, 1]]
    weights = {f"root.layers.{i}.weight": shape for i, shape in enumerate(shapes)}
    many = {"kind": "sequential", "children": [linear] * 1024}
    many = {"kind": "sequential", "children": [many] * 20}
    taps = {f"root.children.{i}.children.{j}.taps": [1] for i in range(5) for j in range(1024)}
    return {
        "one large filter": _file(linear, {"root.taps": [1 << 24]}),
        "wide layers": _file(wide, weights),
        "layers without end": _file(layer, {}),
        "chains of chains": _file(many, taps),
        "unknown tensors": _file(linear, {str(n): [1] for n in range(12_000)}),
        "items": _file({"kind": "linear", "bias": [[]] * 90_000}, {"root.taps": [1]}),
    }


def _saved(root: Node) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        exchange.save(graph_of(root), Path(folder) / "m.safetensors")
        return (Path(folder) / "m.safetensors").read_bytes()


@pytest.mark.parametrize("name", list(_claims()))
def test_claims_cost_little(name: str, tmp_path: Path) -> None:
    content = _claims()[name]
    assert len(content) < MAX_HEADER_BYTES
    assert_takes_less(0.2, lambda: refused(content, tmp_path), name)
    tracemalloc.start()
    try:
        refused(content, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5 * MEBIBYTE + 10 * len(content)
    finally:
        tracemalloc.stop()


@settings(max_examples=300)
@given(data=st.data())
def test_changed_bytes_raise_model_error_or_load_a_valid_graph(
    good: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(good)
    header_end = 8 + struct.unpack("<Q", good[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        limit = data.draw(st.sampled_from([8, header_end, len(good)]))
        position = data.draw(st.integers(0, limit - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    folder = Path(tmp_path_factory.getbasetemp())
    try:
        graph = load_bytes(bytes(content), folder)
    except ModelError as error:
        message = str(error)
    else:
        assert isinstance(graph, ModelGraph)
        return
    assert message.startswith(f"{folder / 'x.safetensors'}: ")
    assert "\n" not in message


def test_save_refuses_what_no_header_can_hold(tmp_path: Path) -> None:
    films = Options(1, taps=[1] * 900, films=FILM_PLACES, head1x1=1)
    graph = graph_of(random_wavenet(1, [films]))
    with pytest.raises(ModelError, match="header: expected at most 100000 commas and brackets"):
        exchange.save(graph, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []
