"""What goes into a step: blocks for nets that see a window, lanes for nets that carry a state."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch

from fxfast.data import Blocks, Data, LaneBatch, Lanes
from fxfast.data.sampler import KEPT
from fxfast.models import AudioModel
from fxfast.models.inputs import with_knobs
from fxfast.training.config import TrainConfig

State = tuple[torch.Tensor, ...]
Taken = TypeVar("Taken")


class Batch(NamedTuple):
    """For one optimiser step: input, target and mask (B, 1, n), mask 1 where a target counts.

    ``x_bct`` of a net that sees windows has their history in front. ``predict`` runs the model.
    """

    x_bct: torch.Tensor
    y_bct: torch.Tensor
    mask_bct: torch.Tensor
    predict: Callable[[], torch.Tensor]


class Feed(ABC):
    """The batches of a run on ``device``, from where the state is to the end of the epoch."""

    sampler: Blocks | Lanes

    def __init__(self, device: torch.device) -> None:
        self.device = device
        # Beside a step on the CPU a batch takes no time, and a thread would wait for a core.
        self.threads = 0 if device.type == "cpu" else 1
        self._copied: deque[Any] = deque()
        self.waited_seconds = 0.0  # for batches, since the start

    @property
    def steps(self) -> int:
        """Batches of the present epoch."""
        return len(self.sampler)

    def _timed(self, batches: Iterable[Taken]) -> Iterator[Taken]:
        iterator, nothing = iter(batches), object()
        while True:
            began = time.perf_counter()
            batch = next(iterator, nothing)
            self.waited_seconds += time.perf_counter() - began
            if batch is nothing:
                return
            yield batch  # type: ignore[misc]

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Those that are left of the epoch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that the next batch depends on."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on after the batch that the state was taken after."""

    def to_device(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Copies to a GPU that go on while the next batches are made, until their buffers in the
        ring are needed again."""
        if self.device.type == "cpu":
            return tensors
        if len(self._copied) == KEPT:
            self._copied.popleft().synchronize()
        there = tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)
        self._copied.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
        self._copied[-1].record()
        return there


class BlockFeed(Feed):
    """Runs of windows as blocks: every window exactly once per epoch, new borders in every."""

    def __init__(
        self, config: TrainConfig, data: Data, model: AudioModel, device: torch.device
    ) -> None:
        super().__init__(device)
        self.model = model
        assert config.batch_blocks is not None
        assert config.block_samples is not None
        self.blocks = Blocks.of(
            data,
            model.receptive_field,
            batch_size=config.batch_blocks * config.block_samples,
            run=config.block_samples,
            seed=config.seed,
            threads=self.threads,
        )
        self.sampler = self.blocks

    def batches(self) -> Iterator[Batch]:
        for batch in self._timed(self.blocks):
            x_bct, y_bct, mask_bct, *knobs = self.to_device(*batch)
            if self.model.knobs:
                x_bct = with_knobs(x_bct, knobs[0])
            inputs = (x_bct, self.blocks.starts) if self.model.needs_starts else (x_bct,)
            yield Batch(x_bct, y_bct, mask_bct, lambda given=inputs: self.model(*given))  # type: ignore[misc]

    def state_dict(self) -> dict[str, Any]:
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)


class LaneFeed(Feed):
    """Chunks of lanes: the model's state goes from chunk to chunk, gradients stay in the chunk.

    Where a lane begins a segment, the samples before it bring the state to where it was; before
    the first sample of a piece silence does, as in the engine.
    """

    def __init__(
        self, config: TrainConfig, data: Data, model: AudioModel, device: torch.device
    ) -> None:
        super().__init__(device)
        self.model = model
        assert config.batch_blocks is not None
        assert config.block_samples is not None
        assert config.segment_blocks is not None
        self.lanes = Lanes(
            data,
            lanes=config.batch_blocks,
            segment=config.segment_blocks * config.block_samples,
            chunk=config.block_samples,
            warmup=model.receptive_field - 1,
            seed=config.seed,
            threads=self.threads,
        )
        self.sampler = self.lanes
        self._state: State | None = None
        self._ramp = torch.arange(config.block_samples, device=device)

    def batches(self) -> Iterator[Batch]:
        for batch in self._timed(self.lanes):
            if not batch.valid.any():
                continue
            x_bct, y_bct, warm_bct, valid, knobs_bk = self.to_device(
                batch.x, batch.y, batch.warm_x, batch.valid, batch.knobs
            )
            if batch.reset.any():
                self._reset(batch, warm_bct, knobs_bk)
            if self.model.knobs:
                x_bct = with_knobs(x_bct, knobs_bk)
            mask_bct = (self._ramp < valid[:, None]).to(torch.float32)[:, None]
            yield Batch(x_bct, y_bct, mask_bct, lambda x=x_bct: self._predict(x))  # type: ignore[misc]

    def _reset(self, batch: LaneBatch, warm_bct: torch.Tensor, knobs_bk: torch.Tensor) -> None:
        fresh = self._after(warm_bct, knobs_bk)
        if self._state is None or batch.reset.all():
            self._state = fresh
            return
        reset = batch.reset.to(self.device) > 0
        self._state = tuple(
            torch.where(reset.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(fresh, self._state, strict=True)
        )

    def _after(self, heard_bct: torch.Tensor, knobs_bk: torch.Tensor) -> State:
        """The state of lanes that have heard so much, each with its knobs where they stand."""
        state = self.model.initial_state(len(heard_bct), knobs_bk)
        if heard_bct.shape[2] == 0:
            return state
        if self.model.knobs:
            heard_bct = with_knobs(heard_bct, knobs_bk)
        with torch.no_grad():
            _, state = self.model.forward_from(heard_bct, state)
        return state

    def _predict(self, x_bct: torch.Tensor) -> torch.Tensor:
        assert self._state is not None
        prediction, state = self.model.forward_from(x_bct, self._state)
        self._state = tuple(part.detach() for part in state)
        return prediction

    def state_dict(self) -> dict[str, Any]:
        return self.lanes.state_dict(self._state or ())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state)
        hidden = self.lanes.hidden([state])
        self._state = tuple(part.to(self.device) for part in hidden) or self._replayed()

    def _replayed(self) -> State | None:
        """The state after the samples before the next chunks: near the one that was not saved."""
        if self.lanes.position == 0:
            return None
        replay = self.lanes.replay(self.model.receptive_field - 1)
        return self._after(replay.x.to(self.device), replay.knobs.to(self.device))


class NoFeed(Feed):
    """Of a model that takes no steps."""

    @property
    def steps(self) -> int:
        return 0

    def batches(self) -> Iterator[Batch]:
        return iter(())

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def make_feed(config: TrainConfig, data: Data, model: AudioModel, device: torch.device) -> Feed:
    """What the model trains on; ``config`` is one that ``for_model`` completed."""
    if model.has_fit() and not model.trains_after_fit:
        return NoFeed(device)
    kind = LaneFeed if model.carries_state else BlockFeed
    return kind(config, data, model, device)
