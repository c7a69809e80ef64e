"""What of a plan is still to do: the plan beside the journal and the files that are there.

The three are joined by hashes of the outputs' paths, column by column, so that a library of
100,000 files of which nothing is to do takes a second. A hash alone decides nothing: a file is
done only if its size and time, and those of its input, are those of the journal too.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from fxfast.audio.paths import printable
from fxfast.errors import CollisionError
from fxfast.rendering.file_table import FileStates
from fxfast.rendering.journal import Entries, work_key
from fxfast.rendering.leftovers import is_leftover
from fxfast.rendering.plan import Plan

# What there is to do for a job: the output is missing; it is done; it is there and not ours, or
# of other work; it is ours and out of date; it is there and nobody knows whose it is.
MISSING, UP_TO_DATE, FOREIGN, STALE, UNKNOWN = range(5)


class Present(FileStates):
    """The files that are there in the output's folders, packed."""

    def __init__(self) -> None:
        super().__init__()
        self.key = array("q")  # hash of the path below the output's folder
        self.leftovers: list[bytes] = []  # unfinished files of dead runs


def find_present(plan: Plan) -> Present:
    """What is in the folders of the outputs."""
    present = Present()
    out_dir = os.fsencode(plan.out_dir)
    for folder in sorted(plan.out_folders):
        head = folder + b"/" if folder else b""
        # A folder that is not there yet, or not ours to see: the render of a file will say so.
        with suppress(OSError), os.scandir(os.path.join(out_dir, folder)) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b"."):
                    if is_leftover(entry):
                        present.leftovers.append(entry.path)
                    continue
                present.add(entry.stat(follow_symlinks=False))
                present.key.append(hash(head + name))
    return present


def refuse_outputs_that_are_inputs(plan: Plan, present: Present) -> None:
    """Raise ``CollisionError`` where a file that is there is an input, by whatever name."""
    inodes = np.frombuffer(plan.table.inode, np.uint64)
    suspects = np.isin(np.frombuffer(present.inode, np.uint64), inodes[inodes > 0])
    if not suspects.any():
        return
    inputs = set(zip(plan.table.inode, plan.table.device, strict=True))
    suspect_keys = {
        present.key[at]
        for at in np.flatnonzero(suspects).tolist()
        if (present.inode[at], present.device[at]) in inputs
    }
    for job, key in enumerate(plan.out_key):
        if key in suspect_keys and plan.is_regular(job):
            raise CollisionError(
                f"{printable(plan.output(job))}: expected an output that is not an input of the run"
            )


def what_to_do(
    plan: Plan, entries: Entries, present: Present, runs: Sequence[str], *, by_hash: bool = False
) -> np.ndarray:
    """For each job one of the constants above, as uint8; ``runs`` names the work per model.

    ``by_hash`` tells inputs by their contents: every input whose output is there is read.
    """
    wanted = np.frombuffer(plan.out_key, np.int64)
    there = _last(np.frombuffer(present.key, np.int64), wanted)
    noted = _last(np.frombuffer(entries.out_key, np.int64), wanted)
    todo = np.full(len(plan), MISSING, np.uint8)
    todo[there >= 0] = FOREIGN if len(entries) and not entries.bad_lines else UNKNOWN
    both = np.flatnonzero((there >= 0) & (noted >= 0))
    if not len(both):
        return todo
    entry, file = noted[both], there[both]
    ours = (
        _column(entries.run_key)[entry]
        == np.array([hash(run.partition("-")[0]) for run in runs])[both % len(plan.models)]
    )
    same_file = (_column(entries.size)[entry] == _column(present.size)[file]) & (
        _column(entries.mtime_ns)[entry] == _column(present.mtime_ns)[file]
    )
    keys = np.fromiter(_work_keys(plan, both.tolist(), runs, by_hash), np.int64, len(both))
    up_to_date = same_file & (_column(entries.work_key)[entry] == keys)
    todo[both] = np.where(up_to_date, UP_TO_DATE, np.where(ours, STALE, FOREIGN))
    return todo


def _work_keys(plan: Plan, jobs: list[int], runs: Sequence[str], by_hash: bool) -> Any:
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
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _column(values: array[int]) -> np.ndarray:
    return np.frombuffer(values, np.int64)


def _last(keys_n: np.ndarray, wanted_m: np.ndarray) -> np.ndarray:
    """For each wanted key its last position among the keys, -1 where it is not."""
    order = np.argsort(keys_n, kind="stable")
    at = np.searchsorted(keys_n[order], wanted_m, "right") - 1
    if not len(order):
        return np.full(len(wanted_m), -1)
    found = (at >= 0) & (keys_n[order][at] == wanted_m)
    return np.where(found, order[at], -1)
