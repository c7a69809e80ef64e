"""Batches of lanes that a CUDA kernel gathers, as :mod:`fxfast.data.cuda_ring` does of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fxfast.data.cuda_ring import Device, DeviceRing, resident, team_shape, teams_of
from fxfast.data.dataset import Data
from fxfast.native import engine

# As in csrc/kernels/cuda/lanes_program.h.
_SPAN = np.dtype(
    [
        *((name, "<u8") for name in ("dry", "wet", "begin", "length")),
        *((name, "<i8") for name in ("file", "start")),
    ]
)
_PLAN = np.dtype(
    [
        *(
            (name, "<u8")
            for name in (
                *("lanes", "segment", "chunk", "warmup", "seed", "rows", "first_lane"),
                *("whole_steps", "spans", "first", "knobs"),
            )
        ),
        *((name, "<i4") for name in ("span_count", "knob_count", "is_int16", "stagger")),
    ]
)
_RUN = np.dtype(
    [
        *((name, "<u8") for name in ("plan", "state", "x", "y", "knobs", "info")),
        *(("team_rows", "<i4"), ("team_samples", "<i4")),
    ]
)


class CudaLanes(DeviceRing):
    """The batches of lanes, as ``BatchRing`` has them, on a device."""

    def __init__(
        self,
        device: Device,
        data: Data,
        settings: dict[str, Any],
        slots: list[dict[str, torch.Tensor]],
    ) -> None:
        super().__init__(device, slots, device.library.lane_state_bytes())
        self._settings = settings
        self._order = engine().LaneOrder(data.spans[:, 2].tolist(), settings)
        self._audio, places = resident(device, data)
        self._knobs = device.put(data.knobs.astype(np.float32))
        self._spans = device.put(_spans_of(data, places))
        self._first = device.bytes(8 * (len(places) + 1))
        self._has_samples = data.samples > 0
        self._rows = settings["lanes"] // settings["world_size"]
        self._plan = device.put(self._plan_of(data))
        self._runs = [self._run_of(tensors) for tensors in slots]
        self._teams = teams_of(self._rows, settings["warmup"] + settings["chunk"])
        self.seek(0, 0)

    def _plan_of(self, data: Data) -> np.ndarray:
        s, plan = self._settings, np.zeros(1, _PLAN)
        for name in ("lanes", "segment", "chunk", "warmup", "seed", "stagger"):
            plan[name] = s[name]
        plan["rows"], plan["first_lane"] = self._rows, s["rank"] * self._rows
        plan["whole_steps"] = self._order.steps if s["segment"] == 0 else 0
        plan["spans"], plan["span_count"] = self._spans.data_ptr(), len(data.spans)
        plan["first"], plan["is_int16"] = self._first.data_ptr(), data.is_int16
        plan["knobs"], plan["knob_count"] = self._knobs.data_ptr(), data.knobs.shape[1]
        return plan

    def _run_of(self, tensors: dict[str, torch.Tensor]) -> np.ndarray:
        run = np.zeros(1, _RUN)
        run["plan"], run["state"] = self._plan.data_ptr(), self._state.data_ptr()
        for name, tensor in tensors.items():
            run[name] = tensor.data_ptr()
        length = self._settings["warmup"] + self._settings["chunk"]
        run["team_rows"], run["team_samples"] = team_shape(length)
        return run

    def _enter(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    @property
    def batches(self) -> int:  # type: ignore[override]
        """Of the present epoch: they differ with the phases."""
        self._find_place()
        return int(self._order.steps)

    @property
    def _has_full_batches(self) -> bool:
        return self._has_samples

    def _queue_batch(self, slot: int, stream: int) -> None:
        self._device.library.sample_lanes(self._runs[slot].ctypes.data, self._teams, stream)

    def _queue_step(self, place: tuple[int, int] | None, stream: int) -> None:
        pointers = self._plan.data_ptr(), self._state.data_ptr()
        self._device.library.go_to_lanes(*pointers, place, stream)

    def rows(self, slot: int) -> int:
        """Of every batch."""
        return int(self._rows)

    @property
    def memory_bytes(self) -> int:
        """On the device, beside the audio."""
        tensors = (self._plan, self._state, self._spans, self._first, self._knobs)
        return sum(tensor.numel() for tensor in tensors)


def _spans_of(data: Data, places: np.ndarray) -> np.ndarray:
    spans = np.zeros(len(places), _SPAN)
    spans["dry"], spans["wet"] = places.T
    spans["file"], spans["start"], spans["length"] = data.spans.T
    spans["begin"] = np.cumsum(data.spans[:, 2]) - data.spans[:, 2]
    return spans
