"""What the tests of windows and lanes have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from fxfast.data import Data, Windows, from_arrays
from fxfast.native import engine

RATE = 48_000
ISAS = [name for name, supported in engine().isas() if supported]
lengths_st = st.lists(st.integers(0, 60), min_size=1, max_size=5)


def ramps(lengths: list[int], dtype: Any = np.float32, **options: Any) -> Data:
    """dry[t] tells file and time, wet is its negative."""
    pairs = []
    for file, length in enumerate(lengths):
        ramp = (1000 * file + np.arange(length)).astype(dtype)
        pairs.append((ramp, -ramp))
    return from_arrays(pairs, RATE, **options)


def make(data: Data, length: int, out_length: int = 1, **options: Any) -> Windows:
    return Windows(data, length, out_length, **{"batch_size": 4, "prefetch": 3, **options})


def step(windows: Windows) -> tuple[torch.Tensor, ...]:
    """The next batch, of the next epoch if this one is over."""
    batch = next(iter(windows), None)
    return next(iter(windows)) if batch is None else batch


def ids_of(windows: Windows) -> list[list[int]]:
    return [windows.ids.tolist() for _ in windows]
