"""Whole arrays and streams on a CUDA device.

Long audio is cut into segments that are played at the same time, each after as many samples of
what comes before as its output depends on: the same bits as in one piece. Recurrent models have no
such bound, and play many streams side by side instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from fxfast.cuda_library import CudaLibrary, CudaMemoryError, Memory, device_index
from fxfast.cuda_slot import Slot, Stretch
from fxfast.errors import BuildError, InputError
from fxfast.native import engine
from fxfast.native_ops import native_ops
from fxfast.program import Program

# As CudaHeader, CudaOp and CudaJob in csrc/kernels/cuda/cuda_program.h.
_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("op_count", "<u4"),
        ("plan_bytes", "<u8"),
        ("block_samples", "<u4"),
        ("team_streams", "<u4"),
        ("threads", "<u4"),
        ("shared_floats", "<u4"),
        ("slot_floats", "<u4"),
        ("slots_at", "<u4"),
        ("shared_weights", "<u4"),
        ("state_floats", "<u4"),
        ("register_rows", "<i4"),
        ("is_recurrent", "<u4"),
        ("reach", "<u8"),
        ("multiply_adds", "<u8"),
        ("floats", "<u8"),
        ("layer_count", "<u8"),
    ]
)
_STATE_PREFIX = 4  # floats of a state before the cells
JOB = np.dtype(
    [
        (name, "<i8")
        for name in (
            *("input", "output", "first", "samples", "warm_up", "state"),
            *("knobs", "knob_stride"),
        )
    ]
)
# Samples of one launch: enough to fill a device, and with it and the next one little memory.
LAUNCH_SAMPLES = 1 << 25
# A segment is so many times as long as what it plays again, at least. Segments are that short only
# where teams would have nothing to do, so what is played again there costs no time.
_LEAST_REACHES = 2
_LEAST_SEGMENT = 1024


class CudaEngine:
    """A program on one device; raises ``BuildError`` where there is none, ``InputError`` for an
    unknown device and ``ModelError`` for a program that the kernels cannot play."""

    def __init__(self, program: Program, device: str, library: CudaLibrary | None = None) -> None:
        self.library = self._library = library or CudaLibrary()
        count = self._library.device_count()
        if count == 0:
            raise BuildError(f"device {device}: expected a CUDA device, found none")
        chosen = device_index(device)
        self.device = self._library.used() if chosen is None else chosen
        if self.device >= count:
            raise InputError(f"device: expected one of {count} CUDA devices, got {device}")
        self._facts = self._library.facts(self.device)
        self._program = list(program.lines), native_ops(program), program.output_line
        self.knobs = program.lines[0] - 1
        plan: np.ndarray = engine().cuda_plan(
            *self._program, self._facts.shared_bytes, self._facts.major
        )
        header = plan[: _HEADER.itemsize].view(_HEADER)[0]
        self._header = header
        shared = int(header["shared_floats"]) * 4
        with self.on_device():
            per_processor = self._library.prepare(
                int(header["threads"]), int(header["register_rows"]), shared
            )
            self._plan = Memory(self._library, plan.size)
            self._library.copy(self._plan.pointer, plan.ctypes.data, plan.size, 0)
            self._library.wait(0)
            self._slots = [Slot(self._library) for _ in range(2)]
        self._teams = max(1, per_processor) * self._facts.multiprocessors
        self._launch = (int(header["threads"]), int(header["register_rows"]), shared)
        self.reach = int(header["reach"])
        self.is_recurrent = bool(header["is_recurrent"])
        self.state_floats = int(header["state_floats"])

    @contextmanager
    def on_device(self) -> Iterator[None]:
        before = self._library.used()
        self._library.use(self.device)
        try:
            yield
        finally:
            self._library.use(before)

    def render(self, rows: np.ndarray, knobs: np.ndarray | None = None) -> np.ndarray:
        """(R, T) float32 to the same, every row a stream that starts settled. ``knobs`` are
        values (K), or rows (K, T), of a model that has some; None: all at zero.

        Raises ``InputError`` for NaN or infinity and ``CudaMemoryError`` where not even one
        segment fits."""
        engine().require_finite(rows)
        values = self._knob_values(knobs)
        if self.is_recurrent:
            stream = CudaStream(self, rows.shape[0], values[:, :1].ravel())
            step = max(1, LAUNCH_SAMPLES // max(1, rows.shape[0]))
            blocks = [
                stream.play(rows[:, t : t + step], _between(values, t, t + step))
                for t in range(0, rows.shape[1], step)
            ]
            return np.concatenate(blocks, axis=1) if blocks else rows.copy()
        samples = min(LAUNCH_SAMPLES, max(_LEAST_SEGMENT, rows.size))
        while True:
            try:
                return self._render_stretches(rows, values, samples)
            except CudaMemoryError:
                for slot in self._slots:
                    slot.drop()
                if samples <= _LEAST_SEGMENT:
                    raise
                samples //= 2

    def _knob_values(self, knobs: np.ndarray | None) -> np.ndarray:
        """(K, 1) for knobs that are held, (K, T) for others."""
        if knobs is None or knobs.size == 0:
            return np.zeros((self.knobs, 1), np.float32)
        return knobs.reshape(self.knobs, -1)

    def first_state(self, knobs: np.ndarray) -> np.ndarray:
        """The state of a stream that has heard nothing but silence, but for its rings."""
        cells = engine().cuda_cells(*self._program, knobs.tolist())
        state = np.zeros(self.state_floats, np.float32)
        state[_STATE_PREFIX:][: len(cells)] = cells
        return state

    def _render_stretches(
        self, rows: np.ndarray, values: np.ndarray, launch_samples: int
    ) -> np.ndarray:
        out = np.empty_like(rows)
        with self.on_device():
            for n, stretches in enumerate(_launches(rows.shape, launch_samples)):
                slot = self._slots[n % 2]
                slot.collect(out)
                self._start(slot, rows, values, stretches)
            for slot in self._slots:
                slot.collect(out)
        return out

    def _start(
        self, slot: Slot, rows: np.ndarray, values: np.ndarray, stretches: list[Stretch]
    ) -> None:
        """Copies in, plays and copies out, all on the stream of the slot; nothing waits."""
        begins = [max(0, s.first - self.reach) for s in stretches]
        offsets = np.cumsum([0] + [s.end - b for s, b in zip(stretches, begins, strict=True)])
        total = int(offsets[-1])
        slot.reserve(total)
        staged = slot.host.array(total)
        for stretch, begin, at in zip(stretches, begins, offsets, strict=False):
            staged[at : at + stretch.end - begin] = rows[stretch.row, begin : stretch.end]
        first, end = min(begins), max(s.end for s in stretches)
        knobs = slot.put_knobs([(_between(values, first, end), first)])[0]
        samples = sum(s.end - s.first for s in stretches)
        segment = self.segment(samples)
        jobs = []
        for stretch, begin, at in zip(stretches, begins, offsets, strict=False):
            base = int(at) - begin
            for first in range(stretch.first, stretch.end, segment):
                end = min(first + segment, stretch.end)
                jobs.append((base, base, first, end - first, self.reach, -1, *knobs))
        slot.stretches = [
            (stretch, int(at) + stretch.first - begin)
            for stretch, begin, at in zip(stretches, begins, offsets, strict=False)
        ]
        library = self._library
        library.copy(slot.input.pointer, slot.host.pointer, 4 * total, slot.stream)
        self.play(slot, np.array(jobs, JOB), 0)
        library.copy(slot.host.pointer, slot.output.pointer, 4 * total, slot.stream)

    def play(self, slot: Slot, jobs: np.ndarray, states: int) -> None:
        """Queues jobs from the slot's input to its output."""
        pointers = slot.input.pointer, slot.output.pointer, states
        self._play(slot, jobs, pointers, slot.stream)

    def _play(
        self, slot: Slot, jobs: np.ndarray, pointers: tuple[int, int, int], stream: int
    ) -> None:
        width = int(self._header["team_streams"])
        teams = min(self._teams, -(-len(jobs) // width))
        slot.reserve_jobs(jobs, teams * width * self.state_floats, stream)
        source, target, states = pointers
        self._library.play(
            (
                self._plan.pointer,
                slot.jobs.pointer,
                source,
                slot.knobs.pointer,
                target,
                states,
                slot.team_states.pointer,
            ),
            len(jobs),
            (teams, *self._launch),
            stream,
        )

    def render_there(self, source: int, target: int, shape: tuple[int, int], stream: int) -> None:
        """Queues (R, T) float32 rows that are on the device, to others there, on a stream of the
        caller's: nothing waits. Calls on several streams at once are the caller's to order. For
        models without knobs."""
        assert self.knobs == 0
        rows, samples = shape
        if rows * samples == 0:
            return
        segment = samples
        if not self.is_recurrent:
            segment = self.segment(rows * samples)
        jobs = [
            (
                row * samples,
                row * samples,
                first,
                min(segment, samples - first),
                self.reach,
                -1,
                0,
                0,
            )
            for row in range(rows)
            for first in range(0, samples, segment)
        ]
        with self.on_device():
            self._play(self._slots[0], np.array(jobs, JOB), (source, target, 0), stream)

    def segment(self, samples: int) -> int:
        """How long segments are that keep every team busy and play little again."""
        return max(-(-samples // self._teams), _LEAST_REACHES * self.reach, _LEAST_SEGMENT)

    def description(self) -> dict[str, int]:
        """How the plan uses the device, for results of benchmarks."""
        names = ("block_samples", "team_streams", "threads", "shared_floats", "shared_weights")
        return {"teams": self._teams, **{name: int(self._header[name]) for name in names}}

    def stream(self, channels: int, knobs: np.ndarray | None = None) -> CudaStream:
        """Channels settled on silence with ``knobs`` (K)."""
        return CudaStream(self, channels, knobs)


class CudaStream:
    """Channels that go on from block to block, their states on the device."""

    def __init__(self, cuda: CudaEngine, channels: int, knobs: np.ndarray | None = None) -> None:
        self._cuda = cuda
        self.channels = channels
        self._start = np.zeros(cuda.knobs, np.float32) if knobs is None else knobs
        self._first_state = cuda.first_state(self._start)
        self._library = cuda.library
        with cuda.on_device():
            self._slot = Slot(self._library)
            self._states = Memory(self._library, 4 * channels * cuda.state_floats)
        self.reset()

    def reset(self) -> None:
        """Back to the settled state, with the knobs as they were at the start."""
        self._held = self._start
        first = np.tile(self._first_state, self.channels)
        self._put(first)
        if self._cuda.reach > 0:
            silence = np.zeros((self.channels, 0), np.float32)
            self._play(silence, self._cuda.reach, self._held[:, np.newaxis])

    def process(self, block: np.ndarray, knobs: np.ndarray | None = None) -> np.ndarray | None:
        """The next block, (C, T), or (T) for one channel, to the same shape. None, and nothing is
        changed, for another shape or dtype. Raises ``InputError`` for NaN or infinity."""
        is_row = block.ndim == 1 and self.channels == 1
        if block.dtype != np.float32 or not (is_row or block.shape[:-1] == (self.channels,)):
            return None
        return self.play(block.reshape(self.channels, -1), knobs).reshape(block.shape)

    def play(self, rows: np.ndarray, knobs: np.ndarray | None = None) -> np.ndarray:
        """The next block (C, T); ``knobs`` (K) or (K, T) turn knobs, whose last values stay.
        Raises ``InputError`` for NaN or infinity."""
        rows = np.ascontiguousarray(rows)
        engine().require_finite(rows)
        values = self._held[:, np.newaxis] if knobs is None else self._cuda._knob_values(knobs)
        out = self._play(rows, 0, values)
        if rows.shape[1] > 0:
            self._held = values[:, -1].copy()
        return out

    def _play(self, rows: np.ndarray, warm_up: int, values: np.ndarray) -> np.ndarray:
        samples = rows.shape[1]
        jobs = np.zeros(self.channels, JOB)
        jobs["input"] = jobs["output"] = np.arange(self.channels) * samples
        jobs["samples"], jobs["warm_up"] = samples, warm_up
        jobs["state"] = np.arange(self.channels) * self._cuda.state_floats
        out = np.empty_like(rows)
        slot, library = self._slot, self._library
        with self._cuda.on_device():
            slot.reserve(rows.size)
            jobs["knobs"], jobs["knob_stride"] = slot.put_knobs([(values, 0)])[0]
            library.copy(slot.input.pointer, rows.ctypes.data, rows.nbytes, slot.stream)
            self._cuda.play(slot, jobs, self._states.pointer)
            library.copy(out.ctypes.data, slot.output.pointer, out.nbytes, slot.stream)
            library.wait(slot.stream)
        return out

    def _put(self, states: np.ndarray) -> None:
        with self._cuda.on_device():
            self._library.copy(
                self._states.pointer, states.ctypes.data, states.nbytes, self._slot.stream
            )
            self._library.wait(self._slot.stream)

    def save(self) -> bytes:
        states = np.empty(self.channels * self._cuda.state_floats, np.float32)
        with self._cuda.on_device():
            self._library.copy(
                states.ctypes.data, self._states.pointer, states.nbytes, self._slot.stream
            )
            self._library.wait(self._slot.stream)
        return states.tobytes()

    def restore(self, state: bytes) -> None:
        """Raises ``InputError`` for a state of another size."""
        expected = 4 * self.channels * self._cuda.state_floats
        if len(state) != expected:
            raise InputError(
                f"state: expected {expected} bytes for {self.channels} channels, got {len(state)}"
            )
        self._put(np.frombuffer(state, np.float32).copy())


def is_recurrent(plan: np.ndarray) -> bool:
    """Whether streams go from one state to the next, from their start on."""
    return bool(plan[: _HEADER.itemsize].view(_HEADER)[0]["is_recurrent"])


def _between(values: np.ndarray, first: int, end: int) -> np.ndarray:
    """Knobs that turn from one sample to another; held ones as they are."""
    return values if values.shape[1] == 1 else values[:, first:end]


def _launches(shape: tuple[int, ...], launch_samples: int) -> Iterator[list[Stretch]]:
    """All rows in stretches, as many in one launch as it may have samples."""
    rows, samples = shape
    batch: list[Stretch] = []
    room = launch_samples
    for row in range(rows):
        first = 0
        while first < samples:
            end = min(samples, first + room)
            batch.append(Stretch(row, first, end))
            room -= end - first
            first = end
            if room == 0:
                yield batch
                batch, room = [], launch_samples
    if batch:
        yield batch
