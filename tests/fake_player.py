"""A player without the engine: two taps, an offset and a memory of one sample per channel."""

from __future__ import annotations

import time

import numpy as np

from fxfast.graph import ConvLayer, ModelGraph

MODEL_RATE = 48_000


def one_layer_graph(*taps: float, sample_rate: int = MODEL_RATE) -> ModelGraph:
    """A model that is one FIR filter; the last tap is for the current sample."""
    return ModelGraph((ConvLayer(np.array([[taps]], np.float32)),), sample_rate)


class FakePlayer:
    """``y[t] = now * x[t] + before * x[t-1] + offset``, the same samples for every split."""

    def __init__(
        self,
        now: float = 1.0,
        before: float = 0.0,
        offset: float = 0.0,
        *,
        sample_rate: int = MODEL_RATE,
        grid_samples: int = 1,
        seconds_per_block: float = 0.0,
    ) -> None:
        self.graph = one_layer_graph(before, now, sample_rate=sample_rate)
        self.factors = np.float32(now), np.float32(before), np.float32(offset)
        self.grid_samples = grid_samples
        self.seconds_per_block = seconds_per_block

    def stream(self, channels: int = 1) -> FakeStream:
        return FakeStream(self, channels)

    def render(self, x_ct: np.ndarray) -> np.ndarray:
        return self.stream(len(x_ct)).process(x_ct)


class FakeStream:
    def __init__(self, player: FakePlayer, channels: int) -> None:
        self._player = player
        self._last_c = np.zeros((channels, 1), np.float32)
        self._has_ended = False

    def process(self, block: np.ndarray) -> np.ndarray:
        time.sleep(self._player.seconds_per_block)
        now, before, offset = self._player.factors
        assert not (self._has_ended and block.size), "samples after a block off the grid"
        self._has_ended = self._has_ended or block.shape[-1] % self._player.grid_samples != 0
        x_ct = np.concatenate([self._last_c, block.reshape(len(self._last_c), -1)], axis=1)
        self._last_c = x_ct[:, -1:]
        return (now * x_ct[:, 1:] + before * x_ct[:, :-1] + offset).reshape(block.shape)

    def flush(self) -> np.ndarray:
        return np.zeros((len(self._last_c), 0), np.float32)
