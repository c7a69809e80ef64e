"""The native model file: what is saved is loaded again, and nothing else gets in."""

from __future__ import annotations

import json
import os
import pickle
import stat
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_time import assert_takes_less
from hypothesis import given, settings
from hypothesis import strategies as st

from fxfast import exchange
from fxfast.errors import ModelError
from fxfast.exchange import bounded_json
from fxfast.exchange.safetensors import GRAPH_KEY, MAX_HEADER_BYTES
from fxfast.graph import MAX_LAYERS, Activation, ConvLayer, ModelGraph

MEBIBYTE = 1 << 20


def make_graph() -> ModelGraph:
    """Every kind of tensor: with and without bias, per-channel and single slopes."""
    random = np.random.default_rng(7)

    def values(*shape: int) -> np.ndarray:
        return random.standard_normal(shape, dtype=np.float32)

    layers = (
        ConvLayer(values(3, 1, 4), values(3), 2, Activation("prelu", values(3))),
        ConvLayer(values(2, 3, 2), None, 1, Activation("leaky_relu", values(1))),
        ConvLayer(values(1, 2, 1), values(1), 1, Activation("tanh")),
    )
    return ModelGraph(layers, 44_100, True, {"name": "überdrive", "losses": [0.5, None, {}]})


def assert_same_graph(found: ModelGraph, expected: ModelGraph) -> None:
    assert (found.sample_rate, found.skip) == (expected.sample_rate, expected.skip)
    assert found.metadata == expected.metadata
    assert len(found.layers) == len(expected.layers)
    for a, b in zip(found.layers, expected.layers, strict=True):
        assert (a.dilation, a.activation.kind) == (b.dilation, b.activation.kind)
        for one, other in (
            (a.weight, b.weight),
            (a.bias, b.bias),
            (a.activation.slopes, b.activation.slopes),
        ):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert one.dtype == np.float32
                assert one.tobytes() == other.tobytes()
                assert one.shape == other.shape


def pack(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


class File:
    """A good file, taken apart so that a test can break one thing."""

    def __init__(self, content: bytes) -> None:
        length = struct.unpack("<Q", content[:8])[0]
        self.header = json.loads(content[8 : 8 + length])
        self.graph = json.loads(self.header["__metadata__"][GRAPH_KEY])
        self.data = content[8 + length :]

    def pack(self) -> bytes:
        self.header["__metadata__"][GRAPH_KEY] = json.dumps(self.graph)
        return pack(self.header, self.data)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    exchange.save(make_graph(), path)
    return path.read_bytes()


def load_bytes(content: bytes, folder: Path) -> ModelGraph:
    path = folder / "x.safetensors"
    path.write_bytes(content)
    return exchange.load(path)


def refused(content: bytes, folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_bytes(content, folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'x.safetensors'}: ")
    assert "\n" not in message
    assert len(message) < 400 + len(str(folder))
    return message


# --- what is saved comes back ----------------------------------------------------


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    graph = make_graph()
    exchange.save(graph, tmp_path / "a.safetensors")
    exchange.save(graph, tmp_path / "b.safetensors")
    assert_same_graph(exchange.load(tmp_path / "a.safetensors"), graph)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "b.safetensors"]


def test_loads_the_model_of_a_run_directory(tmp_path: Path) -> None:
    exchange.save(make_graph(), tmp_path / exchange.MODEL_FILE)
    assert_same_graph(exchange.load(str(tmp_path)), make_graph())


def test_other_safetensors_readers_see_the_weights(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    exchange.save(make_graph(), tmp_path / "m.safetensors")
    weights = load_file(tmp_path / "m.safetensors")
    assert weights["layers.0.weight"].tobytes() == make_graph().layers[0].weight.tobytes()


def test_largest_number_of_layers_and_strided_weights(tmp_path: Path) -> None:
    strided = np.ones((4, 2, 2), np.float32)[::4, ::2, ::-2]
    layers = [ConvLayer(strided) for _ in range(MAX_LAYERS)]
    exchange.save(ModelGraph(tuple(layers), 48_000), tmp_path / "m.safetensors")
    assert len(exchange.load(tmp_path / "m.safetensors").layers) == MAX_LAYERS


def test_save_replaces_a_file_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")
    exchange.save(make_graph(), path)
    assert_same_graph(exchange.load(path), make_graph())
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_failed_save_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(ModelError, match=r"m\.safetensors: No space left on device"):
        exchange.save(make_graph(), path)
    assert os.listdir(tmp_path) == ["m.safetensors"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"esr": float("nan")}, r"metadata\.esr: expected finite numbers, got nan"),
        ({"esr": np.float32(1)}, r"metadata\.esr: expected JSON values, got float32"),
        ({"a": [1, {2: 3}]}, r"metadata\.a\[1\]: expected text keys, got 2"),
        ({"a\nb": object()}, r"metadata\.'a\\nb': expected JSON values, got object"),
        ({"n": 1 << 2000}, r"metadata\.n: expected integers of at most 1024 bits, got .* 2001"),
        (["no", "object"], r"metadata: expected an object, got a list"),
        ({"text": "x" * MAX_HEADER_BYTES}, r"metadata: expected a file header of at most"),
        ({"many": [0] * 300_000}, r"expected at most 100000 commas and brackets"),
    ],
)
def test_save_refuses_metadata_that_load_would_not_give_back(
    tmp_path: Path, metadata: Any, message: str
) -> None:
    layer = ConvLayer(np.ones((1, 1, 1), np.float32))
    with pytest.raises(ModelError, match=message):
        exchange.save(ModelGraph((layer,), 48_000, metadata=metadata), tmp_path / "m.safetensors")
    assert os.listdir(tmp_path) == []


