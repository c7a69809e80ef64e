"""What of a plan is still to do: the plan beside the journal and the files that are there.

The three are joined by hashes of the outputs' paths, column by column, so that a library of
100,000 files of which nothing is to do takes a second. A hash alone decides nothing: a file is
done only if its size and time, and those of its input, are those of the journal too.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fxfast.audio.paths import printable
from fxfast.errors import CollisionError
from fxfast.native import engine_if_built
from fxfast.rendering.file_table import REGULAR
from fxfast.rendering.folder_listing import Found, list_outputs
from fxfast.rendering.journal import Entries, work_key
from fxfast.rendering.leftovers import is_leftover, is_unfinished
from fxfast.rendering.plan import Plan

# What there is to do for a job: the output is missing; it is done; it is there and not ours, or
# of other work; it is ours and out of date; it is there and nobody knows whose it is.
MISSING, UP_TO_DATE, FOREIGN, STALE, UNKNOWN = range(5)


class Present:
    """Which outputs of a plan are there, with size and time, a place for each job."""

    def __init__(self, plan: Plan) -> None:
        count = len(plan)
        self.is_there = np.zeros(count, bool)
        self.size = np.zeros(count, np.int64)
        self.mtime_ns = np.zeros(count, np.int64)
        self.leftovers: list[bytes] = []  # unfinished files of dead runs
        self.suspects: dict[int, tuple[int, int]] = {}  # inode and device, of an input's inode

    def take(self, found: Found, jobs: JobIndex, input_inodes: np.ndarray) -> None:
        """Some files of a folder of outputs."""
        job_n = jobs.of(found.key)
        known = np.flatnonzero(job_n >= 0)
        job_n = job_n[known]
        self.is_there[job_n] = True
        self.size[job_n] = np.frombuffer(found.size, np.int64)[known]
        self.mtime_ns[job_n] = np.frombuffer(found.mtime_ns, np.int64)[known]
        inode_n = np.frombuffer(found.inode, np.uint64)[known]
        device_n = np.frombuffer(found.device, np.uint64)[known]
        for at in np.flatnonzero(_are_in(inode_n, input_inodes)).tolist():
            self.suspects[int(job_n[at])] = int(inode_n[at]), int(device_n[at])


class JobIndex:
    """The jobs of regular files by the hashes of their outputs."""

    def __init__(self, plan: Plan) -> None:
        rows_n = np.frombuffer(plan.rows, np.int64)
        is_regular = np.frombuffer(plan.table.kind, np.uint8)[rows_n] == REGULAR
        use_n = is_regular.repeat(len(plan.models)).view(np.uint8)
        native = engine_if_built()
        self._index: Any = (PlainKeyIndex if native is None else native.KeyIndex)(
            plan.out_key, use_n
        )

    def of(self, keys: bytes | array[int]) -> np.ndarray:
        """The job of each key, -1 where there is none."""
        return np.frombuffer(self._index.places(np.frombuffer(keys, np.int64)), np.int32)


class PlainKeyIndex:
    """The twin of the engine's ``KeyIndex``."""

    def __init__(self, keys: Sequence[int], use: Sequence[int]) -> None:
        self._place = {key: at for at, key in enumerate(keys) if use[at]}

    def places(self, wanted: np.ndarray) -> bytes:
        return array("i", [self._place.get(key, -1) for key in wanted.tolist()]).tobytes()


def find_present(plan: Plan, jobs: JobIndex) -> Present:
    """What is in the folders of the outputs."""
    present = Present(plan)
    out_dir = os.fsencode(plan.out_dir)
    input_inodes = np.sort(np.frombuffer(plan.table.inode, np.uint64))
    for folder in sorted(plan.out_folders):
        path, hidden = os.path.join(out_dir, folder), list[bytes]()
        # A folder that is not there yet, or not ours to see: the render of a file will say so.
        with suppress(OSError):
            for found in list_outputs(path, folder + b"/" if folder else b"", hidden):
                present.take(found, jobs, input_inodes)
            if any(is_unfinished(name) for name in hidden):
                with os.scandir(path) as entries:
                    present.leftovers += [entry.path for entry in entries if is_leftover(entry)]
    return present


def _are_in(values_n: np.ndarray, sorted_m: np.ndarray) -> np.ndarray:
    """Which inodes are among others; 0 is nobody's."""
    if not len(sorted_m):
        return np.zeros(len(values_n), bool)
    at = np.minimum(np.searchsorted(sorted_m, values_n), len(sorted_m) - 1)
    found: np.ndarray = (sorted_m[at] == values_n) & (values_n > 0)
    return found


def refuse_outputs_that_are_inputs(plan: Plan, present: Present) -> None:
    """Raise ``CollisionError`` where a file that is there is an input, by whatever name."""
    if not present.suspects:
        return
    inputs = set(zip(plan.table.inode, plan.table.device, strict=True))
    for job in sorted(present.suspects):
        if present.suspects[job] in inputs:
            raise CollisionError(
                f"{printable(plan.output(job))}: expected an output that is not an input of the run"
            )


