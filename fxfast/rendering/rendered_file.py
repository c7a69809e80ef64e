"""One audio file through a player: read, process and write in blocks with flat memory.

The output has the length, rate and channel count of the input and no delay against it. It
appears under its name only when it is complete. The samples do not depend on the block size.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.audio.files import AudioInfo, BlockWriter, Outcome, open_audio, probe
from fxfast.audio.metadata import Metadata, read_metadata
from fxfast.audio.paths import AnyPath, printable
from fxfast.audio.peak import peak_of
from fxfast.audio.publishing import Unpublished
from fxfast.audio.writer import check_capacity, choose_format
from fxfast.errors import (
    AudioFileError,
    ChannelsError,
    EmptyFileError,
    InputError,
    NonfiniteError,
    OutputExistsError,
    RateError,
    RunError,
)
from fxfast.graph import MAX_SAMPLE_RATE
from fxfast.rendering.channels import ChannelPolicy
from fxfast.rendering.level import Levels, levelled_blocks
from fxfast.rendering.output_format import check_choice, output_subtype
from fxfast.rendering.pipeline import BlockStream, FileShape, Knobs, StreamPlayer, rendered_blocks
from fxfast.rendering.processing import BLOCK_FRAMES, MAX_CHANNELS, Processing

__all__ = [
    "BLOCK_FRAMES",
    "BlockStream",
    "RenderedFile",
    "StreamPlayer",
    "check_input",
    "check_output_format",
    "render_file",
]

# One block in float32 stays within 1 MiB whatever the number of channels.
_BLOCK_SAMPLES = 1 << 18
_CODED_FORMATS = ("FLAC", "OGG", "MP3", "CAF")
# The same noise in every file: what is rendered again is the same again.
_DITHER_SEED = 0


@dataclass(frozen=True)
class RenderedFile:
    """What was written.

    ``clipped`` counts samples that an integer format cut at full scale, ``zeroed`` those of the
    input that were NaN or infinite. ``peak_dbfs`` is that of the output before it was clipped,
    None of silence. ``loudness_lufs`` was measured before ``gain_db`` was applied, None unless a
    loudness was asked for. ``salvaged`` is the code of what a lenient run passed over, and
    ``notes`` say what is worth knowing of the input: "streamed", "suffix_mismatch", "metadata
    dropped: iXML" and the like.
    """

    input: Path
    output: Path
    sample_rate: int
    channels: int
    frames: int
    subtype: str
    clipped: int
    zeroed: int = 0
    peak_dbfs: float | None = None
    gain_db: float = 0.0
    loudness_lufs: float | None = None
    salvaged: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def render_file(
    player: StreamPlayer,
    in_path: AnyPath,
    out_path: AnyPath,
    *,
    processing: Processing | None = None,
    format: str = "keep",
    subtype: str = "keep",
    overwrite: bool = False,
    block_frames: int = BLOCK_FRAMES,
    stopped: Callable[[], bool] | None = None,
    publish: Callable[[Unpublished], None] | None = None,
) -> RenderedFile:
    """Render ``in_path`` to ``out_path``, whose suffix (.wav or .flac) says the format.

    ``format`` is "keep", or the one that the suffix must agree with. ``subtype`` is "keep",
    "pcm_16", "pcm_24" or "float" (see ``output_format``). ``processing`` is what happens besides
    the model (default: nothing). ``stopped`` is asked between blocks. ``publish`` gets the complete
    file without its name, as ``BlockWriter`` hands it over.

    Raises ``InputError`` for a wrong argument or an output that is the input, ``RateError``,
    ``ChannelsError``, ``AudioFileError`` for a file that cannot be read or written,
    ``OutputExistsError``, and ``RunError`` when ``stopped`` said so. No error leaves a file behind.
    """
    processing = processing or Processing()
    processing.check()
    processing.check_knobs(player.graph.knobs)
    _check_arguments(Path(in_path), Path(out_path), format, subtype, block_frames)
    info = check_input(in_path, player.graph.sample_rate, processing)
    _check_output(Path(in_path), Path(out_path), overwrite)
    most = getattr(player, "block_samples", _BLOCK_SAMPLES)  # of players on a GPU
    block_frames = max(1, min(block_frames, most // info.channels))
    channels = processing.output_channels(info.channels)
    metadata = read_metadata(in_path)
    writer = BlockWriter(
        out_path,
        info.sample_rate,
        channels,
        None,
        output_subtype(info.subtype, Path(out_path).suffix, subtype),
        overwrite=overwrite,
        dither=_DITHER_SEED if processing.dither else None,
        metadata=metadata,
        channel_mask=info.channel_mask if channels == info.channels else 0,
        publish=publish,
    )
    source = _Source(info, processing, block_frames)
    levels = Levels()
    with writer:
        blocks: Any = _output_blocks(player, source, processing, Path(out_path).parent, levels)
        ahead = getattr(player, "ahead", None)  # of players that know of free cores
        # Closed here and not when the error of a block is forgotten: it may hold a core.
        with closing(blocks if ahead is None else ahead(blocks)) as blocks:
            for block_ct in blocks:
                if stopped is not None and stopped():
                    raise RunError(f"{printable(out_path)}: stopped before it was complete")
                _write(writer, block_ct, info)
        if writer.frames != source.outcome.delivered:
            raise AudioFileError(
                f"{printable(in_path)}: cannot be rendered: "
                f"expected {source.outcome.delivered} frames, got {writer.frames}"
            )
    return RenderedFile(
        Path(in_path),
        Path(out_path),
        info.sample_rate,
        channels,
        writer.frames,
        writer.subtype,
        writer.clipped,
        source.outcome.nonfinite,
        writer.peak_dbfs,
        levels.gain_db,
        levels.loudness_lufs,
        source.outcome.problem,
        _notes(info, metadata),
    )


def _notes(info: AudioInfo, metadata: Metadata) -> tuple[str, ...]:
    return info.flags + tuple(f"metadata dropped: {name}" for name in metadata.dropped)


def check_input(
    in_path: AnyPath, model_rate: int, processing: Processing | None = None
) -> AudioInfo:
    """Open a file and check that a model of ``model_rate`` Hz can render it.

    Raises ``AudioFileError`` when it cannot be read, ``ChannelsError`` when it has more channels
    than are rendered or than the policy knows, ``RateError`` when its rate differs from the model's
    and neither resampling nor the difference was asked for, or is out of the range that can be
    resampled.
    """
    processing = processing or Processing()
    # The policy says how many channels are too many, whatever the header claims.
    info = probe(in_path, lenient=processing.lenient, max_channels=1 << 16)
    _check_channels(info, processing)
    if processing.no_empty and info.promised == 0:
        raise EmptyFileError(f"{printable(in_path)}: expected at least 1 frame, got 0")
    if info.sample_rate == model_rate or processing.ignore_rate:
        return info
    if not processing.resample:
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


def check_output_format(
    info: AudioInfo, out_path: AnyPath, subtype: str, processing: Processing | None = None
) -> None:
    """Raise ``ChannelsError`` or ``RateError`` where the output's format cannot hold the input's
    channels or rate: a FLAC file has at most 8 channels.
    """
    suffix = Path(out_path).suffix
    channels = (processing or Processing()).output_channels(info.channels)
    out_subtype = output_subtype(info.subtype, suffix, subtype)
    format, out_subtype = choose_format(Path(out_path), None, out_subtype)
    check_capacity(out_path, format, out_subtype, info.sample_rate, channels)


def _check_channels(info: AudioInfo, processing: Processing) -> None:
    limit = 2 if processing.channels == "mid-side" else MAX_CHANNELS
    if info.channels > limit:
        what = " for mid-side" if limit == 2 else ""
        raise ChannelsError(
            f"{printable(info.path)}: expected at most {limit} channels{what}, got {info.channels}",
            channels=info.channels,
            limit=limit,
        )


class _Source:
    """The blocks of the input; ``outcome`` is how reading them went."""

    def __init__(self, info: AudioInfo, processing: Processing, block_frames: int) -> None:
        self.info = info
        self._settings: dict[str, Any] = {
            "block_frames": block_frames,
            "lenient": processing.lenient,
            "nonfinite": processing.nonfinite,
            "identity": info.identity,
        }
        self.outcome = Outcome(None, 0)
        self.frames = info.frames
        if processing.lenient and info.format in _CODED_FORMATS:
            # How much of a damaged file can be decoded shows only by decoding it.
            for _ in self.blocks():
                pass
            self.frames = self.outcome.delivered

    @property
    def block_frames(self) -> int:
        return int(self._settings["block_frames"])

    def blocks(self) -> Iterator[np.ndarray]:
        """Views of one buffer."""
        with open_audio(self.info.path, **self._settings) as reader:
            yield from reader
            self.outcome = reader.outcome


def _output_blocks(
    player: StreamPlayer, source: _Source, processing: Processing, folder: Path, levels: Levels
) -> Iterator[np.ndarray]:
    """Blocks (C, n) of the output, together as long as the file."""
    info = source.info
    # A rate that is not looked at is the model's.
    rate = player.graph.sample_rate if processing.ignore_rate else info.sample_rate
    shape = FileShape(rate, info.channels, source.frames)
    policy = ChannelPolicy(processing.channels, info.channels)
    knobs = None
    if processing.knobs or processing.curve is not None:
        knobs = Knobs(dict(processing.knobs), processing.curve)
    rendered = rendered_blocks(player, source.blocks(), shape, policy, source.block_frames, knobs)
    if processing.normalize is not None:
        # Else it is the writer that finds it: one look at every sample is enough.
        rendered = _refuse_nonfinite(rendered, info)
    return levelled_blocks(rendered, processing, info.sample_rate, folder, levels)


def _write(writer: BlockWriter, block_ct: np.ndarray, info: AudioInfo) -> None:
    """Write a block whose samples may not be finite. Errors as ``BlockWriter.write``."""
    try:
        writer.write(block_ct)
    except NonfiniteError as error:
        raise _nonfinite(info, error.details["frame"]) from error


def _nonfinite(info: AudioInfo, frame: int) -> NonfiniteError:
    """The output of a model can pass the range of float32 where its input is huge."""
    return NonfiniteError(
        f"{printable(info.path)}: expected finite samples from the model, "
        f"got NaN or infinity at frame {frame}",
        frame=frame,
    )


def _refuse_nonfinite(source: Iterator[np.ndarray], info: AudioInfo) -> Iterator[np.ndarray]:
    frames = 0
    for block_ct in source:
        # NaN if one sample is: several times as fast as asking every sample.
        if not math.isfinite(peak_of(block_ct)):
            raise _nonfinite(info, frames + int(np.argmin(np.isfinite(block_ct).all(axis=0))))
        frames += block_ct.shape[1]
        yield block_ct


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
