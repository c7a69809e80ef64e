"""A dataset: dry and wet of any number of files, cut in spans that no window leaves."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from fxfast.data.split import PARTS, Split, cut_named
from fxfast.errors import InputError, PairError
from fxfast.graph import Knob
from fxfast.pairs.pair_set import Pair

# More than this is told apart by a part of it, so that large data open at once.
_WHOLE_CHECKSUM_BYTES = 1 << 30


class Audio(Protocol):
    """Where the samples are: mono float32 or int16 of every file, dry and wet."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all samples."""

    def addresses(self) -> np.ndarray:
        """int64 (files, 2) of dry and wet; valid while this object lives."""

    def samples_of(self, file: int) -> tuple[np.ndarray, np.ndarray]:
        """Dry and wet (T) of a file, not copied."""


class Piece(NamedTuple):
    """A span as float32: ``dry`` and ``wet`` (L,) from sample ``start_sample`` of ``name``.

    ``heard`` is what goes through a model to be compared with ``wet``: dry itself, or all of dry
    from the start of the file to the end of the span (start_sample + L,). ``knobs`` are where the
    knobs stood, in their own units.
    """

    name: str
    start_sample: int
    dry: np.ndarray
    wet: np.ndarray
    heard: np.ndarray
    knobs: Mapping[str, float] = MappingProxyType({})

    @property
    def stop_sample(self) -> int:
        return self.start_sample + len(self.dry)


@dataclass(frozen=True, eq=False)
class Data:
    """Files and the spans of them that belong to it.

    ``names``, ``rates`` (Hz), ``lengths`` (samples), ``checksums`` (files, 2) and ``knobs``
    (files, knobs) are those of all files; ``spans`` (n, 3) holds file, start and length,
    ``parts`` the index of each span's part in PARTS. ``knobs`` go from 0 to 1 over ``knob_ranges``
    (least and most, in the units of the knob), without them over 0 to 1.
    """

    audio: Audio
    names: Sequence[str]
    rates: np.ndarray
    lengths: np.ndarray
    checksums: np.ndarray
    knobs: np.ndarray
    knob_names: tuple[str, ...]
    spans: np.ndarray
    parts: np.ndarray
    knob_ranges: tuple[tuple[float, float], ...] = ()

    @property
    def controls(self) -> tuple[Knob, ...]:
        """The knobs as a conditioned model takes them; they stand in the middle of the files."""
        return tuple(
            Knob(name, low, high, low + (high - low) * float(np.median(self.knobs[:, index])))
            for index, (name, (low, high)) in enumerate(self._ranges())
        )

    def _ranges(self) -> list[tuple[str, tuple[float, float]]]:
        count = self.knobs.shape[1]
        names = self.knob_names or tuple(f"knob {index + 1}" for index in range(count))
        return list(zip(names, self.knob_ranges or ((0.0, 1.0),) * count, strict=True))

    def part(self, name: str) -> Data:
        """Only the spans of ``train``, ``validation`` or ``test``."""
        if name not in PARTS:
            raise InputError(f"part: expected one of {', '.join(PARTS)}, got {name!r}")
        return self._only(self.parts == PARTS.index(name))

    @property
    def train(self) -> Data:
        return self.part("train")

    @property
    def validation(self) -> Data:
        return self.part("validation")

    @property
    def test(self) -> Data:
        return self.part("test")

    def of_rate(self, sample_rate: int) -> Data:
        """Only the files of that sample rate: those of one batch have one rate."""
        return self._only(self.rates[self.spans[:, 0]] == sample_rate)

    def _only(self, chosen: np.ndarray) -> Data:
        return replace(self, spans=self.spans[chosen], parts=self.parts[chosen])

    @property
    def sample_rate(self) -> int:
        """In Hz. Raises ``PairError`` when the files of the spans differ in it or there are none;
        ``of_rate`` chooses those of one."""
        files = self.spans[:, 0]
        if not len(files):
            raise PairError("data: expected at least one file, got none")
        first, rates = int(files[0]), self.rates[files]
        other = int(files[int((rates != rates[0]).argmax())])
        if self.rates[other] != rates[0]:
            raise PairError(
                f"{self.names[other]}: expected {rates[0]} Hz as in {self.names[first]}, "
                f"got {self.rates[other]} Hz"
            )
        return int(rates[0])

    @property
    def files(self) -> int:
        """Files with a span."""
        return len(np.unique(self.spans[:, 0]))

    @property
    def samples(self) -> int:
        """Of all spans."""
        return int(self.spans[:, 2].sum())

    @property
    def is_int16(self) -> bool:
        return self.audio.dtype == np.int16

    def pieces(self, *, from_start: bool = False) -> Iterator[Piece]:
        """Every span, not copied where the samples are float32; ``from_start`` for models that
        have to hear a file from its start."""
        for file, start, length in self.spans:
            begin, end = int(start), int(start + length)
            dry, wet = self.audio.samples_of(int(file))
            heard = as_float(dry[0 if from_start else begin : end])
            span = heard[len(heard) - int(length) :]
            knobs = {
                name: low + (high - low) * float(value)
                for (name, (low, high)), value in zip(
                    self._ranges(), self.knobs[int(file)], strict=True
                )
            }
            yield Piece(self.names[int(file)], begin, span, as_float(wet[begin:end]), heard, knobs)

    def addresses(self) -> np.ndarray:
        """What the sampler takes: int64 (n, 5) of the address of dry and wet, length, file, start
        of every span."""
        file, start, length = self.spans.T
        sides = self.audio.addresses()[file] + start[:, None] * self.audio.dtype.itemsize
        return np.ascontiguousarray(np.column_stack([sides, length, file, start]), np.int64)

    @cached_property
    def fingerprint(self) -> dict[str, int]:
        """What tells this data from other data: checksums of lengths, names and audio."""
        names = zlib.crc32("\0".join(self.names).encode("utf-8", "surrogateescape"))
        return {
            "lengths": crc32(np.column_stack([self.spans, self.parts]).astype("<i8")),
            "names or rates": crc32(np.ascontiguousarray(self.rates, "<i8"), names),
            "audio or knobs": crc32(
                np.ascontiguousarray(self.knobs, "<f4"),
                crc32(np.ascontiguousarray(self.checksums, "<u4")),
            ),
        }

    def with_dry_as_wet(self) -> Data:
        """The same with dry on both sides: what a set-up is checked with."""
        both = np.repeat(self.checksums[:, :1], 2, axis=1)
        return replace(self, audio=_DryOnly(self.audio), checksums=both)