def test_save_refuses_endless_metadata(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    graph = ModelGraph((ConvLayer(np.ones((1, 1, 1), np.float32)),), 48_000, metadata=endless)
    with pytest.raises(ModelError, match="expected at most 64 levels"):
        exchange.save(graph, tmp_path / "m.safetensors")


def test_save_into_a_missing_folder_or_onto_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file or directory"):
        exchange.save(make_graph(), tmp_path / "none" / "m.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match="folder: Is a directory"):
        exchange.save(make_graph(), tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


# --- paths that are no model file --------------------------------------------------


def test_missing_file_and_folder_without_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.safetensors: No such file"):
        exchange.load(tmp_path / "none.safetensors")
    with pytest.raises(ModelError, match=r"run directory with model\.safetensors, got a directory"):
        exchange.load(tmp_path)
    with pytest.raises(ModelError, match="expected no NUL"):
        exchange.load("a\0b")


def test_pipe_and_device_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    for path in (tmp_path / "pipe.safetensors", Path("/dev/zero")):
        with pytest.raises(ModelError, match="expected a regular file, got a directory, pipe or"):
            exchange.load(path)


def test_pickle_is_not_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Attack:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(canary),)

    refused(pickle.dumps(Attack()), tmp_path)
    assert not canary.exists()


# --- damaged and hostile content ---------------------------------------------------


def test_every_truncation_is_refused(good: bytes, tmp_path: Path) -> None:
    ends = {0, 1, 7, 8, 9, 10, len(good) - 1, *range(0, len(good), 37)}
    for end in sorted(ends):
        refused(good[:end], tmp_path)


def test_appended_bytes_are_refused(good: bytes, tmp_path: Path) -> None:
    assert "file size: expected" in refused(good + b"\0", tmp_path)


@pytest.mark.parametrize("length", [0, 1, 1 << 24, (1 << 24) + 1, 1 << 31, 1 << 40, (1 << 64) - 1])
def test_header_length_out_of_the_file(good: bytes, tmp_path: Path, length: int) -> None:
    message = refused(struct.pack("<Q", length) + good[8:], tmp_path)
    assert f"header length: expected 2 to {len(good) - 8} bytes, got {length}" in message


def test_sparse_file_beyond_the_largest_model(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ModelError, match="file size: expected 10 to 286"):
        exchange.load(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "header: expected a JSON object, got a list"),
        (b"12", "header: expected a JSON object, got 12"),
        (b"{]", "header: expected JSON, got an error"),
        (b"\xff\xfe{}", "header: expected UTF-8 JSON"),
        (b"{}", "__metadata__: expected the text 'fxfast.graph'"),
        (b'{"__metadata__": {}}', "__metadata__: expected the text 'fxfast.graph'"),
        (b'{"__metadata__": {"fxfast.graph": 1}}', "expected the text 'fxfast.graph'"),
        (b'{"__metadata__": {"fxfast.graph": "[]"}}', "fxfast.graph: expected a JSON object"),
        (b'{"a": NaN}', "header: expected finite numbers, got NaN"),
        (b'{"a": -Infinity}', "header: expected finite numbers, got -Infinity"),
        (b'{"a": {"b": 1, "b": 2}}', "header: expected each key once, got 'b' twice"),
        (b"[" * 100_000, "header: expected at most 64 levels"),
        (b'{"a":' * 90_000 + b"1", "header: expected at most 64 levels"),
        (b"[" + b"9" * 5000 + b"]", "header: expected integers of at most 310 digits, got 5000"),
        (b" " * (1 << 20), "header: expected JSON"),
    ],
)
def test_broken_json(tmp_path: Path, header: bytes, message: str) -> None:
    assert message in refused(pack(header), tmp_path)


