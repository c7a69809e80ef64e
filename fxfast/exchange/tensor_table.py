"""What the readers of the native file share: strict keys, integers, and the tensor table."""

from __future__ import annotations

import math
from typing import Any

from fxfast.errors import ModelError, ModelShapeError, UnsupportedModelError
from fxfast.exchange import bounded_json
from fxfast.exchange.bounded_json import shown
from fxfast.graph import MAX_PARAMETERS

GRAPH_KEY = "fxfast.graph"
_FLOAT_BYTES = 4
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


class TensorTable:
    """The tensors that a file's header announces, none of which has been read.

    :meth:`shape_of` gives out one at a time; :meth:`finish` then checks that none is left
    and that they fill the data without a gap.
    """

    def __init__(self, entries: dict[str, Any], data_bytes: int) -> None:
        self._entries = dict(entries)
        self._data_bytes = data_bytes
        self._ranges: list[tuple[int, int, str]] = []

    @property
    def names(self) -> dict[str, Any]:
        """The tensors that have not been given out."""
        return self._entries

    def shape_of(
        self,
        name: str,
        dimensions: int,
        allowed: tuple[tuple[int, ...], ...] | None = None,
    ) -> tuple[int, ...]:
        """The shape of a float32 tensor, one of ``allowed`` where those are known."""
        if name not in self._entries:
            raise ModelError(f"tensors: expected {shown(name)}, got none")
        entry = self._entries.pop(name)
        if not isinstance(entry, dict):
            raise ModelError(f"{name}: expected an object, got {shown(entry)}")
        check_keys(entry, _ENTRY_KEYS, name)
        if entry["dtype"] != "F32":
            raise UnsupportedModelError(
                f"{name}.dtype: expected 'F32', got {shown(entry['dtype'])}"
            )
        shape = _checked_shape(entry["shape"], name, dimensions, allowed)
        self._take_range(entry["data_offsets"], name, math.prod(shape) * _FLOAT_BYTES)
        return shape

    def _take_range(self, offsets: Any, name: str, size: int) -> None:
        if not _is_integers(offsets) or len(offsets) != 2:
            raise ModelShapeError(
                f"{name}.data_offsets: expected two integers, got {_shown_list(offsets)}"
            )
        if offsets[1] - offsets[0] != size:
            raise ModelShapeError(
                f"{name}.data_offsets: expected {size} bytes, got {_shown_list(offsets)}"
            )
        self._ranges.append((offsets[0], offsets[1], name))

    def finish(self) -> None:
        check_keys(self._entries, set(), "tensors")
        end = 0
        for begin, stop, name in sorted(self._ranges):
            if begin != end:
                raise ModelShapeError(
                    f"{name}.data_offsets: expected to begin at {end}, got {shown(begin)}"
                )
            end = stop
        if end != self._data_bytes:
            raise ModelShapeError(
                f"file size: expected {end} bytes of weights, got {self._data_bytes}"
            )


def tensor_name(path: str) -> str:
    """The tensor of a field: ``root.arrays[0].head_bias`` is ``root.arrays.0.head_bias``."""
    return path.replace("[", ".").replace("]", "")


def _checked_shape(
    shape: Any, name: str, dimensions: int, allowed: tuple[tuple[int, ...], ...] | None
) -> tuple[int, ...]:
    # A bool or a float equals an integer in Python, not in the file.
    fits = _is_integers(shape) and len(shape) == dimensions
    if allowed is not None:
        if not fits or tuple(shape) not in allowed:
            expected = " or ".join(str(list(s)) for s in allowed)
            raise ModelShapeError(f"{name}.shape: expected {expected}, got {_shown_list(shape)}")
    elif not fits or min(shape) < 1 or math.prod(shape) > MAX_PARAMETERS:
        raise ModelShapeError(
            f"{name}.shape: expected {dimensions} sizes of at least 1 with a product of at most "
            f"{MAX_PARAMETERS}, got {_shown_list(shape)}"
        )
    return tuple(shape)


def check_keys(found: dict[str, Any], known: set[str], name: str) -> None:
    missing = sorted(known - found.keys())
    if missing:
        raise ModelError(f"{name}: expected {shown(missing[0])}, got none")
    unknown = sorted(found.keys() - known)
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        keys = ", ".join(shown(key) for key in unknown[:3])
        raise ModelError(f"{name}: expected only known keys, got {keys}{more}")


def integer(found: dict[str, Any], key: str, prefix: str, low: int, high: int) -> int:
    value = found.get(key)
    if type(value) is not int or not low <= value <= high:
        name = prefix + key.replace("format_version", "format version")
        raise ModelShapeError(
            f"{name}: expected an integer from {low} to {high}, got {shown(value)}"
        )
    return value


def _is_integers(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 3 and all(type(v) is int for v in value)


def _shown_list(value: Any) -> str:
    return f"[{', '.join(map(shown, value))}]" if _is_integers(value) else shown(value)


def flag(found: dict[str, Any], key: str, prefix: str) -> bool:
    value = found[key]
    if type(value) is not bool:
        raise ModelError(f"{prefix}{key}: expected true or false, got {shown(value)}")
    return value


def choice(value: Any, name: str, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise UnsupportedModelError(
            f"{name}: expected one of {', '.join(known)}, got {shown(value)}"
        )
    return value


def metadata_of(graph: dict[str, Any]) -> dict[str, Any]:
    metadata = graph["metadata"]
    if not isinstance(metadata, dict):
        raise ModelError(f"metadata: expected an object, got {shown(metadata)}")
    bounded_json.check(metadata, "metadata")
    return metadata
