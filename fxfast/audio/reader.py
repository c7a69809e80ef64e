"""Reading audio files strictly: open what is a file, keep the books, refuse or salvage.

An error, unless asked to be lenient: sound that is shorter than promised, a wrapped size, a
checksum that does not hold. An error always: what is no regular file or no audio, a file that
changes while it is read, NaN or infinity unless they are to become zero.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from fxfast.audio.coded_source import CodedSource
from fxfast.audio.containers import read_header
from fxfast.audio.headers import MAX_FILE_RATE, Header, check_format_fields
from fxfast.audio.linear_source import LinearSource
from fxfast.audio.paths import AnyPath, printable, reason
from fxfast.errors import (
    AudioFileError,
    ChangedError,
    ChannelsError,
    DecodeError,
    EmptyFileError,
    InputError,
    NonfiniteError,
    NotFileError,
)

BLOCK_FRAMES = 65536
MAX_CHANNELS = 64
# One block in float32 stays within 2 MiB whatever the number of channels.
MAX_BLOCK_SAMPLES = 1 << 19

_SUFFIXES = {
    "WAV": (".wav", ".wave", ".bwf"),
    "WAVEX": (".wav", ".wave", ".bwf"),
    "RF64": (".wav", ".wave", ".bwf", ".rf64", ".bw64"),
    "W64": (".w64",),
    "AIFF": (".aif", ".aiff", ".aifc"),
    "CAF": (".caf",),
    "FLAC": (".flac",),
    "OGG": (".ogg", ".oga", ".opus"),
    "MP3": (".mp3",),
}


class Identity(NamedTuple):
    """Which file, in which state; the same identity means the same bytes."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int


