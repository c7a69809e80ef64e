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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fxfast.data.dataset import check_samples, checked_knobs, places_of_knobs
from fxfast.data.split import Split, cut_named
from fxfast.errors import InputError, OutputExistsError, PairError
from fxfast.pairs.pair_set import Pair
from fxfast.whole_file import whole_file

MAGIC = b"FXPACK\r\n"
VERSION = 2
DTYPES = ("float32", "int16")
HEADER = np.dtype(
    [
        *(("magic", "S8"), ("version", "<u4"), ("dtype", "<u4"), ("files", "<u8")),
        *(("spans", "<u8"), ("knobs", "<u4"), ("text_bytes", "<u4"), ("tables", "<u8")),
        *(("size", "<u8"), ("tables_crc", "<u4"), ("header_crc", "<u4")),
    ]
)
FILE = np.dtype(
    [
        *(("dry", "<u8"), ("wet", "<u8"), ("samples", "<u8"), ("name", "<u8")),
        *(("name_bytes", "<u4"), ("rate", "<u4"), ("dry_crc", "<u4"), ("wet_crc", "<u4")),
    ]
)
SPAN = np.dtype([("file", "<u8"), ("start", "<u8"), ("samples", "<u8"), ("part", "<u8")])
KNOB = np.dtype([("name", "<u8"), ("name_bytes", "<u8"), ("low", "<f8"), ("high", "<f8")])
KNOBS_OF_VERSION = {1: np.dtype([("name", "<u8"), ("name_bytes", "<u8")]), VERSION: KNOB}
ALIGNMENT = 64


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
        file.write(bytes(HEADER.itemsize))
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
    file.write(bytes(-file.tell() % ALIGNMENT))
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
    return np.array(rows, FILE), names, named, knobs


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
    span_rows = np.zeros(len(spans), SPAN)
    for column, field in enumerate(("file", "start", "samples")):
        span_rows[field] = spans[:, column]
    span_rows["part"] = parts
    knob_rows = np.zeros(knobs.shape[1], KNOB)
    knob_rows["name"], knob_rows["name_bytes"] = offsets[len(names) :], sizes[len(names) :]
    knob_rows["low"], knob_rows["high"] = np.transpose(ranges) if ranges else (0.0, 1.0)
    text = b"".join(texts)
    tables = b"".join(
        [rows.tobytes(), span_rows.tobytes(), knob_rows.tobytes(), knobs.tobytes(), text]
    )
    header = np.zeros((), HEADER)
    header["magic"], header["version"] = MAGIC, VERSION
    header["files"], header["spans"] = len(rows), len(spans)
    header["knobs"], header["text_bytes"] = knobs.shape[1], len(text)
    header["tables_crc"] = zlib.crc32(tables)
    return tables, header
