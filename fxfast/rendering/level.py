"""The level of what goes into a file: gain, and normalisation in two passes over a spool.

To normalise, the whole file must be known before its first sample is written: what the model
gives goes to a nameless file in the folder of the output, is measured on the way, and is read
back with the gain that follows. Memory does not grow with the length.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from fxfast.audio.loudness import LoudnessMeter
from fxfast.audio.paths import printable, reason
from fxfast.audio.peak import peak_of
from fxfast.errors import AudioFileError
from fxfast.rendering.processing import Processing

_SPOOL_SAMPLES = 1 << 16


@dataclass
class Levels:
    """What was measured and done: filled in while the blocks go by.

    ``loudness_lufs`` is that of the file before a gain towards a loudness, None where it was not
    asked for.
    """

    gain_db: float = 0.0
    loudness_lufs: float | None = None


def levelled_blocks(
    source: Iterator[np.ndarray],
    processing: Processing,
    sample_rate: int,
    folder: Path,
    levels: Levels,
) -> Iterator[np.ndarray]:
    """The blocks (C, n) of ``source`` at the level that was asked for.

    Silence has no level: it stays as it is. Raises ``AudioFileError`` where the spool cannot be
    written to ``folder``.
    """
    if processing.normalize is None:
        return _with_gain(source, processing.gain_db, levels)
    return _normalised(source, processing, sample_rate, folder, levels)


def _with_gain(
    source: Iterator[np.ndarray], gain_db: float, levels: Levels
) -> Iterator[np.ndarray]:
    levels.gain_db = gain_db
    if gain_db == 0.0:
        yield from source
        return
    gain = np.float32(10.0 ** (gain_db / 20.0))
    for block_ct in source:
        yield block_ct * gain


def _normalised(
    source: Iterator[np.ndarray],
    processing: Processing,
    sample_rate: int,
    folder: Path,
    levels: Levels,
) -> Iterator[np.ndarray]:
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as spool:
            channels, frames = 1, 0
            meter = _Meter(processing, sample_rate)
            for block_ct in source:
                channels, frames = block_ct.shape[0], frames + block_ct.shape[1]
                meter.add(block_ct)
                _write_all(spool, block_ct)
            levels.loudness_lufs = meter.loudness()
            spool.seek(0)
            blocks = _read_back(spool, channels, frames, folder)
            yield from _with_gain(blocks, meter.gain_db(), levels)
    except OSError as error:  # of the spool: those of other files have names already
        raise AudioFileError(
            f"{printable(folder)}: cannot hold the samples to normalise: {reason(error)}"
        ) from error


class _Meter:
    """The level of a file in the terms of the normalisation."""

    def __init__(self, processing: Processing, sample_rate: int) -> None:
        self._processing, self._sample_rate = processing, sample_rate
        self._loudness: LoudnessMeter | None = None
        self._peak = 0.0

    def add(self, block_ct: np.ndarray) -> None:
        if self._processing.normalize == "peak":
            self._peak = max(self._peak, peak_of(block_ct))
            return
        if self._loudness is None:
            self._loudness = LoudnessMeter(self._sample_rate, block_ct.shape[0])
        self._loudness.add(block_ct)

    def loudness(self) -> float | None:
        """LUFS; None of silence, or where the peak counts."""
        if self._loudness is None:
            return None
        lufs = self._loudness.integrated()
        return lufs if math.isfinite(lufs) else None

    def gain_db(self) -> float:
        """What brings the file to its target; none for silence."""
        level = self.loudness()
        if self._processing.normalize == "peak" and self._peak > 0.0:
            level = 20.0 * math.log10(self._peak)
        return 0.0 if level is None else self._processing.target - level


def _write_all(spool: IO[bytes], block_ct: np.ndarray) -> None:
    if block_ct.size == 0:  # which memoryview does not cast
        return
    data = memoryview(np.ascontiguousarray(block_ct.T).data).cast("B")
    while data:
        data = data[spool.write(data) :]


def _read_back(spool: IO[bytes], channels: int, frames: int, folder: Path) -> Iterator[np.ndarray]:
    piece = max(1, _SPOOL_SAMPLES // channels)
    for start in range(0, frames, piece):
        x_tc = np.empty((min(piece, frames - start), channels), np.float32)
        left = memoryview(x_tc.data).cast("B")
        while left:
            count = spool.readinto(left)  # type: ignore[attr-defined]
            if count == 0:
                raise AudioFileError(
                    f"{printable(folder)}: expected {frames} frames in the spool, it ends early"
                )
            left = left[count:]
        yield x_tc.T
