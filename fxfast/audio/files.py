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
from itertools import count
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from fxfast.audio.headers import read_promise, walk_chunks
from fxfast.errors import AudioFileError, InputError, OutputExistsError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".aif", ".aiff")
BLOCK_FRAMES = 65536
TEMP_PREFIX = ".fxfast-"
TEMP_SUFFIX = ".part"

_UNKNOWN_FRAMES = 1 << 48
_RIFF_LIMIT_BYTES = (1 << 32) - 4096
_SUBTYPES = {
    "WAV": {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4},
    "FLAC": {"PCM_16": 2, "PCM_24": 3},
}
_FORMAT_OF_SUFFIX = {".wav": "WAV", ".flac": "FLAC"}
_DEFAULT_SUBTYPE = {"WAV": "FLOAT", "FLAC": "PCM_24"}

AnyPath = str | os.PathLike[str]


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


def printable(path: AnyPath) -> str:
    """The path on one line of valid Unicode, whatever bytes the file name holds."""
    text = os.fspath(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_audio(root: AnyPath) -> list[Path]:
    """All audio files (by suffix, any case) under a folder, sorted; a file stands for itself.

    Hidden names are left out and links to folders are not followed. Raises AudioFileError when
    ``root`` does not exist or a folder cannot be read.
    """
    top = Path(root)
    if not top.exists():
        raise AudioFileError(f"{printable(top)}: expected a file or a folder, found nothing")
    if not top.is_dir():
        return [top]

    def refuse(error: OSError) -> None:
        raise AudioFileError(f"{printable(error.filename)}: cannot list the folder: {_why(error)}")

    found: list[Path] = []
    for folder, folders, names in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES
        ]
    return sorted(found)


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
                    f"frames: {_why(error)}"
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


class BlockWriter:
    """Writes one audio file block by block; the file appears only when it is complete.

    ``format`` is "WAV" (subtypes PCM_16, PCM_24, FLOAT) or "FLAC" (PCM_16, PCM_24); each is taken
    from the suffix, or is the widest of the format, when None. A WAV that would pass 4 GiB is
    refused, unless ``expected_frames`` announces its length: then it becomes an RF64 file.

    Use as a context manager. An exception inside the block removes the unfinished file.
    ``frames`` counts what was written; ``clipped`` the samples beyond full scale that an integer
    subtype had to clip.

    Raises OutputExistsError when the path is there and ``overwrite`` is False, InputError for a
    wrong argument or block, AudioFileError when the file cannot be written.
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
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.format, self.subtype = _choose_format(self.path, format, subtype)
        self.overwrite = overwrite
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
        self._fd, self._temp = _create_temp(self.path)
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
            self._discard()
            raise AudioFileError(
                f"{printable(self.path)}: cannot be written as {self.format} {self.subtype}, "
                f"{self.channels} channels, {self.sample_rate} Hz: {_why(error)}"
            ) from error
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
            for start in range(0, block_ct.shape[1], BLOCK_FRAMES):
                self._file.write(block_ct[:, start : start + BLOCK_FRAMES].T)
        except (soundfile.SoundFileError, OSError, AssertionError) as error:
            raise AudioFileError(
                f"{printable(self.path)}: cannot be written after {self.frames} frames: "
                f"{_why(error)}"
            ) from error
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
            self._publish()
        except (soundfile.SoundFileError, OSError) as failure:
            raise AudioFileError(
                f"{printable(self.path)}: cannot be written: {_why(failure)}"
            ) from failure
        finally:
            self._discard()

    def _publish(self) -> None:
        assert self._file is not None and self._temp is not None
        self._file.close()
        _reset_peak_time(self._fd, self.format)
        self._check_written()
        os.fsync(self._fd)
        self._refuse_existing()
        os.replace(self._temp, self.path)
        self._temp = None
        _sync_folder(self.path.parent)

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
            try:
                self._file.close()
            except (soundfile.SoundFileError, OSError):
                pass
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
            raise AudioFileError(f"{name}: expected an audio file: {_why(error)}") from error
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
        raise AudioFileError(f"{name}: cannot be opened: {_why(error)}") from error
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


def _create_temp(path: Path) -> tuple[int, Path]:
    """A new hidden file in the folder of ``path``; the name is short whatever the target's is."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for number in count():
        temp = path.parent / f"{TEMP_PREFIX}{os.getpid()}-{number}{TEMP_SUFFIX}"
        try:
            return os.open(temp, flags, 0o666), temp
        except FileExistsError:
            continue
        except OSError as error:
            raise AudioFileError(
                f"{printable(path)}: cannot be written in its folder: {_why(error)}"
            ) from error
    raise AssertionError("count() ended")


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


def _why(error: BaseException) -> str:
    """The reason on one line, without the path or the descriptor number."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