GRAPH_EDITS: list[tuple[str, Any, str]] = [
    ("format_version", 4, "format version: expected at most 3, got 4"),
    ("format_version", 0, "format version: expected an integer from 1"),
    ("format_version", "1", "format version: expected an integer from 1 to 2147483648, got '1'"),
    ("format_version", None, "format version: expected an integer"),
    ("sample_rate", 0, "sample_rate: expected an integer from 1 to 1000000, got 0"),
    ("sample_rate", True, "sample_rate: expected an integer from 1 to 1000000, got True"),
    ("sample_rate", 44100.0, "sample_rate: expected an integer from 1 to 1000000, got 44100.0"),
    ("skip", 1, "skip: expected true or false, got 1"),
    ("metadata", [], "metadata: expected an object, got a list"),
    ("layers", {}, "layers: expected a list of 1 to 1024, got an object"),
    ("layers", [], "layers: expected a list of 1 to 1024, got 0"),
    ("layers", [None], "layers[0]: expected an object, got None"),
    ("layers", [{}], "layers[0]: expected 'activation', got none"),
    ("layers", [0] * 1025, "layers: expected a list of 1 to 1024, got 1025"),
    ("extra\nkey", 1, "fxfast.graph: expected only known keys, got 'extra\\nkey'"),
]


@pytest.mark.parametrize(("key", "value", "message"), GRAPH_EDITS)
def test_broken_graph(good: bytes, tmp_path: Path, key: str, value: Any, message: str) -> None:
    file = File(good)
    file.graph[key] = value
    assert message in refused(file.pack(), tmp_path)


