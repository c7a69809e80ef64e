"""A run in a process of its own, watched by another one that touches no audio.

Threads share the engine, its packed weights and the groups of recurrent models, start at once
and cost no memory, so one process renders all files. What threads cannot do is survive a crash
of a decoder, a limit of memory or a read that never returns. So that process is a forked child:
when it dies, or a file takes too long and it has to be killed, the parent starts another one
within milliseconds (the model is in its memory already) and gives it the files that were in
hand one at a time. The file that is alone in hand when a second worker dies is at fault, and is
not tried again. A process for each core would give up fewer files in hand, for a copy of the
state of everything in each, and groups no larger than its share of the files.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxfast.audio.paths import printable
from fxfast.errors import RunError, WorkerCrashError
from fxfast.rendering.leftovers import remove_leftovers
from fxfast.rendering.work import PROBE, Command, Work
from fxfast.rendering.worker import Worker, timeout_error

TICK_S = 0.1
_MAX_TRIES = 2
_MAX_DEATHS = 3  # of a worker that has not even taken a file
# Python waits for ever for a thread that dies of memory as it starts.
_START_S = 5.0
_PROBES_AHEAD = 64
_KILL_AFTER_S = 1.0  # after the time limit of a file: the worker should have noticed itself
_PR_SET_PDEATHSIG = 1


@dataclass
class _InHand:
    """A command that the worker has: it waits there, is at work, or only has to be published."""

    command: Command
    state: str = "waits"
    taken_s: float = 0.0
    alone: bool = False


class Supervisor:
    """Runs commands in a worker process; an iterator of results, or of None when time passes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pid = 0
        self._commands = self._events = -1
        self._buffer = b""
        self._in_hand: dict[int, _InHand] = {}
        self._suspects: deque[Command] = deque()
        self._tries: dict[int, int] = {}
        self._waiting: Iterator[Command] = iter(())
        self._draining = False
        self._deaths = 0  # of workers, since the last result
        self._silent_s = 0.0  # how long the worker has had commands and not taken one

    @property
    def worker_pid(self) -> int:
        return self._pid

    def run(self, commands: Iterable[Command]) -> Iterator[dict[str, Any] | None]:
        """The result of each command, as it comes. None comes at least every tenth of a second."""
        self._waiting = iter(commands)
        last = time.monotonic()
        while True:
            self._give()
            if not self._in_hand and not self._suspects:
                return
            yield from self._results()
            now = time.monotonic()
            # A process that was stopped for an hour has not worked for an hour.
            yield from self._overdue(min(now - last, 2 * TICK_S))
            last = now
            yield None

    def drain(self) -> None:
        """Start no other command; those in hand go on."""
        self._draining = True
        self._waiting = iter(())
        self._suspects.clear()

    def kill(self) -> None:
        """End the worker at once."""
        self.drain()
        self._end_worker(signal.SIGKILL)
        self._in_hand.clear()

    def close(self) -> None:
        """Let the worker end; every file must have been waited for."""
        if self._pid:
            os.close(self._commands)
            self._commands = -1
            deadline = time.monotonic() + 5.0
            while self._read_events(TICK_S) and time.monotonic() < deadline:
                pass
            self._end_worker(signal.SIGKILL)

    def _give(self) -> None:
        # One that may have ended the worker has it alone to the end: what happens is its doing.
        if any(item.alone for item in self._in_hand.values()):
            return
        alone = bool(self._suspects)
        while self._busy() < (1 if alone else self._window()):
            command = self._suspects.popleft() if alone else next(self._waiting, None)
            if command is None:
                return
            if not self._pid:
                self._start_worker()
            self._in_hand[command[1]] = _InHand(command, alone=alone)
            with contextlib.suppress(OSError):  # it died: the end of its events says so
                os.write(self._commands, f"{command[0]} {command[1]}\n".encode())
            if alone:
                return

    def _busy(self) -> int:
        if self._suspects:
            return len(self._in_hand)
        return sum(item.state != "publish" for item in self._in_hand.values())

    def _window(self) -> int:
        probing = any(item.command[0] == PROBE for item in self._in_hand.values())
        return max(_PROBES_AHEAD if probing else 0, self._work.open_jobs + 1)

    def _results(self) -> Iterator[dict[str, Any]]:
        if self._pid and not (self._read_events(TICK_S) and self._silent_s < _START_S):
            yield from self._bury()
            return
        yield from self._said()

    def _said(self) -> Iterator[dict[str, Any]]:
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            event = json.loads(line)
            if "state" in event:
                item = self._in_hand.get(event["of"])
                if item is not None:
                    item.state, item.taken_s = event["state"], 0.0
            elif self._in_hand.pop(event["job"], None) is not None:
                self._deaths = 0
                yield event

    def _read_events(self, timeout_s: float) -> bool:
        """Take what the worker has said; False when it has ended."""
        readable, _, _ = select.select([self._events], [], [], timeout_s)
        if not readable:
            return True
        piece = os.read(self._events, 1 << 16)
        self._buffer += piece
        return bool(piece)

    def _bury(self) -> Iterator[dict[str, Any]]:
        """The worker died: try what it had in hand again, one by one, but not for ever."""
        yield from self._said()
        how = self._end_worker(signal.SIGKILL)
        in_hand, self._in_hand = list(self._in_hand.values()), {}
        at_work = [item.command for item in in_hand if item.state == "work"]
        self._deaths += not at_work
        self._silent_s = 0.0
        if self._deaths >= _MAX_DEATHS:
            raise RunError(
                f"worker process: expected it to work, it ended {self._deaths} times before it "
                f"took a file ({_death(how)})"
            )
        self._again(item.command for item in in_hand if item.state != "work")
        for command in at_work:
            job = command[1]
            # Among many the dead worker says little of each; alone, it says all.
            self._tries[job] = self._tries.get(job, 0) + 1
            if self._tries[job] >= _MAX_TRIES and len(at_work) == 1:
                yield _failed(job, WorkerCrashError(self._crash_text(job, how), signal=how))
            else:
                self._suspects.append(command)
        if self._draining:
            self.drain()

    def _again(self, commands: Iterable[Command]) -> None:
        """Put commands in front of those that wait."""
        self._waiting = itertools.chain(list(commands), self._waiting)

    def _crash_text(self, job: int, how: int) -> str:
        name = printable(self._work.plan.input(job))
        return f"{name}: ended the worker process {_MAX_TRIES} times ({_death(how)}), given up"

    def _overdue(self, passed_s: float) -> Iterator[dict[str, Any]]:
        takes = all(item.state == "waits" for item in self._in_hand.values())
        self._silent_s = self._silent_s + passed_s if takes and self._in_hand else 0.0
        limit = self._work.timeout_s
        late = []
        for job, item in self._in_hand.items():
            if item.state != "waits":
                item.taken_s += passed_s
            if limit is not None and item.taken_s > limit + _KILL_AFTER_S:
                late.append(job)
        if not late or limit is None:
            return
        self._end_worker(signal.SIGKILL)
        for job in late:
            del self._in_hand[job]
            yield _failed(job, timeout_error(self._work.plan.input(job), limit))
        self._again(item.command for item in self._in_hand.values())
        self._in_hand.clear()

    # --- the process ---------------------------------------------------------------

    def _start_worker(self) -> None:
        command_read, self._commands = os.pipe()
        self._events, event_write = os.pipe()
        self._buffer = b""
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            parent = os.getpid()
            self._pid = os.fork()
        except OSError as error:
            for fd in (command_read, self._commands, self._events, event_write):
                os.close(fd)
            raise RunError(f"worker process: cannot be started: {error.strerror}") from error
        if self._pid == 0:
            status = 1
            try:
                os.close(self._commands)
                os.close(self._events)
                _run_worker(self._work, command_read, event_write, parent)
                status = 0
            finally:
                os._exit(status)
        os.close(command_read)
        os.close(event_write)

    def _end_worker(self, number: int) -> int:
        """Kill the worker, wait a little, and remove what it left of the files in hand.

        Returns the signal or status it had.
        """
        if not self._pid:
            return 0
        jobs = list(self._in_hand)
        status = self._reap(number)
        outputs = (Path(self._work.plan.output(job)) for job in jobs)
        remove_leftovers({output.parent for output in outputs})
        return status

    def _reap(self, number: int) -> int:
        pid, self._pid = self._pid, 0
        for fd in (self._commands, self._events):
            if fd >= 0:
                os.close(fd)
        self._commands = self._events = -1
        status = _wait(pid, 0.05)
        if status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            # Inside a call of the system that never returns it cannot die: leave it behind.
            status = _wait(pid, 1.0)
        return 0 if status is None else status


