"""What windows and lanes have in common: the ring of batches, iteration, state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from fxfast.data.cuda_ring import Device, DeviceRing
from fxfast.data.dataset import Data
from fxfast.data.state import SamplerState, next_batch
from fxfast.errors import InputError
from fxfast.native import engine

# Batches that stay as they are after being handed out: the last one and the one before.
KEPT = 2
_RING_BYTES = 2 << 20
_MOST_AHEAD = 32
_PAGE = 4096
_MAX_SETTING = 2**32 - 1
Batch = TypeVar("Batch", bound=tuple[Any, ...])


def checked_integer(name: str, value: Any, least: int, most: int = _MAX_SETTING) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(f"{name}: expected an integer, got {value!r}")
    if not least <= value <= most:
        raise InputError(f"{name}: expected {least} to {most}, got {value}")
    return int(value)


class RingSampler(IterableDataset[Batch]):
    """Batches that native threads put in a ring of buffers, handed out in order.

    Iterating goes on where the state is, to the end of the epoch, and leaves the state at the
    start of the next. A batch is a tuple of tensors over a buffer of the ring: it stays as it is
    until two more were taken (in a worker of a DataLoader, where it has to travel, it is a copy).

    Workers have copies of the sampler: where a loader makes new ones for every epoch, the original
    has to be told with ``set_epoch``. Native threads make workers needless.
    """

    _mode: int
    # Names in ``settings`` that the state holds.
    _state_settings: tuple[str, ...]

    def __init__(
        self,
        data: Data,
        settings: dict[str, Any],
        *,
        threads: int,
        prefetch: int | None,
        pin_memory: bool | None,
        isa: str,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.data, self.settings = data, settings
        self._device = None if device == "cpu" else self._device_of(device)
        self._options: dict[str, Any] = {
            "threads": checked_integer("threads", threads, 0, 64),
            "prefetch": prefetch,
            "pin_memory": pin_memory,
            "isa": isa,
            "device": device,
        }
        self.sample_rate = data.sample_rate
        knobs = data.knobs
        self._source = self._make_source(
            engine(),
            (data.addresses(), data.is_int16, knobs.ctypes.data, knobs.shape[1], settings, isa),
        )
        shapes = self._shapes()
        self._ahead = self._batches_ahead(shapes, prefetch)
        slots, self._batches, owner = self._make_slots(shapes, pin_memory)
        self._ring: Any = self._make_ring(slots, (data, knobs, owner))
        self._slot = -1
        self._offset = 0  # batches from the position to the first of a worker's own
        # A bound method costs less than a look-up in every batch.
        self._take: Callable[[], int] = self._ring.take

    @abstractmethod
    def _make_source(self, native: Any, audio: tuple[Any, ...]) -> Any:
        """The native source of batches."""

    def _device_of(self, device: str) -> Device:
        return Device(device)

    def _make_ring(self, slots: np.ndarray, owner: Any) -> Any:
        if self._device is None:
            threads = self._options["threads"]
            return engine().BatchRing(self._source, slots, threads, self._ahead, owner)
        return self._make_device_ring(self._device)

    def _make_device_ring(self, device: Device) -> DeviceRing:
        raise NotImplementedError

    def draw(self) -> Batch:
        """On a CUDA device: queues the next batch into tensors that are the same every time, and
        goes on to the next epoch after the last. The host decides nothing, so that a CUDA graph
        that holds it draws another batch at every replay. Raises ``InputError`` on the CPU, for
        data without a batch, and with ``last`` "short"."""
        if self._device is None:
            raise InputError("draw: expected a sampler on a CUDA device, got one on the CPU")
        self._slot = self._ring.draw()
        return self._batches[self._slot]

    @abstractmethod
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of x, y, mask, knobs (float32) and info (int64) of a full batch, those in use."""

    @abstractmethod
    def _batch(self, tensors: Mapping[str, torch.Tensor], rows: int) -> Batch:
        """What is handed out, from the tensors of a slot."""

    @abstractmethod
    def _flags(self) -> int:
        """The options that the state has to agree in."""

    def _batches_ahead(self, shapes: dict[str, tuple[int, ...]], prefetch: int | None) -> int:
        if self._device is not None:
            return 2  # the batch that is taken, and the one for draw
        if prefetch is not None:
            return checked_integer("prefetch", prefetch, 1, 4096)
        size = max(1, sum(_bytes(name, shape) for name, shape in shapes.items()))
        # A thread that has filled one batch finds the next free without waiting for the consumer.
        least = 2 * (self._options["threads"] + 1)
        return int(min(max(_RING_BYTES // size, least), _MOST_AHEAD))

    def _make_slots(
        self, shapes: dict[str, tuple[int, ...]], pin_memory: bool | None
    ) -> tuple[np.ndarray, list[Batch], Any]:
        offsets, size = {}, 0
        for name, shape in shapes.items():
            offsets[name] = size
            size += -(-_bytes(name, shape) // 64) * 64
        size = -(-size // _PAGE) * _PAGE
        count = self._ahead + KEPT
        if self._device is None:
            memory, owner = _memory(size * count, pin_memory)
        else:
            memory = owner = self._device.bytes(size * count)
        addresses = np.zeros((count, 5), np.int64)
        self._tensors: list[dict[str, torch.Tensor]] = []
        for slot in range(count):
            tensors = {}
            for name, shape in shapes.items():
                start = slot * size + offsets[name]
                stretch = memory[start : start + _bytes(name, shape)]
                dtype = torch.int64 if name == "info" else torch.float32
                tensors[name] = stretch.view(dtype).view(shape)
            self._tensors.append(tensors)
            addresses[slot] = [
                tensors[name].data_ptr() if name in tensors else 0
                for name in ("x", "y", "mask", "knobs", "info")
            ]
        return addresses, [self._batch(t, self._rows) for t in self._tensors], owner

    @property
    def _rows(self) -> int:
        return self._shapes()["x"][0]

    def __len__(self) -> int:
        """Batches of the present epoch."""
        return int(self._ring.batches)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        if worker is not None:
            yield from self._share_of_worker(worker.id, worker.num_workers)
            return
        take, batches, ring = self._take, self._batches, self._ring
        short = self._short_batch()
        while (slot := take()) >= 0:
            self._slot = slot
            if short is not None and ring.position > short:
                yield self._cut(slot)
            else:
                yield batches[slot]
        self.set_epoch(self.epoch + 1)

    def _share_of_worker(self, number: int, workers: int) -> Iterator[Batch]:
        """Every ``workers``-th batch, so that a DataLoader puts them together in order."""
        first, self._offset = self.position, number
        self._ring.seek(self.epoch, first + number, workers)
        while (slot := self._take()) >= 0:
            yield _copied(self._cut(slot))
        self.set_epoch(self.epoch + 1)

    def _short_batch(self) -> int | None:
        """Batches from this number on may have fewer rows than the others; None: none."""
        return None

    def _cut(self, slot: int) -> Batch:
        rows = int(self._ring.rows(slot))
        if rows == self._rows:
            return self._batches[slot]
        return self._batch(self._tensors[slot], rows)

    @property
    def epoch(self) -> int:
        return int(self._ring.epoch)

    @property
    def position(self) -> int:
        """Batches of the epoch that were handed out; in a worker as if it were the first one, so
        that the state of a worker says where it goes on."""
        return int(self._ring.position) - self._offset

    def set_epoch(self, epoch: int) -> None:
        """Goes to the first batch of an epoch."""
        self._go_to(checked_integer("epoch", epoch, 0), 0)

    def _go_to(self, epoch: int, position: int) -> None:
        self._ring.seek(epoch, position)
        self._slot, self._offset = -1, 0

    def _state(self) -> SamplerState:
        return SamplerState(
            mode=self._mode,
            seed=self.settings["seed"],
            epoch=self.epoch,
            position=self.position,
            flags=self._flags(),
            settings={name: self.settings[name] for name in self._state_settings},
            fingerprint=self.data.fingerprint,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state as 64 bytes: batches that were only prefetched do not count."""
        return {"state": self._state().to_bytes()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the batch after the last one that was handed out when the state was
        taken. Rank, ranks, threads and prefetch may be others. Raises ``InputError`` that names
        what differs when it belongs to another sampler or other data."""
        if "state" not in state:
            raise InputError(f"state: expected the entry 'state', got {sorted(state)}")
        self._go_to(*next_batch(state["state"], self._state()))

    @property
    def memory_bytes(self) -> int:
        """What the sampler holds beside the audio and the buffers of the batches."""
        return int(self._ring.memory_bytes)

    def __getstate__(self) -> dict[str, Any]:
        state = self._state_of_ring()
        return {"data": self.data, "settings": self.settings, "options": self._options, **state}

    def _state_of_ring(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self.position}

    def __setstate__(self, state: dict[str, Any]) -> None:
        RingSampler.__init__(self, state["data"], state["settings"], **state["options"])
        self._ring.seek(state["epoch"], state["position"])


def _bytes(name: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * (8 if name == "info" else 4)


def _memory(size: int, pin_memory: bool | None) -> tuple[torch.Tensor, Any]:
    """Page-aligned bytes, pinned where there is a GPU that could read them."""
    has_gpu = torch.cuda.is_available()
    if pin_memory and not has_gpu:
        raise InputError("pin_memory: expected a CUDA GPU that reads pinned memory, got none")
    if has_gpu and pin_memory is not False:
        memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return memory, memory
    buffer = engine().PageBuffer(size)
    return torch.frombuffer(buffer, dtype=torch.uint8), buffer


def _copied(batch: Batch) -> Batch:
    copies = [value.clone() for value in batch]
    return type(batch)(*copies) if hasattr(batch, "_fields") else type(batch)(copies)