LAYER_EDITS: list[tuple[int, str, Any, str]] = [
    (0, "kind", "lstm", "layers[0].kind: expected 'conv1d', got 'lstm'"),
    (0, "dilation", 0, "layers[0].dilation: expected an integer from 1 to 16777216, got 0"),
    (
        0,
        "dilation",
        1 << 40,
        "layers[0].dilation: expected an integer from 1 to 16777216, got 1099",
    ),
    (0, "dilation", 1 << 23, "receptive field: expected at most 16777216 samples, got 25165826"),
    (0, "taps", -1, "layers[0].taps: expected an integer from 1 to 16777216, got -1"),
    (0, "taps", 1.0, "layers[0].taps: expected an integer from 1 to 16777216, got 1.0"),
    (0, "taps", 5, "layers.0.weight.shape: expected [3, 1, 5], got [3, 1, 4]"),
    (1, "taps", 1 << 24, "parameters: expected at most 67108864, got"),
    (0, "in_channels", 2, "layers[0].in_channels: expected 1, got 2"),
    (1, "in_channels", 4, "layers[1].in_channels: expected 3, got 4"),
    (2, "out_channels", 2, "layers[2].out_channels: expected 1, got 2"),
    (0, "out_channels", 1 << 31, "layers[0].out_channels: expected an integer from 1 to 4096"),
    (0, "activation", "softmax", "layers[0].activation: expected one of none, relu"),
    (0, "activation", [], "layers[0].activation: expected one of none, relu"),
    (0, "activation", "relu", "tensors: expected only known keys, got 'layers.0.slopes'"),
    (2, "activation", "prelu", "tensors: expected 'layers.2.slopes', got none"),
    (0, "bias", False, "tensors: expected only known keys, got 'layers.0.bias'"),
    (1, "bias", True, "tensors: expected 'layers.1.bias', got none"),
    (0, "bias", 0, "layers[0].bias: expected true or false, got 0"),
    (0, "groups", 2, "layers[0]: expected only known keys, got 'groups'"),
]


@pytest.mark.parametrize(("index", "key", "value", "message"), LAYER_EDITS)
def test_broken_layer(
    good: bytes, tmp_path: Path, index: int, key: str, value: Any, message: str
) -> None:
    file = File(good)
    file.graph["layers"][index][key] = value
    assert message in refused(file.pack(), tmp_path)


TENSOR_EDITS: list[tuple[str, Any, str]] = [
    ("dtype", "I32", "layers.1.weight.dtype: expected 'F32', got 'I32'"),
    ("dtype", "F64", "layers.1.weight.dtype: expected 'F32', got 'F64'"),
    ("shape", [3, 2, 2], "layers.1.weight.shape: expected [2, 3, 2], got [3, 2, 2]"),
    ("shape", [12], "layers.1.weight.shape: expected [2, 3, 2], got [12]"),
    ("shape", [2, 3, True], "layers.1.weight.shape: expected [2, 3, 2], got a list"),
    ("shape", [2, 3, 1 << 62], "layers.1.weight.shape: expected [2, 3, 2], got [2, 3, 4611"),
    ("shape", "232", "layers.1.weight.shape: expected [2, 3, 2], got '232'"),
    ("data_offsets", [0, 48], "data_offsets: expected to begin at"),
    ("data_offsets", [-48, 0], "data_offsets: expected to begin at"),
    ("data_offsets", [1 << 70, (1 << 70) + 48], "data_offsets: expected to begin at"),
    ("data_offsets", [0, 44], "layers.1.weight.data_offsets: expected 48 bytes, got [0, 44]"),
    ("data_offsets", [0], "layers.1.weight.data_offsets: expected two integers, got [0]"),
    ("data_offsets", [0.0, 48.0], "layers.1.weight.data_offsets: expected two integers"),
    ("more", 1, "layers.1.weight: expected only known keys, got 'more'"),
]


@pytest.mark.parametrize(("key", "value", "message"), TENSOR_EDITS)
def test_broken_tensor(good: bytes, tmp_path: Path, key: str, value: Any, message: str) -> None:
    file = File(good)
    file.header["layers.1.weight"][key] = value
    assert message in refused(file.pack(), tmp_path)


