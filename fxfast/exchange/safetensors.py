"""The native model file: one safetensors file with the weights and the graph.

The text ``fxfast.graph`` in the file's metadata is JSON: the format version, and the graph
as ``stack_format`` (version 1) or ``node_format`` (version 2; 3 with knobs) describes it. A graph
is written in the lowest version that can hold it.

A file is not trusted. All that it claims is checked against its real size and against
the limits of ``fxfast.graph`` while only its header is in memory.
Container: https://github.com/huggingface/safetensors (format section of its README).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from fxfast.errors import ModelError, UnsupportedModelError
from fxfast.exchange import bounded_json, model_file, node_format, node_writer, stack_format
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.tensor_table import GRAPH_KEY, TensorTable, integer
from fxfast.graph import MAX_PARAMETERS, ModelGraph
from fxfast.whole_file import whole_file

FORMAT_VERSION = node_format.KNOB_VERSION

MAX_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8
_FLOAT_BYTES = 4
# Slopes, limits and the states that recurrent layers start from are no parameters. With the
# most parameters they are fewer than these values.
_MAX_OTHER_VALUES = 1 << 18
_MAX_FILE_BYTES = (
    _LENGTH_BYTES + MAX_HEADER_BYTES + _FLOAT_BYTES * (MAX_PARAMETERS + _MAX_OTHER_VALUES)
)


def load(path: str | os.PathLike[str]) -> ModelGraph:
    """Read a native model file.

    Raises ``ModelError`` that names the path and the field when the file is missing, not
    a regular file, damaged, hostile, or written in a newer format version.
    """
    with _naming(path):
        with model_file.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            prefix = _read_prefix(file, size)
            header = _parse_header(prefix[_LENGTH_BYTES:], size - len(prefix))
            file.seek(0)
            content = file.read(size)
        if len(content) != size or not content.startswith(prefix):
            raise ModelError("file: expected it to stay unchanged while it is read")
        return header.build(load_tensors(content))


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
        document, tensors = _contents(graph)
        text = json.dumps(document, allow_nan=False)
        content = save_tensors(tensors, metadata={GRAPH_KEY: text})
        start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        if start - _LENGTH_BYTES > MAX_HEADER_BYTES:
            raise ModelError(
                f"metadata: expected a file header of at most {MAX_HEADER_BYTES} bytes, "
                f"got {start - _LENGTH_BYTES}"
            )
        _parse_header(content[_LENGTH_BYTES:start], len(content) - start)
        with whole_file(Path(path)) as temporary:
            temporary.write_bytes(content)


def _contents(graph: ModelGraph) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if stack_format.holds(graph):
        return stack_format.document(graph), stack_format.tensors(graph)
    return node_writer.contents(graph)


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    with model_file.naming(path):
        try:
            yield
        except SafetensorError as error:
            raise ModelError(f"expected a safetensors file, got {error}") from error


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


def _parse_header(
    text: bytes, data_bytes: int
) -> stack_format.StackHeader | node_format.NodeHeader:
    document = bounded_json.parse(text, "header")
    if not isinstance(document, dict):
        raise ModelError(f"header: expected a JSON object, got {shown(document)}")
    texts = document.pop("__metadata__", None)
    graph_text = texts.get(GRAPH_KEY) if isinstance(texts, dict) else None
    if not isinstance(graph_text, str):
        raise ModelError(f"__metadata__: expected the text {GRAPH_KEY!r}, got none")
    graph = bounded_json.parse(graph_text, GRAPH_KEY)
    if not isinstance(graph, dict):
        raise ModelError(f"{GRAPH_KEY}: expected a JSON object, got {shown(graph)}")
    version = integer(graph, "format_version", "", 1, 1 << 31)
    if version > FORMAT_VERSION:
        raise UnsupportedModelError(
            f"format version: expected at most {FORMAT_VERSION}, got {version}; "
            f"the file was written by a newer fxfast"
        )
    table = TensorTable(document, data_bytes)
    header: stack_format.StackHeader | node_format.NodeHeader
    if version == stack_format.FORMAT_VERSION:
        header = stack_format.parse(graph, table)
    else:
        header = node_format.parse(graph, table)
    table.finish()
    return header
