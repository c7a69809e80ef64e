"""Windows in random order, single or in runs, and runs as blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import Sampler

from fxfast.data.cuda_ring import CudaRing, Device, DeviceRing
from fxfast.data.dataset import Data, as_float
from fxfast.data.sampler import RingSampler, checked_integer
from fxfast.data.windows import windows_of_block
from fxfast.errors import InputError
from fxfast.native import engine

LAST = ("drop", "short", "wrap")
_SEEDS = 2**64 - 1


class _WindowOrdered(RingSampler[tuple[torch.Tensor, ...]]):
    _mode = 0
    _state_settings = ("batch_size", "length", "out_length", "stride", "run")

    def _flags(self) -> int:
        return int(self.settings["replacement"]) + 2 * LAST.index(self.settings["last"])

    @property
    def windows(self) -> int:
        """Windows of an epoch, of all ranks."""
        return int(self._source.windows)

    def _order(self) -> Any:
        return engine().WindowOrder(self.data.spans[:, 2].tolist(), self.settings)


class Windows(_WindowOrdered):
    """Windows of ``length`` samples of dry, and the last ``out_length`` of the same windows of wet.

    Yields ``(x, y)`` of shapes (B, 1, length) and (B, 1, out_length), with knobs (B, knobs) as a
    third where the data have some, and a mask (B,) as the last one where ``last`` is "wrap";
    ``ids`` are the numbers of the windows of the last batch.

    An epoch visits every window exactly once: runs of ``run`` consecutive windows, ``stride``
    samples apart, in random order from a random phase on; with 1 single windows are shuffled.
    With ``replacement`` every run is drawn anew, without an end: an epoch is as many draws as there
    are windows, so that length, schedules and validations have a measure, and the next epoch goes
    on with other draws. What does not fill a batch is dropped, or a ``short`` batch, or with "wrap"
    filled up with windows of the start of the epoch whose mask is 0.
    ``batch_size`` is that of all ranks together; rank r gets the r-th part of each batch.

    ``threads`` native threads (0: the caller) fill ``prefetch`` batches ahead, in pinned memory
    where CUDA is (``pin_memory`` says otherwise).

    With ``device`` "cuda" (or "cuda:0" and so on) the audio goes to that GPU, as it is stored, and
    a kernel finds and gathers each batch there, in the present stream of torch: the same windows,
    nothing sent by the host. ``draw`` can be captured in a CUDA graph.
    """

    def __init__(
        self,
        data: Data,
        length: int,
        out_length: int = 1,
        *,
        batch_size: int,
        run: int = 1,
        stride: int = 1,
        seed: int = 0,
        replacement: bool = False,
        rank: int = 0,
        world_size: int = 1,
        last: str = "drop",
        threads: int = 1,
        prefetch: int | None = None,
        pin_memory: bool | None = None,
        isa: str = "",
        device: str = "cpu",
    ) -> None:
        if last not in LAST:
            raise InputError(f"last: expected one of {', '.join(LAST)}, got {last!r}")
        settings = {
            "length": checked_integer("length", length, 1),
            "out_length": checked_integer("out_length", out_length, 0),
            "batch_size": checked_integer("batch_size", batch_size, 1),
            "run": checked_integer("run", run, 1),
            "stride": checked_integer("stride", stride, 1),
            "seed": checked_integer("seed", seed, 0, _SEEDS),
            "replacement": bool(replacement),
            "rank": checked_integer("rank", rank, 0),
            "world_size": checked_integer("world_size", world_size, 1),
            "last": last,
        }
        super().__init__(
            data,
            settings,
            threads=threads,
            prefetch=prefetch,
            pin_memory=pin_memory,
            isa=isa,
            device=device,
        )

    def _make_device_ring(self, device: Device) -> DeviceRing:
        source = self._source
        return CudaRing(
            *(device, self.data, self.settings, self._tensors),
            *(int(source.windows), int(source.batches)),
        )

    def _make_source(self, native: Any, audio: tuple[Any, ...]) -> Any:
        return native.WindowBatches(*audio)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        rows = self.settings["batch_size"] // self.settings["world_size"]
        return {
            "x": (rows, 1, self.settings["length"]),
            "y": (rows, 1, self.settings["out_length"]),
            "info": (rows,),
            **({"knobs": (rows, self.data.knobs.shape[1])} if self.data.knobs.size else {}),
            **({"mask": (rows,)} if self.settings["last"] == "wrap" else {}),
        }

    def _batch(self, tensors: Mapping[str, torch.Tensor], rows: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensors[n][:rows] for n in ("x", "y", "knobs", "mask") if n in tensors)

    def _short_batch(self) -> int | None:
        if self.settings["last"] != "short" or not self.windows % self.settings["batch_size"]:
            return None
        return len(self) - 1

    @property
    def ids(self) -> torch.Tensor:
        """The numbers of the windows of the last batch, int64 (B,)."""
        if self._slot < 0:
            raise InputError("ids: expected a batch to be taken before, got none")
        info = self._tensors[self._slot]["info"]
        return info if self._rows_are_full else info[: self._ring.rows(self._slot)]

    @property
    def _rows_are_full(self) -> bool:
        return self._device is not None and self.settings["last"] != "short"

    @property
    def skipped(self) -> int:
        """Spans too short for a window."""
        return int((self.data.spans[:, 2] < self.settings["length"]).sum())

    def locate(self, window: int) -> tuple[int, int]:
        """File and first sample of a window."""
        span, start = self._order().locate(window)
        file, first, _ = self.data.spans[span]
        return int(file), int(first + start)

    def items(self) -> WindowItems:
        """Windows one by one, by number: what samplers of PyTorch choose from."""
        return WindowItems(self)

    def sampler(self) -> WindowIds:
        """The numbers of the windows in the order of the present epoch."""
        return WindowIds(self)

    def batch_sampler(self) -> WindowIdBatches:
        """The numbers of the windows of this rank, batch by batch, from the present state on."""
        return WindowIdBatches(self)

    def blocks(self) -> Blocks:
        """The same epochs with each run as one block that holds every sample once."""
        return Blocks(self.data, self.settings, **self._options)

    def runs(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The runs of the present epoch as views (n, 1, length) and (n, 1, out_length).

        Nothing is copied (int16 is converted once): neighbours overlap in memory. A run that
        crosses the end of a span comes in parts. The state stays as it is.
        """
        order, settings = self._order(), self.settings
        run, windows = settings["run"], self.windows
        for position in range(0, windows, run):
            left = min(run, windows - position)
            first = int(order.ids(self.epoch, position, 1)[0])
            while left > 0:
                span, start = order.locate(first)
                room = (int(self.data.spans[span, 2]) - settings["length"] - start) // (
                    settings["stride"]
                ) + 1
                count = min(left, room)
                yield self._view(span, start, count)
                left -= count
                first = (first + count) % windows

    def _view(self, span: int, start: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        length, step = self.settings["length"], self.settings["stride"]
        out_length = self.settings["out_length"]
        file, first, _ = (int(value) for value in self.data.spans[span])
        stop = first + start + (count - 1) * step + length
        x, y = (
            torch.from_numpy(as_float(side[first + start : stop]))
            for side in self.data.audio.samples_of(file)
        )
        if out_length == 0:
            return windows_of_block(x, length)[::step, None], y.new_empty(count, 1, 0)
        targets = windows_of_block(y[length - out_length :], out_length)
        return windows_of_block(x, length)[::step, None], targets[::step, None]


class Blocks(_WindowOrdered):
    """Runs of windows as blocks: ``Windows.blocks()``.

    A net that reads ``length`` samples and gives ``out_length`` is, as a convolution over such a
    block, the same function as over the windows of the run, for n times less work. Yields
    ``(x, y, mask)`` and knobs: x (R, 1, length + (run - 1) * stride); y and mask
    (R, 1, out_length + (run - 1) * stride), mask 0 behind a run that is cut short. R is
    batch_size / run, and more where runs cross the end of a span: each part has its own row.
    """

    def __init__(self, data: Data, settings: dict[str, Any], **options: Any) -> None:
        super().__init__(data, settings, **options)

    @classmethod
    def of(
        cls, data: Data, length: int, *, batch_size: int, run: int, seed: int, threads: int
    ) -> Blocks:
        """``Windows(...).blocks()`` with a short last batch, without room for single windows."""
        settings = {
            "length": checked_integer("length", length, 1),
            "out_length": 1,
            "batch_size": checked_integer("batch_size", batch_size, 1),
            "run": checked_integer("run", run, 1),
            "stride": 1,
            "seed": checked_integer("seed", seed, 0, _SEEDS),
            "replacement": False,
            "rank": 0,
            "world_size": 1,
            "last": "short",
        }
        return cls(data, settings, threads=threads, prefetch=None, pin_memory=None, isa="")

    def _device_of(self, device: str) -> Device:
        raise InputError(f"device: expected cpu for Blocks, got {device!r}")

    def _make_source(self, native: Any, audio: tuple[Any, ...]) -> Any:
        return native.BlockBatches(*audio)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        rows, more = self._source.max_rows, (self.settings["run"] - 1) * self.settings["stride"]
        targets = (rows, 1, self.settings["out_length"] + more)
        return {
            "x": (rows, 1, self.settings["length"] + more),
            "y": targets,
            "mask": targets,
            "info": (rows, 2),
            **({"knobs": (rows, self.data.knobs.shape[1])} if self.data.knobs.size else {}),
        }

    def _batch(self, tensors: Mapping[str, torch.Tensor], rows: int) -> tuple[torch.Tensor, ...]:
        return tuple(tensors[n][:rows] for n in ("x", "y", "mask", "knobs") if n in tensors)

    def _short_batch(self) -> int:
        return 0

    @property
    def ids(self) -> torch.Tensor:
        """The first window and the number of windows of each row of the last batch (R, 2)."""
        if self._slot < 0:
            raise InputError("ids: expected a batch to be taken before, got none")
        return self._tensors[self._slot]["info"][: self._ring.rows(self._slot)]

    @cached_property
    def _places(self) -> Any:
        return self._order()

    @property
    def starts(self) -> torch.Tensor:
        """The sample of its file at which each row of x of the last batch begins, int64 (R,)."""
        places = [self._places.locate(int(window)) for window in self.ids[:, 0]]
        firsts = [int(self.data.spans[span, 1]) + int(start) for span, start in places]
        return torch.tensor(firsts, dtype=torch.int64)


class WindowItems(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Windows by number, each a view of its audio (of int16 a conversion)."""

    def __init__(self, windows: Windows) -> None:
        self._windows, self._order = windows, windows._order()

    def __len__(self) -> int:
        return self._windows.windows

    def __getitem__(self, window: int) -> tuple[torch.Tensor, torch.Tensor]:
        span, start = self._order.locate(window)
        x, y = self._windows._view(span, start, 1)
        return x[0], y[0]

    def __getstate__(self) -> dict[str, Any]:
        return {"windows": self._windows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        WindowItems.__init__(self, state["windows"])


class WindowIds(Sampler[int]):
    """Numbers of windows in the order of the epoch; ``set_epoch`` chooses it."""

    def __init__(self, windows: Windows) -> None:
        self._order, self.epoch, self._position = windows._order(), windows.epoch, 0

    def __len__(self) -> int:
        return int(self._order.windows)

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self._position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self._position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[int]:
        total = len(self)
        while self._position < total:
            count = min(1024, total - self._position)
            for window in self._order.ids(self.epoch, self._position, count).tolist():
                self._position += 1
                yield window
        self.set_epoch(self.epoch + 1)


class WindowIdBatches(Sampler[list[int]]):
    """Numbers of the windows of every batch of a rank, without a last one that is not full."""

    def __init__(self, windows: Windows) -> None:
        self._order, self._settings = windows._order(), windows.settings
        self.epoch, self._position = windows.epoch, windows.position

    def __len__(self) -> int:
        return int(self._order.windows) // cast(int, self._settings["batch_size"])

    def set_epoch(self, epoch: int) -> None:
        self.epoch, self._position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch, self._position = state["epoch"], state["position"]

    def __iter__(self) -> Iterator[list[int]]:
        batch = self._settings["batch_size"]
        share = batch // self._settings["world_size"]
        while self._position < len(self):
            first = self._position * batch + self._settings["rank"] * share
            self._position += 1
            ids: np.ndarray = self._order.ids(self.epoch, first, share)
            yield ids.tolist()
        self.set_epoch(self.epoch + 1)
