"""Small ``.nam`` documents, made here, and the parity files of ``../shared`` where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.exchange import nam
from fxfast.exchange.nam_fields import Section
from fxfast.exchange.nam_layout import wavenet_tensors
from fxfast.exchange.nam_wavenet import parse_wavenet
from fxfast.graph import ModelGraph

PARITY_FILES = Path(__file__).resolve().parents[2] / "shared" / "fixtures" / "nam"

# Model file, input, expected output, slim.
PARITY_PAIRS = [
    ("reference_lstm", "input_lstm", "expected_output_lstm", None),
    ("reference_lstm_standard", "input_lstm_standard", "expected_output_lstm_standard", None),
    ("reference", "input", "expected_output", None),
    ("reference_standard", "input_standard", "expected_output_standard", None),
    ("leaky_wavenet", "input_leaky", "expected_output_leaky", None),
    ("post_stack_head", "input_post_stack_head", "expected_post_stack_head", None),
    ("conv_head", "input_conv_head", "expected_conv_head", None),
    ("condition_dsp_mono", "input_condition_dsp", "expected_condition_dsp", None),
    (
        "wavenet_condition_dsp",
        "input_condition_dsp_multi",
        "expected_condition_dsp_multi",
        None,
    ),
    *(
        (f"a2_{name}", f"input_a2_{name}", f"expected_a2_{name}", None)
        for name in ("gated", "blended", "bottleneck", "film", "grouped", "head1x1")
    ),
    ("slimmable_container", "input_slim", "expected_slim_0", 0.0),
    ("slimmable_container", "input_slim", "expected_slim_1", 0.5),
    ("slimmable_container", "input_slim", "expected_slim_2", None),
]


def values(count: int, seed: int = 0) -> list[float]:
    """Float32 values as JSON numbers."""
    random = np.random.default_rng(seed)
    drawn = random.uniform(-0.5, 0.5, count).astype(np.float32).astype(np.float64)
    listed: list[float] = drawn.tolist()
    return listed


def old_array(**changes: Any) -> dict[str, Any]:
    """A layer array with the keys of the first files."""
    array = {
        "input_size": 1,
        "condition_size": 1,
        "head_size": 1,
        "channels": 3,
        "kernel_size": 3,
        "dilations": [1, 2],
        "activation": "Tanh",
        "gated": False,
        "head_bias": True,
    }
    return without_none({**array, **changes})


def new_array(**changes: Any) -> dict[str, Any]:
    """A layer array with the keys of 0.7.0."""
    array = {
        "input_size": 1,
        "condition_size": 1,
        "channels": 4,
        "bottleneck": 4,
        "dilations": [1, 3],
        "kernel_sizes": [3, 2],
        "activation": [{"type": "Tanh"}, {"type": "ReLU"}],
        "gating_mode": ["none", "none"],
        "layer1x1": {"active": True, "groups": 1},
        "head": {"out_channels": 1, "kernel_size": 1, "bias": False},
    }
    return without_none({**array, **changes})


def without_none(items: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in items.items() if value is not None}


def document(architecture: str, config: dict[str, Any], weights: list[Any], **more: Any) -> Any:
    return {
        "version": "0.7.0",
        "architecture": architecture,
        "config": config,
        "weights": weights,
        "sample_rate": 48000,
        **more,
    }


def wavenet(*arrays: dict[str, Any], seed: int = 0, count: int | None = None, **config: Any) -> Any:
    """A WaveNet with as many random weights as it needs, or ``count``."""
    whole = {"layers": list(arrays), "head": None, "head_scale": 0.02, **config}
    if count is None:
        condition = 1
        if "condition_dsp" in whole:
            condition = whole["condition_dsp"]["config"]["layers"][-1]["head"]["out_channels"]
        shape = parse_wavenet(Section(whole, "config"), condition)
        count = sum(tensor.size for tensor in wavenet_tensors(shape))
    return document("WaveNet", whole, values(count, seed))


def parse(found: Any, **options: Any) -> ModelGraph:
    return nam.parse(json.dumps(found).encode(), **options)


def a1_preset(name: str) -> list[dict[str, Any]]:
    """The layer arrays of the presets of the trainer's first generation."""
    first, second = {"standard": (16, 8), "lite": (12, 6), "feather": (8, 4), "nano": (4, 2)}[name]
    long = [2**n for n in range(10)]
    dilations = (long, long) if name == "standard" else (long[:7], long[7:] + long)
    return [
        old_array(channels=first, head_size=second, dilations=dilations[0], head_bias=False),
        old_array(input_size=first, channels=second, dilations=dilations[1]),
    ]


def a2_array(channels: int) -> dict[str, Any]:
    """The one layer array of the second generation: 3 channels (lite) or 8 (full)."""
    taps = [6] * 14 + [15, 15] + [6] * 7
    spread = [1, 3, 7, 17, 41, 101, 239]
    return new_array(
        channels=channels,
        bottleneck=channels,
        kernel_sizes=taps,
        dilations=[*spread, *spread, 1, 13, *spread],
        activation=[{"type": "LeakyReLU", "negative_slope": 0.01}] * 23,
        gating_mode=["none"] * 23,
        head={"out_channels": 1, "kernel_size": 16, "bias": True},
    )
