"""Runs in the environment of the trainer (tools/nam-env), never in that of the tests.

``python nam_trainer.py FOLDER`` plays FOLDER/input.npy through every FOLDER/ours-*.nam and
through models made here, which it exports as FOLDER/theirs-*.nam. What came out is NAME.npy
beside NAME.nam.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nam.models import factory, init_from_nam

SAMPLE_RATE = 48_000
# As long as the trainer's own exporter lets an LSTM settle.
SETTLING_SAMPLES = 48_000
A1_DILATIONS = [2**n for n in range(10)]
A2_SPREAD = [1, 3, 7, 17, 41, 101, 239]


def layer_array(**values: Any) -> dict[str, Any]:
    return {"input_size": 1, "condition_size": 1, "activation": "Tanh", **values}


def head(out_channels: int, kernel_size: int, bias: bool) -> dict[str, Any]:
    return {"out_channels": out_channels, "kernel_size": kernel_size, "bias": bias}


def a1_standard() -> dict[str, Any]:
    shared = {"kernel_size": 3, "dilations": A1_DILATIONS}
    first = layer_array(channels=16, head=head(8, 1, False), **shared)
    second = layer_array(input_size=16, channels=8, head=head(1, 1, True), **shared)
    return {"layers_configs": [first, second], "head_scale": 0.02}


def a2_full() -> dict[str, Any]:
    array = layer_array(
        channels=8,
        kernel_sizes=[6] * 14 + [15, 15] + [6] * 7,
        dilations=[*A2_SPREAD, *A2_SPREAD, 1, 13, *A2_SPREAD],
        activation="LeakyReLU",
        head=head(1, 16, True),
    )
    return {"layers_configs": [array], "head_scale": 0.01}


MODELS = {
    "a1-standard": ("WaveNet", a1_standard()),
    "a2-full": ("WaveNet", a2_full()),
    "lstm": ("LSTM", {"hidden_size": 16}),
}


def make(architecture: str, config: dict[str, Any]) -> Any:
    """Random weights that let the input be heard: with its own, the trainer begins quietly."""
    model = factory.init(architecture, kwargs={"config": {**config, "sample_rate": SAMPLE_RATE}})
    with torch.no_grad():
        for parameter in model.parameters():
            if architecture == "LSTM":
                parameter.uniform_(-0.5, 0.5)
            else:
                parameter.mul_(1.5)
    return model


def play(model: Any, x: torch.Tensor, settling: int = 0) -> np.ndarray:
    """Settled on silence: a WaveNet by the zeros of ``pad_start``, an LSTM by ``settling`` of them,
    or by the state in its file."""
    model.eval()
    with torch.no_grad():
        y = model(torch.cat([torch.zeros(settling), x]), pad_start=True)
    result: np.ndarray = y[settling:].numpy()
    return result


def main(folder: Path) -> None:
    # Tests run beside this, and threads that wait for a core cost it ten times its time.
    torch.set_num_threads(1)
    torch.manual_seed(3)
    x = torch.from_numpy(np.load(folder / "input.npy"))
    for path in sorted(folder.glob("ours-*.nam")):
        np.save(path.with_suffix(".npy"), play(init_from_nam(json.loads(path.read_text())), x))
    for name, (architecture, config) in MODELS.items():
        model = make(architecture, config)
        model.export(folder, basename=f"theirs-{name}")
        settling = SETTLING_SAMPLES if architecture == "LSTM" else 0
        np.save(folder / f"theirs-{name}.npy", play(model, x, settling))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
