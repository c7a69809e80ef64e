"""Figures of one recording: clipping, silence, noise floor, in frames of 50 ms."""

from __future__ import annotations

import numpy as np

SILENCE_DB = -80.0

_FRAME_SECONDS = 0.05
_CLIP_LEVEL = 0.99
_CLIP_RUN = 4
_QUIET_DRY_DB = -70.0


def decibels(value: float) -> float:
    """20 log10, at least -200."""
    return 20.0 * float(np.log10(max(abs(value), 1e-10)))


def frame_levels_db(x: np.ndarray, sample_rate: int) -> np.ndarray:
    """The rms of every 50 ms of (T) in dBFS, at least -200; one frame at least."""
    frames = max(1, round(_FRAME_SECONDS * sample_rate))
    count = max(1, len(x) // frames)
    whole = x[: count * frames].astype(np.float32, copy=False)
    power = np.square(whole[: len(whole) // count * count]).reshape(count, -1).mean(axis=1)
    return np.asarray(10.0 * np.log10(np.maximum(power, 1e-20)))


def sounding_share(x: np.ndarray, sample_rate: int) -> float:
    """The share of frames less than 60 dB below the loudest one and not silent."""
    levels = frame_levels_db(x, sample_rate)
    return float(np.mean((levels > levels.max() - 60.0) & (levels > SILENCE_DB)))


def clipped_samples(x: np.ndarray) -> int:
    """Samples in runs of 4 or more equal ones at 0.99 of full scale or beyond."""
    high = np.abs(x) >= _CLIP_LEVEL
    if not high.any():
        return 0
    same = np.concatenate([[False], (x[1:] == x[:-1]) & high[1:], [False]])
    edges = np.flatnonzero(np.diff(same.astype(np.int8)))
    runs = edges[1::2] - edges[::2] + 1
    return int(runs[runs >= _CLIP_RUN].sum())


def noise_floor_db(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """The level of the wet where the dry is quietest, in dBFS, and how sure that is noise.

    Without frames of silence in the dry the quietest of all stand for them, with confidence 0.
    The quietest twentieth is taken: tails of reverbs and delays lie in such frames too.
    """
    if len(dry) == 0:
        return -200.0, 0.0
    dry_db, wet_db = (frame_levels_db(x - x.mean(), sample_rate) for x in (dry, wet))
    silent = dry_db < _QUIET_DRY_DB
    if np.count_nonzero(silent) >= 3:
        return float(np.percentile(wet_db[silent], 5)), 1.0
    return float(np.percentile(wet_db, 5)), 0.0
