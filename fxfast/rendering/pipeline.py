"""Blocks of a file through rate conversion, channels and model, with flat memory.

Every step gives the same samples however the file is cut into blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import Protocol

import numpy as np

from fxfast.audio.resample import Resampler
from fxfast.graph import ModelGraph
from fxfast.rendering.channels import ChannelPolicy
from fxfast.rendering.knobs import KnobCurve

# Silence around a file that is resampled, counted at the lower rate: longer than the filters.
_MARGIN_FRAMES = 512


class BlockStream(Protocol):
    """What rendering needs of a stream: ``fxfast.player.Stream`` has it."""

    def process(self, block: np.ndarray) -> np.ndarray: ...

    def flush(self) -> np.ndarray: ...


class StreamPlayer(Protocol):
    """What rendering needs of a player: ``fxfast.player.Player`` has it."""

    @property
    def graph(self) -> ModelGraph: ...

    @property
    def grid_samples(self) -> int: ...

    # One that has knobs takes their values as a second argument.
    def stream(self, channels: int = 1) -> BlockStream: ...


@dataclass(frozen=True)
class FileShape:
    """What the blocks of a file are: ``channels`` rows of ``frames`` samples at ``sample_rate``."""

    sample_rate: int
    channels: int
    frames: int


def rendered_blocks(
    player: StreamPlayer,
    source: Iterator[np.ndarray],
    shape: FileShape,
    policy: ChannelPolicy,
    block_frames: int,
    knobs: Knobs | None = None,
) -> Iterator[np.ndarray]:
    """The file as the model plays it, as blocks (C, n), together as long as ``source``.

    A file of another rate than the model's goes to that rate and back.
    """
    inputs = (policy.before(block_ct) for block_ct in source)
    channels = policy.model_channels
    if shape.sample_rate == player.graph.sample_rate:
        outputs = _streamed(GridStream(player, channels, knobs), inputs)
    else:
        outputs = _resampled(player, inputs, shape, channels, block_frames, knobs)
    return (policy.after(block_ct) for block_ct in outputs)


@dataclass(frozen=True)
class Knobs:
    """Where the knobs of the model stand in a file, and how they turn."""

    held: dict[str, float]
    curve: KnobCurve | None = None

    def start(self) -> dict[str, float]:
        return self.held if self.curve is None else {**self.held, **self.curve.start()}


class GridStream:
    """A stream that takes blocks of any length and gives whole grids of the player's.

    The curves of ``knobs`` begin ``lead`` samples after the stream.
    """

    def __init__(
        self, player: StreamPlayer, channels: int, knobs: Knobs | None = None, lead: int = 0
    ) -> None:
        self._channels = channels
        self._curve = None if knobs is None else knobs.curve
        self._position, self._rate = -lead, player.graph.sample_rate
        if knobs is None:
            self._stream = player.stream(channels)
        else:
            self._stream = player.stream(channels, knobs.start())  # type: ignore[call-arg]
        self._grid = player.grid_samples
        self._waiting_ct = np.zeros((channels, 0), np.float32)

    def process(self, block: np.ndarray) -> np.ndarray:
        block_ct = block.reshape(self._channels, -1)
        if self._waiting_ct.shape[1]:
            block_ct = np.concatenate([self._waiting_ct, block_ct], axis=1)
        ready = block_ct.shape[1] // self._grid * self._grid
        self._waiting_ct = block_ct[:, ready:].copy()
        return self._process(block_ct[:, :ready])

    def flush(self) -> np.ndarray:
        rest_ct = self._process(self._waiting_ct)
        after_ct = np.asarray(self._stream.flush()).reshape(self._channels, -1)
        return np.concatenate([rest_ct, after_ct], axis=1)

    def _process(self, block_ct: np.ndarray) -> np.ndarray:
        block = block_ct[0] if self._channels == 1 else np.ascontiguousarray(block_ct)
        if self._curve is None:
            return self._stream.process(block).reshape(self._channels, -1)
        samples = block_ct.shape[1]
        turned = self._curve.at(self._position, samples, self._rate)
        self._position += samples
        output: np.ndarray = self._stream.process(block, turned)  # type: ignore[call-arg]
        return output.reshape(self._channels, -1)


def _streamed(stream: GridStream, source: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for block_ct in source:
        yield stream.process(block_ct)
    yield stream.flush()


def _resampled(
    player: StreamPlayer,
    source: Iterator[np.ndarray],
    shape: FileShape,
    channels: int,
    block_frames: int,
    knobs: Knobs | None,
) -> Iterator[np.ndarray]:
    """To the model's rate, through the model, and back.

    Silence goes before and after the file, so that the filters of both conversions see the
    model's answer to silence there and not an edge; it is cut off again. Its length is whole
    in both rates: the grids of samples stay aligned, without any delay.
    """
    model_rate = player.graph.sample_rate
    margin = _margin_frames(shape.sample_rate, model_rate)
    lead = margin * model_rate // shape.sample_rate
    stream = GridStream(player, channels, knobs, lead)
    to_model = Resampler(shape.sample_rate, model_rate, channels)
    from_model = Resampler(model_rate, shape.sample_rate, channels)

    def forward(block_ct: np.ndarray, last: bool) -> np.ndarray:
        model_ct = to_model.process(block_ct, last)
        parts = [
            stream.process(model_ct[:, start : start + block_frames])
            for start in range(0, model_ct.shape[1], block_frames)
        ]
        if last:
            parts.append(stream.flush())
        parts.append(np.zeros((channels, 0), np.float32))
        return from_model.process(np.concatenate(parts, axis=1), last)

    skip, owed = margin, shape.frames
    for block_ct, last in _with_margins(source, margin, channels, block_frames):
        out_ct = forward(block_ct, last)
        cut = min(skip, out_ct.shape[1])
        skip -= cut
        out_ct = out_ct[:, cut : cut + owed]
        owed -= out_ct.shape[1]
        yield out_ct


def _margin_frames(file_rate: int, model_rate: int) -> int:
    """Frames at the file's rate that are a whole number of frames at both rates."""
    period = file_rate // gcd(file_rate, model_rate)
    wanted = -(-_MARGIN_FRAMES * file_rate // min(file_rate, model_rate))
    return period * -(-wanted // period)


def _with_margins(
    source: Iterator[np.ndarray], margin: int, channels: int, block_frames: int
) -> Iterator[tuple[np.ndarray, bool]]:
    def silence() -> Iterator[np.ndarray]:
        for start in range(0, margin, block_frames):
            yield np.zeros((channels, min(block_frames, margin - start)), np.float32)

    for block_ct in silence():
        yield block_ct, False
    for block_ct in source:
        yield block_ct, False
    for block_ct in silence():
        yield block_ct, False
    yield np.zeros((channels, 0), np.float32), True
