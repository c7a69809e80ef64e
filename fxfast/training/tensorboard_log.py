"""The curves of a run for TensorBoard, an optional dependency."""

from __future__ import annotations

from pathlib import Path

from fxfast.errors import BuildError
from fxfast.training.observers import EpochRecord, Observer, Step

FOLDER = "tensorboard"
# Steps from one written loss to the next.
_STRIDE = 10


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
        self._make, self._folder = SummaryWriter, run_dir / FOLDER
        self._writer: SummaryWriter | None = None

    def _at(self, step: int) -> object:
        # Made late: a run folder that exists is refused. Steps that a stopped run wrote after its
        # last checkpoint are written again, and TensorBoard is told so.
        if self._writer is None:
            self._writer = self._make(self._folder, purge_step=step or None)  # type: ignore[no-untyped-call]
        return self._writer

    def on_step(self, step: Step) -> None:
        if step.number % _STRIDE == 0:
            self._write(step.number, {"loss/train": float(step.loss)})

    def on_epoch(self, record: EpochRecord) -> None:
        values = {
            "loss/train of epoch": record.train_loss,
            "ESR/validation": record.validation_esr,
            "ESR/best": record.best_esr,
            "run/learning rate": record.learning_rate,
            "run/data wait": record.data_wait,
            "run/steps per second": record.steps_per_second,
        }
        self._write(record.epoch, values)
        if self._writer is not None:
            self._writer.flush()  # type: ignore[no-untyped-call]

    def _write(self, at: int, values: dict[str, float]) -> None:
        self._at(at)
        assert self._writer is not None
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Ends the files."""
        if self._writer is not None:
            self._writer.close()  # type: ignore[no-untyped-call]
