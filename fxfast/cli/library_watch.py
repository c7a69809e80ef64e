"""Watching a run of the renderer: its progress on a terminal, and the signals that stop it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from fxfast.rendering import FileReport, Watcher

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_REFRESH_S = 0.1


class RunWatcher(Watcher):
    """Files done, speed and time left on standard error; silent when ``progress`` is None.

    Nothing is drawn by a thread: the run forks.
    """

    def __init__(self, progress: Any = None) -> None:
        self._progress = progress
        self._task: Any = None
        self._started = self._drawn = 0.0
        self._done_s = 0.0
        self._failed = 0
        self.stop_requests = 0

    def on_plan(self, files: int, audio_seconds: float) -> None:
        self._started = time.monotonic()
        if self._progress is not None:
            self._task = self._progress.add_task(
                "rendering", total=files, speed="", left="", audio_s=audio_seconds
            )

    def on_file(self, file: FileReport) -> None:
        self._failed += file.status == "failed"
        self._done_s += file.audio_seconds
        if self._progress is None:
            return
        if self._task is None:  # it failed before the first render
            return
        taken = max(1e-6, time.monotonic() - self._started)
        total = self._progress.tasks[self._task].fields["audio_s"]
        left = max(0.0, total - self._done_s) * taken / max(self._done_s, 1e-6)
        self._progress.update(
            self._task,
            advance=1,
            description=self._text(),
            speed=f"{self._done_s / taken:.0f}x real time",
            left=f"{int(left) // 60}:{int(left) % 60:02} left",
        )

    def on_tick(self) -> None:
        now = time.monotonic()
        if self._progress is not None and now - self._drawn > _REFRESH_S:
            self._drawn = now
            if self._task is not None:
                self._progress.update(self._task, description=self._text())
            self._progress.refresh()

    def finish(self) -> None:
        if self._progress is not None:
            self._progress.refresh()

    def _text(self) -> str:
        text = "stopping" if self.stop_requests else "rendering"
        return f"{text}, {self._failed} failed" if self._failed else text

    def request_stop(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: once lets the files in hand end, twice gives them up."""
        self.stop_requests += 1
        if self.stop_requests > 2:
            raise KeyboardInterrupt


@contextmanager
def watched_run() -> Iterator[RunWatcher]:
    """A watcher that draws while standard error is a terminal."""
    if not sys.stderr.isatty():
        yield RunWatcher()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        watcher = RunWatcher(progress)
        yield watcher
        watcher.finish()


@contextmanager
def stopping_signals(watcher: RunWatcher) -> Iterator[None]:
    """SIGINT and SIGTERM ask the watcher's run to stop; a terminal that closes does not."""
    before = {number: signal.signal(number, watcher.request_stop) for number in _STOPPING}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
