"""The progress bars of the commands: on standard error while it is a terminal, else silent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