_NO_IDENTITY = Identity(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file says about itself, held against what is there.

    ``format`` and ``subtype`` are libsndfile's names. ``frames`` is what reading delivers, 0 where
    that shows only then (a salvaged FLAC or Ogg file);
    ``promised`` what the header states and ``present`` what the file has room for (None where
    unknown). ``flags``: "streamed" (no length stated, read until the end), "size_wrap" and
    "truncated" (lenient only), "length_not_stated" (MP3), "pages_after_end" (Ogg whose end is said
    more than once; all is read), "suffix_mismatch".
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    promised: int | None = None
    present: int | None = None
    identity: Identity = _NO_IDENTITY
    flags: tuple[str, ...] = ()
    channel_mask: int = 0

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the reading went: ``problem`` is the code of what a lenient reader passed over.

    ``nonfinite`` counts samples that were NaN or infinity and became 0, ``first_nonfinite`` is
    the frame of the first. ``checksum`` is "ok", "absent" or "mismatch".
    """

    promised: int | None
    delivered: int
    problem: str | None = None
    nonfinite: int = 0
    first_nonfinite: int | None = None
    checksum: str = "absent"

    @property
    def salvaged(self) -> bool:
        return self.problem is not None


def open_regular(path: AnyPath) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file and its state; never waits for a FIFO or a device.

    Raises NotFileError for anything else, EmptyFileError for 0 bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise NotFileError(f"{printable(path)}: cannot be opened: {reason(error)}") from error
    state = os.fstat(fd)
    if stat.S_ISREG(state.st_mode) and state.st_size > 0:
        return fd, state
    with suppress(OSError):  # what was read is read
        os.close(fd)
    if stat.S_ISREG(state.st_mode):
        raise EmptyFileError(f"{printable(path)}: expected an audio file, got an empty file")
    kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe or a device"
    raise NotFileError(f"{printable(path)}: expected an audio file, got {kind}")


def identity_of(state: os.stat_result) -> Identity:
    return Identity(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


class AudioReader:
    """One file, read from its first to its last frame. Use as a context manager.

    ``info`` is there from the start; iterating gives float32 blocks (C, n), views of one buffer
    that the next block overwrites; ``outcome`` is how it went so far.

    Raises on opening and, for what shows later, before the last block is handed out; the error
    classes are those of ``open_audio``.
    """

    def __init__(
        self, path: AnyPath, block_frames: int, lenient: bool, nonfinite: str, max_channels: int
    ) -> None:
        if type(block_frames) is not int or block_frames < 1:
            raise InputError(f"block_frames: expected at least 1, got {block_frames}")
        if nonfinite not in ("error", "zero", "keep"):
            raise InputError(f"nonfinite: expected error or zero, got {nonfinite!r}")
        self._name, self._path = printable(path), path
        self._lenient, self._nonfinite = lenient, nonfinite
        self._source: CodedSource | LinearSource | None = None
        self._start: Callable[[], CodedSource] | None = None
        self._problem: AudioFileError | None = None
        self._ended = False
        self._delivered = self._bad_samples = 0
        self._first_bad: int | None = None
        self._fd, state = open_regular(path)
        try:
            self._identity = identity_of(state)
            header = read_header(self._fd, self._name, state.st_size)
            if header.problem is not None:
                self._pass_over(header.problem)
            self.info = self._open(header, state.st_size, max_channels)
        except BaseException:
            self.close()
            raise
        self._block_frames = max(1, min(block_frames, MAX_BLOCK_SAMPLES // self.info.channels))
        self._buffer_ct = np.zeros((self.info.channels, 0), np.float32)
        self._may_be_nonfinite = self.info.format in ("OGG", "MP3") or (
            self.info.subtype in ("FLOAT", "DOUBLE")
        )

    def _open(self, header: Header, size: int, max_channels: int) -> AudioInfo:
        rate, channels, subtype = header.sample_rate, header.channels, header.subtype
        flags = list(header.flags)
        promised = header.promised
        format, frames = header.format, header.present or 0
        if header.coding is not None:
            self._source = LinearSource(self._fd, self._name, size, header)
        elif header.format == "FLAC":
            # The header says it all; a decoder takes ten times as long to open.
            self._start = lambda: CodedSource(self._fd, self._name, size, header, self._lenient)
            frames = (header.promised or 0) if header.problem is None else 0
        else:
            source = CodedSource(self._fd, self._name, size, header, self._lenient)
            self._source = source
            rate, channels = source.sample_rate, source.channels
            format, subtype, frames = source.format, source.subtype, source.frames or 0
            promised = promised or source.frames
            if header.promised is not None and header.promised != frames and frames:
                self._pass_over(self._disagreement(header.promised, frames))
            check_format_fields(self._name, min(rate, MAX_FILE_RATE), channels)
        if channels > max_channels:
            raise ChannelsError(
                f"{self._name}: expected at most {max_channels} channels, got {channels}",
                channels=channels,
                limit=max_channels,
            )
        if self._problem is not None:
            flags.append("size_wrap" if self._problem.code == "E_SIZE_WRAP" else "truncated")
        suffix = os.path.splitext(os.fspath(self._path))[1].lower()
        if suffix not in _SUFFIXES.get(header.format, (suffix,)):
            flags.append("suffix_mismatch")
        return AudioInfo(
            Path(self._path),
            rate,
            channels,
            frames,
            format,
            subtype,
            promised,
            header.present,
            self._identity,
            tuple(flags),
            header.channel_mask,
        )

    def _disagreement(self, promised: int, frames: int) -> AudioFileError:
        return DecodeError(
            f"{self._name}: truncated or damaged: its header promises {promised} frames, "
            f"{frames} can be read",
            promised=promised,
            delivered=frames,
        )

    def _pass_over(self, problem: AudioFileError) -> None:
        """Raise what a strict reader refuses; a lenient one keeps the first such thing."""
        if not self._lenient:
            raise problem
        self._problem = self._problem or problem

    def __iter__(self) -> Iterator[np.ndarray]:
        while (block_ct := self.read(self._block_frames)).shape[1]:
            yield block_ct

    def read(self, frames: int) -> np.ndarray:
        """The next frames (C, n) in the buffer, n below ``frames`` only at the end, then 0."""
        if self._fd < 0:
            raise InputError("AudioReader: expected to be open, it is closed")
        if self._source is None:
            assert self._start is not None
            self._source = self._start()
        if self._ended:
            return self._buffer_ct[:, :0]
        if self._buffer_ct.shape[1] < frames:
            self._buffer_ct = np.zeros((self.info.channels, frames), np.float32)
        block_ct = self._buffer_ct[:, :frames]
        try:
            got = self._source.read_into(block_ct)
        except DecodeError as error:
            self._check_unchanged()
            self._pass_over(error)
            got, self._ended = 0, True
        block_ct = block_ct[:, :got]
        if self._may_be_nonfinite and self._nonfinite != "keep":
            self._check_finite(block_ct)
        self._delivered += got
        if not self._ended and (got < frames or self._delivered == self._source.frames):
            self._end()
        return block_ct

    def skip(self, frames: int) -> None:
        """Pass over frames of a file of plain numbers; of any other, read and forget them."""
        if isinstance(self._source, LinearSource):
            skipped = self._source.skip(frames)
            self._delivered += skipped
            return
        while frames > 0 and (got := self.read(min(frames, self._block_frames)).shape[1]):
            frames -= got

    def _end(self) -> None:
        self._ended = True
        self._check_unchanged()
        assert self._source is not None
        problem = self._source.check_end()
        if problem is not None:
            self._pass_over(problem)

    def _check_unchanged(self) -> None:
        """The same bytes as at the start, under the same name."""
        try:
            now = identity_of(os.fstat(self._fd))
            named = identity_of(os.stat(self._path))
        except OSError as error:
            raise ChangedError(
                f"{self._name}: changed while it was read: {reason(error)}"
            ) from error
        if now != self._identity or named != self._identity:
            raise ChangedError(
                f"{self._name}: changed while it was read: expected "
                f"{self._identity.size_bytes} bytes, found "
                f"{min(now, named, key=lambda found: found == self._identity).size_bytes}"
            )

    def _check_finite(self, block_ct: np.ndarray) -> None:
        finite_ct = np.isfinite(block_ct)
        if finite_ct.all():
            return
        first = self._delivered + int(np.argmin(finite_ct.all(axis=0)))
        if self._nonfinite == "error":
            self._check_unchanged()
            raise NonfiniteError(
                f"{self._name}: expected finite samples, got NaN or infinity at frame {first}",
                frame=first,
            )
        self._first_bad = first if self._first_bad is None else self._first_bad
        self._bad_samples += int(np.count_nonzero(~finite_ct))
        block_ct[~finite_ct] = 0.0

    @property
    def outcome(self) -> Outcome:
        problem = None if self._problem is None else self._problem.code
        checksum = "absent" if self._source is None else self._source.checksum
        if problem == "E_MD5":
            checksum = "mismatch"
        return Outcome(
            self.info.promised,
            self._delivered,
            problem,
            self._bad_samples,
            self._first_bad,
            checksum,
        )

    def close(self) -> None:
        if isinstance(self._source, CodedSource):
            self._source.close()
        if self._fd >= 0:
            with suppress(OSError):  # what was read is read
                os.close(self._fd)
        self._source, self._fd = None, -1

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
