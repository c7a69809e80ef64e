"""What audio files carry beside their sound, kept from input to output.

WAV chunks and FLAC blocks are copied byte by byte into a file of their own kind. Positions in
them (markers, loops, time stamps) count frames: they stay as they are at the same sample rate and
are scaled at another. Into the other kind goes what it can hold:

    WAV -> FLAC    LIST/INFO as comments; every other chunk in an APPLICATION block "riff", as the
                   reference encoder keeps foreign metadata
    FLAC -> WAV    comments as LIST/INFO; chunks out of such blocks; no pictures, no cue sheet
    AIFF -> both   names, authors, remarks as LIST/INFO; markers as cue points with labels; the
                   instrument and its loop as a smpl chunk
    Ogg, MP3       the comments that libsndfile finds

Left out is what describes the old samples or nothing: fmt, fact, data, PEAK, padding. The
loudness fields of a bext chunk are set to "not measured". What is longer than
``MAX_METADATA_BYTES`` together is ``dropped``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from fxfast.audio.aiff_metadata import wave_chunks_of_aiff
from fxfast.audio.containers import read_header
from fxfast.audio.flac_metadata import (
    APPLICATION,
    CUESHEET,
    PICTURE,
    VORBIS_COMMENT,
    foreign_block,
    foreign_chunk,
    parse_comments,
    scale_block,
    vorbis_comment,
)
from fxfast.audio.headers import Chunk, Header
from fxfast.audio.paths import AnyPath, printable
from fxfast.audio.reader import open_regular
from fxfast.audio.wave_metadata import RawChunk, info_chunk, info_tags, kept_chunk, scale_chunk
from fxfast.errors import FormatError
from fxfast.whole_file import read_at

MAX_METADATA_BYTES = 12 << 20
_MAX_BLOCK_BYTES = (1 << 24) - 1
_KEPT_BLOCKS = (VORBIS_COMMENT, PICTURE, CUESHEET, APPLICATION)

RawBlock = tuple[int, bytes]


@dataclass(frozen=True)
class Metadata:
    """Chunks as WAV files have them, or blocks as FLAC files have them, with their positions
    counted at ``sample_rate``. ``dropped`` names what was too long to keep.
    """

    sample_rate: int
    before: tuple[RawChunk, ...] = ()
    after: tuple[RawChunk, ...] = ()
    blocks: tuple[RawBlock, ...] = ()
    dropped: tuple[str, ...] = ()

    def for_rate(self, sample_rate: int) -> Metadata:
        """The same for sound that was converted to ``sample_rate``."""
        if sample_rate == self.sample_rate:
            return self
        rates = (self.sample_rate, sample_rate)
        return replace(
            self,
            sample_rate=sample_rate,
            before=tuple(scale_chunk(chunk, *rates) for chunk in self.before),
            after=tuple(scale_chunk(chunk, *rates) for chunk in self.after),
            blocks=tuple(scale_block(block, *rates) for block in self.blocks),
        )

    def wave_chunks(self) -> tuple[Sequence[RawChunk], Sequence[RawChunk]]:
        """The chunks to write in front of the sound of a WAV file, and behind it."""
        if not self.blocks:
            return self.before, self.after
        comments = [parse_comments(body) for kind, body in self.blocks if kind == VORBIS_COMMENT]
        foreign = [foreign_chunk(block) for block in self.blocks]
        chunks = [chunk for chunk in foreign if chunk is not None and kept_chunk(chunk) is not None]
        tags = info_chunk(comments[0] if comments else [])
        return [*self.before, *([tags] if tags else []), *chunks], self.after

    def flac_blocks(self) -> Sequence[RawBlock]:
        """The metadata blocks to write into a FLAC file."""
        comments: list[tuple[str, str]] = []
        foreign = []
        for chunk in (*self.before, *self.after):
            tags = info_tags(chunk)
            comments += tags
            if not tags and len(chunk[1]) + 12 <= _MAX_BLOCK_BYTES:
                foreign.append(foreign_block(chunk))
        made = [(VORBIS_COMMENT, vorbis_comment(comments))] if comments else []
        return [*self.blocks, *made, *foreign]


def read_metadata(path: AnyPath) -> Metadata:
    """The metadata of an audio file; empty for a kind of file that has none we know.

    Raises as ``open_audio`` does on opening, but for sound that is not there.
    """
    fd, state = open_regular(path)
    try:
        header = read_header(fd, printable(path), state.st_size)
        if header.format in ("WAV", "WAVEX", "RF64"):
            return _of_wave(fd, header)
        if header.format == "AIFF":
            chunks, dropped = _bodies(fd, header.chunks, skip=(b"SSND", b"COMM"))
            made = wave_chunks_of_aiff([chunk for _, chunk in chunks], header.sample_rate)
            return Metadata(header.sample_rate, tuple(made), dropped=dropped)
        if header.format == "FLAC":
            kept = [c for c in header.chunks if c.name[0] in _KEPT_BLOCKS]
            bodies, dropped = _bodies(fd, kept)
            blocks = tuple((chunk[0][0], chunk[1]) for _, chunk in bodies)
            return Metadata(header.sample_rate, blocks=blocks, dropped=dropped)
        if header.format in ("OGG", "MP3"):
            return _of_coded(fd, printable(path), state.st_size, header)
        return Metadata(header.sample_rate)
    finally:
        with suppress(OSError):  # what was read is read
            os.close(fd)


def _of_wave(fd: int, header: Header) -> Metadata:
    bodies, dropped = _bodies(fd, header.chunks, skip=(b"data",))
    kept = [(at, chunk) for at, raw in bodies if (chunk := kept_chunk(raw)) is not None]
    return Metadata(
        header.sample_rate,
        tuple(chunk for at, chunk in kept if at < header.data_offset),
        tuple(chunk for at, chunk in kept if at >= header.data_offset),
        dropped=dropped,
    )


def _of_coded(fd: int, name: str, size: int, header: Header) -> Metadata:
    from fxfast.audio.coded_source import CodedSource

    try:
        source = CodedSource(fd, name, size, header)
    except FormatError:
        return Metadata(0)
    try:
        comments = source.comments()
        block = ((VORBIS_COMMENT, vorbis_comment(comments)),) if comments else ()
        return Metadata(source.sample_rate, blocks=block)
    finally:
        source.close()


def _bodies(
    fd: int, chunks: Sequence[Chunk], skip: tuple[bytes, ...] = ()
) -> tuple[list[tuple[int, RawChunk]], tuple[str, ...]]:
    """Offset, name and content of every chunk that is whole, within the limit."""
    size = os.fstat(fd).st_size
    left, found, dropped = MAX_METADATA_BYTES, [], []
    for chunk in chunks:
        if chunk.name in skip or chunk.body_offset + chunk.size_bytes > size:
            continue
        if chunk.size_bytes > left:
            dropped.append(chunk.name.decode("ascii", "replace"))
            continue
        left -= chunk.size_bytes
        body = read_at(fd, chunk.size_bytes, chunk.body_offset)
        found.append((chunk.body_offset, (chunk.name, body)))
    return found, tuple(dropped)
