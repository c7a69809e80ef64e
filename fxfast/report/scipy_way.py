"""scipy.signal.oaconvolve beside the engine, for a plain impulse response."""

from __future__ import annotations

import numpy as np

from fxfast.graph import Linear
from fxfast.report.measure import peak_growth_bytes, thread_seconds
from fxfast.report.ways import Budget, Way

ENGINE = "scipy"


def oaconvolve(node: Linear, x: np.ndarray) -> np.ndarray:
    """The filter over audio after silence, in the precision of ``x``."""
    from scipy.signal import oaconvolve as convolve

    y: np.ndarray = convolve(x, node.taps.astype(x.dtype))[: len(x)] + x.dtype.type(node.bias)
    return y


def scipy_way(node: Linear, audio: np.ndarray, truth_samples: int, budget: Budget) -> Way:
    """Overlap and add in float32, over all of the audio in one call."""

    def run(samples: int) -> float:
        x = audio[:samples]
        return thread_seconds(lambda: oaconvolve(node, x))

    growth = peak_growth_bytes(lambda: run(len(audio)))
    return Way(
        "scipy oaconvolve",
        ENGINE,
        run,
        len(audio),
        first=oaconvolve(node, audio[:truth_samples]),
        memory={} if growth is None else {"peak_growth_bytes": growth},
        note="float32, the whole audio in one call",
    )
