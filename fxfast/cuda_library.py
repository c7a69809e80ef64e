"""The CUDA kernels through their C interface: memory, copies and launches, without torch."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fxfast.errors import BuildError, InputError

LIBRARY = Path(__file__).resolve().parent / "libfxfast_cuda.so"
# Another build of the kernels: for tests, their stand-in on the CPU.
LIBRARY_VARIABLE = "FXFAST_CUDA_LIBRARY"


class CudaMemoryError(BuildError):
    """The device has no more memory."""


class DeviceFacts(NamedTuple):
    """What a plan and a launch depend on: multiprocessors, bytes of shared memory that a team
    may use, and the compute capability."""

    multiprocessors: int
    shared_bytes: int
    major: int
    minor: int


class _Run(ctypes.Structure):
    _fields_ = [
        ("plan", ctypes.c_void_p),
        ("jobs", ctypes.c_void_p),
        ("input", ctypes.c_void_p),
        ("knobs", ctypes.c_void_p),
        ("output", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
        ("team_states", ctypes.c_void_p),
        ("job_count", ctypes.c_int),
    ]


class CudaLibrary:
    """The kernels, loaded; raises ``BuildError`` where they or a device are missing."""

    def __init__(self, path: Path | str | None = None) -> None:
        chosen = Path(path or os.environ.get(LIBRARY_VARIABLE) or LIBRARY)
        if not chosen.exists():
            raise BuildError(
                f"CUDA kernels: expected {chosen}, found none; `make gpu` builds them where "
                "nvcc is installed"
            )
        try:
            self._library = ctypes.CDLL(str(chosen))
        except OSError as error:
            raise BuildError(f"CUDA kernels: {chosen} does not load: {error}") from error
        self._library.fxfast_cuda_error.restype = ctypes.c_char_p

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status == 0:
            return
        text = self._library.fxfast_cuda_error(status).decode()
        kind = CudaMemoryError if status == self._out_of_memory() else BuildError
        raise kind(f"CUDA: {name.removeprefix('fxfast_cuda_')} failed: {text}")

    def _out_of_memory(self) -> int:
        return int(self._library.fxfast_cuda_out_of_memory())

    def device_count(self) -> int:
        """Devices there are: 0 also where there is no driver."""
        count = ctypes.c_int()
        status = self._library.fxfast_cuda_device_count(ctypes.byref(count))
        return count.value if status == 0 else 0

    def facts(self, device: int) -> DeviceFacts:
        values = (ctypes.c_int * 4)()
        self._call("fxfast_cuda_device", device, values)
        return DeviceFacts(*values)

    def use(self, device: int) -> None:
        self._call("fxfast_cuda_use", device)

    def used(self) -> int:
        device = ctypes.c_int()
        self._call("fxfast_cuda_used", ctypes.byref(device))
        return device.value

    def allocate(self, size: int, pinned: bool = False) -> int:
        pointer = ctypes.c_void_p()
        name = "fxfast_cuda_allocate_pinned" if pinned else "fxfast_cuda_allocate"
        self._call(name, ctypes.byref(pointer), ctypes.c_longlong(size))
        return pointer.value or 0

    def free(self, pointer: int, pinned: bool = False) -> None:
        name = "fxfast_cuda_free_pinned" if pinned else "fxfast_cuda_free"
        self._call(name, ctypes.c_void_p(pointer))

    def copy(self, to: int, source: int, size: int, stream: int) -> None:
        self._call(
            "fxfast_cuda_copy",
            ctypes.c_void_p(to),
            ctypes.c_void_p(source),
            ctypes.c_longlong(size),
            ctypes.c_void_p(stream),
        )

    def new_stream(self) -> int:
        stream = ctypes.c_void_p()
        self._call("fxfast_cuda_new_stream", ctypes.byref(stream))
        return stream.value or 0

    def free_stream(self, stream: int) -> None:
        self._call("fxfast_cuda_free_stream", ctypes.c_void_p(stream))

    def wait(self, stream: int) -> None:
        self._call("fxfast_cuda_wait", ctypes.c_void_p(stream))

    def prepare(self, threads: int, register_rows: int, shared_bytes: int) -> int:
        """Makes the kernel ready; how many teams a multiprocessor holds at once."""
        teams = ctypes.c_int()
        self._call("fxfast_cuda_prepare", threads, register_rows, shared_bytes, ctypes.byref(teams))
        return teams.value

    def play(
        self,
        pointers: tuple[int, int, int, int, int, int, int],
        job_count: int,
        launch: tuple[int, int, int, int],
        stream: int,
    ) -> None:
        """``pointers``: plan, jobs, input, knobs, output, states, states of teams; ``launch``:
        teams, threads, register rows, bytes of shared memory."""
        run = _Run(*pointers, job_count)
        self._call("fxfast_cuda_play", ctypes.byref(run), *launch, ctypes.c_void_p(stream))

    @property
    def is_stand_in(self) -> bool:
        """Whether these kernels run on the CPU, in its memory: in tests."""
        return hasattr(self._library, "fxfast_stand_in_memory")

    def sample_state_bytes(self) -> int:
        return int(self._library.fxfast_cuda_sample_state_bytes())

    def sample(self, run: int, teams: int, stream: int) -> None:
        """Queues a batch; ``run`` is the address of a SampleRun."""
        self._call("fxfast_cuda_sample", ctypes.c_void_p(run), teams, ctypes.c_void_p(stream))

    def lane_state_bytes(self) -> int:
        return int(self._library.fxfast_cuda_lane_state_bytes())

    def sample_lanes(self, run: int, teams: int, stream: int) -> None:
        """Queues a batch of lanes; ``run`` is the address of a LaneRun."""
        self._call("fxfast_cuda_sample_lanes", ctypes.c_void_p(run), teams, ctypes.c_void_p(stream))

    def go_to_batch(
        self, plan: int, state: int, place: tuple[int, int] | None, stream: int
    ) -> None:
        """Queues the step to an epoch and a number, or to the batch after the present."""
        self._go_to("fxfast_cuda_go_to_batch", plan, state, place, stream)

    def go_to_lanes(
        self, plan: int, state: int, place: tuple[int, int] | None, stream: int
    ) -> None:
        """As :meth:`go_to_batch`, of lanes."""
        self._go_to("fxfast_cuda_go_to_lanes", plan, state, place, stream)

    def _go_to(
        self, name: str, plan: int, state: int, place: tuple[int, int] | None, stream: int
    ) -> None:
        epoch, number = place or (0, 0)
        self._call(
            name,
            ctypes.c_void_p(plan),
            ctypes.c_void_p(state),
            int(place is None),
            ctypes.c_ulonglong(epoch),
            ctypes.c_ulonglong(number),
            ctypes.c_void_p(stream),
        )

    def burst(self, teams: int, out: int, stream: int) -> float:
        """Queues multiply-adds for measuring the peak; how many operations they are."""
        operations = ctypes.c_double()
        self._call(
            "fxfast_cuda_burst",
            teams,
            ctypes.c_void_p(out),
            ctypes.byref(operations),
            ctypes.c_void_p(stream),
        )
        return operations.value


class Memory:
    """Bytes of the device, or pinned ones of the host, freed with the object."""

    def __init__(self, library: CudaLibrary, size: int, pinned: bool = False) -> None:
        self._library, self._pinned = library, pinned
        self.size = self.pointer = 0
        self.grow(size)

    def grow(self, size: int) -> None:
        """At least so many bytes; what was there is lost when they were fewer.

        Raises ``CudaMemoryError`` where there are no more, and holds none then."""
        if size > self.size:
            self.release()
            self.pointer = self._library.allocate(size, self._pinned)
            self.size = size

    def array(self, count: int) -> np.ndarray:
        """Pinned memory as ``count`` float32 values."""
        buffer = (ctypes.c_float * count).from_address(self.pointer)
        return np.ctypeslib.as_array(buffer)

    def release(self) -> None:
        if self.pointer:
            self._library.free(self.pointer, self._pinned)
        self.size = self.pointer = 0

    def __del__(self) -> None:
        if getattr(self, "pointer", 0):
            self.release()


def device_index(device: str) -> int | None:
    """ "cuda" is the current device (None), "cuda:1" number 1.

    Raises ``InputError`` for another text."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()) or device.endswith(":"):
        raise InputError(f"device: expected cpu, cuda or cuda:0, cuda:1, ..., got {device!r}")
    return int(number) if number else None
