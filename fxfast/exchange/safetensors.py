"""The native model file: one safetensors file with the weights and the graph.

Tensors, all float32: ``layers.N.weight`` (out, in, taps), ``layers.N.bias`` (out,) and
``layers.N.slopes`` (1,) or (out,). The text ``fxfast.graph`` in the file's metadata is
JSON: the format version, the sample rate in Hz, the skip, the layers' sizes and
activations, and the graph's own free metadata.

A file is not trusted. All that it claims is checked against its real size and against
the limits of ``fxfast.graph`` while only its header is in memory.
Container: https://github.com/huggingface/safetensors (format section of its README).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fxfast.errors import ModelError
from fxfast.exchange import bounded_json
from fxfast.exchange.bounded_json import shown
from fxfast.graph import (
    ACTIVATION_KINDS,
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_PARAMETERS,
    MAX_RECEPTIVE_FIELD,
    MAX_SAMPLE_RATE,
    Activation,
    ConvLayer,
    ModelGraph,
)
from fxfast.whole_file import whole_file

FORMAT_VERSION = 1
GRAPH_KEY = "fxfast.graph"

MAX_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8
_FLOAT_BYTES = 4
# Slopes of leaky_relu are no parameters: one value a layer on top of the limit.
_MAX_FILE_BYTES = _LENGTH_BYTES + MAX_HEADER_BYTES + _FLOAT_BYTES * (MAX_PARAMETERS + MAX_LAYERS)
_GRAPH_KEYS = {"format_version", "sample_rate", "skip", "layers", "metadata"}
_LAYER_KEYS = {"kind", "in_channels", "out_channels", "taps", "dilation", "bias", "activation"}


@dataclass(frozen=True)
class _LayerHeader:
    """What the graph says of one layer before its weights are read."""

    in_channels: int
    out_channels: int
    taps: int
    dilation: int
    has_bias: bool
    activation: str


@dataclass(frozen=True)
class _Header:
    """A checked header: the graph in it fits the limits, the tensors fit the graph."""

    sample_rate: int
    skip: bool
    metadata: dict[str, Any]
    layers: tuple[_LayerHeader, ...]


def load(path: str | os.PathLike[str]) -> ModelGraph:
    """Read a native model file.

    Raises ``ModelError`` that names the path and the field when the file is missing, not
    a regular file, damaged, hostile, or written in a newer format version.
    """
    with _naming(path):
        with _open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            prefix = _read_prefix(file, size)
            header = _parse_header(prefix[_LENGTH_BYTES:], size - len(prefix))
            file.seek(0)
            content = file.read(size)
        if len(content) != size or not content.startswith(prefix):
            raise ModelError("file: expected it to stay unchanged while it is read")
        return _build_graph(header, content)


def save(graph: ModelGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to ``path``: complete under a temporary name, then renamed.

    Raises ``ModelError`` that names the path when the folder is missing or cannot be
    written to, or when the graph's metadata is not JSON.
    """
    with _naming(path):
        if not isinstance(graph, ModelGraph):
            raise ModelError(f"graph: expected a ModelGraph, got {type(graph).__name__}")
        if not isinstance(graph.metadata, dict):
            raise ModelError(f"metadata: expected an object, got {shown(graph.metadata)}")
        bounded_json.check(graph.metadata, "metadata")
        text = json.dumps(_graph_document(graph), allow_nan=False)
        content = save_tensors(_graph_tensors(graph), metadata={GRAPH_KEY: text})
        start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        if start - _LENGTH_BYTES > MAX_HEADER_BYTES:
            raise ModelError(
                f"metadata: expected a file header of at most {MAX_HEADER_BYTES} bytes, "
                f"got {start - _LENGTH_BYTES}"
            )
        _parse_header(content[_LENGTH_BYTES:start], len(content) - start)
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(content)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the path in front of every error, whatever its kind."""
    text = os.fspath(path)
    name = text if text.isprintable() else ascii(text)
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{name}: expected a safetensors file, got {error}") from error


# --- reading -------------------------------------------------------------------


def _open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open without waiting (a pipe would wait for ever) and refuse all but files."""
    if "\0" in os.fspath(path):
        raise ModelError("path: expected no NUL character")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError("file: expected a regular file, got a directory, pipe or device")
    return os.fdopen(descriptor, "rb")


def _read_prefix(file: BinaryIO, size: int) -> bytes:
    """Return the length field and the header, both known to be inside the file."""
    if not _LENGTH_BYTES + 2 <= size <= _MAX_FILE_BYTES:
        raise ModelError(
            f"file size: expected {_LENGTH_BYTES + 2} to {_MAX_FILE_BYTES} bytes, got {size}"
        )
    length_field = file.read(_LENGTH_BYTES)
    length = int.from_bytes(length_field, "little")
    limit = min(MAX_HEADER_BYTES, size - _LENGTH_BYTES)
    if not 2 <= length <= limit:
        raise ModelError(f"header length: expected 2 to {limit} bytes, got {length}")
    return length_field + file.read(length)


