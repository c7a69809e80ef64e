"""What one launch on a CUDA device needs: buffers, a stream, and where its samples go."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fxfast.cuda_library import CudaLibrary, Memory


class Stretch(NamedTuple):
    """Samples ``first`` to ``end`` of a row, played in one launch."""

    row: int
    first: int
    end: int


class Slot:
    """Buffers and a stream of one launch; they grow and are kept."""

    def __init__(self, library: CudaLibrary) -> None:
        self._library = library
        self.stream = library.new_stream()
        self.host = Memory(library, 0, pinned=True)
        self.input = Memory(library, 0)
        self.knobs = Memory(library, 0)
        self.output = Memory(library, 0)
        self.jobs = Memory(library, 0)
        self.team_states = Memory(library, 0)
        self.stretches: list[tuple[Stretch, int]] = []

    def reserve(self, samples: int) -> None:
        for memory in (self.host, self.input, self.output):
            memory.grow(4 * samples)

    def put_knobs(self, parts: list[tuple[np.ndarray, int]]) -> list[tuple[int, int]]:
        """Copies values of knobs, (K, 1) for held ones or (K, n) from a sample of the stream on;
        what a job says of each part."""
        offsets = np.cumsum([0, *(values.size for values, _ in parts)])
        if offsets[-1] > 0:
            # From pageable memory, as in reserve_jobs.
            flat = np.concatenate([values.ravel() for values, _ in parts])
            self.knobs.grow(flat.nbytes)
            self._library.copy(self.knobs.pointer, flat.ctypes.data, flat.nbytes, self.stream)
        return [
            (int(at), 0) if values.shape[1] == 1 else (int(at) - first, values.shape[1])
            for (values, first), at in zip(parts, offsets, strict=False)
        ]

    def reserve_jobs(self, jobs: np.ndarray, state_floats: int, stream: int) -> None:
        self.jobs.grow(jobs.nbytes)
        self.team_states.grow(4 * state_floats)
        # From pageable memory: the copy has read the jobs when it returns.
        self._library.copy(self.jobs.pointer, jobs.ctypes.data, jobs.nbytes, stream)

    def collect(self, out: np.ndarray) -> None:
        """Waits for the launch, if there is one, and takes its samples."""
        if not self.stretches:
            return
        self._library.wait(self.stream)
        last, at = self.stretches[-1]
        staged = self.host.array(at + last.end - last.first)
        for stretch, at in self.stretches:
            length = stretch.end - stretch.first
            out[stretch.row, stretch.first : stretch.end] = staged[at : at + length]
        self.stretches = []

    def drop(self) -> None:
        """Forgets a launch that failed half-way, and gives its memory back."""
        self._library.wait(self.stream)
        self.stretches = []
        memories = self.host, self.input, self.knobs, self.output, self.jobs, self.team_states
        for memory in memories:
            memory.release()

    def __del__(self) -> None:
        if hasattr(self, "stream"):
            self._library.free_stream(self.stream)
