"""Which channels of a file go through the model, and what becomes of them."""

from __future__ import annotations

import numpy as np

_HALF = np.float32(0.5)


class ChannelPolicy:
    """Between the channels of a file and those of the model: see ``Processing.channels``.

    Blocks are (C, n) float32. Every channel of the model has a state of its own.
    """

    def __init__(self, policy: str, channels: int) -> None:
        # Mid and side of a file of one channel are the channel and silence.
        self._policy = "each" if channels == 1 else policy
        self.model_channels = 1 if self._policy in ("mono-sum", "left") else channels

    def before(self, x_ct: np.ndarray) -> np.ndarray:
        """The channels that the model gets."""
        if self._policy == "mid-side":
            left, right = x_ct * _HALF  # halves are exact, a sum of full scales stays in range
            return np.stack([left + right, left - right])
        if self._policy == "mono-sum":
            sum_ct = x_ct.sum(axis=0, dtype=np.float64, keepdims=True)
            return np.asarray(sum_ct / len(x_ct), np.float32)
        return x_ct[:1] if self._policy == "left" else x_ct

    def after(self, y_ct: np.ndarray) -> np.ndarray:
        """The channels of the output, from those that the model gave."""
        if self._policy == "mid-side":
            mid, side = y_ct
            return np.stack([mid + side, mid - side])
        return y_ct
