"""Audio files, read and written strictly.

libsndfile decodes and encodes; this module keeps the books. A file is an error when it is not a
regular file, is not audio, has no frames, holds less sound than its header promises, delivers
another number of frames than promised, changes while it is read, or contains NaN or infinity.
An output appears under its name only when it is complete: it is written to a hidden file in the
same folder, checked, flushed to the disk and renamed.

Arrays are float32 of shape (C, T), full scale at +-1. Everything is read and written in blocks,
so memory does not grow with the length of a file (``read_audio`` returns the whole file).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from fxfast.audio.headers import read_promise
from fxfast.audio.paths import AUDIO_SUFFIXES, AnyPath, find_audio, printable, reason
from fxfast.audio.writer import BlockWriter, write_audio
from fxfast.errors import AudioFileError, InputError

BLOCK_FRAMES = 65536

_UNKNOWN_FRAMES = 1 << 48

__all__ = [
    "AUDIO_SUFFIXES",
    "BLOCK_FRAMES",
    "AnyPath",
    "AudioInfo",
    "BlockWriter",
    "find_audio",
    "printable",
    "probe",
    "read_audio",
    "read_blocks",
    "write_audio",
]


@dataclass(frozen=True)
class AudioInfo:
    """What a file says about itself; ``format`` and ``subtype`` are libsndfile's names."""

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def probe(path: AnyPath) -> AudioInfo:
    """Rate, channels and length of a file, checked against the bytes that are there.

    Raises AudioFileError for whatever is not a complete audio file with at least one frame.
    """
    with _opened(path) as (_, info):
        return info


def read_blocks(
    path: AnyPath, block_frames: int = BLOCK_FRAMES, *, allow_nonfinite: bool = False
) -> Iterator[np.ndarray]:
    """Yield the file as float32 blocks (C, n), n == block_frames but for the last.

    Raises AudioFileError where the file stops short of its promise, changes while it is read, or
    (unless ``allow_nonfinite``) holds NaN or infinity.
    """
    if block_frames < 1:
        raise InputError(f"block_frames: expected at least 1, got {block_frames}")
    with _opened(path) as (file, info):
        delivered = 0
        while delivered < info.frames:
            try:
                block_tc = file.read(block_frames, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, OSError) as error:
                raise AudioFileError(
                    f"{printable(path)}: cannot be decoded after {delivered} of {info.frames} "
                    f"frames: {reason(error)}"
                ) from error
            if len(block_tc) == 0:
                raise AudioFileError(
                    f"{printable(path)}: truncated: expected {info.frames} frames, got {delivered}"
                )
            if not allow_nonfinite:
                _refuse_nonfinite(block_tc, delivered, path)
            delivered += len(block_tc)
            yield np.ascontiguousarray(block_tc.T)


def read_audio(path: AnyPath, *, allow_nonfinite: bool = False) -> tuple[np.ndarray, int]:
    """The whole file as float32 (C, T), and its sample rate in Hz. Errors as ``read_blocks``."""
    info = probe(path)
    blocks = list(read_blocks(path, allow_nonfinite=allow_nonfinite))
    return np.concatenate(blocks, axis=1), info.sample_rate


@contextmanager
def _opened(path: AnyPath) -> Iterator[tuple[soundfile.SoundFile, AudioInfo]]:
    """Open, check the promise, hand out; afterwards check that nobody changed the file."""
    name = printable(path)
    fd = _open_regular(path, name)
    try:
        before = os.fstat(fd)
        if before.st_size == 0:
            raise AudioFileError(f"{name}: expected an audio file, got an empty file")
        promise = read_promise(fd, name)
        try:
            file = soundfile.SoundFile(fd, "r", closefd=False)
        except (soundfile.SoundFileError, OSError, TypeError) as error:
            raise AudioFileError(f"{name}: expected an audio file: {reason(error)}") from error
        with file:
            promised_frames = None if promise is None else promise.frames
            _check_frames(name, file.frames, promised_frames)
            info = AudioInfo(
                Path(path), file.samplerate, file.channels, file.frames, file.format, file.subtype
            )
            yield file, info
        after = os.fstat(fd)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise AudioFileError(
                f"{name}: changed while it was read: "
                f"expected {before.st_size} bytes, found {after.st_size}"
            )
    finally:
        os.close(fd)


def _open_regular(path: AnyPath, name: str) -> int:
    """A descriptor of a regular file; never waits for a FIFO or a device."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{name}: cannot be opened: {reason(error)}") from error
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise AudioFileError(f"{name}: expected an audio file, got {kind}")
    return fd


def _check_frames(name: str, frames: int, promised: int | None) -> None:
    if frames <= 0:
        raise AudioFileError(f"{name}: expected at least 1 frame, got 0 (empty or truncated)")
    if frames >= _UNKNOWN_FRAMES:
        raise AudioFileError(f"{name}: expected a header that states the length, it does not")
    if promised is not None and promised != frames:
        raise AudioFileError(
            f"{name}: truncated or damaged: its header promises {promised} frames, "
            f"{frames} can be read"
        )


def _refuse_nonfinite(block_tc: np.ndarray, first_frame: int, path: AnyPath) -> None:
    finite_t = np.isfinite(block_tc).all(axis=1)
    if not finite_t.all():
        frame = first_frame + int(np.argmin(finite_t))
        raise AudioFileError(
            f"{printable(path)}: expected finite samples, got NaN or infinity at frame {frame}"
        )
