"""Sound that libsndfile decodes, read in sequence from an open descriptor.

libsndfile gets its bytes from us: what the system refuses to read is told apart from what
cannot be decoded, and no file is opened by name. FLAC is decoded to integers, whose MD5 is that
of its header (RFC 9639, 8.2); libsndfile never checks it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import nullcontext

import numpy as np
import soundfile

from fxfast.audio.headers import Header, Patch
from fxfast.audio.paths import reason
from fxfast.audio.sample_codings import packed, to_rows
from fxfast.errors import (
    AudioFileError,
    ChecksumError,
    DecodeError,
    FormatError,
    ReadError,
    TruncatedError,
)

# What libsndfile says where a stream does not state its length.
_UNKNOWN_FRAMES = 1 << 48
_SALVAGED_FRAMES = 512


class DescriptorStream:
    """The file object that libsndfile reads: errors are kept, not raised into its C code."""

    def __init__(self, fd: int, size: int, patches: tuple[Patch, ...] = ()) -> None:
        self._fd, self._size, self._position = fd, size, 0
        self._patches = patches
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray) -> int:
        got = 0
        view = memoryview(buffer)
        while got < len(view):
            try:
                count = os.preadv(self._fd, [view[got:]], self._position)
            except OSError as error:
                self.error = error
                break
            if count == 0:
                break
            got, self._position = got + count, self._position + count
        if self._patches:
            self._patch(view[:got], self._position - got)
        return got

    def _patch(self, view: memoryview, offset: int) -> None:
        for patch in self._patches:
            for at, byte in enumerate(patch.content, patch.offset - offset):
                if 0 <= at < len(view):
                    view[at] = byte

    def read(self, count: int = -1) -> bytes:
        data = bytearray(max(0, self._size - self._position) if count < 0 else count)
        return bytes(data[: self.readinto(data)])

    def write(self, data: bytes) -> int:
        return 0


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks to where it is after every block, which makes a FLAC decoder start anew."""

    # soundfile's is one for all files, about the words of an error: a file whose opening is stuck
    # would hold up every other.
    _sf_error_lock = nullcontext()

    def seekable(self) -> bool:
        return False


class CodedSource:
    """Blocks of float32 from libsndfile. Raises FormatError and ReadError when it cannot open."""

    def __init__(
        self, fd: int, name: str, size: int, header: Header, salvages: bool = False
    ) -> None:
        self.name = name
        self._salvages = salvages
        self._late_error: DecodeError | None = None
        self._stream = DescriptorStream(fd, size, header.patches)
        try:
            self._file = _Sequential(self._stream, "r")
        except (soundfile.SoundFileError, OSError, TypeError) as error:
            raise self._read_error() or FormatError(
                f"{name}: expected an audio file: {reason(error)}"
            ) from error
        self.format, self.subtype = str(self._file.format), str(self._file.subtype)
        self.sample_rate, self.channels = int(self._file.samplerate), int(self._file.channels)
        frames = int(self._file.frames)
        self.frames = frames if 0 <= frames < _UNKNOWN_FRAMES else None
        self.delivered = 0
        self._md5 = header.md5
        self._bits = header.bits if self.format == "FLAC" else 0
        self._hash = hashlib.md5(usedforsecurity=False) if self._hashes else None
        kind = np.float32 if not self._bits else np.int16 if self._bits == 16 else np.int32
        self._buffer = np.zeros((0, self.channels), kind)

    @property
    def _hashes(self) -> bool:
        return self._md5 is not None and self._bits in (8, 16, 24)

    def comments(self) -> list[tuple[str, str]]:
        """What libsndfile knows of title, artist and the like, as Vorbis comments."""
        return [(key.upper(), text) for key, text in self._file.copy_metadata().items() if text]

    def close(self) -> None:
        self._file.close()

    def read_into(self, out_ct: np.ndarray) -> int:
        """Decode up to as many frames as ``out_ct`` (C, n) has; fewer only at the end.

        Raises DecodeError for damaged sound and ReadError. What was decoded of the block before
        is lost then, as libsndfile does not say how much is good; who salvages decodes in small
        pieces and hears of the error from ``check_end``.
        """
        frames = out_ct.shape[1]
        if not self._salvages:
            return self._read_piece(out_ct)
        got = 0
        while got < frames and self._late_error is None:
            piece_ct = out_ct[:, got : got + _SALVAGED_FRAMES]
            try:
                count = self._read_piece(piece_ct)
            except DecodeError as error:
                self._late_error, count = error, 0
            got += count
            if count < piece_ct.shape[1]:
                break
        return got

    def _read_piece(self, out_ct: np.ndarray) -> int:
        frames = out_ct.shape[1]
        if len(self._buffer) < frames:
            self._buffer = np.zeros((frames, self.channels), self._buffer.dtype)
        block_tc = self._buffer[:frames]
        try:
            got = self._file.buffer_read_into(block_tc, block_tc.dtype.name)
        except (soundfile.SoundFileError, OSError) as error:
            raise self._read_error() or self._decode_error(reason(error)) from error
        if error_now := self._read_error():
            raise error_now
        self._take(block_tc[:got], out_ct[:, :got])
        self.delivered += got
        return int(got)

    def _take(self, block_tc: np.ndarray, out_ct: np.ndarray) -> None:
        if not self._bits:
            out_ct[:] = block_tc.T
            return
        to_rows(block_tc, out_ct)
        if self._hash is not None:
            self._hash.update(packed(block_tc, self._bits).data)

    def check_end(self) -> AudioFileError | None:
        """What is wrong once the stream ended."""
        if self._late_error is not None:
            return self._late_error
        if self.frames is not None and self.delivered < self.frames:
            return TruncatedError(
                f"{self.name}: truncated: expected {self.frames} frames, got {self.delivered}",
                promised=self.frames,
                present=self.delivered,
            )
        if self._hash is not None and self._hash.digest() != self._md5:
            assert self._md5 is not None
            return ChecksumError(
                f"{self.name}: damaged: expected sound with MD5 {self._md5.hex()}, "
                f"got {self._hash.hexdigest()}"
            )
        return None

    @property
    def checksum(self) -> str:
        return "absent" if self._hash is None else "ok"

    def _read_error(self) -> ReadError | None:
        if self._stream.error is None:
            return None
        return ReadError(f"{self.name}: cannot be read: {reason(self._stream.error)}")

    def _decode_error(self, why: str) -> DecodeError:
        promised = "?" if self.frames is None else self.frames
        return DecodeError(
            f"{self.name}: cannot be decoded after {self.delivered} of {promised} frames: {why}",
            promised=self.frames,
            delivered=self.delivered,
        )
