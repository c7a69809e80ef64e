"""Which audio is for training, which for validation, which for the test."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fxfast.errors import InputError
from fxfast.native import engine

PARTS = ("train", "validation", "test")
# A fixed key: which files are in which part depends on their number alone.
_FILE_ORDER_SEED = 0x5EED


@dataclass(frozen=True)
class Split:
    """Fractions of each file's length (``by="time"``, in this order) or of the files
    (``by="file"``, in an order that depends on their number alone).

    By time, ``guard_samples`` are left out at each border.
    """

    train: float = 0.75
    validation: float = 0.125
    test: float = 0.125
    guard_samples: int = 0
    by: str = "time"

    def __post_init__(self) -> None:
        fractions = dict(zip(PARTS, self.fractions, strict=True))
        if min(self.fractions) <= 0 or sum(self.fractions) > 1 + 1e-9:
            raise InputError(
                f"split: expected positive fractions with a sum up to 1, got {fractions}"
            )
        if type(self.guard_samples) is not int or self.guard_samples < 0:
            raise InputError(f"guard_samples: expected 0 or more, got {self.guard_samples!r}")
        if self.by not in ("time", "file"):
            raise InputError(f"by: expected time or file, got {self.by!r}")

    @property
    def fractions(self) -> tuple[float, float, float]:
        return (self.train, self.validation, self.test)

    def spans_of(
        self, samples: int, parts: Collection[int] = range(len(PARTS))
    ) -> Iterator[tuple[int, int, int]]:
        """Start, length and part of what a file of ``samples`` is cut into by time, in these parts
        alone: they share what the others would have had."""
        whole = sum(self.fractions) / sum(self.fractions[part] for part in parts)
        end_fraction, start = 0.0, 0
        for part in sorted(parts):
            end_fraction += self.fractions[part] * (whole if len(parts) < len(PARTS) else 1.0)
            stop = round(samples * min(end_fraction, 1.0))
            if stop > start:
                yield start, stop - start, part
            start = stop + self.guard_samples

    def parts_of_files(self, files: int) -> np.ndarray:
        """The part of every file, by file. Raises ``InputError`` when one would get none."""
        borders = np.round(np.cumsum(self.fractions) * files).astype(np.int64)
        if files < len(PARTS) or np.diff(borders, prepend=0).min() < 1:
            raise InputError(
                f"split: expected enough files for one in each of {', '.join(PARTS)}, got {files}"
            )
        order = engine().permutation(files, _FILE_ORDER_SEED, 0, np.arange(files))
        parts = np.full(files, len(PARTS), np.int64)
        for part in reversed(range(len(PARTS))):
            parts[order[: borders[part]]] = part
        return parts


def cut_named(
    lengths: np.ndarray, split: Split | None, named: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """As ``cut``, of files some of which may belong to a part already, "" where that is open.

    By time those are left whole and the open ones are cut. Where none is open, and none named for
    validation or for the test, the files for training give these parts too.
    Raises ``InputError`` for an unknown part.
    """
    if split is None or split.by != "time" or not any(named):
        return cut(lengths, split)
    unknown = sorted({part for part in named if part} - set(PARTS))
    if unknown:
        raise InputError(f"split: expected one of {', '.join(PARTS)}, got {unknown[0]!r}")
    missing = [index for index, part in enumerate(PARTS) if part not in named and index > 0]
    of_training = (0, *missing) if "" not in named else (0,)
    rows: list[tuple[int, ...]] = []
    for file, (samples, part) in enumerate(zip(lengths.tolist(), named, strict=True)):
        if not part or (part == "train" and len(of_training) > 1):
            parts = of_training if part else range(len(PARTS))
            rows += [(file, *span) for span in split.spans_of(samples, parts)]
        else:
            rows.append((file, 0, samples, PARTS.index(part)))
    return _columns(rows)


def _columns(rows: Sequence[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(rows, np.int64).reshape(-1, 4)
    return np.ascontiguousarray(table[:, :3]), table[:, 3].copy()


def cut(lengths: np.ndarray, split: Split | None) -> tuple[np.ndarray, np.ndarray]:
    """Spans (n, 3) of file, start and length, and the part of each. Without a split every file
    is one span for training; files that fractions below 1 leave over by file have none."""
    files = np.arange(len(lengths))
    if split is None:
        spans = np.stack([files, np.zeros_like(files), lengths], axis=1)
        return spans, np.zeros(len(files), np.int64)
    if split.by == "file":
        parts = split.parts_of_files(len(lengths))
        kept = np.flatnonzero(parts < len(PARTS))
        return np.stack([kept, np.zeros_like(kept), lengths[kept]], axis=1), parts[kept]
    rows = [
        (file, *span) for file, samples in enumerate(lengths) for span in split.spans_of(samples)
    ]
    return _columns(rows)
