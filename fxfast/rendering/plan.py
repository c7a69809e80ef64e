"""The plan of a run: which files, and where each output goes, before any work is done.

A file goes to ``out_dir`` under its own name. A folder's files keep their tree below the folder;
the matches of a glob keep theirs below the part of the pattern in front of the first wildcard. A
file that several inputs name is rendered once, where the first of them puts it. Two inputs never
share an output, also not on a file system that ignores case or the normal form of Unicode, and
no output is an input.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxfast.audio.paths import AnyPath, printable
from fxfast.errors import CollisionError, OutputFolderError
from fxfast.rendering.file_table import REGULAR, FileTable
from fxfast.rendering.output_names import OutputNames, folded
from fxfast.rendering.scan import scan_inputs

_PIECE_ROWS = 1 << 14


@dataclass(frozen=True)
class PlannedFile:
    """One input file and the output that it becomes."""

    input: Path
    output: Path


class Plan:
    """Jobs: each file of a table through each model; job = file * number of models + model."""

    def __init__(
        self, table: FileTable, out_dir: Path, names: OutputNames, models: Sequence[str] = ("",)
    ) -> None:
        self.table = table
        self.out_dir = out_dir
        self.names = names
        self.models = tuple(models)
        self.rows = _without_repeats(table)
        self.out_key = array("q")  # hash of the output's path, for the journal
        self.out_folders: set[bytes] = set()
        self.folded_key = array("q")  # the same for outputs that differ by case or normal form
        if not self._keyed_by_engine():
            self._key_outputs()

    def __len__(self) -> int:
        return len(self.rows) * len(self.models)

    def __iter__(self) -> Iterator[PlannedFile]:
        return (PlannedFile(Path(self.input(j)), Path(self.output(j))) for j in range(len(self)))

    def _key_outputs(self) -> None:
        """The plain twin of what the engine does where only suffixes change."""
        for output in self._outputs():
            self.out_key.append(hash(output))
            self.folded_key.append(hash(folded(output)))
            self.out_folders.add(output.rpartition(b"/")[0])

    def _keyed_by_engine(self) -> bool:
        if self.names.pattern or len(self.models) > 1:
            return False
        paths = self.table.paths(self._heads())
        if paths is None:
            return False

        def output_suffix(suffix: bytes) -> bytes:
            return self.names.of(b"x" + suffix)[1:]

        folders = self.table.folders
        # A few at a time: what is on its way takes memory too.
        for keys in (self.out_key, self.folded_key):
            keys.frombytes(bytes(8 * len(self.rows)))
        for first in range(0, len(self.rows), _PIECE_ROWS):
            part = slice(first, first + _PIECE_ROWS)
            of = len(folders), self.rows[part], output_suffix, folded
            out, alike, used = paths.output_keys(*of)
            self.out_key[part] = array("q", out)
            self.folded_key[part] = array("q", alike)
            self.out_folders.update(folders[folder] for folder in used)
        return True

    def _heads(self) -> list[bytes]:
        return [below + b"/" if below else b"" for below in self.table.folders]

    def _outputs(self) -> Iterator[bytes]:
        """The output of every job, in their order."""
        table, count, of = self.table, len(self.models), self.names.of
        heads = self._heads()
        for row in self.rows:
            below = heads[table.folder[row]] + table.name(row)
            for model in self.models:
                yield of(below, model, count)

    def row(self, job: int) -> int:
        return self.rows[job // len(self.models)]

    def model(self, job: int) -> int:
        return job % len(self.models)

    def input(self, job: int) -> str:
        return self.table.shown(self.row(job))

    def below(self, job: int) -> bytes:
        """The output's path below ``out_dir``."""
        name = self.models[job % len(self.models)]
        return self.names.of(self.table.below(self.row(job)), name, len(self.models))

    def output(self, job: int) -> str:
        return os.path.join(self.out_dir, os.fsdecode(self.below(job)))

    def is_regular(self, job: int) -> bool:
        return self.table.kind[self.row(job)] == REGULAR


def plan_library(
    inputs: Sequence[AnyPath],
    out_dir: AnyPath,
    format: str = "keep",
    *,
    names: OutputNames | None = None,
    models: Sequence[str] = ("",),
    follow: bool = False,
) -> Plan:
    """Find the input files and give each an output, in the order of ``inputs``.

    Raises ``InputError`` for an input that does not exist or matches nothing and a folder without
    audio, ``OutputFolderError`` for an ``out_dir`` that is not a folder, and ``CollisionError``
    for two inputs with one output and an output that is an input.
    """
    refuse_out_file(Path(out_dir))
    table = scan_inputs(inputs, out_dir, follow=follow)
    return plan_table(table, out_dir, names or OutputNames(format), models)