def all_there(plan: Plan, present: Present) -> bool:
    """Whether every output that the plan can have is there, whoever made it."""
    rows_n = np.frombuffer(plan.rows, np.int64)
    is_regular = np.frombuffer(plan.table.kind, np.uint8)[rows_n] == REGULAR
    return bool(np.all(present.is_there | ~is_regular.repeat(len(plan.models))))


class Todo:
    """What there is to do for each job, from the lines of a journal as they come.

    ``runs`` names the work per model. ``by_hash`` tells inputs by their contents: every input that
    the journal knows and whose output is there is read.
    """

    def __init__(
        self, plan: Plan, present: Present, jobs: JobIndex, runs: Sequence[str], *, by_hash: bool
    ) -> None:
        self._plan, self._present, self._jobs = plan, present, jobs
        self._runs, self._by_hash = runs, by_hash
        self._run_keys = np.array([hash(run.partition("-")[0]) for run in runs])
        self._hashed: dict[int, int] = {}
        self._paths = None if by_hash else plan.table.paths(absolute_folders(plan))
        self._lines = 0
        self._noted = np.full(len(plan), MISSING, np.uint8)

    def take(self, entries: Entries) -> None:
        """Some lines; of an output the last one counts."""
        self._lines += len(entries)
        job_n = self._jobs.of(entries.out_key)
        known = np.flatnonzero(job_n >= 0)
        known = known[self._present.is_there[job_n[known]]]
        job_n = job_n[known]
        if not len(job_n):
            return
        is_ours = _column(entries.run_key)[known] == self._run_keys[job_n % len(self._runs)]
        is_same = (
            (_column(entries.size)[known] == self._present.size[job_n])
            & (_column(entries.mtime_ns)[known] == self._present.mtime_ns[job_n])
            & (_column(entries.work_key)[known] == self._keys(job_n))
        )
        self._noted[job_n] = np.where(is_same, UP_TO_DATE, np.where(is_ours, STALE, FOREIGN))

    def result(self, bad_lines: int) -> np.ndarray:
        """One of the constants above for each job, as uint8."""
        unknown = FOREIGN if self._lines and not bad_lines else UNKNOWN
        is_unknown = self._present.is_there & (self._noted == MISSING)
        return np.where(is_unknown, np.uint8(unknown), self._noted)

    def _keys(self, job_n: np.ndarray) -> np.ndarray:
        if not self._by_hash:
            return work_keys(self._plan, self._paths, job_n, self._runs)
        new = [job for job in job_n.tolist() if job not in self._hashed]
        keys = plain_work_keys(self._plan, new, self._runs, by_hash=True)
        self._hashed.update(zip(new, keys, strict=True))
        return np.array([self._hashed[job] for job in job_n.tolist()], np.int64)


def work_keys(plan: Plan, paths: Any, job_n: np.ndarray, runs: Sequence[str]) -> np.ndarray:
    """What has to be equal for a job to need no work, where inputs are told by their time;
    ``paths`` is the engine's view of the table's absolute paths, None without it."""
    if paths is None:
        return np.fromiter(plain_work_keys(plan, job_n.tolist(), runs), np.int64, len(job_n))
    table = plan.table
    of = plan.rows, job_n.astype(np.int64), table.size, table.mtime_ns
    return np.frombuffer(paths.work_keys(*of, list(runs)), np.int64)


def plain_work_keys(
    plan: Plan, jobs: list[int], runs: Sequence[str], by_hash: bool = False
) -> Iterator[int]:
    """What the keys are made of; the twin of the engine's where inputs are told by their time."""
    table, models = plan.table, len(plan.models)
    folders = absolute_folders(plan)
    for job in jobs:
        row = plan.rows[job // models]
        path = folders[table.folder[row]] + table.name(row)
        if by_hash:
            identity: tuple[Any, ...] = (table.size[row], content_hash(path))
        else:
            identity = (table.size[row], table.mtime_ns[row])
        yield work_key(path, identity, runs[job % models])


def absolute_folders(plan: Plan) -> list[bytes]:
    """The folders of the table as absolute paths that end in a slash."""
    table = plan.table
    tops = [os.path.abspath(top) for top in table.tops]
    return [
        os.path.join(os.path.normpath(os.path.join(tops[top], below)), b"")
        for top, below in zip(table.folder_top, table.folders, strict=True)
    ]


def content_hash(path: bytes) -> str:
    """SHA-256 of a file as hex; empty when it cannot be read, which matches nothing."""
    import hashlib  # only where contents are asked for: it is large

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _column(values: array[int]) -> np.ndarray:
    return np.frombuffer(values, np.int64)
