"""The largest magnitude of a block of samples."""

from __future__ import annotations

import numpy as np

from fxfast.native import engine_if_built


def peak_of(block_ct: np.ndarray) -> float:
    """Of a block (C, n), 0 if it is empty; NaN or infinite if a sample is."""
    if block_ct.size == 0:
        return 0.0
    engine = engine_if_built() if block_ct.dtype == np.float32 and has_rows(block_ct) else None
    if engine is None:
        return max(float(block_ct.max()), -float(block_ct.min()))
    return float(engine.peak(block_ct))


def has_rows(x_ct: np.ndarray) -> bool:
    """Whether each channel is in one piece of memory, as the engine takes it."""
    return x_ct.ndim == 2 and (x_ct.shape[1] <= 1 or x_ct.strides[1] == x_ct.itemsize)
