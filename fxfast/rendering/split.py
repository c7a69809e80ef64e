"""One file on several cores, for as long as cores have nothing else to do.

A run has as many cores as jobs. A thread holds one while it renders a file; a file that goes block
by block through a model which is not recurrent borrows those that nobody holds, for one block at a
time. Its channels then run side by side, and so do parts of a channel: a part begins with as much
of the sound before it as the model hears, on the grid of the model, so that every sample is to the
bit what one core would have made of it. While a block is encoded, the next one is decoded and
rendered.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol, TypeGuard

import numpy as np

from fxfast.graph import ModelGraph
from fxfast.rendering.pipeline import BlockStream, StreamPlayer

# A part repeats what the model hears before it: this long it costs a quarter at most.
_PART_WARM_UPS = 4
_MIN_PART_SAMPLES = 8192
_CHEAP_MACS = 64  # for a sample: a few nanoseconds, as reading and writing one takes
# Blocks of files that may be split: long enough for parts of their own.
SPLIT_BLOCK_FRAMES = 1 << 17


class SplittablePlayer(StreamPlayer, Protocol):
    """A player whose streams can begin in the middle: ``fxfast.player.Player``."""

    @property
    def warm_up_samples(self) -> int: ...

    @property
    def alignment_samples(self) -> int: ...


def can_split(player: StreamPlayer) -> TypeGuard[SplittablePlayer]:
    return not player.graph.is_recurrent and hasattr(player, "warm_up_samples")


class Cores:
    """How many cores are free; as many threads as there are cores help with parts."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._pool = ThreadPoolExecutor(max(1, count - 1), thread_name_prefix="fxfast-part")
        self.count = count

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a core, when one is free."""
        with self._free:
            yield

    @contextmanager
    def none(self) -> Iterator[None]:
        """Lend the core that this thread holds, while it waits for something else."""
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()

    @contextmanager
    def more(self, most: int) -> Iterator[int]:
        """Borrow up to ``most`` cores that are free now; gives how many they are."""
        count = 0
        while count < most and self._free.acquire(blocking=False):
            count += 1
        try:
            yield count
        finally:
            for _ in range(count):
                self._free.release()

    def run(self, works: list[_Part], helpers: int) -> None:
        """Do all ``works``, in this thread and in ``helpers`` others."""
        left = iter(works)
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    part = next(left, None)
                if part is None:
                    return
                part.run()

        futures = [self._pool.submit(work) for _ in range(helpers)]
        try:
            work()
        finally:
            for future in futures:
                future.result()

    def ahead(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """``blocks``, the next one made while the last is used, where a core is free for it.

        There are never more threads at work than cores are held, so none waits for a thread.
        """
        block = next(blocks, None)
        while block is not None:
            with self.more(1) as free:
                if free:
                    future = self._pool.submit(next, blocks, None)
                    try:
                        yield block
                    finally:
                        wait([future])
                    block = future.result()
                else:
                    yield block
                    block = next(blocks, None)

    def close(self) -> None:
        self._pool.shutdown()


class SplitPlayer:
    """A player whose streams use cores that are free."""

    def __init__(self, player: SplittablePlayer, cores: Cores) -> None:
        self.player, self.cores = player, cores

    @property
    def graph(self) -> ModelGraph:
        return self.player.graph

    @property
    def grid_samples(self) -> int:
        return self.player.grid_samples

    @property
    def is_cheap(self) -> bool:
        """Whether reading and writing a file takes far longer than the model: then parts, and
        blocks that leave the cache, cost more than they save."""
        return self.graph.macs_per_sample < _CHEAP_MACS

    def ahead(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """As ``Cores.ahead``."""
        return self.cores.ahead(blocks)

    def stream(self, channels: int = 1, knobs: dict[str, float] | None = None) -> BlockStream:
        if self.is_cheap and knobs is None:
            return self.player.stream(channels)
        if knobs is not None:
            # To settle with other knobs takes longer than a part saves.
            stream: BlockStream = self.player.stream(channels, knobs)  # type: ignore[call-arg]
            return stream
        return _SplitStream(self.player, self.cores, channels)


class _Part:
    """Samples of one channel from ``begin`` to ``end``, which the model hears from ``start`` on."""

    def __init__(
        self, stream: BlockStream, x: np.ndarray, y: np.ndarray, start: int, begin: int, end: int
    ) -> None:
        self.stream, self._x, self._y = stream, x, y
        self._start, self._begin, self._end = start, begin, end

    def run(self) -> None:
        if self._start < self._begin:
            self.stream.process(self._x[self._start : self._begin])
        self._y[self._begin : self._end] = self.stream.process(self._x[self._begin : self._end])


class _SplitStream:
    def __init__(self, player: SplittablePlayer, cores: Cores, channels: int) -> None:
        self._player, self._cores = player, cores
        self._streams = [player.stream(1) for _ in range(channels)]
        self._position = 0

    def process(self, block: np.ndarray) -> np.ndarray:
        x_ct = np.ascontiguousarray(block.reshape(len(self._streams), -1))
        y_ct = np.empty_like(x_ct)
        with self._cores.more(self._cores.count - 1) as helpers:
            parts = [
                self._parts_of(channel, x_ct[channel], y_ct[channel], 1 + helpers)
                for channel in range(len(self._streams))
            ]
            self._cores.run([part for row in parts for part in row], helpers)
        self._streams = [row[-1].stream for row in parts]
        self._position += x_ct.shape[1]
        return y_ct.reshape(block.shape)

    def _parts_of(self, channel: int, x: np.ndarray, y: np.ndarray, workers: int) -> list[_Part]:
        """The channel as one part, or as several where there are too few channels for all."""
        warm, step = self._player.warm_up_samples, self._player.alignment_samples
        shortest = max(_MIN_PART_SAMPLES, _PART_WARM_UPS * warm)
        wanted = -(-workers // len(self._streams))
        count = max(1, min(wanted, x.size // shortest))
        # Parts begin on the grid of the whole stream.
        ideal = [self._position + x.size * n // count for n in range(1, count)]
        cuts = [0, *(at // step * step - self._position for at in ideal), x.size]
        parts = []
        for begin, end in pairwise(cuts):
            stream = self._streams[channel] if begin == 0 else self._player.stream(1)
            start = begin if begin == 0 else begin - warm
            parts.append(_Part(stream, x, y, start, begin, end))
        return parts

    def flush(self) -> np.ndarray:
        return np.concatenate([np.atleast_2d(s.flush()) for s in self._streams])
