"""Writing audio files: a file appears under its name only when it is complete."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from fxfast.audio.headers import read_promise, walk_chunks
from fxfast.audio.paths import AnyPath, create_temp, printable, reason
from fxfast.errors import AudioFileError, InputError, OutputExistsError, SpaceError, WriteError

_PIECE_FRAMES = 65536
_RIFF_LIMIT_BYTES = (1 << 32) - 4096
_SUBTYPES = {
    "WAV": {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4},
    "FLAC": {"PCM_16": 2, "PCM_24": 3},
}
_FORMAT_OF_SUFFIX = {".wav": "WAV", ".flac": "FLAC"}
_DEFAULT_SUBTYPE = {"WAV": "FLOAT", "FLAC": "PCM_24"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Unpublished:
    """A complete, checked file under a hidden name; who has it owns ``fd`` and ``temp``."""

    fd: int
    temp: Path
    path: Path
    overwrite: bool


class BlockWriter:
    """Writes one audio file block by block; the file appears only when it is complete.

    ``format`` is "WAV" (subtypes PCM_16, PCM_24, FLOAT) or "FLAC" (PCM_16, PCM_24); each is taken
    from the suffix, or is the widest of the format, when None. A WAV that would pass 4 GiB is
    refused, unless ``expected_frames`` announces its length: then it becomes an RF64 file.

    Use as a context manager. An exception inside the block removes the unfinished file.
    ``frames`` counts what was written; ``clipped`` the samples beyond full scale that an integer
    subtype had to clip. ``publish`` is given the complete file in place of the flush to the disk
    and the rename, which it then owes.

    Raises OutputExistsError when the path is there and ``overwrite`` is False, InputError for a
    wrong argument or block, AudioFileError when the file cannot be written (SpaceError when there
    is no room for it).
    """

    def __init__(
        self,
        path: AnyPath,
        sample_rate: int,
        channels: int,
        format: str | None = None,
        subtype: str | None = None,
        *,
        overwrite: bool = False,
        expected_frames: int | None = None,
        publish: Callable[[Unpublished], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.format, self.subtype = _choose_format(self.path, format, subtype)
        self.overwrite = overwrite
        self._publish = publish
        self.frames = 0
        self.clipped = 0
        self._bytes_per_frame = channels * _SUBTYPES[self.format][self.subtype]
        announced_bytes = (expected_frames or 0) * self._bytes_per_frame
        self._large = self.format == "WAV" and announced_bytes > _RIFF_LIMIT_BYTES
        self._file: soundfile.SoundFile | None = None
        self._temp: Path | None = None
        self._fd = -1

    def __enter__(self) -> BlockWriter:
        self._refuse_existing()
        self._fd, self._temp = create_temp(self.path)
        try:
            self._file = soundfile.SoundFile(
                self._fd,
                "w",
                self.sample_rate,
                self.channels,
                self.subtype,
                format="RF64" if self._large else self.format,
                closefd=False,
            )
        except (soundfile.SoundFileError, OSError, ValueError, TypeError, OverflowError) as error:
            failure = self._failed(
                error,
                f"as {self.format} {self.subtype}, {self.channels} channels, {self.sample_rate} Hz",
            )
            self._discard()
            raise failure from error
        return self

    def write(self, x_ct: np.ndarray) -> None:
        """Append a block: float32 or float64 of shape (C, n), or (n) for one channel."""
        if self._file is None:
            raise InputError("BlockWriter: expected to be used in a with statement, it is not open")
        block_ct = self._checked(x_ct)
        self._count_bytes(block_ct.shape[1])
        if self.subtype != "FLOAT":
            self.clipped += int(np.count_nonzero(np.abs(block_ct) > 1.0))
        try:
            for start in range(0, block_ct.shape[1], _PIECE_FRAMES):
                piece_tc = block_ct[:, start : start + _PIECE_FRAMES].T
                self._file.write(_quantised(piece_tc, self.subtype))
        except (soundfile.SoundFileError, OSError, AssertionError) as error:
            raise self._failed(error, f"after {self.frames} frames") from error
        self.frames += block_ct.shape[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            self._finish()
        except (soundfile.SoundFileError, OSError) as failure:
            raise self._failed(failure, "to its end") from failure
        finally:
            self._discard()

    def _finish(self) -> None:
        assert self._file is not None
        assert self._temp is not None
        self._file.close()
        _reset_peak_time(self._fd, self.format)
        self._check_written()
        if self._publish is not None:
            complete = Unpublished(self._fd, self._temp, self.path, self.overwrite)
            self._fd, self._temp = -1, None
            self._publish(complete)
            return
        os.fsync(self._fd)
        self._refuse_existing()
        os.replace(self._temp, self.path)
        self._temp = None
        _sync_folder(self.path.parent)

    def _failed(self, error: BaseException, what: str) -> AudioFileError:
        """The error to raise; libsndfile does not say which, so a full disk is asked again."""
        number = getattr(error, "errno", None)
        if number is None and self._fd >= 0:
            try:
                os.pwrite(self._fd, bytes(65536), os.fstat(self._fd).st_size)
            except OSError as again:
                number, error = again.errno, again
        kind = SpaceError if number in _FULL else WriteError
        return kind(f"{printable(self.path)}: cannot be written {what}: {reason(error)}")

    def _check_written(self) -> None:
        name = printable(self.path)
        if self.frames == 0:
            raise AudioFileError(f"{name}: expected at least 1 frame to write, got 0")
        os.lseek(self._fd, 0, os.SEEK_SET)
        promise = read_promise(self._fd, name)
        with soundfile.SoundFile(self._fd, "r", closefd=False) as file:
            frames = file.frames
            if promise is None and frames == self.frames:
                file.seek(frames - 1)
                frames = frames - 1 + len(file.read(1))
        if frames != self.frames:
            raise AudioFileError(
                f"{name}: incomplete on the disk: expected {self.frames} frames, found {frames}"
            )

    def _checked(self, x_ct: np.ndarray) -> np.ndarray:
        if not isinstance(x_ct, np.ndarray) or x_ct.dtype not in (np.float32, np.float64):
            got = getattr(x_ct, "dtype", type(x_ct).__name__)
            raise InputError(f"x: expected a float32 or float64 array, got {got}")
        block_ct = x_ct[np.newaxis] if x_ct.ndim == 1 else x_ct
        if block_ct.ndim != 2 or block_ct.shape[0] != self.channels:
            raise InputError(
                f"x: expected shape ({self.channels}, T), "
                f"or (T) for one channel, got {tuple(x_ct.shape)}"
            )
        finite_t = np.isfinite(block_ct).all(axis=0)
        if not finite_t.all():
            frame = self.frames + int(np.argmin(finite_t))
            raise InputError(
                f"{printable(self.path)}: expected finite samples to write, "
                f"got NaN or infinity at frame {frame}"
            )
        return block_ct

    def _count_bytes(self, frames: int) -> None:
        data_bytes = (self.frames + frames) * self._bytes_per_frame
        if self.format == "WAV" and not self._large and data_bytes > _RIFF_LIMIT_BYTES:
            raise AudioFileError(
                f"{printable(self.path)}: too long for a WAV file: expected at most "
                f"{_RIFF_LIMIT_BYTES} bytes of sound, got {data_bytes} (announce expected_frames)"
            )

    def _refuse_existing(self) -> None:
        if not self.overwrite and os.path.lexists(self.path):
            raise OutputExistsError(
                f"{printable(self.path)}: expected no file there, it exists (overwrite not asked)"
            )

    def _discard(self) -> None:
        """Close what is open and remove the hidden file if it has not become the output."""
        if self._file is not None:
            with suppress(soundfile.SoundFileError, OSError):
                self._file.close()
            self._file = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._temp is not None:
            self._temp.unlink(missing_ok=True)
            self._temp = None


def write_audio(
    path: AnyPath,
    x: np.ndarray,
    sample_rate: int,
    subtype: str | None = None,
    *,
    overwrite: bool = False,
) -> int:
    """Write a whole array (T) or (C, T) as WAV or FLAC by the suffix of ``path``.

    The subtype is FLOAT (WAV) or PCM_24 (FLAC) unless given. Returns the number of clipped
    samples. Errors as ``BlockWriter``.
    """
    channels = x.shape[0] if getattr(x, "ndim", 1) == 2 else 1
    frames = x.shape[-1] if getattr(x, "ndim", 0) else 0
    writer = BlockWriter(
        path, sample_rate, channels, None, subtype, overwrite=overwrite, expected_frames=frames
    )
    with writer:
        writer.write(x)
    return writer.clipped


def _choose_format(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    chosen = format or _FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if chosen not in _SUBTYPES:
        got = f"format {format}" if format else f"suffix {path.suffix!r}"
        raise InputError(f"{printable(path)}: expected a WAV or FLAC file to write, got {got}")
    wanted = subtype or _DEFAULT_SUBTYPE[chosen]
    if wanted not in _SUBTYPES[chosen]:
        known = ", ".join(_SUBTYPES[chosen])
        raise InputError(
            f"{printable(path)}: expected a {chosen} subtype of {known}, got {subtype}"
        )
    return chosen, wanted


def _quantised(x_tc: np.ndarray, subtype: str) -> np.ndarray:
    """The codes to write, rounded to the nearest and clipped; float stays float32.

    libsndfile rounds down in WAV, which turns a tiny negative sample into a step of -1.
    """
    if subtype == "FLOAT":
        return np.ascontiguousarray(x_tc, np.float32)
    full_scale = 32768.0 if subtype == "PCM_16" else 8388608.0
    codes_tc = np.clip(np.rint(x_tc * full_scale), -full_scale, full_scale - 1.0)
    if subtype == "PCM_16":
        return np.ascontiguousarray(codes_tc, np.int16)
    return np.ascontiguousarray(codes_tc.astype(np.int32) << 8)  # 24 bits, left-aligned in 32


def _reset_peak_time(fd: int, format: str) -> None:
    """Clear the time of writing that libsndfile puts in a float WAV: same sound, same bytes."""
    if format != "WAV":
        return
    for chunk in walk_chunks(fd, "output", "<"):
        if chunk.name == b"PEAK" and chunk.size_bytes >= 8:
            os.pwrite(fd, bytes(4), chunk.body_offset + 4)
        if chunk.name == b"data":
            return


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
