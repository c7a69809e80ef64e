"""The progress bars of the commands: on standard error while it is a terminal, else silent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxfast.rendering import FileReport


class FileBar:
    """Files done of all files, on standard error; silent when ``progress`` is None."""

    def __init__(self, progress: Any = None) -> None:
        self._progress = progress
        self._task: Any = None
        self._failed = 0

    def start(self, files: int) -> None:
        if self._progress is not None:
            self._task = self._progress.add_task("rendering", total=files)

    def advance(self, file: FileReport) -> None:
        self._failed += file.status == "failed"
        if self._progress is not None:
            text = f"rendering, {self._failed} failed" if self._failed else "rendering"
            self._progress.update(self._task, advance=1, description=text)


@contextmanager
def file_bar() -> Iterator[FileBar]:
    """A bar of files on standard error while it is a terminal, silence elsewhere."""
    if not sys.stderr.isatty():
        yield FileBar()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield FileBar(progress)


@contextmanager
def round_bar(description: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of measuring rounds that draws only between them, so that it disturbs none."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task(description)
        progress.refresh()

        def on_round(done: int, count: int) -> None:
            progress.update(task, completed=done, total=count, refresh=True)

        yield on_round
