"""Writing audio files: a file appears under its name only when it is complete."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np

from fxfast.audio.flac_sink import MAX_CHANNELS, MAX_FRAMES, MAX_RATE, FlacSink
from fxfast.audio.headers import MAX_FILE_RATE
from fxfast.audio.metadata import Metadata
from fxfast.audio.paths import AnyPath, create_temp, printable
from fxfast.audio.peak import peak_of
from fxfast.audio.publishing import Unpublished, refuse_existing, write_failure
from fxfast.audio.sample_codings import SAMPLE_BYTES, SampleEncoder
from fxfast.audio.wave_sink import WaveSink
from fxfast.errors import (
    ChannelsError,
    InputError,
    NonfiniteError,
    RateError,
    TooBigError,
    WriteError,
)

_SUBTYPES = {"WAV": tuple(SAMPLE_BYTES), "FLAC": ("PCM_16", "PCM_24")}
_FORMAT_OF_SUFFIX = {".wav": "WAV", ".flac": "FLAC"}
_DEFAULT_SUBTYPE = {"WAV": "FLOAT", "FLAC": "PCM_24"}
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
# A frame of WAV states its length in 16 bits.
_MAX_WAVE_FRAME_BYTES = 65535


class BlockWriter:
    """Writes one audio file block by block; the file appears only when it is complete.

    ``format`` is "WAV" (subtypes PCM_16, PCM_24, PCM_32, FLOAT) or "FLAC" (PCM_16, PCM_24); each
    is taken from the suffix, or is FLOAT or PCM_24, when None. A WAV that passes 4 GiB becomes an
    RF64 file. ``expected_frames`` is checked at the end. ``dither`` is the seed of TPDF dither
    for integer subtypes. ``metadata`` goes in as far as the format holds it.

    Use as a context manager. An exception inside the block removes the unfinished file. At its
    end the file is read back, flushed to the disk and renamed; ``publish`` takes over after the
    reading back when it is given. ``frames`` counts what was written, ``peak`` is the largest
    magnitude and ``clipped`` the number of samples that an integer subtype had to clip.

    Raises OutputExistsError when the path is there and ``overwrite`` is False, InputError for a
    wrong argument or block, NonfiniteError for NaN or infinity in a block, ChannelsError,
    RateError and TooBigError for what the format cannot hold, SpaceError and WriteError.
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
        dither: int | None = None,
        metadata: Metadata | None = None,
        channel_mask: int = 0,
        publish: Callable[[Unpublished], None] | None = None,
    ) -> None:
        self.path = Path(path)
        self.sample_rate = sample_rate
        self.channels = channels
        self.format, self.subtype = choose_format(self.path, format, subtype)
        check_capacity(self.path, self.format, self.subtype, sample_rate, channels)
        self.overwrite = overwrite
        self.frames = 0
        self.clipped = 0
        self.peak = 0.0
        self._expected_frames = expected_frames
        self._metadata, self._channel_mask = metadata, channel_mask
        self._publish = publish or Unpublished.commit
        self._encoder = SampleEncoder(self.subtype, dither)
        self._sink: WaveSink | FlacSink | None = None
        self._unpublished: Unpublished | None = None

    @property
    def peak_dbfs(self) -> float | None:
        """The largest magnitude in dB below full scale; None for silence."""
        return 20.0 * math.log10(self.peak) if self.peak > 0.0 else None

    def __enter__(self) -> BlockWriter:
        refuse_existing(self.path, self.overwrite)
        fd, temp = create_temp(self.path)
        self._unpublished = Unpublished(fd, temp, self.path, self.overwrite)
        try:
            self._sink = self._open_sink(fd)
        except OSError as error:
            self._discard()
            raise write_failure(self.path, error) from error
        except BaseException:
            self._discard()
            raise
        return self

    def _open_sink(self, fd: int) -> WaveSink | FlacSink:
        name, metadata = printable(self.path), self._metadata
        if self.format == "FLAC":
            blocks = () if metadata is None else metadata.flac_blocks()
            return FlacSink(
                *(fd, name, self.sample_rate, self.channels, self.subtype, self._encoder), blocks
            )
        before, after = ((), ()) if metadata is None else metadata.wave_chunks()
        return WaveSink(
            *(fd, name, self.sample_rate, self.channels, self.subtype, self._encoder),
            *(self._channel_mask, before, after),
        )

    def write(self, x_ct: np.ndarray) -> None:
        """Append a block: float32 or float64 of shape (C, n), or (n) for one channel."""
        if self._sink is None:
            raise InputError("BlockWriter: expected to be used in a with statement, it is not open")
        block_ct = self._checked(x_ct)
        if self.format == "FLAC" and self.frames + block_ct.shape[1] > MAX_FRAMES:
            raise TooBigError(
                f"{printable(self.path)}: expected at most {MAX_FRAMES} frames in a FLAC file"
            )
        try:
            self._sink.write(block_ct)
        except OSError as error:
            raise write_failure(self.path, error, f" after {self.frames} frames") from error
        self.frames += block_ct.shape[1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None or self._sink is None or self._unpublished is None:
            self._discard()
            return
        try:
            if self._expected_frames is not None and self.frames != self._expected_frames:
                raise WriteError(
                    f"{printable(self.path)}: expected {self._expected_frames} frames to write, "
                    f"got {self.frames}"
                )
            sink, self._sink = self._sink, None
            sink.finish(self.frames)
        except OSError as failure:
            self._discard()
            raise write_failure(self.path, failure) from failure
        except BaseException:
            self._discard()
            raise
        complete, self._unpublished = self._unpublished, None
        self._publish(complete)

    def _checked(self, x_ct: np.ndarray) -> np.ndarray:
        """The block as (C, n), its samples finite, counted into the peak and the clipped."""
        if not isinstance(x_ct, np.ndarray) or x_ct.dtype not in (np.float32, np.float64):
            got = getattr(x_ct, "dtype", type(x_ct).__name__)
            raise InputError(f"x: expected a float32 or float64 array, got {got}")
        block_ct = x_ct[np.newaxis] if x_ct.ndim == 1 else x_ct
        if block_ct.ndim != 2 or block_ct.shape[0] != self.channels:
            raise InputError(
                f"x: expected shape ({self.channels}, T), "
                f"or (T) for one channel, got {tuple(x_ct.shape)}"
            )
        if block_ct.shape[1] == 0:
            return block_ct
        # Finite only if all samples are.
        peak = peak_of(block_ct)
        if not peak <= _MAX_FLOAT32:
            finite_t = np.isfinite(block_ct).all(axis=0)
            frame = self.frames + int(np.argmin(finite_t))
            raise NonfiniteError(
                f"{printable(self.path)}: expected finite samples to write, "
                f"got NaN or infinity at frame {frame}",
                frame=frame,
            )
        self.peak = max(self.peak, peak)
        if peak > 1.0 and self.subtype != "FLOAT":
            self.clipped += int(np.count_nonzero(np.abs(block_ct) > 1.0))
        return block_ct

    def _discard(self) -> None:
        """Close what is open and remove the hidden file."""
        if isinstance(self._sink, FlacSink):
            self._sink.abandon()
        self._sink = None
        if self._unpublished is not None:
            self._unpublished.discard()
            self._unpublished = None


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
    with BlockWriter(path, sample_rate, channels, None, subtype, overwrite=overwrite) as writer:
        writer.write(x)
    return writer.clipped


def choose_format(path: Path, format: str | None, subtype: str | None) -> tuple[str, str]:
    """Format and subtype that ``BlockWriter`` uses. Raises InputError where there are none."""
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


def check_capacity(
    path: AnyPath, format: str, subtype: str, sample_rate: int, channels: int
) -> None:
    """Raise ChannelsError or RateError where the format cannot hold so many: before any work."""
    most_channels = _MAX_WAVE_FRAME_BYTES // SAMPLE_BYTES[subtype]
    most_rate = MAX_FILE_RATE
    if format == "FLAC":
        most_channels, most_rate = MAX_CHANNELS, MAX_RATE
    if not 1 <= channels <= most_channels:
        raise ChannelsError(
            f"{printable(path)}: cannot be written as {format} {subtype}: expected 1 to "
            f"{most_channels} channels, got {channels} channels",
            channels=channels,
            limit=most_channels,
        )
    if not 1 <= sample_rate <= most_rate:
        raise RateError(
            f"{printable(path)}: cannot be written as {format} {subtype}: expected 1 to "
            f"{most_rate} Hz, got {sample_rate} Hz",
            rate=sample_rate,
            limit=most_rate,
        )
