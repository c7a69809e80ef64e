"""Lanes: contiguous runs side by side, for recurrent nets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fxfast.data.cuda_lanes import CudaLanes
from fxfast.data.cuda_ring import Device, DeviceRing
from fxfast.data.dataset import Data, as_float
from fxfast.data.sampler import RingSampler, checked_integer
from fxfast.errors import InputError
from fxfast.native import engine

_SEEDS = 2**64 - 1
# The rows of info, as in LaneBatches::Column.
_COLUMNS = ("reset", "warm", "valid", "lane", "file", "start")


class LaneBatch(NamedTuple):
    """One chunk of every lane: truncated back-propagation through time goes through ``x``.

    ``x``, ``y`` are (B, 1, chunk), ``warm_x`` (B, 1, warmup); all others int64 (B,). Where
    ``reset`` is 1 the state of the lane is to be zero before; then the last ``warm`` samples of
    ``warm_x`` (zeros stand before them) come before ``x`` and bring the state to where it was,
    without a loss. Only the first ``valid`` samples of the chunk count. ``file`` is -1 where a
    lane has nothing left, ``start`` the first sample of the chunk in the file.
    """

    x: torch.Tensor
    y: torch.Tensor
    reset: torch.Tensor
    warm: torch.Tensor
    valid: torch.Tensor
    lane: torch.Tensor
    file: torch.Tensor
    start: torch.Tensor
    warm_x: torch.Tensor
    knobs: torch.Tensor


class Replay(NamedTuple):
    """What a net hears to find the state again that it had before the next chunk of every lane.

    Of ``x`` (B, 1, n) the last ``length`` samples of a lane stand before its next chunk, zeros
    before them; ``length`` (B,) is 0 where it is to be reset or is empty. ``exact`` (B,) says that
    they reach back to the reset, its warm-up included: then nothing that the net heard is left out.
    ``knobs`` (B, knobs) are those of the next chunk.
    """

    x: torch.Tensor
    length: torch.Tensor
    exact: torch.Tensor
    knobs: torch.Tensor


class Lanes(RingSampler[LaneBatch]):
    """``lanes`` contiguous runs in lock step, in chunks of ``chunk`` samples.

    Every epoch cuts each span in segments of ``segment`` samples (a multiple of ``chunk``) from
    a random phase on and shuffles them; lane l takes the segments l, l + lanes, ... and is reset
    at each. All lanes begin their segments together, or with ``stagger`` evenly one after the
    other. With ``segment`` None a lane is one of ``lanes`` equal parts of everything, and is
    reset where a span ends. Every sample comes exactly once per epoch. Rank r has the r-th part
    of the lanes.

    Yields ``LaneBatch``es. Threads, prefetch, memory, ``device`` and ``draw`` as in ``Windows``.
    """

    _mode = 1
    _state_settings = ("lanes", "segment", "chunk", "warmup")

    def __init__(
        self,
        data: Data,
        lanes: int,
        segment: int | None,
        chunk: int,
        warmup: int,
        seed: int = 0,
        *,
        stagger: bool = False,
        rank: int = 0,
        world_size: int = 1,
        threads: int = 1,
        prefetch: int | None = None,
        pin_memory: bool | None = None,
        isa: str = "",
        device: str = "cpu",
    ) -> None:
        settings = {
            "lanes": checked_integer("lanes", lanes, 1),
            "segment": 0 if segment is None else checked_integer("segment", segment, 1),
            "chunk": checked_integer("chunk", chunk, 1),
            "warmup": checked_integer("warmup", warmup, 0),
            "seed": checked_integer("seed", seed, 0, _SEEDS),
            "stagger": bool(stagger),
            "rank": checked_integer("rank", rank, 0),
            "world_size": checked_integer("world_size", world_size, 1),
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

    def _make_source(self, native: Any, audio: tuple[Any, ...]) -> Any:
        return native.LaneBatches(*audio)

    def _make_device_ring(self, device: Device) -> DeviceRing:
        return CudaLanes(device, self.data, self.settings, self._tensors)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        rows = self.settings["lanes"] // self.settings["world_size"]
        return {
            "x": (rows, 1, self.settings["warmup"] + self.settings["chunk"]),
            "y": (rows, 1, self.settings["chunk"]),
            "knobs": (rows, self.data.knobs.shape[1]),
            "info": (len(_COLUMNS), rows),
        }

    def _batch(self, tensors: Mapping[str, torch.Tensor], rows: int) -> LaneBatch:
        warmup = self.settings["warmup"]
        info = dict(zip(_COLUMNS, tensors["info"], strict=True))
        row_x = tensors["x"]
        return LaneBatch(
            x=row_x[..., warmup:],
            y=tensors["y"],
            warm_x=row_x[..., :warmup],
            knobs=tensors["knobs"],
            **info,
        )

    def state_dict(self, hidden: Sequence[torch.Tensor] = ()) -> dict[str, Any]:
        """The state, and the hidden state of the net, tensors (B, ...), under its lanes."""
        rows = self.settings["lanes"] // self.settings["world_size"]
        first = self.settings["rank"] * rows
        lanes = torch.arange(first, first + rows)
        return {**super().state_dict(), "lanes": lanes, "hidden": tuple(hidden)}

    def hidden(self, states: Sequence[Mapping[str, Any]]) -> tuple[torch.Tensor, ...]:
        """The hidden state of this rank's lanes, from the states that all ranks saved: there may
        have been more of them, or fewer. Empty where none was saved. Raises ``InputError`` when a
        lane is missing."""
        saved = torch.cat([state["lanes"] for state in states])
        own = self.state_dict()["lanes"]
        where = (saved[None] == own[:, None]).long()
        if not bool(where.any(dim=1).all()):
            raise InputError(
                f"states: expected those of lanes {int(own[0])} to {int(own[-1])}, "
                f"got lanes {saved.tolist()[:16]}"
            )
        index = where.argmax(dim=1)
        parts = zip(*(state["hidden"] for state in states), strict=True)
        return tuple(torch.cat(part)[index.to(part[0].device)] for part in parts)

    def replay(self, samples: int) -> Replay:
        """Up to so many samples of dry before the next chunk of every lane, from its reset on: for
        going on where the hidden state was not saved. Approximate where they do not reach back
        to the reset, and flagged so."""
        most = checked_integer("samples", samples, 0)
        rows = self.settings["lanes"] // self.settings["world_size"]
        replay = Replay(
            torch.zeros(rows, 1, most),
            torch.zeros(rows, dtype=torch.int64),
            torch.ones(rows, dtype=torch.bool),
            torch.zeros(rows, self.data.knobs.shape[1]),
        )
        order = engine().LaneOrder(self.data.spans[:, 2].tolist(), self.settings)
        order.set_epoch(self.epoch)
        for row in range(rows if self.position < order.steps else 0):
            lane = self.settings["rank"] * rows + row
            span, start, stop, exact = self._heard(order, lane, most)
            if stop > start:
                replay.x[row, 0, most - (stop - start) :] = self._dry(span, start, stop)
                file = int(self.data.spans[span, 0])
                replay.knobs[row] = torch.from_numpy(self.data.knobs[file])
            replay.length[row], replay.exact[row] = stop - start, exact
        where = self._batches[0].x.device
        return Replay(*(tensor.to(where) for tensor in replay))

    def _heard(self, order: Any, lane: int, most: int) -> tuple[int, int, int, bool]:
        """Span, first sample, last sample and one more, of at most so many that a lane heard since
        its reset, and whether they are all."""
        _, span, stop, valid, reset, _ = order.chunk(self.position, lane)
        if reset or span < 0 or valid == 0:
            return 0, 0, 0, True
        for step in range(self.position - 1, -1, -1):
            _, _, begin, _, reset, warm = order.chunk(step, lane)
            if reset:
                return span, max(begin - warm, stop - most), stop, stop - (begin - warm) <= most
            if stop - begin >= most:
                break
        return span, stop - most, stop, False

    def _dry(self, span: int, start: int, stop: int) -> torch.Tensor:
        file, first, _ = (int(value) for value in self.data.spans[span])
        dry, _ = self.data.audio.samples_of(file)
        return torch.from_numpy(as_float(dry[first + start : first + stop]))

    def _flags(self) -> int:
        return int(self.settings["stagger"])