@dataclass(frozen=True, eq=False)
class _DryOnly:
    audio: Audio

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.audio.dtype

    def addresses(self) -> np.ndarray:
        return np.repeat(self.audio.addresses()[:, :1], 2, axis=1)

    def samples_of(self, file: int) -> tuple[np.ndarray, np.ndarray]:
        dry, _ = self.audio.samples_of(file)
        return dry, dry


@dataclass(frozen=True, eq=False)
class ArrayAudio:
    """Audio in memory, not copied: contiguous arrays of one dtype."""

    sides: list[tuple[np.ndarray, np.ndarray]]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.sides[0][0].dtype

    def addresses(self) -> np.ndarray:
        rows = [(dry.ctypes.data, wet.ctypes.data) for dry, wet in self.sides]
        return np.array(rows, np.int64).reshape(-1, 2)

    def samples_of(self, file: int) -> tuple[np.ndarray, np.ndarray]:
        return self.sides[file]


def as_float(samples: np.ndarray) -> np.ndarray:
    """Samples as float32, full scale 1; not copied where they are."""
    if samples.dtype == np.float32:
        return np.asarray(samples)
    return samples.astype(np.float32) * np.float32(1 / 32768)


def from_arrays(
    pairs: Sequence[tuple[Any, Any]],
    sample_rate: int | Sequence[int],
    *,
    names: Sequence[str] | None = None,
    knobs: Any = None,
    knob_names: Sequence[str] = (),
    knob_ranges: Sequence[tuple[float, float]] = (),
    split: Split | None = None,
    named: Sequence[str] = (),
) -> Data:
    """A dataset of numpy arrays or CPU tensors (T,) or (1, T), float32 or int16, not copied.

    ``knobs`` are values (files, knobs) in [0, 1] that go with the files, ``sample_rate`` is one
    or one per file. Without a ``split`` everything is for training; with one by time, ``named`` may
    say of every file which part it belongs to ("" where that is open: ``cut_named``). Raises
    ``PairError`` for audio that is not a pair, ``InputError`` for the rest.
    """
    names = [str(index) for index in range(len(pairs))] if names is None else list(names)
    if len(names) != len(pairs) or not pairs:
        raise InputError(
            f"names: expected one for each pair, and pairs, got {len(names)} for {len(pairs)}"
        )
    sides = [_sides(name, dry, wet) for name, (dry, wet) in zip(names, pairs, strict=True)]
    for name, (dry, _) in zip(names, sides, strict=True):
        if dry.dtype != sides[0][0].dtype:
            raise PairError(
                f"{name}: expected {sides[0][0].dtype} samples as in {names[0]}, got {dry.dtype}"
            )
    lengths = np.array([len(dry) for dry, _ in sides], np.int64)
    spans, parts = cut_named(lengths, split, named)
    return Data(
        audio=ArrayAudio(sides),
        names=names,
        rates=checked_rates(sample_rate, len(sides)),
        lengths=lengths,
        checksums=np.array([[checksum(side) for side in both] for both in sides], np.uint32),
        knobs=checked_knobs(knobs, len(sides), knob_names),
        knob_names=tuple(knob_names),
        spans=spans,
        parts=parts,
        knob_ranges=tuple(knob_ranges),
    )


