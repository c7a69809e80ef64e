"""What a WAV, RF64 or AIFF file promises, and whether an Ogg file ends, without decoding.

libsndfile opens a cut file without a word and reports what is left as its whole length, so
the promise has to be read from the header itself. The walk visits chunk headers only, reads a
few bytes of each and stops after ``MAX_CHUNKS``: a hostile file costs neither time nor memory.

Sources: Microsoft/IBM "Multimedia Programming Interface and Data Specifications 1.0" (RIFF),
EBU Tech 3306 (RF64), Apple "Audio Interchange File Format 1.3" (AIFF), RFC 3533 (Ogg).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fxfast.errors import AudioFileError

MAX_CHUNKS = 4096
SIZE_UNKNOWN = 0xFFFFFFFF
_OGG_PAGE_BYTES = 65307
_LINEAR_TAGS = (0x0001, 0x0003, 0x0006, 0x0007)  # PCM, IEEE float, A-law, mu-law
_EXTENSIBLE_TAG = 0xFFFE


@dataclass(frozen=True)
class Chunk:
    """One chunk: its four-letter name, where its body starts and the length its header claims."""

    name: bytes
    body_offset: int
    size_bytes: int


@dataclass(frozen=True)
class HeaderPromise:
    """The sound data that a header promises.

    ``frames`` is None where the coding has no fixed number of bytes per frame.
    """

    container: str
    data_bytes: int
    present_bytes: int
    frames: int | None


def read_promise(fd: int, name: str) -> HeaderPromise | None:
    """Read the promise of an open WAV, RF64 or AIFF file; None for any other container.

    ``fd`` is an open file descriptor (its position does not move), ``name`` the file's printable
    name. Raises AudioFileError when the header is damaged, the data it promises is not there, or
    an Ogg file does not end its stream.
    """
    magic = os.pread(fd, 12, 0)
    size = os.fstat(fd).st_size
    container, form = magic[:4], magic[8:12]
    if container in (b"RIFF", b"RF64", b"BW64") and form == b"WAVE":
        promise = _read_wave(fd, name, size, container.decode("ascii"))
    elif container == b"FORM" and form in (b"AIFF", b"AIFC"):
        promise = _read_aiff(fd, name, size)
    else:
        if container == b"OggS":
            _refuse_unfinished_ogg(fd, name, size)
        return None
    if promise.data_bytes > promise.present_bytes:
        raise AudioFileError(
            f"{name}: truncated: its header promises {promise.data_bytes} bytes of sound, "
            f"{promise.present_bytes} are there"
        )
    return promise


def walk_chunks(fd: int, name: str, order: str) -> Iterator[Chunk]:
    """Yield the chunks of a RIFF-like file in file order; ``order`` is '<' (RIFF) or '>' (FORM)."""
    size = os.fstat(fd).st_size
    offset = 12
    for _ in range(MAX_CHUNKS):
        header = os.pread(fd, 8, offset)
        if len(header) < 8:
            return
        chunk = Chunk(header[:4], offset + 8, struct.unpack(order + "I", header[4:])[0])
        yield chunk
        offset = chunk.body_offset + chunk.size_bytes + chunk.size_bytes % 2
        if offset >= size:
            return
    raise AudioFileError(f"{name}: damaged: expected at most {MAX_CHUNKS} chunks, found more")


def _refuse_unfinished_ogg(fd: int, name: str, size: int) -> None:
    """The last page must be whole and carry the end-of-stream flag (RFC 3533)."""
    tail = os.pread(fd, 2 * _OGG_PAGE_BYTES, max(0, size - 2 * _OGG_PAGE_BYTES))
    page = tail[tail.rfind(b"OggS") :]
    ends_stream = len(page) >= 27 and page[5] & 4
    if not ends_stream or len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]]):
        raise AudioFileError(f"{name}: truncated: expected a last page that ends the Ogg stream")


def _read_wave(fd: int, name: str, size: int, container: str) -> HeaderPromise:
    large_data_bytes: int | None = None
    bytes_per_frame: int | None = None
    seen_format = False
    for chunk in walk_chunks(fd, name, "<"):
        if chunk.name == b"ds64" and container != "RIFF":
            body = os.pread(fd, 16, chunk.body_offset)
            if len(body) == 16:
                large_data_bytes = struct.unpack("<QQ", body)[1]
        elif chunk.name == b"fmt ":
            seen_format = True
            bytes_per_frame = _wave_bytes_per_frame(os.pread(fd, 26, chunk.body_offset), name)
        elif chunk.name == b"data":
            if not seen_format:
                raise AudioFileError(f"{name}: damaged: expected a fmt chunk before the data chunk")
            data_bytes = chunk.size_bytes
            if data_bytes == SIZE_UNKNOWN and large_data_bytes is not None:
                data_bytes = large_data_bytes
            present = max(0, size - chunk.body_offset)
            _refuse_wrong_size(name, container, data_bytes, present)
            return _wave_promise(name, container, data_bytes, present, bytes_per_frame)
    raise AudioFileError(f"{name}: truncated or damaged: expected a data chunk, found none")


def _wave_bytes_per_frame(body: bytes, name: str) -> int | None:
    if len(body) < 16:
        raise AudioFileError(f"{name}: damaged: expected a fmt chunk of 16 bytes, got {len(body)}")
    tag, _, _, _, block_align, _ = struct.unpack("<HHIIHH", body[:16])
    if tag == _EXTENSIBLE_TAG and len(body) >= 26:
        tag = struct.unpack("<H", body[24:26])[0]
    return block_align if tag in _LINEAR_TAGS and block_align > 0 else None


def _refuse_wrong_size(name: str, container: str, data_bytes: int, present: int) -> None:
    """Refuse the two ways in which a size field says less than the file holds."""
    if data_bytes == 0 and present > 0:
        raise AudioFileError(
            f"{name}: damaged: its data chunk promises 0 bytes but {present} bytes follow "
            "(a recorder that did not finish?)"
        )
    if container == "RIFF" and present > SIZE_UNKNOWN:
        raise AudioFileError(
            f"{name}: damaged: a RIFF header cannot describe {present} bytes of sound, "
            f"it promises {data_bytes} (expected RF64)"
        )


def _wave_promise(
    name: str, container: str, data_bytes: int, present: int, bytes_per_frame: int | None
) -> HeaderPromise:
    if bytes_per_frame is None:
        return HeaderPromise(container, data_bytes, present, None)
    if data_bytes % bytes_per_frame and data_bytes <= present:
        raise AudioFileError(
            f"{name}: damaged: {data_bytes} bytes of sound are not a whole number of frames "
            f"of {bytes_per_frame} bytes"
        )
    return HeaderPromise(container, data_bytes, present, data_bytes // bytes_per_frame)


def _read_aiff(fd: int, name: str, size: int) -> HeaderPromise:
    frames: int | None = None
    data: tuple[int, int] | None = None
    for chunk in walk_chunks(fd, name, ">"):
        if chunk.name == b"COMM":
            body = os.pread(fd, 6, chunk.body_offset)
            if len(body) == 6:
                frames = struct.unpack(">HI", body)[1]
        elif chunk.name == b"SSND":
            # the body starts with an offset and a block size of four bytes each
            data = (chunk.size_bytes - 8, max(0, size - chunk.body_offset - 8))
    if data is None:
        if frames == 0:
            return HeaderPromise("AIFF", 0, 0, 0)
        raise AudioFileError(f"{name}: truncated or damaged: expected an SSND chunk, found none")
    return HeaderPromise("AIFF", data[0], data[1], frames)
