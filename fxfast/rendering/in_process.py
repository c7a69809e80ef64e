"""A run in threads of this process: no crash is survived, nothing is forked."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from fxfast.errors import RunError
from fxfast.rendering.supervise import TICK_S
from fxfast.rendering.work import Command, Work
from fxfast.rendering.worker import Worker


class InProcess:
    """Runs commands as ``Supervisor`` does, in threads."""

    worker_pid = 0

    def __init__(self, work: Work) -> None:
        self._work = work
        self._events: deque[dict[str, Any]] = deque()
        self._changed = threading.Condition()
        self._waiting: Iterator[Command] = iter(())
        self._taking = threading.Lock()
        self._error: BaseException | None = None
        self._worker: Worker | None = None

    def run(self, commands: Iterable[Command]) -> Iterator[dict[str, Any] | None]:
        self._waiting = iter(commands)
        self._worker = worker = Worker(self._work, self._take, self._emit, self._broken)
        worker.start()
        ended = threading.Thread(target=self._join, args=(worker,), daemon=True)
        ended.start()
        while ended.is_alive() or self._events:
            with self._changed:
                if not self._events:
                    self._changed.wait(TICK_S)
                found = list(self._events)
                self._events.clear()
            yield from found
            if self._error is not None:
                raise RunError(f"worker thread: ended: {self._error!r}") from self._error
            yield None
        self._worker = None

    def drain(self) -> None:
        with self._taking:
            self._waiting = iter(())

    def kill(self) -> None:
        """Stop the files in hand at their next block; waits for them."""
        self.drain()
        if self._worker is not None:
            self._worker.stop.set()
            if self._error is None:  # else there may be threads that wait for ever
                self._worker.join()

    def close(self) -> None:
        self.kill()

    def _take(self) -> Command | None:
        with self._taking:
            return next(self._waiting, None)

    def _emit(self, event: dict[str, Any]) -> None:
        if "job" in event:
            with self._changed:
                self._events.append(event)
                self._changed.notify()

    def _broken(self, error: BaseException) -> None:
        self._error = error
        self.drain()

    def _join(self, worker: Worker) -> None:
        worker.join()
        with self._changed:
            self._changed.notify()
