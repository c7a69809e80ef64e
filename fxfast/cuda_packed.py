"""Blocks of many streams in one launch: what rendering a library on a CUDA device is made of.

A stream of a model that is not recurrent keeps the input samples that its next outputs depend on,
in memory of the host: its next block is cut into segments that are played at the same time. The
cells of a recurrent model stay on the device, and many streams go side by side. Two launches may
be under way at once, so that copies of one go beside the playing of the other. The samples are
those of :class:`fxfast.cuda_engine.CudaEngine`, to the bit, whatever is packed together.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Sequence

import numpy as np

from fxfast import cuda_engine
from fxfast.cuda_engine import CudaEngine, CudaStream
from fxfast.cuda_library import CudaMemoryError, Memory
from fxfast.cuda_slot import Slot
from fxfast.native import engine

LAUNCHES = 2
# Of one launch, at most: what is packed beyond the first block.
MOST_SAMPLES = 1 << 24
_LEAST_SPLIT = 1024


class PackedStream:
    """Channels that go on from block to block; made by :meth:`Packed.stream`."""

    def __init__(self, packed: Packed, channels: int, knobs: np.ndarray) -> None:
        self._packed = packed
        self.channels = channels
        self.position = 0
        self.past_ct = np.zeros((channels, 0), np.float32)
        self.settled = packed.settled_state(knobs)
        self.states = packed.take_states(channels)
        # Where knobs stand; how they turned before, for past_ct; how they turn from here on. None:
        # they do not.
        self._held = knobs[:, np.newaxis]
        self._turned: np.ndarray | None = None
        self._turning: np.ndarray | None = None

    def turn(self, rows: np.ndarray) -> None:
        """How knobs turn in the next block, (K, T)."""
        self._turning = rows

    def knobs(self, samples: int) -> np.ndarray:
        """Of past_ct and so many samples more, or (K, 1) where knobs are held."""
        if self._turned is None and self._turning is None:
            return self._held
        past = self.past_ct.shape[1]
        turned = np.repeat(self._held, past, axis=1) if self._turned is None else self._turned
        return np.concatenate([turned, self._now(samples)], axis=1)

    def _now(self, samples: int) -> np.ndarray:
        if self._turning is None:
            return np.repeat(self._held, samples, axis=1)
        return self._turning[:, :samples]

    def go_on(self, block_ct: np.ndarray, reach: int) -> None:
        """The block was played."""
        samples = block_ct.shape[1]
        if samples and (self._turned is not None or self._turning is not None):
            both = self.knobs(samples)
            self._turned = both[:, -reach:].copy() if reach > 0 else None
            self._held = both[:, -1:].copy()
            if self._turning is not None:
                self._turning = self._turning[:, samples:]
                self._turning = self._turning if self._turning.size else None
        self.position += samples
        if reach > 0:
            both_ct = np.concatenate([self.past_ct, block_ct[:, -reach:]], axis=1)
            self.past_ct = np.ascontiguousarray(both_ct[:, -reach:])

    def __del__(self) -> None:
        if getattr(self, "states", None):
            self._packed.give_states(self.states)


Piece = tuple[PackedStream, np.ndarray]


class Packed:
    """The launches of an engine; several threads may call :meth:`play` at once."""

    def __init__(self, cuda: CudaEngine) -> None:
        self._cuda = cuda
        self._library = cuda.library
        self._reach = 0 if cuda.is_recurrent else cuda.reach
        self._free_states: deque[Memory] = deque()
        self.most_samples = MOST_SAMPLES
        self._slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        with cuda.on_device():
            for _ in range(LAUNCHES):
                self._slots.put(Slot(self._library))
        self._settled: dict[bytes, np.ndarray] = {}

    def stream(self, channels: int = 1, knobs: np.ndarray | None = None) -> PackedStream:
        """A stream settled on silence with ``knobs`` (K). Raises ``CudaMemoryError`` where its
        state does not fit."""
        values = np.zeros(self._cuda.knobs, np.float32) if knobs is None else knobs
        return PackedStream(self, channels, values)

    def settled_state(self, knobs: np.ndarray) -> np.ndarray:
        """That of a stream that has heard nothing but silence; empty where none is kept."""
        if not self._cuda.is_recurrent:
            return np.zeros(0, np.float32)
        key = knobs.tobytes()
        if key not in self._settled:
            state = CudaStream(self._cuda, 1, knobs).save()
            self._settled[key] = np.frombuffer(state, np.float32)
        return self._settled[key]

    def take_states(self, channels: int) -> list[Memory]:
        """States of a recurrent model, one for each channel; what is in them is old."""
        if not self._cuda.is_recurrent:
            return []
        found: list[Memory] = []
        with self._cuda.on_device():
            try:
                while len(found) < channels:
                    try:
                        found.append(self._free_states.pop())
                    except IndexError:
                        found.append(Memory(self._library, 4 * self._cuda.state_floats))
            except CudaMemoryError:
                self.give_states(found)
                raise
        return found

    def give_states(self, states: list[Memory]) -> None:
        """States that no stream needs any more."""
        self._free_states.extend(states)

    def play(self, pieces: Sequence[Piece]) -> list[np.ndarray]:
        """The next block (C, T) of each of several streams; every stream once.

        Waits until it is played. Where the device runs out of memory the work is split, also for
        launches to come. Raises ``InputError`` for NaN or infinity, before anything is played,
        and ``CudaMemoryError`` where not even a short block fits: some streams have then gone on.
        """
        pieces = [(stream, np.ascontiguousarray(block)) for stream, block in pieces]
        for _, block_ct in pieces:
            engine().require_finite(block_ct)
        slot = self._slots.get()
        try:
            with self._cuda.on_device():
                return self._played(slot, pieces)
        finally:
            self._slots.put(slot)

    def _played(self, slot: Slot, pieces: Sequence[Piece]) -> list[np.ndarray]:
        total = sum(block_ct.size for _, block_ct in pieces)
        longest = max((block_ct.shape[1] for _, block_ct in pieces), default=0)
        if total <= self.most_samples or (len(pieces) == 1 and longest <= _LEAST_SPLIT):
            try:
                return self._launched(slot, pieces)
            except CudaMemoryError:
                slot.drop()
                if len(pieces) == 1 and longest <= _LEAST_SPLIT:
                    raise
                self.most_samples = max(_LEAST_SPLIT, min(total, self.most_samples) // 2)
        if len(pieces) > 1:
            half = len(pieces) // 2
            return self._played(slot, pieces[:half]) + self._played(slot, pieces[half:])
        ((stream, block_ct),) = pieces
        half = max(1, longest // 2)
        parts = [self._played(slot, [(stream, p)])[0] for p in np.split(block_ct, [half], axis=1)]
        return [np.concatenate(parts, axis=1)]

    def _launched(self, slot: Slot, pieces: Sequence[Piece]) -> list[np.ndarray]:
        lengths = [stream.past_ct.shape[1] + block_ct.shape[1] for stream, block_ct in pieces]
        sizes = [stream.channels * n for (stream, _), n in zip(pieces, lengths, strict=True)]
        starts = np.cumsum([0, *sizes])
        total = int(starts[-1])
        slot.reserve(max(total, 1))
        staged = slot.host.array(total)
        rows = [
            staged[start : start + size].reshape(stream.channels, -1)
            for (stream, _), start, size in zip(pieces, starts, sizes, strict=False)
        ]
        for (stream, block_ct), row_ct in zip(pieces, rows, strict=True):
            past = stream.past_ct.shape[1]
            row_ct[:, :past] = stream.past_ct
            row_ct[:, past:] = block_ct
        jobs, states = self._jobs(slot, pieces, starts)
        if len(jobs):
            library, stream_id = self._library, slot.stream
            self._settle(pieces, stream_id)
            library.copy(slot.input.pointer, slot.host.pointer, 4 * total, stream_id)
            self._cuda.play(slot, jobs, states)
            library.copy(slot.host.pointer, slot.output.pointer, 4 * total, stream_id)
            library.wait(stream_id)
        outputs = []
        for (stream, block_ct), row_ct in zip(pieces, rows, strict=True):
            outputs.append(row_ct[:, row_ct.shape[1] - block_ct.shape[1] :].copy())
            stream.go_on(block_ct, self._reach)
        return outputs

    def _settle(self, pieces: Sequence[Piece], stream_id: int) -> None:
        """The states of streams that begin. From pageable memory: a copy has read it when it
        returns."""
        for stream, _ in pieces:
            for state in stream.states if stream.position == 0 else []:
                settled = stream.settled
                self._library.copy(state.pointer, settled.ctypes.data, settled.nbytes, stream_id)

    def _jobs(
        self, slot: Slot, pieces: Sequence[Piece], starts: np.ndarray
    ) -> tuple[np.ndarray, int]:
        """Jobs of all pieces, and the address that their states are counted from."""
        addresses = [state.pointer for stream, _ in pieces for state in stream.states]
        base = min(addresses, default=0)
        samples = sum(block_ct.size for _, block_ct in pieces)
        segment = self._cuda.segment(samples)
        jobs: list[tuple[int, ...]] = []
        knobs = self._put_knobs(slot, pieces)
        for (stream, block_ct), start, turned in zip(pieces, starts, knobs, strict=False):
            past, fresh = stream.past_ct.shape[1], block_ct.shape[1]
            for channel in range(stream.channels if fresh else 0):
                at = int(start) + channel * (past + fresh)
                if self._cuda.is_recurrent:
                    state = (stream.states[channel].pointer - base) // 4
                    jobs.append((at, at, 0, fresh, 0, state, *turned))
                    continue
                sample_0 = at + past - stream.position
                end = stream.position + fresh
                jobs += [
                    (sample_0, sample_0, first, min(segment, end - first), self._reach, -1, *turned)
                    for first in range(stream.position, end, segment)
                ]
        return np.array(jobs, cuda_engine.JOB), base

    def _put_knobs(self, slot: Slot, pieces: Sequence[Piece]) -> list[tuple[int, int]]:
        parts = []
        for stream, block_ct in pieces:
            # Jobs of a recurrent model begin at the block, those of others count from the start.
            first = 0 if self._cuda.is_recurrent else stream.position - stream.past_ct.shape[1]
            parts.append((stream.knobs(block_ct.shape[1]), first))
        return slot.put_knobs(parts)
