"""FLAC files, encoded by libsndfile into an open descriptor."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import soundfile

from fxfast.audio.coded_source import CodedSource
from fxfast.audio.containers import read_header
from fxfast.audio.paths import reason
from fxfast.errors import AudioFileError, WriteError

MAX_CHANNELS = 8
MAX_RATE = 655_350
MAX_FRAMES = (1 << 36) - 1
_STREAMINFO, _PADDING, _VORBIS_COMMENT = 0, 1, 4
_BLOCK_FRAMES = 4096
_READ_BACK_SAMPLES = 1 << 17

RawBlock = tuple[int, bytes]


class _DescriptorSink:
    """The file object that libsndfile writes to: errors are kept, not raised into its C code."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        try:
            while len(view):
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self.error = error
        return len(data) - len(view)

    def read(self, count: int) -> bytes:
        try:
            return os.read(self._fd, count)
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return os.lseek(self._fd, offset, whence)
        except OSError as error:
            self.error = error
            return 0

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile asks for the length after every block otherwise."""

    def seekable(self) -> bool:
        return False


class FlacSink:
    """Writes to an open descriptor. ``blocks`` are metadata blocks: their type and content.

    Raises OSError where the system refuses, WriteError where the file does not decode to what
    was sent.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        sample_rate: int,
        channels: int,
        subtype: str,
        blocks: Sequence[RawBlock] = (),
    ) -> None:
        self._fd, self._name, self._subtype, self._blocks = fd, name, subtype, blocks
        self._sample_rate, self._channels = sample_rate, channels
        self._sink = _DescriptorSink(fd)
        self._file: soundfile.SoundFile | None = None
        try:
            self._file = _Sequential(self._sink, "w", sample_rate, channels, subtype, format="FLAC")
            if blocks:
                # A comment as long as the blocks holds their place at the head of the file.
                self._file.comment = "x" * sum(4 + len(body) for _, body in blocks)
        except (soundfile.SoundFileError, OSError, ValueError, TypeError, OverflowError) as error:
            self.abandon()
            raise self._sink.error or WriteError(
                f"{name}: cannot be written as FLAC {subtype}, {channels} channels, "
                f"{sample_rate} Hz: {reason(error)}"
            ) from error

    def write(self, codes_tc: np.ndarray) -> None:
        if self._subtype == "PCM_24":  # libsndfile takes the upper bits of 32
            codes_tc = codes_tc << 8
        assert self._file is not None
        try:
            self._file.write(codes_tc)
        except (soundfile.SoundFileError, AssertionError) as error:
            raise self._sink.error or WriteError(
                f"{self._name}: cannot be encoded: {reason(error)}"
            ) from error
        if self._sink.error is not None:
            raise self._sink.error

    def finish(self, frames: int) -> None:
        """Close the stream, put the metadata in its place and decode what is there."""
        assert self._file is not None
        self._file.close()
        if self._sink.error is not None:
            raise self._sink.error
        if frames == 0:
            self._write_empty()
        elif self._blocks:
            self._place_blocks()
        self._verify(frames)

    def abandon(self) -> None:
        """Close the stream: later it would be written into whatever gets the descriptor."""
        if self._file is not None:
            with suppress(soundfile.SoundFileError):
                self._file.close()

    def _write_empty(self) -> None:
        """The header of a file without frames: libsndfile writes nothing at all."""
        bits = 16 if self._subtype == "PCM_16" else 24
        packed = self._sample_rate << 44 | (self._channels - 1) << 41 | (bits - 1) << 36
        info = struct.pack(">HH6xQ", _BLOCK_FRAMES, _BLOCK_FRAMES, packed)
        info += hashlib.md5(usedforsecurity=False).digest()
        _pwrite(self._fd, b"fLaC" + _joined([(_STREAMINFO, info), *self._blocks], last=True), 0)

    def _place_blocks(self) -> None:
        header = read_header(self._fd, self._name, os.fstat(self._fd).st_size)
        held = next(c for c in header.chunks if c.name == bytes([_VORBIS_COMMENT]))
        last = os.pread(self._fd, 1, held.body_offset - 4)[0] & 0x80
        room = held.size_bytes + 4
        used = sum(4 + len(body) for _, body in self._blocks)
        blocks = [*self._blocks, (_PADDING, bytes(room - used - 4))]
        _pwrite(self._fd, _joined(blocks, bool(last)), held.body_offset - 4)

    def _verify(self, frames: int) -> None:
        size = os.fstat(self._fd).st_size
        try:
            header = read_header(self._fd, self._name, size)
            problem = header.problem
            found = self._decoded(size) if problem is None and frames else 0
        except AudioFileError as error:
            problem, found = error, 0
        if problem is not None or found != frames or header.promised != frames:
            raise WriteError(
                f"{self._name}: incomplete on the disk: expected {frames} frames as they were "
                f"written, found {found}: {problem}"
            )

    def _decoded(self, size: int) -> int:
        """How many frames decode; the checksum of all of them must hold."""
        source = CodedSource(self._fd, self._name, size, read_header(self._fd, self._name, size))
        try:
            block_ct = np.zeros((self._channels, _READ_BACK_SAMPLES // self._channels), np.float32)
            while source.read_into(block_ct) == block_ct.shape[1]:
                pass
            if (problem := source.check_end()) is not None:
                raise problem
            return source.delivered
        finally:
            source.close()


def _joined(blocks: Sequence[RawBlock], last: bool) -> bytes:
    """The blocks as they stand in a file; ``last`` marks the last of them as the file's last."""
    end = len(blocks) - 1
    return b"".join(
        bytes([kind | (0x80 if last and index == end else 0)]) + len(body).to_bytes(3, "big") + body
        for index, (kind, body) in enumerate(blocks)
    )


def _pwrite(fd: int, data: bytes, offset: int) -> None:
    view, done = memoryview(data), 0
    while done < len(data):
        done += os.pwrite(fd, view[done:], offset + done)
