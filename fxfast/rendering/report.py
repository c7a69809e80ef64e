"""The report of a run: the outcome of every file, and the sums."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fxfast.rendering.outcomes import STATUSES, Outcomes


@dataclass(frozen=True)
class LibraryReport:
    """The outcome of each job, in the order of the plan, and the time of the run.

    ``models`` are the names and hashes of the models as they were when the run began.
    ``interrupted`` says that a signal, or a full disk, ended it before its end.
    """

    files: Outcomes
    wall_seconds: float
    models: dict[str, str]
    dry_run: bool = False
    interrupted: bool = False
    notes: tuple[str, ...] = ()

    def count(self, status: str) -> int:
        return self.files.status.count(STATUSES.index(status))

    @property
    def failed(self) -> tuple[Any, ...]:
        """The reports of the files that failed."""
        failed = STATUSES.index("failed")
        return tuple(self.files[job] for job in self.files.jobs(failed))

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that were rendered (in a dry run: that would be)."""
        wanted = STATUSES.index("planned" if self.dry_run else "rendered")
        status = np.frombuffer(self.files.status, np.uint8)
        return float(np.sum(self.files.seconds[status == wanted], dtype=np.float64))

    @property
    def realtime_factor(self) -> float:
        """Seconds of audio rendered in a second."""
        if self.dry_run or self.wall_seconds <= 0:
            return 0.0
        return self.audio_seconds / self.wall_seconds

    @property
    def clipped(self) -> int:
        return self.files.sum("clipped")

    @property
    def exit_code(self) -> int:
        """0 all is well, 1 a file failed, 130 interrupted."""
        if self.interrupted:
            return 130
        return 1 if self.count("failed") else 0

    def to_json(self) -> dict[str, Any]:
        """The whole report as JSON values."""
        return {
            "models": self.models,
            "dry_run": self.dry_run,
            "interrupted": self.interrupted,
            **{status: self.count(status) for status in STATUSES if status != "pending"},
            "audio_seconds": self.audio_seconds,
            "wall_seconds": self.wall_seconds,
            "realtime_factor": self.realtime_factor,
            "clipped": self.clipped,
            "notes": list(self.notes),
            "files": [asdict(file) for file in self.files],
        }