def from_pairs(pairs: Sequence[Pair], split: Split | None = None) -> Data:
    """A dataset of pairs in memory; those that name a part of the split belong to it.

    Knobs that do not stand at one place in all pairs come with it. Raises ``PairError`` for none,
    and where a pair lacks a knob that another has.
    """
    if not pairs:
        raise PairError("pairs: expected at least one, got none")
    knobs, knob_names, ranges = places_of_knobs([(pair.name, pair.knobs) for pair in pairs])
    return from_arrays(
        [(pair.dry, pair.wet) for pair in pairs],
        [pair.sample_rate for pair in pairs],
        names=[pair.name for pair in pairs],
        split=split,
        named=[pair.split for pair in pairs],
        knobs=knobs,
        knob_names=knob_names,
        knob_ranges=ranges,
    )


def places_of_knobs(
    pairs: Sequence[tuple[str, Mapping[str, float]]],
) -> tuple[np.ndarray | None, list[str], list[tuple[float, float]]]:
    """Where the knobs stand that turn between pairs, given by name of the pair and in their units.

    That is values (pairs, knobs) from 0 to 1 or None, the names, and least and most of each knob.
    Raises ``PairError`` where a pair lacks a knob that another has.
    """
    found = sorted({name for _, knobs in pairs for name in knobs})
    for pair, knobs in pairs:
        missing = [name for name in found if name not in knobs]
        if missing:
            raise PairError(f"{pair}: expected where the knob {missing[0]} stood, got nothing")
    names = [name for name in found if len({knobs[name] for _, knobs in pairs}) > 1]
    if not names:
        return None, [], []
    places = np.array([[knobs[name] for name in names] for _, knobs in pairs], np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    ranges = list(zip(map(float, low), map(float, high), strict=True))
    return (places - low) / (high - low), names, ranges


def _sides(name: str, dry: Any, wet: Any) -> tuple[np.ndarray, np.ndarray]:
    sides = []
    for side, audio in (("dry", dry), ("wet", wet)):
        array = audio.detach().numpy() if isinstance(audio, torch.Tensor) else np.asarray(audio)
        shape = array.shape
        if array.ndim == 2 and array.shape[0] == 1:
            array = array[0]
        if array.ndim != 1:
            raise PairError(f"{name}: expected {side} of shape (T,) or (1, T), got {shape}")
        check_samples(name, side, array)
        sides.append(np.ascontiguousarray(array))
    if sides[0].shape != sides[1].shape:
        raise PairError(
            f"{name}: expected dry and wet of one shape (T,), "
            f"got {sides[0].shape} and {sides[1].shape}"
        )
    if sides[0].dtype != sides[1].dtype:
        raise PairError(
            f"{name}: expected dry and wet of one dtype, got {sides[0].dtype} and {sides[1].dtype}"
        )
    return sides[0], sides[1]


def check_samples(name: str, side: str, array: np.ndarray) -> None:
    """Raises ``PairError`` unless the samples are finite float32, or int16."""
    if array.dtype not in (np.float32, np.int16):
        raise PairError(
            f"{name}: expected float32 samples in {side}, got {array.dtype} (int16 is taken too)"
        )
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise PairError(f"{name}: expected finite samples in {side}, got NaN or infinity")


def checked_rates(rates: int | Sequence[int], files: int) -> np.ndarray:
    """Sample rates in Hz, one per file."""
    given = np.asarray(rates)
    if given.dtype.kind not in "iu" or given.shape not in ((), (files,)) or given.min() < 1:
        raise InputError(
            f"sample_rate: expected a positive integer or {files} of them, got {rates!r}"
        )
    return np.ascontiguousarray(np.broadcast_to(given, (files,)), np.int64)


def checked_knobs(knobs: Any, files: int, names: Sequence[str]) -> np.ndarray:
    """Knob values as float32 (files, knobs)."""
    values = np.zeros((files, 0)) if knobs is None else np.asarray(knobs)
    if values.ndim != 2 or len(values) != files or values.dtype.kind not in "fiu":
        raise InputError(f"knobs: expected numbers of shape ({files}, knobs), got {values.shape}")
    if names and len(names) != values.shape[1]:
        raise InputError(f"knob_names: expected {values.shape[1]}, got {len(names)}")
    if values.size and not (np.isfinite(values).all() and 0 <= values.min() <= values.max() <= 1):
        raise InputError("knobs: expected values from 0 to 1, got others")
    return np.ascontiguousarray(values, np.float32)


def crc32(array: np.ndarray, value: int = 0) -> int:
    """CRC-32 of the bytes of a contiguous array, after those that gave ``value``."""
    return zlib.crc32(array.data, value)


def checksum(samples: np.ndarray) -> int:
    """CRC-32 of the bytes; of more than 1 GiB, of 4 KiB at each of 256 places."""
    data = np.ascontiguousarray(samples).view(np.uint8)
    if len(data) <= _WHOLE_CHECKSUM_BYTES:
        return crc32(data)
    value = len(data)
    for start in np.linspace(0, len(data) - 4096, 256).astype(np.int64):
        value = crc32(data[start : start + 4096], value & 0xFFFFFFFF)
    return value
