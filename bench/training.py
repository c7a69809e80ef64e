"""A training step of the preset with the fxfast convolution and with torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.threads import preset_graph
from fxfast import models
from fxfast.report.compare import eager_net
from fxfast.report.measure import Timing, rounds, wall_seconds
from fxfast.training import TrainConfig
from fxfast.training.config import for_model


def step(count: int) -> dict[str, Any]:
    """Forward and backward of one batch of the default size, on all cores."""
    graph = preset_graph()
    config = for_model(TrainConfig(), graph.receptive_field, carries_state=False)
    assert config.block_samples is not None
    assert config.batch_blocks is not None
    samples = config.block_samples + graph.receptive_field - 1
    generator = torch.Generator().manual_seed(0)
    x_bct = torch.randn(config.batch_blocks, 1, samples, generator=generator)
    ours, plain = models.from_graph(graph), eager_net(graph).train()
    if not torch.allclose(ours(x_bct), plain(x_bct), atol=1e-5):
        raise RuntimeError("training step: expected equal outputs of both networks")

    def backward(model: torch.nn.Module) -> Callable[[], object]:
        return lambda: model(x_bct).square().mean().backward()

    taken = rounds(
        {
            "fxfast": lambda: wall_seconds(backward(ours)),
            "torch": lambda: wall_seconds(backward(plain)),
        },
        4 * count,
        warm_up=3,
    )
    return {
        "batch_blocks": config.batch_blocks,
        "block_samples": config.block_samples,
        "seconds": {name: Timing.of(values).to_json() for name, values in taken.items()},
        "times_as_fast": float(np.median(np.divide(taken["torch"], taken["fxfast"]))),
    }
