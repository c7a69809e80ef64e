"""Random graphs, and the plainest rendering of a graph there is: numpy, one layer at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fxfast.graph import Activation, ConvLayer, ModelGraph


def random_graph(
    layers: Sequence[tuple[int, int, int, str]],
    *,
    seed: int = 0,
    scale: float = 1.0,
    skip: bool = False,
    sample_rate: int = 48_000,
) -> ModelGraph:
    """Layers as (out_channels, taps, dilation, activation), weights of unit gain times scale."""
    rng = np.random.default_rng(seed)
    built, channels = [], 1
    for out_channels, taps, dilation, kind in layers:
        weight = rng.standard_normal((out_channels, channels, taps)) / np.sqrt(channels * taps)
        bias = 0.1 * rng.standard_normal(out_channels)
        slopes = {"leaky_relu": 1, "prelu": out_channels}.get(kind)
        activation = Activation(
            kind, None if slopes is None else rng.uniform(0, 0.4, slopes).astype(np.float32)
        )
        built.append(
            ConvLayer(
                (scale * weight).astype(np.float32), bias.astype(np.float32), dilation, activation
            )
        )
        channels = out_channels
    return ModelGraph(tuple(built), sample_rate, skip)


def reference_render(graph: ModelGraph, x: np.ndarray, dtype: Any) -> np.ndarray:
    """Render x (T) with every operation in dtype; silence before the start."""
    history = np.zeros(graph.receptive_field - 1)
    h_ct = np.concatenate([history, x]).astype(dtype)[None]
    for layer in graph.layers:
        length = h_ct.shape[1] - layer.history_samples
        taps = [h_ct[:, k * layer.dilation :][:, :length] for k in range(layer.taps)]
        matrix = layer.weight.transpose(0, 2, 1).reshape(layer.out_channels, -1).astype(dtype)
        h_ct = matrix @ np.concatenate(taps)
        if layer.bias is not None:
            h_ct = h_ct + layer.bias.astype(dtype)[:, None]
        h_ct = _activate(layer.activation, h_ct).astype(dtype)
    y = h_ct[0] + x.astype(dtype) if graph.skip else h_ct[0]
    result: np.ndarray = y
    return result


def _activate(activation: Activation, h_ct: np.ndarray) -> np.ndarray:
    if activation.kind == "relu":
        return np.maximum(h_ct, 0)
    if activation.kind in ("leaky_relu", "prelu"):
        assert activation.slopes is not None
        return np.where(h_ct > 0, h_ct, h_ct * activation.slopes.astype(h_ct.dtype)[:, None])
    if activation.kind == "tanh":
        return np.tanh(h_ct)
    if activation.kind == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(h_ct, -80, None)))
    return h_ct


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