def _wait(pid: int, timeout_s: float) -> int | None:
    """The end of a child as ``subprocess`` gives it (signals negative); None if it goes on."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)


def _death(how: int) -> str:
    if how < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-how).name
            return f"{name}: out of memory?" if name == "SIGKILL" else name
    return f"exit status {how}"


def _failed(job: int, error: RunError) -> dict[str, Any]:
    values = {"code": error.code, "message": str(error), "details": error.details}
    return {"job": job, "error": values}


def _run_worker(work: Work, commands: int, events: int, parent: int) -> None:
    """The child: until its commands end, or its parent does."""
    # The parent gets the signals of the terminal and decides; a dead parent takes us along.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent(parent)
    lock = threading.Lock()
    taking = threading.Lock()
    lines = os.fdopen(commands, "rb")

    def take() -> Command | None:
        with taking:
            line = lines.readline()
        if not line.endswith(b"\n"):
            return None
        kind, job = line.split()
        return kind.decode(), int(job)

    def emit(event: dict[str, Any]) -> None:
        data = json.dumps(event).encode() + b"\n"
        with lock:
            while data:
                data = data[os.write(events, data) :]

    def broken(error: BaseException) -> None:
        os._exit(1)

    worker = Worker(work, take, emit, broken)
    worker.start()
    worker.join()


def _die_with_parent(parent: int) -> None:
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
