"""Files that share the engine: their next blocks go through a recurrent model together.

The engine works on many streams of a recurrent model at once in little more time than on a few.
So several files are open for each job. A file that has its next block waits for the others, and
whoever completes a group runs it for all. No file depends on another: the samples are those of
a file alone, an error stays with its file, and a file that ends leaves the group.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

import numpy as np

from fxfast.errors import FxfastError
from fxfast.graph import ModelGraph
from fxfast.rendering.rendered_file import BlockStream, StreamPlayer

# As many as the kernels keep busy; more would only hold more files open.
GROUP_FILES = 16
# Threads wait for each other at every block: fewer, larger ones than those of a file alone.
GROUP_BLOCK_FRAMES = 1 << 18


class GroupPlayer(StreamPlayer, Protocol):
    """A player whose streams can go on together: ``fxfast.player.Player``."""

    def process_together(
        self, streams: list[BlockStream], blocks: list[np.ndarray]
    ) -> list[np.ndarray]: ...


_Stream = TypeVar("_Stream")


class Request(Generic[_Stream]):
    """A block that waits to be played together with those of other threads."""

    def __init__(self, stream: _Stream, block_ct: np.ndarray) -> None:
        self.stream, self.block_ct = stream, block_ct
        self.output_ct: np.ndarray | None = None
        self.error: Exception | None = None
        self.leads = False
        self.ready = threading.Event()  # it leads, or its output or error is there


class _Slots:
    """A semaphore, of what Python has in C."""

    def __init__(self, count: int) -> None:
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self.release()

    def acquire(self) -> None:
        self._free.get()

    def release(self) -> None:
        self._free.put(None)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class Group:
    """The files that are open for ``jobs`` jobs; at most ``jobs`` threads work at once."""

    def __init__(self, player: GroupPlayer, jobs: int) -> None:
        self._player = player
        self._jobs = jobs
        self._slots = _Slots(jobs)
        self._lock = threading.Lock()
        self._open_files = 0
        self._waiting: list[Request[BlockStream]] = []

    @contextmanager
    def file(self) -> Iterator[StreamPlayer]:
        """The player for one file, in the thread that renders it."""
        with self._lock:
            self._open_files += 1
        try:
            with self._slots:
                yield MemberPlayer(self, self._player)
        finally:
            with self._lock:
                self._open_files -= 1
                self._appoint()

    def process(self, stream: BlockStream, block_ct: np.ndarray) -> np.ndarray:
        """The block of one file, when its group is complete."""
        request = Request(stream, block_ct)
        with self._lock:
            self._waiting.append(request)
            self._appoint()
        if not request.ready.is_set():
            self._slots.release()
            try:
                request.ready.wait()
            finally:
                self._slots.acquire()
        if request.leads:
            self._lead(request)
        if request.error is not None:
            raise request.error
        assert request.output_ct is not None
        return request.output_ct

    def _appoint(self) -> None:
        """Let the first that waits lead, once a group is complete; called with the lock."""
        wanted = min(GROUP_FILES, max(1, self._open_files // self._jobs))
        free = [request for request in self._waiting if not request.leads]
        leading = len(self._waiting) - len(free)
        if free and len(free) >= wanted + leading * (GROUP_FILES - 1):
            free[0].leads = True
            free[0].ready.set()

    def _lead(self, leader: Request[BlockStream]) -> None:
        with self._lock:
            self._waiting.remove(leader)
            others = [request for request in self._waiting if not request.leads]
            group = [leader, *others[: GROUP_FILES - 1]]
            self._waiting = [request for request in self._waiting if request not in group]
        try:
            outputs = self._player.process_together(
                [request.stream for request in group], [request.block_ct for request in group]
            )
            for request, output_ct in zip(group, outputs, strict=True):
                request.output_ct = output_ct
        except FxfastError:
            # One of the blocks was refused and nothing has run: each by itself.
            for request in group:
                self._alone(request)
        except Exception as error:
            for request in group:
                request.error = error
        finally:
            for request in group:
                request.ready.set()

    def _alone(self, request: Request[BlockStream]) -> None:
        try:
            (request.output_ct,) = self._player.process_together(
                [request.stream], [request.block_ct]
            )
        except Exception as error:
            request.error = error


class MemberPlayer:
    """The player as one file of a group sees it."""

    def __init__(self, group: Group, player: GroupPlayer) -> None:
        self._group, self._player = group, player

    @property
    def graph(self) -> ModelGraph:
        return self._player.graph

    @property
    def grid_samples(self) -> int:
        return self._player.grid_samples

    def stream(self, channels: int = 1, knobs: dict[str, float] | None = None) -> BlockStream:
        if knobs is None:
            stream = self._player.stream(channels)
        else:
            stream = self._player.stream(channels, knobs)  # type: ignore[call-arg]
        return _MemberStream(self._group, stream, channels)


class _MemberStream:
    def __init__(self, group: Group, stream: BlockStream, channels: int) -> None:
        self._group, self._stream, self._channels = group, stream, channels

    def process(self, block: np.ndarray, knobs: dict[str, np.ndarray] | None = None) -> np.ndarray:
        if knobs is not None:  # of the file's own time: nobody else's block has them
            alone: np.ndarray = self._stream.process(block, knobs)  # type: ignore[call-arg]
            return alone
        if block.size == 0:  # nothing to wait for
            return self._stream.process(block)
        block_ct = np.ascontiguousarray(block.reshape(self._channels, -1))
        return self._group.process(self._stream, block_ct).reshape(block.shape)

    def flush(self) -> np.ndarray:
        return self._stream.flush()