def test_tensor_table_must_match_the_graph(good: bytes, tmp_path: Path) -> None:
    missing, extra, no_object = File(good), File(good), File(good)
    del missing.header["layers.1.weight"]
    assert "tensors: expected 'layers.1.weight', got none" in refused(missing.pack(), tmp_path)
    extra.header["other"] = extra.header["layers.1.weight"]
    assert "tensors: expected only known keys, got 'other'" in refused(extra.pack(), tmp_path)
    no_object.header["layers.1.weight"] = 3
    assert "layers.1.weight: expected an object, got 3" in refused(no_object.pack(), tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_weights_must_be_finite(good: bytes, tmp_path: Path, value: float) -> None:
    file = File(good)
    begin = file.header["layers.1.weight"]["data_offsets"][0]
    file.data = file.data[:begin] + np.float32(value).tobytes() + file.data[begin + 4 :]
    message = refused(file.pack(), tmp_path)
    assert "layers[1].weight[0, 0, 0]: expected finite values of at most 1e+06" in message


def _graph_text(layers: str, metadata: str = "{}") -> bytes:
    text = (
        '{"format_version": 1, "sample_rate": 1, "skip": false, '
        f'"layers": [{layers}], "metadata": {metadata}}}'
    )
    return pack({"__metadata__": {GRAPH_KEY: text}})


def _hostile_files() -> dict[str, bytes]:
    room = MAX_HEADER_BYTES - 4096
    return {
        "spaces": pack(b" " * room),
        "million layers": _graph_text("{}," * 1_000_000 + "{}"),
        "many layers": _graph_text("{}," * 90_000 + "{}"),
        "objects": pack(b"[" + b"{}," * 98_000 + b"1]"),
        "keys": pack(b"{" + b",".join(b'"%d":{}' % i for i in range(99_000)) + b"}"),
        "same key": pack(b"{" + b",".join(b'"a":{}' for _ in range(99_000)) + b"}"),
        "long text": pack(b'["' + b"x" * (room - 8) + b'"]'),
        "escapes": pack(b'["' + b"\\u00e9" * (room // 6 - 2) + b'"]'),
        "integers": pack(b"[" + (b"1" * 4299 + b",") * 3800 + b"1]"),
        "floats": pack(b"[" + (b"1." + b"1" * 80 + b",") * 170_000 + b"1]"),
        "deep metadata": _graph_text("1", '{"a":' * 60_000 + "1" + "}" * 60_000),
    }


@pytest.mark.parametrize("name", list(_hostile_files()))
def test_hostile_files_cost_little(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(_hostile_files()[name])

    def refuse() -> None:
        with pytest.raises(ModelError):
            exchange.load(path)

    assert_takes_less(0.2, refuse, name)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            exchange.load(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * MAX_HEADER_BYTES
    finally:
        tracemalloc.stop()


def test_claimed_weights_are_not_allocated(tmp_path: Path) -> None:
    """A header of some bytes that claims the largest model allowed."""
    layer = {"kind": "conv1d", "in_channels": 1, "out_channels": 1, "taps": 1 << 24, "dilation": 1}
    entry = {"dtype": "F32", "shape": [1, 1, 1 << 24], "data_offsets": [0, 1 << 26]}
    graph = {"format_version": 1, "sample_rate": 1, "skip": False, "metadata": {}}
    graph["layers"] = [{**layer, "bias": False, "activation": "none"}]
    header = {"__metadata__": {GRAPH_KEY: json.dumps(graph)}, "layers.0.weight": entry}
    tracemalloc.start()
    try:
        message = refused(pack(header, b"\0" * 64), tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "file size: expected 67108864 bytes of weights, got 64" in message
    assert peak < MEBIBYTE


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
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
    path = Path(tmp_path_factory.getbasetemp()) / "fuzz.safetensors"
    path.write_bytes(content)
    try:
        graph = exchange.load(path)
    except ModelError as error:
        message = str(error)
    else:
        assert isinstance(graph, ModelGraph)
        return
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_shown_values_are_short_lines() -> None:
    for value in ("a\nb" * 100, 1 << 5000, [1] * 1000, {"a": 1}, None, 1.5, object()):
        assert len(bounded_json.shown(value)) < 250
        assert "\n" not in bounded_json.shown(value)
