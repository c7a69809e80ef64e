"""One audio file through a player: read, process and write in blocks with flat memory.

The output has the length, rate and channel count of the input and no delay against it. It
appears under its name only when it is complete. The samples do not depend on the block size.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Protocol

import numpy as np

from fxfast.audio.files import AudioInfo, BlockWriter, probe, read_blocks
from fxfast.audio.paths import AnyPath, printable
from fxfast.audio.resample import Resampler
from fxfast.errors import AudioFileError, InputError, OutputExistsError, RateError, RunError
from fxfast.graph import MAX_SAMPLE_RATE, ModelGraph
from fxfast.rendering.output_format import check_choice, output_subtype

BLOCK_FRAMES = 16384
# One block in float32 stays within 2 MiB whatever the number of channels.
_BLOCK_SAMPLES = 1 << 19
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

    def stream(self, channels: int = 1) -> BlockStream: ...


@dataclass(frozen=True)
class RenderedFile:
    """What was written. ``clipped`` counts samples that an integer format cut at full scale."""

    input: Path
    output: Path
    sample_rate: int
    channels: int
    frames: int
    subtype: str
    clipped: int

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def render_file(
    player: StreamPlayer,
    in_path: AnyPath,
    out_path: AnyPath,
    *,
    resample: bool = False,
    format: str = "keep",
    subtype: str = "keep",
    overwrite: bool = False,
    block_frames: int = BLOCK_FRAMES,
    stopped: Callable[[], bool] | None = None,
) -> RenderedFile:
    """Render ``in_path`` to ``out_path``, whose suffix (.wav or .flac) says the format.

    ``format`` is "keep", or the one that the suffix must agree with. ``subtype`` is "keep",
    "pcm_16", "pcm_24" or "float" (see ``output_format``). With ``resample`` a file of another
    rate than the model's is converted to it and back. ``stopped`` is asked between blocks.

    Raises ``InputError`` for a wrong argument or an output that is the input, ``RateError``,
    ``AudioFileError`` for a file that cannot be read or written, ``OutputExistsError``, and
    ``RunError`` when ``stopped`` said so. No error leaves a file behind.
    """
    _check_arguments(Path(in_path), Path(out_path), format, subtype, block_frames)
    info = check_input(in_path, player.graph.sample_rate, resample)
    _check_output(Path(in_path), Path(out_path), overwrite)
    block_frames = max(1, min(block_frames, _BLOCK_SAMPLES // info.channels))
    writer = BlockWriter(
        out_path,
        info.sample_rate,
        info.channels,
        None,
        output_subtype(info.subtype, Path(out_path).suffix, subtype),
        overwrite=overwrite,
        expected_frames=info.frames,
    )
    with writer:
        for block_ct in _rendered_blocks(player, info, block_frames):
            if stopped is not None and stopped():
                raise RunError(f"{printable(out_path)}: stopped before it was complete")
            writer.write(block_ct)
        if writer.frames != info.frames:
            raise AudioFileError(
                f"{printable(in_path)}: changed while it was read: "
                f"expected {info.frames} frames, got {writer.frames}"
            )
    return RenderedFile(
        Path(in_path),
        Path(out_path),
        info.sample_rate,
        info.channels,
        info.frames,
        writer.subtype,
        writer.clipped,
    )


def check_input(in_path: AnyPath, model_rate: int, resample: bool) -> AudioInfo:
    """Open a file and check that a model of ``model_rate`` Hz can render it.

    Raises ``AudioFileError`` when it cannot be read, ``RateError`` when its rate differs from
    the model's and ``resample`` is off, or is out of the range that can be resampled.
    """
    info = probe(in_path)
    if info.sample_rate == model_rate:
        return info
    if not resample:
        raise RateError(
            f"{printable(in_path)}: expected the model's sample rate of {model_rate} Hz, "
            f"got {info.sample_rate} Hz (resampling was not asked for)"
        )
    if info.sample_rate > MAX_SAMPLE_RATE:
        raise RateError(
            f"{printable(in_path)}: expected at most {MAX_SAMPLE_RATE} Hz to resample "
            f"to the model's {model_rate} Hz, got {info.sample_rate} Hz"
        )
    return info


def _check_arguments(
    in_path: Path, out_path: Path, format: str, subtype: str, block_frames: int
) -> None:
    if out_path.suffix.lower() not in (".wav", ".flac"):
        raise InputError(
            f"{printable(out_path)}: expected an output that ends in .wav or .flac, "
            f"got {out_path.suffix!r}"
        )
    suffix_format = out_path.suffix.lower()[1:]
    if format not in ("keep", suffix_format):
        check_choice(format, subtype)
        raise InputError(
            f"{printable(out_path)}: expected an output that ends in .{format}, "
            f"got {out_path.suffix!r}"
        )
    check_choice(suffix_format, subtype)
    if type(block_frames) is not int or block_frames < 1:
        raise InputError(f"block_frames: expected an integer of at least 1, got {block_frames!r}")


def _check_output(in_path: Path, out_path: Path, overwrite: bool) -> None:
    if not os.path.lexists(out_path):
        return
    if out_path.exists() and os.path.samefile(in_path, out_path):
        raise InputError(f"{printable(out_path)}: expected an output that is not the input")
    if not overwrite:
        raise OutputExistsError(
            f"{printable(out_path)}: expected no file there, it exists (overwrite not asked)"
        )


def _rendered_blocks(
    player: StreamPlayer, info: AudioInfo, block_frames: int
) -> Iterator[np.ndarray]:
    """Blocks (C, n) of the output, together as long as the file."""
    source = read_blocks(info.path, block_frames)
    if info.sample_rate == player.graph.sample_rate:
        return _streamed(_GridStream(player, info.channels), source)
    return _resampled(player, source, info, block_frames)


def _streamed(stream: _GridStream, source: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for block_ct in source:
        yield stream.process(block_ct)
    yield stream.flush()


class _GridStream:
    """A stream that takes blocks of any length and gives whole grids of the player's."""

    def __init__(self, player: StreamPlayer, channels: int) -> None:
        self._stream, self._channels = player.stream(channels), channels
        self._grid = player.grid_samples
        self._waiting_ct = np.zeros((channels, 0), np.float32)

    def process(self, block: np.ndarray) -> np.ndarray:
        block_ct = block.reshape(self._channels, -1)
        if self._waiting_ct.shape[1]:
            block_ct = np.concatenate([self._waiting_ct, block_ct], axis=1)
        ready = block_ct.shape[1] // self._grid * self._grid
        self._waiting_ct = block_ct[:, ready:].copy()
        return _process(self._stream, block_ct[:, :ready], self._channels)

    def flush(self) -> np.ndarray:
        rest_ct = _process(self._stream, self._waiting_ct, self._channels)
        after_ct = np.asarray(self._stream.flush()).reshape(self._channels, -1)
        return np.concatenate([rest_ct, after_ct], axis=1)


def _process(stream: BlockStream, block_ct: np.ndarray, channels: int) -> np.ndarray:
    if channels == 1:
        return stream.process(block_ct[0])[np.newaxis]
    return stream.process(block_ct)


def _resampled(
    player: StreamPlayer, source: Iterator[np.ndarray], info: AudioInfo, block_frames: int
) -> Iterator[np.ndarray]:
    """To the model's rate, through the model, and back.

    Silence goes before and after the file, so that the filters of both conversions see the
    model's answer to silence there and not an edge; it is cut off again. Its length is whole
    in both rates: the grids of samples stay aligned, without any delay.
    """
    model_rate, channels = player.graph.sample_rate, info.channels
    stream = _GridStream(player, channels)
    to_model = Resampler(info.sample_rate, model_rate, channels)
    from_model = Resampler(model_rate, info.sample_rate, channels)
    margin = _margin_frames(info.sample_rate, model_rate)

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

    skip, owed = margin, info.frames
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
