"""Batches that a CUDA kernel gathers from audio that is on the device.

Which windows a batch has is found in the kernel, from an epoch and a number that are on the device
too: the host sends nothing, and a captured CUDA graph goes on from batch to batch and from epoch
to epoch. The windows are those of the native ring, number by number.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from fxfast.cuda_library import CudaLibrary, device_index
from fxfast.data.dataset import Data
from fxfast.errors import BuildError, InputError

# As in csrc/kernels/cuda/sample_program.h.
_SPAN = np.dtype([("first_id", "<u8"), ("dry", "<u8"), ("wet", "<u8"), ("file", "<i8")])
_PLAN = np.dtype(
    [
        *(
            (name, "<u8")
            for name in (
                *("windows", "full_runs", "length", "stride", "run", "out_length", "seed"),
                *("batch", "share", "rank", "batches", "spans", "knobs"),
            )
        ),
        *(
            (name, "<i4")
            for name in (
                *("span_count", "knob_count", "is_int16", "replacement", "wraps", "reserved"),
            )
        ),
    ]
)
_RUN = np.dtype(
    [
        *((n, "<u8") for n in ("plan", "state", "x", "y", "mask", "knobs", "ids")),
        *(("warp_rows", "<i4"), ("piece_samples", "<i4")),
    ]
)
# Of a batch's windows a warp makes so many samples of up to so many rows, fewer rows where there
# would be few warps.
_PIECE, _MOST_ROWS, _LEAST_WARPS, _WARPS_OF_TEAM = 256, 32, 2048, 8
# The kernel reads words of so many bytes, which may end beyond the audio.
_WORD = 8
# Short lanes: a team makes many whole rows. Long ones: a stretch of some.
_SHORT, _SHORT_ROWS, _LONG_ROWS, _LONG_SAMPLES = 512, 64, 8, 2048


class Device:
    """Where tensors of a sampler are: a GPU, or memory of the CPU for the kernels' stand-in.

    Raises ``InputError`` for an unknown device, ``BuildError`` where there is none."""

    def __init__(self, name: str) -> None:
        self.library = CudaLibrary()
        count = self.library.device_count()
        index = device_index(name)
        if count == 0:
            raise BuildError(f"device {name}: expected a CUDA device, found none")
        self.index = self.library.used() if index is None else index
        if self.index >= count:
            raise InputError(f"device: expected one of {count} CUDA devices, got {name}")
        if self.library.is_stand_in:
            self.torch = torch.device("cpu")
        elif torch.cuda.is_available():
            self.torch = torch.device("cuda", self.index)
        else:
            raise BuildError(f"device {name}: expected a torch with CUDA, got {torch.__version__}")

    def bytes(self, size: int) -> torch.Tensor:
        """Zeros on the device, uint8."""
        return torch.zeros(size, dtype=torch.uint8, device=self.torch)

    def put(self, array: np.ndarray, beyond: int = 0) -> torch.Tensor:
        """An array of any kind as bytes on the device, and zeros beyond; waits until they are
        there."""
        flat = np.ascontiguousarray(array).view(np.uint8).reshape(-1)
        host = np.zeros(flat.size + beyond, np.uint8)
        host[: flat.size] = flat
        return torch.from_numpy(host).to(self.torch)

    @property
    def stream(self) -> int:
        """The present stream of torch."""
        on_gpu = self.torch.type == "cuda"
        return int(torch.cuda.current_stream(self.torch).cuda_stream) if on_gpu else 0

    @contextmanager
    def current(self) -> Iterator[None]:
        before = self.library.used()
        if before == self.index:
            yield
            return
        self.library.use(self.index)
        try:
            yield
        finally:
            self.library.use(before)


class DeviceRing:
    """Batches on a device in the order of a kernel; its place, and tensors that take turns.

    ``slots`` are the tensors of each batch, the last one for ``draw``."""

    batches: int  # of the present epoch

    def __init__(self, device: Device, slots: list[dict[str, torch.Tensor]], state: int) -> None:
        self._device, self._slots = device, slots
        self._state = device.bytes(state)
        self._next_slot, self._drawn = 0, False

    @abstractmethod
    def _queue_batch(self, slot: int, stream: int) -> None:
        """Queues the gathering of the present batch."""

    @abstractmethod
    def _queue_step(self, place: tuple[int, int] | None, stream: int) -> None:
        """Queues the step to an epoch and a number, or to the batch after the present."""

    def _enter(self, epoch: int) -> None:
        """The epoch has changed."""

    @property
    def _has_full_batches(self) -> bool:
        return self.batches > 0

    def take(self) -> int:
        """Queues the next batch; its slot, or -1 at the end of the epoch. Nothing waits."""
        self._find_place()
        if self._position >= self.batches:
            return -1
        slot = self._next_slot
        self._next_slot = (slot + 1) % (len(self._slots) - 1)
        self._queue(slot)
        self._position += 1
        return slot

    def draw(self) -> int:
        """Queues the next batch into the last slot, whichever it is: no number comes from the
        host, so that a CUDA graph may hold it. After the last batch comes the next epoch."""
        if not self._has_full_batches:
            raise InputError("draw: expected batches that are all full, got none or last='short'")
        self._drawn = True
        slot = len(self._slots) - 1
        self._queue(slot)
        return slot

    def _queue(self, slot: int) -> None:
        with self._device.current():
            stream = self._device.stream
            self._queue_batch(slot, stream)
            self._queue_step(None, stream)

    def seek(self, epoch: int, position: int, step: int = 1) -> None:
        if step != 1:
            raise InputError("device: expected cpu in workers of a DataLoader, got a CUDA device")
        self._epoch, self._position, self._drawn = epoch, position, False
        self._enter(epoch)
        with self._device.current():
            self._queue_step((epoch, position), self._device.stream)

    def _find_place(self) -> None:
        """Where drawing has come to, which only the device knows: waits for it."""
        if self._drawn:
            epoch, number = self._state[:16].cpu().numpy().view(np.uint64)
            self._epoch, self._position, self._drawn = int(epoch), int(number), False
            self._enter(self._epoch)

    def rest(self) -> None:
        """There are no threads to rest."""

    @property
    def epoch(self) -> int:
        self._find_place()
        return self._epoch

    @property
    def position(self) -> int:
        self._find_place()
        return self._position


class CudaRing(DeviceRing):
    """The batches of windows, as ``BatchRing`` has them, on a device.

    ``windows`` and ``batches`` are those of an epoch."""

    def __init__(
        self,
        device: Device,
        data: Data,
        settings: dict[str, Any],
        slots: list[dict[str, torch.Tensor]],
        windows: int,
        batches: int,
    ) -> None:
        super().__init__(device, slots, device.library.sample_state_bytes())
        self._settings = settings
        self._windows, self.batches = windows, batches
        self._audio, spans = _resident_windows(device, data, settings)
        self._knobs = device.put(data.knobs.astype(np.float32))
        self._spans = device.put(spans)
        plan = self._plan_of(data, len(spans))
        self._plan = device.put(plan)
        self._rows = settings["batch_size"] // settings["world_size"]
        pieces, self._warp_rows = -(-settings["length"] // _PIECE), _MOST_ROWS
        while self._warp_rows > 1 and self._rows * pieces < _LEAST_WARPS * self._warp_rows:
            self._warp_rows //= 2
        self._teams = -(-pieces * -(-self._rows // self._warp_rows) // _WARPS_OF_TEAM)
        self._runs = [self._run_of(tensors) for tensors in slots]
        self._addresses = [run.ctypes.data for run in self._runs]
        self.seek(0, 0)

    def _plan_of(self, data: Data, span_count: int) -> np.ndarray:
        s, plan = self._settings, np.zeros(1, _PLAN)
        for name in ("length", "stride", "run", "out_length", "seed", "rank", "replacement"):
            plan[name] = s[name]
        plan["windows"], plan["batches"] = self._windows, self.batches
        plan["full_runs"] = self._windows // s["run"]
        plan["batch"], plan["share"] = s["batch_size"], s["batch_size"] // s["world_size"]
        plan["spans"], plan["span_count"] = self._spans.data_ptr(), span_count
        plan["knobs"], plan["knob_count"] = self._knobs.data_ptr(), data.knobs.shape[1]
        plan["is_int16"], plan["wraps"] = data.is_int16, s["last"] == "wrap"
        return plan

    def _run_of(self, tensors: dict[str, torch.Tensor]) -> np.ndarray:
        run = np.zeros(1, _RUN)
        run["plan"], run["state"] = self._plan.data_ptr(), self._state.data_ptr()
        for name, tensor in tensors.items():
            run["ids" if name == "info" else name] = tensor.data_ptr()
        run["warp_rows"], run["piece_samples"] = self._warp_rows, _PIECE
        return run

    @property
    def _has_full_batches(self) -> bool:
        return self.batches > 0 and self._settings["last"] != "short"

    def _queue_batch(self, slot: int, stream: int) -> None:
        self._device.library.sample(self._addresses[slot], self._teams, stream)

    def _queue_step(self, place: tuple[int, int] | None, stream: int) -> None:
        if place is not None:  # a batch ends in the step to the next one
            pointers = self._plan.data_ptr(), self._state.data_ptr()
            self._device.library.go_to_batch(*pointers, place, stream)

    def rows(self, slot: int) -> int:
        """Of the batch taken last."""
        s = self._settings
        if s["last"] == "wrap":
            return int(self._rows)
        first = (self._position - 1) * s["batch_size"] + s["rank"] * self._rows
        return int(max(0, min(self._rows, self._windows - first)))

    @property
    def memory_bytes(self) -> int:
        """On the device, beside the audio."""
        tensors = (self._plan, self._state, self._spans, self._knobs)
        return sum(tensor.numel() for tensor in tensors)


def team_shape(length: int) -> tuple[int, int]:
    """Rows that a team makes, and samples of each."""
    return (_SHORT_ROWS, length) if length <= _SHORT else (_LONG_ROWS, _LONG_SAMPLES)


def teams_of(rows: int, length: int) -> int:
    """Teams that make so many rows."""
    team_rows, samples = team_shape(length)
    return -(-rows // team_rows) * -(-length // samples)


def resident(device: Device, data: Data) -> tuple[list[torch.Tensor], np.ndarray]:
    """The audio of all files with a span, and the addresses there of dry and wet of each span."""
    sides: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    for file in sorted({int(file) for file in data.spans[:, 0]}):
        dry, wet = data.audio.samples_of(file)
        there = device.put(dry, _WORD)
        same = wet.ctypes.data == dry.ctypes.data
        sides[file] = there, there if same else device.put(wet, _WORD)
    size = 2 if data.is_int16 else 4
    places = [
        [side.data_ptr() + start * size for side in sides[file]]
        for file, start, _ in data.spans.tolist()
    ]
    tensors = [side for pair in sides.values() for side in pair]
    return tensors, np.array(places, np.uint64).reshape(-1, 2)


def _resident_windows(
    device: Device, data: Data, settings: dict[str, Any]
) -> tuple[list[torch.Tensor], np.ndarray]:
    """The audio, and the spans that have a window."""
    tensors, places = resident(device, data)
    rows, first_id = [], 0
    for (file, _, length), place in zip(data.spans.tolist(), places.tolist(), strict=True):
        if length < settings["length"]:
            continue
        rows.append((first_id, *place, file))
        first_id += (length - settings["length"]) // settings["stride"] + 1
    return tensors, np.array(rows, _SPAN)