def _parse_header(text: bytes, data_bytes: int) -> _Header:
    document = bounded_json.parse(text, "header")
    if not isinstance(document, dict):
        raise ModelError(f"header: expected a JSON object, got {shown(document)}")
    texts = document.pop("__metadata__", None)
    graph_text = texts.get(GRAPH_KEY) if isinstance(texts, dict) else None
    if not isinstance(graph_text, str):
        raise ModelError(f"__metadata__: expected the text {GRAPH_KEY!r}, got none")
    graph = bounded_json.parse(graph_text, GRAPH_KEY)
    header = _parse_graph(graph)
    _check_tensors(document, header, data_bytes)
    return header


def _parse_graph(graph: Any) -> _Header:
    if not isinstance(graph, dict):
        raise ModelError(f"{GRAPH_KEY}: expected a JSON object, got {shown(graph)}")
    version = _integer(graph, "format_version", "", 1, 1 << 31)
    if version > FORMAT_VERSION:
        raise ModelError(
            f"format version: expected at most {FORMAT_VERSION}, got {version}; "
            f"the file was written by a newer fxfast"
        )
    _check_keys(graph, _GRAPH_KEYS, GRAPH_KEY)
    layers = graph["layers"]
    if not isinstance(layers, list) or not 1 <= len(layers) <= MAX_LAYERS:
        got = len(layers) if isinstance(layers, list) else shown(layers)
        raise ModelError(f"layers: expected a list of 1 to {MAX_LAYERS}, got {got}")
    rate = _integer(graph, "sample_rate", "", 1, MAX_SAMPLE_RATE)
    if type(graph["skip"]) is not bool:
        raise ModelError(f"skip: expected true or false, got {shown(graph['skip'])}")
    if not isinstance(graph["metadata"], dict):
        raise ModelError(f"metadata: expected an object, got {shown(graph['metadata'])}")
    bounded_json.check(graph["metadata"], "metadata")
    headers = tuple(_parse_layer(layer, f"layers[{i}]") for i, layer in enumerate(layers))
    _check_stack(headers)
    return _Header(rate, graph["skip"], graph["metadata"], headers)


def _parse_layer(layer: Any, name: str) -> _LayerHeader:
    if not isinstance(layer, dict):
        raise ModelError(f"{name}: expected an object, got {shown(layer)}")
    _check_keys(layer, _LAYER_KEYS, name)
    if layer["kind"] != "conv1d":
        raise ModelError(f"{name}.kind: expected 'conv1d', got {shown(layer['kind'])}")
    if layer["activation"] not in ACTIVATION_KINDS:
        raise ModelError(
            f"{name}.activation: expected one of {', '.join(ACTIVATION_KINDS)}, "
            f"got {shown(layer['activation'])}"
        )
    if type(layer["bias"]) is not bool:
        raise ModelError(f"{name}.bias: expected true or false, got {shown(layer['bias'])}")
    sizes = {
        key: _integer(layer, key, f"{name}.", 1, limit)
        for key, limit in (
            ("in_channels", MAX_CHANNELS),
            ("out_channels", MAX_CHANNELS),
            ("taps", MAX_RECEPTIVE_FIELD),
            ("dilation", MAX_RECEPTIVE_FIELD),
        )
    }
    return _LayerHeader(**sizes, has_bias=layer["bias"], activation=layer["activation"])


def _check_stack(layers: tuple[_LayerHeader, ...]) -> None:
    """The limits of the whole graph, from the sizes alone."""
    channels, weights, history = 1, 0, 0
    for index, layer in enumerate(layers):
        if layer.in_channels != channels:
            raise ModelError(
                f"layers[{index}].in_channels: expected {channels}, got {layer.in_channels}"
            )
        channels = layer.out_channels
        weights += layer.in_channels * layer.out_channels * layer.taps
        history += (layer.taps - 1) * layer.dilation
    if channels != 1:
        raise ModelError(f"layers[{len(layers) - 1}].out_channels: expected 1, got {channels}")
    if weights > MAX_PARAMETERS:
        raise ModelError(f"parameters: expected at most {MAX_PARAMETERS}, got {weights} or more")
    if history >= MAX_RECEPTIVE_FIELD:
        raise ModelError(
            f"receptive field: expected at most {MAX_RECEPTIVE_FIELD} samples, got {history + 1}"
        )


