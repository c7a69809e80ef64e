"""Reading of packed datasets: everything is checked before anything is handed out."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.data.dataset import Data
from fxfast.data.pack_file import (
    ALIGNMENT,
    DTYPES,
    FILE,
    HEADER,
    KNOBS_OF_VERSION,
    MAGIC,
    SPAN,
    VERSION,
)
from fxfast.data.split import PARTS
from fxfast.errors import PackError
from fxfast.native import engine

_CHECKED_AT_ONCE = 1 << 22
# Far from what an int64 holds, so that sums of a few stay exact.
_MAX_SAMPLES = 1 << 56


@dataclass(frozen=True, eq=False)
class PackedAudio:
    """Audio in a packed file that is mapped, or in memory on huge pages.

    The file must not be changed while it is mapped.
    """

    path: str
    dtype: np.dtype[Any]
    offsets: np.ndarray  # int64 (files, 2)
    lengths: np.ndarray
    in_memory: bool
    memory: np.ndarray

    def addresses(self) -> np.ndarray:
        return self.offsets + self.memory.ctypes.data

    def samples_of(self, file: int) -> tuple[np.ndarray, np.ndarray]:
        size = int(self.lengths[file]) * self.dtype.itemsize
        dry, wet = (
            np.asarray(self.memory[offset : offset + size]).view(self.dtype)
            for offset in self.offsets[file]
        )
        return dry, wet

    def __getstate__(self) -> dict[str, Any]:
        # The bytes stay where they are: another process maps the file again.
        first = bytes(self.memory[: HEADER.itemsize])
        return {**self.__dict__, "memory": (len(self.memory), first)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        size, first = state["memory"]
        memory = _bytes_of(Path(state["path"]), state["in_memory"])
        same = len(memory) == size and bytes(memory[: len(first)]) == first
        _require(Path(state["path"]), same, "file", "what it was when it was loaded", "another")
        self.__dict__.update(state, memory=memory)


def _bytes_of(path: Path, in_memory: bool) -> np.ndarray:
    """All bytes of a file. Writing to them is possible and does not change the file."""
    if not path.is_file():
        raise PackError(f"{path}: expected a packed dataset, got no such file")
    size = path.stat().st_size
    if size < HEADER.itemsize:
        raise PackError(f"{path}: expected a packed dataset, got {size} bytes")
    if not in_memory:
        return np.memmap(path, np.uint8, "c")
    buffer = np.asarray(engine().PageBuffer(size))
    with path.open("rb") as file:
        _require(path, file.readinto(buffer.data) == size, "size", f"{size} bytes", "fewer")
    return buffer


class PackedNames(Sequence[str]):
    """Names that are decoded when they are asked for."""

    def __init__(self, texts: bytes, offsets: np.ndarray, sizes: np.ndarray) -> None:
        self._texts, self._offsets, self._sizes = texts, offsets, sizes

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start, size = int(self._offsets[index]), int(self._sizes[index])
        return self._texts[start : start + size].decode("utf-8", "surrogateescape")


def load(path: str | os.PathLike[str], *, verify: bool = True, in_memory: bool = False) -> Data:
    """The dataset of a packed file, which stays mapped, or is read with ``in_memory``.

    Everything is checked before, the audio against its checksums unless ``verify`` is False.
    Raises ``PackError`` for a file that is not whole.
    """
    path = Path(path)
    memory = _bytes_of(path, in_memory)
    header = np.asarray(memory[: HEADER.itemsize]).view(HEADER)[0]
    _check_header(path, header, bytes(memory[:60]), len(memory))
    files, spans, knob_rows, knobs, texts = _read_tables(path, header, memory)
    _check_files(path, files, header, texts)
    _check_spans(path, spans, files)
    _check_knobs(path, knob_rows, knobs, texts)
    offsets = np.stack([files["dry"], files["wet"]], axis=1).astype(np.int64)
    lengths = files["samples"].astype(np.int64)
    dtype = np.dtype(DTYPES[int(header["dtype"])])
    if verify:
        _check_audio(path, files, memory, dtype)
    audio = PackedAudio(str(path.resolve()), dtype, offsets, lengths, in_memory, memory)
    names = PackedNames(texts, files["name"].copy(), files["name_bytes"].copy())
    return Data(
        audio=audio,
        names=names,
        rates=files["rate"].astype(np.int64),
        lengths=lengths,
        checksums=np.stack([files["dry_crc"], files["wet_crc"]], axis=1),
        knobs=np.ascontiguousarray(knobs, np.float32),
        knob_names=tuple(PackedNames(texts, knob_rows["name"], knob_rows["name_bytes"])),
        spans=np.stack([spans[n].astype(np.int64) for n in ("file", "start", "samples")], axis=1),
        parts=spans["part"].astype(np.int64),
        knob_ranges=_ranges(knob_rows),
    )


def _ranges(rows: np.ndarray) -> tuple[tuple[float, float], ...]:
    if "low" not in (rows.dtype.names or ()):
        return ()
    return tuple(zip(rows["low"].tolist(), rows["high"].tolist(), strict=True))


def _require(path: Path, holds: bool, what: str, expected: Any, got: Any) -> None:
    if not holds:
        raise PackError(f"{path}: {what}: expected {expected}, got {got}")


def _check_header(path: Path, header: Any, first: bytes, size: int) -> None:
    _require(path, first[:8] == MAGIC, "magic", f"{MAGIC!r} of a packed dataset", first[:8])
    crc = zlib.crc32(first)
    _require(path, int(header["header_crc"]) == crc, "header", "its checksum", "damaged bytes")
    version = int(header["version"])
    _require(path, version in KNOBS_OF_VERSION, "version", f"1 to {VERSION}", version)
    _require(path, int(header["dtype"]) < len(DTYPES), "samples", "0 or 1", int(header["dtype"]))
    _require(path, int(header["size"]) == size, "size", f"{int(header['size'])} bytes", size)
    _require(path, int(header["files"]) >= 1, "files", "at least 1", 0)


def _read_tables(path: Path, header: Any, memory: np.ndarray) -> tuple[Any, ...]:
    # Python's integers: no count, however large, overflows a sum.
    counts = {name: int(header[name]) for name in ("files", "spans", "knobs", "text_bytes")}
    files, spans, knobs, text_bytes = counts.values()
    knob_row = KNOBS_OF_VERSION[int(header["version"])]
    sizes = [files * FILE.itemsize, spans * SPAN.itemsize, knobs * knob_row.itemsize]
    sizes += [files * knobs * 4, text_bytes]
    begin = int(header["tables"])
    _require(path, begin + sum(sizes) == len(memory), "tables", "to end with the file", counts)
    _require(path, begin % ALIGNMENT == 0, "tables", "an offset that 64 divides", begin)
    _require(path, begin >= HEADER.itemsize, "tables", "an offset behind the header", begin)
    data = memory[begin:].tobytes()
    crc = zlib.crc32(data)
    _require(path, crc == int(header["tables_crc"]), "tables", "their checksum", "damaged bytes")
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return (
        np.frombuffer(parts[0], FILE),
        np.frombuffer(parts[1], SPAN),
        np.frombuffer(parts[2], knob_row),
        np.frombuffer(parts[3], "<f4").reshape(files, knobs),
        parts[4],
    )


def _check_files(path: Path, files: np.ndarray, header: Any, texts: bytes) -> None:
    limit = np.uint64(int(header["tables"]))
    itemsize = np.uint64(np.dtype(DTYPES[int(header["dtype"])]).itemsize)
    samples = files["samples"]
    _require(path, bool((samples < _MAX_SAMPLES).all()), "samples", "fewer", int(samples.max()))
    sizes = samples * itemsize
    for side in ("dry", "wet"):
        starts = files[side]
        # In this order no difference is below zero.
        inside = (starts >= HEADER.itemsize) & (starts <= limit) & (starts % ALIGNMENT == 0)
        whole = bool(inside.all() and (sizes <= limit - np.minimum(starts, limit)).all())
        _require(path, whole, side, "audio between header and tables", "offsets beyond")
    _require(path, bool((files["rate"] >= 1).all()), "rate", "at least 1 Hz", 0)
    _check_texts(path, files, texts)


def _check_texts(path: Path, rows: np.ndarray, texts: bytes) -> None:
    size = np.uint64(len(texts))
    starts, sizes = rows["name"], rows["name_bytes"].astype(np.uint64)
    inside = bool(((starts <= size) & (sizes <= size - np.minimum(starts, size))).all())
    _require(path, inside, "names", "offsets in the texts", "offsets beyond")


def _check_spans(path: Path, spans: np.ndarray, files: np.ndarray) -> None:
    count = len(files)
    inside = bool((spans["file"] < count).all())
    _require(path, inside, "spans", f"files below {count}", "others")
    lengths = files["samples"][spans["file"].astype(np.int64)]
    left = lengths - np.minimum(spans["start"], lengths)
    inside = bool(((spans["start"] <= lengths) & (spans["samples"] <= left)).all())
    _require(path, inside, "spans", "stretches of their files", "longer ones")
    inside = bool((spans["part"] < len(PARTS)).all())
    _require(path, inside, "spans", f"parts below {len(PARTS)}", "others")


def _check_knobs(path: Path, rows: np.ndarray, knobs: np.ndarray, texts: bytes) -> None:
    inside = bool(((knobs >= 0) & (knobs <= 1)).all())
    _require(path, inside, "knobs", "values from 0 to 1", "others")
    for low, high in _ranges(rows):
        finite = bool(np.isfinite([low, high, high - low]).all())
        _require(path, finite and low < high, "knobs", "least below most", (low, high))
    _check_texts(path, rows, texts)


def _check_audio(path: Path, files: np.ndarray, memory: np.ndarray, dtype: np.dtype[Any]) -> None:
    for row in files:
        size = int(row["samples"]) * dtype.itemsize
        for side in ("dry", "wet"):
            start, crc = int(row[side]), 0
            for at in range(start, start + size, _CHECKED_AT_ONCE):
                part = memory[at : min(at + _CHECKED_AT_ONCE, start + size)]
                crc = zlib.crc32(part.data, crc)
                finite = dtype == np.int16 or bool(np.isfinite(part.view(dtype)).all())
                _require(path, finite, f"{side} of a file", "finite samples", "NaN or infinity")
            _require(path, crc == int(row[f"{side}_crc"]), f"{side} of a file", "its checksum",
                     "damaged audio")  # fmt: skip
