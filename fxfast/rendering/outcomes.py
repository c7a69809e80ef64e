"""What became of each file of a run, packed, and read as one report line each."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

from fxfast.audio.paths import AnyPath, printable
from fxfast.rendering.plan import Plan
from fxfast.whole_file import whole_file

STATUSES = ("pending", "rendered", "done", "planned", "skipped", "failed")
PENDING, RENDERED, DONE, PLANNED, SKIPPED, FAILED = range(len(STATUSES))
_NO_PEAK = float("-inf")


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    ``status`` is "rendered", "done" (an earlier run made it), "planned" (in a dry run), "skipped"
    (a link that is not followed) or "failed"; ``code`` and ``message`` say why. ``audio_seconds``
    is the file's length, 0 where unknown. ``clipped`` counts the samples cut at full scale;
    ``details`` are numbers of the error, and what else is worth knowing of the output.
    """

    input: str
    output: str
    status: str
    code: str | None = None
    message: str | None = None
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    clipped: int = 0
    model: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Outcomes(Sequence[FileReport]):
    """The outcome of every job of a plan, in its order."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        count = len(plan)
        self.status = array("B", bytes(count))
        self.seconds = np.zeros(count, np.float32)  # whose pages take memory once they are used
        self.wall = np.zeros(count, np.float32)
        self._rest: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.status)

    @overload
    def __getitem__(self, job: int) -> FileReport: ...
    @overload
    def __getitem__(self, job: slice) -> list[FileReport]: ...
    def __getitem__(self, job: int | slice) -> FileReport | list[FileReport]:
        if isinstance(job, slice):
            return [self[j] for j in range(*job.indices(len(self)))]
        if not -len(self) <= job < len(self):
            raise IndexError(job)
        job %= len(self)
        plan = self._plan
        return FileReport(
            printable(plan.input(job)),
            printable(plan.output(job)) if plan.is_regular(job) else "",
            STATUSES[self.status[job]],
            audio_seconds=float(self.seconds[job]),
            wall_seconds=float(self.wall[job]),
            model=plan.models[plan.model(job)],
            **self._rest.get(job, {}),
        )

    def __iter__(self) -> Iterator[FileReport]:
        return (self[job] for job in range(len(self)))

    def put(
        self, job: int, status: int, *, seconds: float = 0.0, wall: float = 0.0, **rest: Any
    ) -> None:
        """``rest``: code, message, clipped, details; what is empty takes no memory."""
        self.status[job] = status
        if seconds:
            self.seconds[job] = seconds
        self.wall[job] = wall
        kept = {name: value for name, value in rest.items() if value}
        if kept:
            self._rest[job] = kept
        else:
            self._rest.pop(job, None)

    def fail(self, job: int, code: str, message: str, **rest: Any) -> None:
        self.put(job, FAILED, code=code, message=message, **rest)

    def jobs(self, status: int) -> Iterator[int]:
        """The jobs that have a status now."""
        return iter(np.flatnonzero(np.frombuffer(self.status, np.uint8) == status).tolist())

    def sum(self, name: str) -> int:
        """A number of the outcomes added up."""
        return sum(rest.get(name, 0) for rest in self._rest.values())

    def write_lines(self, path: AnyPath) -> None:
        """A line of JSON for each job, in UTF-8, whole or not at all.

        A name that is not plain Unicode is also there as ``input_hex``, the bytes of its path.
        """
        with whole_file(Path(path)) as temp, open(temp, "w", encoding="utf-8") as file:
            for job in range(len(self)):
                values = asdict(self[job])
                name = self._plan.input(job)
                if values["input"] != name:
                    values["input_hex"] = os.fsencode(name).hex()
                file.write(json.dumps(values) + "\n")
