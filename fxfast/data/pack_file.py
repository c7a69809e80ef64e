"""The packed dataset: many pairs in one file that is used where it lies, memory-mapped.

Version 2, little-endian. Offsets are in bytes from the start of the file, times in samples.

    header      64 bytes
      0   8     magic b"FXPACK\\r\\n"
      8   u32   version, 2
      12  u32   samples: 0 float32, 1 int16 (full scale 32768)
      16  u64   number of files F
      24  u64   number of spans S
      32  u32   number of knobs K
      36  u32   bytes of the texts N
      40  u64   offset of the tables, a multiple of 64
      48  u64   size of this file
      56  u32   CRC-32 of the tables, texts included: all from their offset to the end
      60  u32   CRC-32 of header bytes 0 to 59
    audio       from byte 64 on: dry, then wet of each file, each at a multiple of 64
    tables      one after the other, up to the end of the file
      F x 48    offset of dry u64, of wet u64, samples u64, offset of the name in the texts u64,
                bytes of the name u32, rate in Hz u32, CRC-32 of dry u32, of wet u32
      S x 32    file u64, start u64, samples u64, part u64 (0 train, 1 validation, 2 test)
      K x 32    offset of the name in the texts u64, its bytes u64, least and most in the units of
                the knob f64; version 1 has neither, its knobs go from 0 to 1
      F x K x 4 knob values, float32 in [0, 1] over that range
      N         names, UTF-8

A window lies in one span: that is how the split is kept. Dry and wet have one length. Float32
samples are finite. A reader checks all of this before it hands out anything.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fxfast.data.dataset import Data, check_samples, checked_knobs, places_of_knobs
from fxfast.data.split import PARTS, Split, cut_named
from fxfast.errors import InputError, OutputExistsError, PackError, PairError
from fxfast.native import engine
from fxfast.pairs.pair_set import Pair
from fxfast.whole_file import whole_file

MAGIC = b"FXPACK\r\n"
VERSION = 2
DTYPES = ("float32", "int16")
_HEADER = np.dtype(
    [
        *(("magic", "S8"), ("version", "<u4"), ("dtype", "<u4"), ("files", "<u8")),
        *(("spans", "<u8"), ("knobs", "<u4"), ("text_bytes", "<u4"), ("tables", "<u8")),
        *(("size", "<u8"), ("tables_crc", "<u4"), ("header_crc", "<u4")),
    ]
)
_FILE = np.dtype(
    [
        *(("dry", "<u8"), ("wet", "<u8"), ("samples", "<u8"), ("name", "<u8")),
        *(("name_bytes", "<u4"), ("rate", "<u4"), ("dry_crc", "<u4"), ("wet_crc", "<u4")),
    ]
)
_SPAN = np.dtype([("file", "<u8"), ("start", "<u8"), ("samples", "<u8"), ("part", "<u8")])
_KNOB = np.dtype([("name", "<u8"), ("name_bytes", "<u8"), ("low", "<f8"), ("high", "<f8")])
_KNOBS_OF_VERSION = {1: np.dtype([("name", "<u8"), ("name_bytes", "<u8")]), VERSION: _KNOB}
_ALIGNMENT = 64
_CHECKED_AT_ONCE = 1 << 22
# Far from what an int64 holds, so that sums of a few stay exact.
_MAX_SAMPLES = 1 << 56


def pack(
    pairs: Iterable[Pair],
    path: str | os.PathLike[str],
    *,
    dtype: str = "float32",
    split: Split | None = None,
    knobs: Mapping[str, Sequence[float]] | None = None,
    knob_names: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Writes pairs, which may come one by one, into one file at ``path``, whole or not at all.

    ``knobs`` maps the name of each pair to its values; without it those of the pairs that do not
    stand at one place in all of them are kept. Pairs that name a part belong to it where the split
    is by time. Raises ``PairError`` for audio that is not a pair or, for int16, beyond full scale,
    and where a pair lacks a knob that another has, ``InputError`` for the rest,
    ``OutputExistsError`` when ``path`` is there and not to be replaced.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path}: expected a new file, got one that exists")
    with whole_file(path) as temporary, temporary.open("wb") as file:
        file.write(bytes(_HEADER.itemsize))
        rows, names, named, turned = _write_audio(file, pairs, np.dtype(dtype))
        values: Any
        if knobs is None:
            values, knob_names, ranges = places_of_knobs(list(zip(names, turned, strict=True)))
        else:
            values, ranges = [_knobs_of(knobs, name) for name in names], []
        spans = cut_named(rows["samples"].astype(np.int64), split or Split(), named)
        places = checked_knobs(values, len(names), knob_names)
        tables, header = _tables(rows, names, spans, places, knob_names, ranges)
        header["dtype"] = DTYPES.index(dtype)
        header["tables"] = _align(file)
        file.write(tables)
        header["size"] = file.tell()
        header["header_crc"] = zlib.crc32(header.tobytes()[:60])
        file.seek(0)
        file.write(header.tobytes())


def _knobs_of(knobs: Mapping[str, Sequence[float]], name: str) -> Sequence[float]:
    if name not in knobs:
        raise InputError(f"knobs: expected values for the pair {name}, got none")
    return knobs[name]


def _align(file: BinaryIO) -> int:
    file.write(bytes(-file.tell() % _ALIGNMENT))
    return file.tell()


def _write_audio(
    file: BinaryIO, pairs: Iterable[Pair], dtype: np.dtype[Any]
) -> tuple[np.ndarray, list[str], list[str], list[Mapping[str, float]]]:
    """The rows of the files, their names, the parts of the split that they name, their knobs."""
    rows: list[tuple[int, ...]] = []
    names: list[str] = []
    named: list[str] = []
    knobs: list[Mapping[str, float]] = []
    for pair in pairs:
        if pair.dry.ndim != 1 or pair.dry.shape != pair.wet.shape:
            raise PairError(
                f"{pair.name}: expected dry and wet of one shape (T,), "
                f"got {pair.dry.shape} and {pair.wet.shape}"
            )
        offsets, sums = [], []
        for side, audio in (("dry", pair.dry), ("wet", pair.wet)):
            check_samples(pair.name, side, audio)
            samples = _converted(pair.name, side, audio, dtype)
            offsets.append(_align(file))
            file.write(samples.data)
            sums.append(zlib.crc32(samples.data))
        rows.append((*offsets, len(pair.dry), 0, 0, pair.sample_rate, *sums))
        names.append(pair.name)
        named.append(pair.split)
        knobs.append(pair.knobs)
    if not rows:
        raise PairError("pairs: expected at least one, got none")
    if len(set(names)) != len(names):
        raise PairError("pairs: expected names that differ, got one twice")
    return np.array(rows, _FILE), names, named, knobs


def _converted(name: str, side: str, audio: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if audio.dtype == np.int16 and dtype == np.float32:
        return (audio.astype(np.float32) / 32768).astype("<f4")
    if audio.dtype == np.float32 and dtype == np.int16:
        if audio.size and np.abs(audio).max() > 1:
            raise PairError(
                f"{name}: expected {side} within -1 to 1 for int16, got {np.abs(audio).max():.3f}"
            )
        return np.clip(np.round(audio * 32768), -32768, 32767).astype("<i2")
    return np.ascontiguousarray(audio, dtype.newbyteorder("<"))


def _tables(
    rows: np.ndarray,
    names: list[str],
    cuts: tuple[np.ndarray, np.ndarray],
    knobs: np.ndarray,
    knob_names: Sequence[str],
    ranges: Sequence[tuple[float, float]],
) -> tuple[bytes, np.ndarray]:
    all_knob_names = list(knob_names) or [f"knob {i + 1}" for i in range(knobs.shape[1])]
    texts = [name.encode("utf-8", "surrogateescape") for name in (*names, *all_knob_names)]
    sizes = np.array([len(text) for text in texts], np.int64)
    offsets = np.cumsum(sizes) - sizes
    rows["name"], rows["name_bytes"] = offsets[: len(names)], sizes[: len(names)]
    spans, parts = cuts
    span_rows = np.zeros(len(spans), _SPAN)
    for column, field in enumerate(("file", "start", "samples")):
        span_rows[field] = spans[:, column]
    span_rows["part"] = parts
    knob_rows = np.zeros(knobs.shape[1], _KNOB)
    knob_rows["name"], knob_rows["name_bytes"] = offsets[len(names) :], sizes[len(names) :]
    knob_rows["low"], knob_rows["high"] = np.transpose(ranges) if ranges else (0.0, 1.0)
    text = b"".join(texts)
    tables = b"".join(
        [rows.tobytes(), span_rows.tobytes(), knob_rows.tobytes(), knobs.tobytes(), text]
    )
    header = np.zeros((), _HEADER)
    header["magic"], header["version"] = MAGIC, VERSION
    header["files"], header["spans"] = len(rows), len(spans)
    header["knobs"], header["text_bytes"] = knobs.shape[1], len(text)
    header["tables_crc"] = zlib.crc32(tables)
    return tables, header


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
        first = bytes(self.memory[: _HEADER.itemsize])
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
    if size < _HEADER.itemsize:
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
    header = np.asarray(memory[: _HEADER.itemsize]).view(_HEADER)[0]
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
    _require(path, version in _KNOBS_OF_VERSION, "version", f"1 to {VERSION}", version)
    _require(path, int(header["dtype"]) < len(DTYPES), "samples", "0 or 1", int(header["dtype"]))
    _require(path, int(header["size"]) == size, "size", f"{int(header['size'])} bytes", size)
    _require(path, int(header["files"]) >= 1, "files", "at least 1", 0)


def _read_tables(path: Path, header: Any, memory: np.ndarray) -> tuple[Any, ...]:
    # Python's integers: no count, however large, overflows a sum.
    counts = {name: int(header[name]) for name in ("files", "spans", "knobs", "text_bytes")}
    files, spans, knobs, text_bytes = counts.values()
    knob_row = _KNOBS_OF_VERSION[int(header["version"])]
    sizes = [files * _FILE.itemsize, spans * _SPAN.itemsize, knobs * knob_row.itemsize]
    sizes += [files * knobs * 4, text_bytes]
    begin = int(header["tables"])
    _require(path, begin + sum(sizes) == len(memory), "tables", "to end with the file", counts)
    _require(path, begin % _ALIGNMENT == 0, "tables", "an offset that 64 divides", begin)
    _require(path, begin >= _HEADER.itemsize, "tables", "an offset behind the header", begin)
    data = memory[begin:].tobytes()
    crc = zlib.crc32(data)
    _require(path, crc == int(header["tables_crc"]), "tables", "their checksum", "damaged bytes")
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return (
        np.frombuffer(parts[0], _FILE),
        np.frombuffer(parts[1], _SPAN),
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
        inside = (starts >= _HEADER.itemsize) & (starts <= limit) & (starts % _ALIGNMENT == 0)
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
