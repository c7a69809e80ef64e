"""The progress of a run on a terminal: losses, waiting for data, speed, time to the end."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from fxfast.training.observers import EpochRecord, Observer, Step

# Reading the loss from a device waits for it: so rarely.
_REFRESH_SECONDS = 0.25


class ProgressBar(Observer):
    """A progress bar on a terminal, silence elsewhere. Use as a context manager."""

    def __init__(self, description: str = "training") -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        console = Console(file=sys.stderr)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("to the end"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(description, total=1.0, note="")
        self._shown = 0.0
        self._validation = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def on_step(self, step: Step) -> None:
        now = time.monotonic()
        if self._progress.disable or now - self._shown < _REFRESH_SECONDS:
            return
        self._shown = now
        note = step_note(step) + self._validation
        self._progress.update(self._task, completed=step.used, note=note)

    def on_fit(self, share: float, note: str) -> None:
        self._progress.update(self._task, completed=share, note=note)

    def on_epoch(self, record: EpochRecord) -> None:
        self._validation = (
            f"  validation ESR {record.validation_esr:.5f} (best {record.best_esr:.5f})"
        )
        self._progress.update(self._task, note=f"epoch {record.epoch}{self._validation}")


def step_note(step: Step) -> str:
    """One line about a step."""
    return (
        f"epoch {step.epoch}  loss {float(step.loss):.5f}  {step.steps_per_second:.1f} steps/s  "
        f"data wait {step.data_wait:.1%}"
    )
