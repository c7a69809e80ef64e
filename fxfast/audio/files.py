"""Audio files, read and written strictly: the names that the other rooms use.

Arrays are float32 of shape (C, T), full scale at +-1. Everything is read and written in blocks,
so memory does not grow with the length of a file (``read_audio`` returns the whole file).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fxfast.audio.paths import AUDIO_SUFFIXES, AnyPath, find_audio, printable
from fxfast.audio.reader import (
    BLOCK_FRAMES,
    MAX_CHANNELS,
    AudioInfo,
    AudioReader,
    Identity,
    Outcome,
)
from fxfast.audio.writer import BlockWriter, write_audio
from fxfast.errors import ChangedError, EmptyFileError

__all__ = [
    "AUDIO_SUFFIXES",
    "BLOCK_FRAMES",
    "MAX_CHANNELS",
    "AnyPath",
    "AudioInfo",
    "AudioReader",
    "BlockWriter",
    "Identity",
    "Outcome",
    "find_audio",
    "open_audio",
    "printable",
    "probe",
    "read_audio",
    "read_blocks",
    "write_audio",
]


def probe(path: AnyPath, *, lenient: bool = False, max_channels: int = MAX_CHANNELS) -> AudioInfo:
    """Rate, channels and length of a file, checked against the bytes that are there.

    Nothing is decoded. Raises as ``open_audio``; a valid file of 0 frames is none of its errors.
    """
    with AudioReader(path, BLOCK_FRAMES, lenient, "error", max_channels) as reader:
        return reader.info


def open_audio(
    path: AnyPath,
    *,
    block_frames: int = BLOCK_FRAMES,
    lenient: bool = False,
    nonfinite: str = "error",
    max_channels: int = MAX_CHANNELS,
    identity: Identity | None = None,
) -> AudioReader:
    """Open a file to read it block by block; see ``AudioReader``.

    ``lenient`` delivers what is there of a cut, wrapped or damaged file, and marks the outcome.
    ``nonfinite`` "zero" turns NaN and infinity into 0 and counts them. ``identity`` is that of an
    earlier ``probe``: another state of the file is an error.

    Raises NotFileError, EmptyFileError (0 bytes), FormatError, ChannelsError, RateError,
    TruncatedError, SizeWrapError, DecodeError, ChecksumError, NonfiniteError, ChangedError and
    ReadError, all of them AudioFileError, and InputError for a wrong argument.
    """
    reader = AudioReader(path, block_frames, lenient, nonfinite, max_channels)
    if identity is not None and identity != reader.info.identity:
        reader.close()
        raise ChangedError(f"{printable(path)}: changed since the run was planned")
    return reader


def read_blocks(
    path: AnyPath, block_frames: int = BLOCK_FRAMES, *, allow_nonfinite: bool = False
) -> Iterator[np.ndarray]:
    """Yield the file as float32 blocks (C, n) of their own, n == block_frames but for the last.

    Raises as ``open_audio``; ``allow_nonfinite`` hands NaN and infinity on.
    """
    nonfinite = "keep" if allow_nonfinite else "error"
    with AudioReader(path, block_frames, False, nonfinite, MAX_CHANNELS) as reader:
        for block_ct in reader:
            yield block_ct.copy()


def read_audio(path: AnyPath, *, allow_nonfinite: bool = False) -> tuple[np.ndarray, int]:
    """The whole file as float32 (C, T), T at least 1, and its sample rate in Hz.

    Raises as ``read_blocks``, and EmptyFileError for a file of 0 frames.
    """
    blocks = list(read_blocks(path, allow_nonfinite=allow_nonfinite))
    if not blocks:
        raise EmptyFileError(f"{printable(path)}: expected at least 1 frame, got 0")
    return np.concatenate(blocks, axis=1), probe(path).sample_rate