def plan_table(
    table: FileTable, out_dir: AnyPath, names: OutputNames, models: Sequence[str] = ("",)
) -> Plan:
    """The plan for a table. Errors as :func:`plan_library`."""
    names.check(models)
    refuse_out_file(Path(out_dir))
    plan = Plan(table, Path(out_dir), names, models)
    _refuse_shared_outputs(plan)
    plan.folded_key = array("q")  # for nothing else
    return plan


def refuse_out_file(out_dir: Path) -> None:
    if os.path.lexists(out_dir) and not out_dir.is_dir():
        raise OutputFolderError(
            f"{printable(out_dir)}: expected a folder for the output, got a file"
        )


def _without_repeats(table: FileTable) -> array[int]:
    """The rows, each file that is named twice only where it comes first."""
    rows = array("q", bytes(8 * len(table)))
    np.frombuffer(rows, np.int64)[:] = np.arange(len(table))
    if table.distinct:
        return rows
    if len(table.tops) == 1:
        # Within one folder the scan gives each name once; a list may repeat itself.
        keys = np.fromiter((hash(table.below(r)) for r in rows), np.int64, len(rows))
    else:
        tops = [os.path.abspath(top) for top in table.tops]
        folders = [
            os.path.normpath(os.path.join(tops[top], below))
            for top, below in zip(table.folder_top, table.folders, strict=True)
        ]
        named = (os.path.join(folders[table.folder[r]], table.name(r)) for r in rows)
        keys = np.fromiter(map(hash, named), np.int64, len(rows))
    repeats = set()
    for group in _equal(keys):
        seen: set[bytes] = set()
        for row in group:
            path = os.path.abspath(table.path(row))
            if path in seen:
                repeats.add(row)
            seen.add(path)
    return array("q", (r for r in rows if r not in repeats)) if repeats else rows


def _equal(keys_n: np.ndarray) -> Iterator[list[int]]:
    """The positions of equal keys, in groups of two and more, each in rising order."""
    in_order_n = np.sort(keys_n)
    if not np.any(in_order_n[1:] == in_order_n[:-1]):
        return
    order = np.argsort(keys_n, kind="stable")
    same = np.flatnonzero(keys_n[order][1:] == keys_n[order][:-1])
    last = -2
    group: list[int] = []
    for at in same.tolist():
        if at != last + 1:
            if group:
                yield group
            group = [int(order[at])]
        group.append(int(order[at + 1]))
        last = at
    if group:
        yield group


def _refuse_shared_outputs(plan: Plan) -> None:
    keys_n = np.frombuffer(plan.folded_key, np.int64)
    shared: list[tuple[int, int]] = []
    for group in _equal(keys_n):
        shared += _pairs_that_collide(plan, [job for job in group if plan.is_regular(job)])
    if not shared:
        return
    shared.sort()
    job, other = shared[0]
    more = f" ({len(shared) - 1} more such outputs)" if len(shared) > 1 else ""
    alike = plan.below(job) == plan.below(other)
    hint = "keep_suffix" if alike else "allow_similar"
    raise CollisionError(
        f"{printable(plan.output(other))}: expected one input for each output, got "
        f"{printable(plan.input(job))} and {printable(plan.input(other))}{more} (see {hint})",
        pairs=[[printable(plan.input(a)), printable(plan.input(b))] for a, b in shared[:1000]],
    )


def _pairs_that_collide(plan: Plan, jobs: list[int]) -> list[tuple[int, int]]:
    first_of: dict[bytes, int] = {}
    first_alike: dict[bytes, int] = {}
    pairs = []
    for job in jobs:
        output = plan.below(job)
        other = first_of.setdefault(output, job)
        if other == job and not (plan.names.allow_similar and not folds_case(plan.out_dir)):
            other = first_alike.setdefault(folded(output), job)
        if other != job:
            pairs.append((other, job))
    return pairs


def folds_case(folder: Path) -> bool:
    """Whether the file system of a folder, which need not be there yet, ignores case."""
    folder = Path(os.path.abspath(folder))
    for known in (folder, *folder.parents):
        swapped = known.with_name(known.name.swapcase())
        if swapped != known and known.exists():
            return swapped.exists() and os.path.samefile(known, swapped)
    return False
