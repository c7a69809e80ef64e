"""The run of a plan: headers first, then the longest files first, until all are done."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxfast.audio.paths import printable
from fxfast.rendering.file_table import LINK, NOT_FILE, OUTSIDE, REGULAR
from fxfast.rendering.outcomes import (
    DONE,
    FAILED,
    PENDING,
    PLANNED,
    RENDERED,
    SKIPPED,
    FileReport,
    Outcomes,
)
from fxfast.rendering.plan import Plan
from fxfast.rendering.resume import FOREIGN, UP_TO_DATE
from fxfast.rendering.work import PROBE, RENDER, Work

_FULL_DISK_ERRORS = 3


class Watcher:
    """What a caller hears of a run, in its own thread; this one ignores it all.

    ``stop_requests`` is looked at ten times a second: 1 lets the files in hand end, within the
    grace time, and starts no other; 2 gives them up.
    """

    stop_requests = 0

    def on_plan(self, files: int, audio_seconds: float) -> None:
        """Before the first file: how many are to be rendered, and how long they are together."""

    def on_file(self, file: FileReport) -> None:
        """A file was rendered or failed."""

    def on_tick(self) -> None:
        """Some time has passed."""


@dataclass(frozen=True)
class RunResult:
    """``interrupted``: it did not come to its end."""

    outcomes: Outcomes
    interrupted: bool
    notes: tuple[str, ...]


class LibraryRun:
    """One run of the jobs of a plan that are still to do, as ``todo`` says."""

    def __init__(
        self, plan: Plan, todo: np.ndarray, watcher: Watcher, *, overwrite: bool, grace_s: float
    ) -> None:
        self._plan, self._todo, self._watcher = plan, todo, watcher
        self._overwrite, self._grace_s = overwrite, grace_s
        self.outcomes = Outcomes(plan)
        self._bytes: array[int] = array("q")
        self._notes: list[str] = []
        self._full_disk = 0
        self._stopping_since: float | None = None
        self._gave_up = False
        self._mark_what_is_known()

    @property
    def has_work(self) -> bool:
        return PENDING in self.outcomes.status

    def nothing(self) -> RunResult:
        """The end of a run without work."""
        return RunResult(self.outcomes, False, tuple(self._notes))

    def dry(self, work: Work, *, isolate: bool) -> RunResult:
        """Open and check every file that would be rendered."""
        self._begin(work, isolate)
        try:
            self._probe()
            for job in list(self.outcomes.jobs(PENDING)):
                self.outcomes.put(job, PLANNED)
        finally:
            self._executor.close()
        return RunResult(self.outcomes, self._watcher.stop_requests > 0, tuple(self._notes))

    def render(self, work: Work, *, isolate: bool) -> RunResult:
        """Render every file that is still to do; an exception gives up the files in hand."""
        self._begin(work, isolate)
        try:
            self._probe()
            self._render_longest_first()
        except BaseException:
            self._give_up()
            raise
        self._executor.close()
        interrupted = self._stopping_since is not None
        why = "the run was interrupted"
        if self._full_disk >= _FULL_DISK_ERRORS:
            why = f"the disk was full for {self._full_disk} files"
        for job in list(self.outcomes.jobs(PENDING)):
            self.outcomes.fail(job, "E_STOPPED", f"{self._name(job)}: not rendered: {why}")
        return RunResult(self.outcomes, interrupted, tuple(self._notes))

    def _begin(self, work: Work, isolate: bool) -> None:
        # Imported here: a run that finds nothing to do should not wait for what renders.
        from fxfast.rendering.in_process import InProcess
        from fxfast.rendering.supervise import Supervisor

        self._bytes = array("q", bytes(8 * len(self._plan)))
        self._executor = (Supervisor if isolate else InProcess)(work)

    def _name(self, job: int) -> str:
        return printable(self._plan.input(job))

    def _mark_what_is_known(self) -> None:
        """The outcome of everything that needs no look into a file."""
        outcomes, overwrite = self.outcomes, self._overwrite
        table = self._plan.table
        links = 0
        done = np.zeros(len(self._plan), bool)
        if not overwrite:
            kinds = np.frombuffer(table.kind, np.uint8)[np.frombuffer(self._plan.rows, np.int64)]
            done = (self._todo == UP_TO_DATE) & (kinds.repeat(len(self._plan.models)) == REGULAR)
            np.frombuffer(outcomes.status, np.uint8)[done] = DONE
        for job in np.flatnonzero(~done).tolist():
            kind = table.kind[self._plan.row(job)]
            if kind == REGULAR:
                if overwrite:
                    continue
                if self._todo[job] == FOREIGN:
                    text = f"{printable(self._plan.output(job))}: expected no file there"
                    why = "it exists, not of this model and these settings (overwrite not asked)"
                    outcomes.fail(job, "E_EXISTS", f"{text}, {why}")
            elif kind == LINK:
                links += 1
                why = "a link; links are not followed unless asked"
                outcomes.put(job, SKIPPED, code="E_LINK", message=f"{self._name(job)}: {why}")
            elif kind == NOT_FILE:
                why = "expected an audio file, got a folder, a pipe or a device"
                outcomes.fail(job, "E_NOTFILE", f"{self._name(job)}: {why}")
            else:
                code = "E_OUTSIDE" if kind == OUTSIDE else "E_NOTFILE"
                why = table.reasons.get(self._plan.row(job), "cannot be opened")
                outcomes.fail(job, code, f"{self._name(job)}: {why}")
        if links:
            self._notes.append(f"{links} links were not followed")

    def _probe(self) -> None:
        for result in self._executor.run((PROBE, job) for job in list(self.outcomes.jobs(PENDING))):
            self._watcher.on_tick()
            if result is not None:
                job = result["job"]
                if "error" in result:
                    self._take(result)
                else:
                    self.outcomes.seconds[job] = result["seconds"]
                    self._bytes[job] = result["bytes"]
            if self._must_stop():
                return
        self._compare_space()

    def _compare_space(self) -> None:
        needed = sum(self._bytes[job] for job in self.outcomes.jobs(PENDING))
        folder = os.path.abspath(self._plan.out_dir)
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        found = os.statvfs(folder)
        free = found.f_bavail * found.f_frsize
        if needed > free:
            self._notes.append(
                f"disk: the outputs need up to {needed / 2**20:.0f} MiB, "
                f"{free / 2**20:.0f} MiB are free"
            )

    def _render_longest_first(self) -> None:
        seconds = self.outcomes.seconds
        order = sorted(self.outcomes.jobs(PENDING), key=lambda job: -seconds[job])
        self._watcher.on_plan(len(order), float(np.sum(seconds[order], dtype=np.float64)))
        for result in self._executor.run(self._commands(order)):
            self._watcher.on_tick()
            if result is not None:
                self._take(result)
            if self._full_disk >= _FULL_DISK_ERRORS:
                self._executor.drain()
            if self._must_stop():
                return

    def _commands(self, order: list[int]) -> Iterator[tuple[str, int]]:
        for job in order:
            if self.outcomes.status[job] == PENDING:
                yield RENDER, job

    def _take(self, result: dict[str, Any]) -> None:
        job = result["job"]
        error = result.get("error")
        if error is None:
            self.outcomes.put(
                job,
                RENDERED,
                seconds=result["seconds"],
                wall=result["wall"],
                clipped=result["clipped"],
                details=result["details"],
            )
        else:
            wall = result.get("wall", 0.0)
            self.outcomes.put(job, FAILED, wall=wall, **error)
            self._full_disk += error["code"] == "E_NOSPACE"
        self._watcher.on_file(self.outcomes[job])

    def _must_stop(self) -> bool:
        """Whether to leave now: asked twice, or the grace time of a first request is over."""
        requests = self._watcher.stop_requests
        if not requests:
            return False
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
            self._executor.drain()
        if requests > 1 or now - self._stopping_since >= self._grace_s:
            self._give_up()
            return True
        return False

    def _give_up(self) -> None:
        if not self._gave_up:
            self._gave_up = True
            self._executor.kill()
