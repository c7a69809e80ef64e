"""The curves of a run for TensorBoard, an optional dependency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fxfast.errors import BuildError
from fxfast.training.observers import EpochRecord, Observer, Step
from fxfast.training.run_folder import RunFolder, read_log

FOLDER = "tensorboard"
# Steps from one written loss to the next.
_STRIDE = 10
# A run that is killed loses no more of its curves than this.
_FLUSH_SECONDS = 10


class TensorBoardLog(Observer):
    """Writes to RUN/tensorboard: the training loss by step, the rest by epoch.

    Raises ``BuildError`` that says what to install when TensorBoard is not there.
    """

    def __init__(self, run_dir: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BuildError(
                "tensorboard: expected the package, got none: pip install 'fxfast[tensorboard]'"
            ) from error
        self._make, self._run = SummaryWriter, RunFolder(run_dir)
        self._writer: SummaryWriter | None = None

    def on_step(self, step: Step) -> None:
        if step.number % _STRIDE == 0:
            if self._writer is None:
                self._go_on_at(step.number)
            self._write(step.number, {"loss/train": float(step.loss)})

    def _go_on_at(self, step: int) -> None:
        """Steps that a stopped run wrote after its last checkpoint are written again, and
        TensorBoard is told so; it forgets epochs of such numbers as well."""
        self._open(step)
        for record in read_log(self._run):
            if record["epoch"] >= step:
                self._write_epoch(record)

    def on_epoch(self, record: EpochRecord) -> None:
        self._write_epoch(asdict(record))
        assert self._writer is not None
        self._writer.flush()  # type: ignore[no-untyped-call]

    def _write_epoch(self, record: Mapping[str, Any]) -> None:
        values = {
            "loss/train of epoch": record["train_loss"],
            "ESR/validation": record["validation_esr"],
            "ESR/best": record["best_esr"],
            "run/learning rate": record["learning_rate"],
            "run/data wait": record["data_wait"],
            "run/steps per second": record["steps_per_second"],
        }
        self._write(record["epoch"], values)

    def _open(self, purge_step: int | None = None) -> None:
        self._writer = self._make(  # type: ignore[no-untyped-call]
            self._run.path / FOLDER, purge_step=purge_step, flush_secs=_FLUSH_SECONDS
        )

    def _write(self, at: int, values: Mapping[str, float]) -> None:
        # Made late: a run folder that exists is refused.
        if self._writer is None:
            self._open()
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends the files."""
        if self._writer is not None:
            self._writer.close()  # type: ignore[no-untyped-call]