def _check_tensors(table: dict[str, Any], header: _Header, data_bytes: int) -> None:
    """The tensors are the graph's, all float32, and fill the data without a gap."""
    expected = dict(_expected_shapes(header.layers))
    _check_keys(table, set(expected), "tensors")
    ranges = []
    for name, shapes in expected.items():
        entry = table[name]
        if not isinstance(entry, dict):
            raise ModelError(f"{name}: expected an object, got {shown(entry)}")
        _check_keys(entry, {"dtype", "shape", "data_offsets"}, name)
        if entry["dtype"] != "F32":
            raise ModelError(f"{name}.dtype: expected 'F32', got {shown(entry['dtype'])}")
        # A bool or a float equals an integer in Python, not in the file.
        shape = entry["shape"]
        if not _is_integers(shape) or tuple(shape) not in shapes:
            allowed = " or ".join(str(list(s)) for s in shapes)
            raise ModelError(f"{name}.shape: expected {allowed}, got {_shown_list(shape)}")
        offsets = entry["data_offsets"]
        if not _is_integers(offsets) or len(offsets) != 2:
            raise ModelError(
                f"{name}.data_offsets: expected two integers, got {_shown_list(offsets)}"
            )
        if offsets[1] - offsets[0] != math.prod(shape) * _FLOAT_BYTES:
            raise ModelError(
                f"{name}.data_offsets: expected {math.prod(shape) * _FLOAT_BYTES} bytes, "
                f"got {_shown_list(offsets)}"
            )
        ranges.append((offsets[0], offsets[1], name))
    end = 0
    for begin, stop, name in sorted(ranges):
        if begin != end:
            raise ModelError(f"{name}.data_offsets: expected to begin at {end}, got {shown(begin)}")
        end = stop
    if end != data_bytes:
        raise ModelError(f"file size: expected {end} bytes of weights, got {data_bytes}")


def _expected_shapes(
    layers: tuple[_LayerHeader, ...],
) -> Iterator[tuple[str, tuple[tuple[int, ...], ...]]]:
    """Every tensor's name with the shapes that it may have."""
    for index, layer in enumerate(layers):
        name = f"layers.{index}"
        yield f"{name}.weight", ((layer.out_channels, layer.in_channels, layer.taps),)
        if layer.has_bias:
            yield f"{name}.bias", ((layer.out_channels,),)
        if layer.activation == "leaky_relu":
            yield f"{name}.slopes", ((1,),)
        elif layer.activation == "prelu":
            yield f"{name}.slopes", tuple({(1,): None, (layer.out_channels,): None})


def _build_graph(header: _Header, content: bytes) -> ModelGraph:
    arrays = load_tensors(content)

    def take(name: str) -> np.ndarray | None:
        found = arrays.pop(name, None)
        return None if found is None else np.array(found, dtype=np.float32)

    layers = []
    for index, layer in enumerate(header.layers):
        weight = take(f"layers.{index}.weight")
        assert weight is not None  # _check_tensors
        activation = Activation(layer.activation, take(f"layers.{index}.slopes"))
        layers.append(ConvLayer(weight, take(f"layers.{index}.bias"), layer.dilation, activation))
    return ModelGraph(tuple(layers), header.sample_rate, header.skip, header.metadata)


def _check_keys(found: dict[str, Any], known: set[str], name: str) -> None:
    missing = sorted(known - found.keys())
    if missing:
        raise ModelError(f"{name}: expected {shown(missing[0])}, got none")
    unknown = sorted(found.keys() - known)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        keys = ", ".join(shown(key) for key in unknown[:3])
        raise ModelError(f"{name}: expected only known keys, got {keys}{more}")


def _integer(found: dict[str, Any], key: str, prefix: str, low: int, high: int) -> int:
    value = found.get(key)
    if type(value) is not int or not low <= value <= high:
        name = prefix + key.replace("format_version", "format version")
        raise ModelError(f"{name}: expected an integer from {low} to {high}, got {shown(value)}")
    return value


def _is_integers(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 3 and all(type(v) is int for v in value)


def _shown_list(value: Any) -> str:
    return f"[{', '.join(map(shown, value))}]" if _is_integers(value) else shown(value)


# --- writing -------------------------------------------------------------------


def _graph_document(graph: ModelGraph) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "sample_rate": graph.sample_rate,
        "skip": graph.skip,
        "layers": [
            {
                "kind": "conv1d",
                "in_channels": layer.in_channels,
                "out_channels": layer.out_channels,
                "taps": layer.taps,
                "dilation": layer.dilation,
                "bias": layer.bias is not None,
                "activation": layer.activation.kind,
            }
            for layer in graph.layers
        ],
        "metadata": graph.metadata,
    }


def _graph_tensors(graph: ModelGraph) -> dict[str, np.ndarray]:
    tensors = {}
    for index, layer in enumerate(graph.layers):
        arrays = {"weight": layer.weight, "bias": layer.bias, "slopes": layer.activation.slopes}
        for name, array in arrays.items():
            if array is not None:
                tensors[f"layers.{index}.{name}"] = np.ascontiguousarray(array)
    return tensors
