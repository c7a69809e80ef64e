"""Runs in the environment of tools/nam-env: the trainer of .nam files on one pair for some time.

``python nam_training.py WORK SECONDS``: WORK/dry.wav and WORK/wet.wav, trained on the first 44 s,
validated on the next 6; A1 standard, the trainer's own dataset, lightning module and settings
(Adam 0.004, 0.993 per epoch, MSE, batch 16 of 8192). Leaves WORK/model.nam and WORK/nam.json.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from nam.train.core import _get_dataloaders
from nam.train.lightning_module import LightningModule

RATE = 48_000
BATCH, OUTPUTS = 16, 8192
DILATIONS = [2**n for n in range(10)]


def layers(**values: Any) -> dict[str, Any]:
    fixed = {"condition_size": 1, "kernel_size": 3, "dilations": DILATIONS, "activation": "Tanh"}
    return {**fixed, **values}


def head(out_channels: int, bias: bool) -> dict[str, Any]:
    return {"out_channels": out_channels, "kernel_size": 1, "bias": bias}


MODEL = {
    "net": {
        "name": "WaveNet",
        "config": {
            "layers_configs": [
                layers(input_size=1, channels=16, head=head(8, False)),
                layers(input_size=16, channels=8, head=head(1, True)),
            ],
            "head_scale": 0.02,
        },
    },
    "loss": {"val_loss": "esr"},
    "optimizer": {"lr": 0.004},
    "lr_scheduler": {"class": "ExponentialLR", "kwargs": {"gamma": 0.993}},
}


def data(work: Path) -> dict[str, Any]:
    return {
        "train": {"ny": OUTPUTS, "start_samples": 0, "stop_samples": 44 * RATE},
        "validation": {
            "ny": None,
            "start_samples": 44 * RATE,
            "stop_samples": 50 * RATE,
            "require_input_pre_silence": False,
        },
        "common": {"x_path": str(work / "dry.wav"), "y_path": str(work / "wet.wav"), "delay": 0},
    }


class Curve(pl.Callback):
    """The validation error by step and second."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.points: list[dict[str, float]] = []

    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        if not trainer.sanity_checking:
            esr = float(trainer.callback_metrics["ESR"])
            seconds = time.monotonic() - self.began
            self.points.append({"step": trainer.global_step, "seconds": seconds, "esr": esr})


def main(work: Path, seconds: float) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    pl.seed_everything(0)
    module = LightningModule.init_from_config(MODEL)
    loading = {"batch_size": BATCH, "shuffle": True, "drop_last": True, "num_workers": 0}
    loaders = _get_dataloaders(
        data(work), {"train_dataloader": loading, "val_dataloader": {}}, module
    )
    curve = Curve()
    best = pl.callbacks.ModelCheckpoint(work / "lightning", monitor="val_loss")
    trainer = pl.Trainer(
        max_epochs=100_000,
        max_time=timedelta(seconds=seconds),
        callbacks=[curve, best],
        default_root_dir=work,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    began, cpu = time.monotonic(), time.process_time()
    trainer.fit(module, *loaders)
    taken, cpu_taken = time.monotonic() - began, time.process_time() - cpu
    chosen = LightningModule.load_from_checkpoint(
        best.best_model_path, **LightningModule.parse_config(MODEL)
    )
    chosen.cpu().eval()
    chosen.net.sample_rate = RATE
    chosen.net.export(work, basename="model")
    values = {
        "steps": trainer.global_step,
        "samples_per_step": BATCH * OUTPUTS,
        "seconds": taken,
        "cpu_seconds": cpu_taken,
        "curve": curve.points,
    }
    (work / "nam.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
