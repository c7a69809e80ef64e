"""Eyes on a training run: what the trainer tells, and the inspector."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Step:
    """One optimiser step, ``number`` counted from 0 over the whole run.

    ``used`` is the share of the budget, ``data_wait`` that of the epoch's time so far that went by
    waiting for data; shapes as in ``Batch``; ``prediction_bct`` comes
    from the weights before the step.
    """

    number: int
    epoch: int
    used: float
    loss: torch.Tensor
    x_bct: torch.Tensor
    y_bct: torch.Tensor
    prediction_bct: torch.Tensor
    steps_per_second: float = 0.0
    data_wait: float = 0.0


@dataclass(frozen=True)
class EpochRecord:
    """One line of RUN/log.jsonl. ``epoch`` counts from 1; ``steps`` is the number of steps
    in it, fewer than usual when the time ran out and none in a fit, whose ``train_loss`` is the ESR
    of the training part; ``seconds`` is its duration with
    validation, ``elapsed_seconds`` the time since the start of the run; ``data_wait`` is the share
    of the time of the steps that went by waiting for their data."""

    epoch: int
    steps: int
    train_loss: float
    validation_esr: float
    best_esr: float
    learning_rate: float
    seconds: float
    elapsed_seconds: float
    samples_per_second: float
    steps_per_second: float
    data_wait: float


class Observer:
    """Told of every step and epoch; does nothing by itself."""

    def on_step(self, step: Step) -> None:
        """After each optimiser step."""

    def on_fit(self, share: float, note: str) -> None:
        """While a model is fitted: the share that is done, 0 to 1, and what is being found."""

    def on_epoch(self, record: EpochRecord) -> None:
        """After each epoch, when its checkpoint is on disk."""

    def close(self) -> None:
        """When whoever made the observer is done with the run."""


class StepInspector(Observer):
    """Prints shapes, target and prediction at given steps."""

    def __init__(self, steps: Collection[int], write: Callable[[str], Any] = print) -> None:
        self.steps = frozenset(steps)
        self.write = write

    def on_step(self, step: Step) -> None:
        if step.number not in self.steps:
            return
        target = step.y_bct[0, 0].detach().cpu()
        prediction = step.prediction_bct[0, 0].detach().cpu()
        # The loudest stretch of the first block says more than its first samples.
        start = max(0, min(int(target.abs().argmax()) - 4, len(target) - 8))
        stretch = slice(start, start + 8)
        self.write(
            f"step {step.number} (epoch {step.epoch}): loss {float(step.loss):.6f}\n"
            f"  x {tuple(step.x_bct.shape)}  target {tuple(step.y_bct.shape)}  "
            f"prediction {tuple(step.prediction_bct.shape)}\n"
            f"  target     [0, 0, {start}:] {_numbers(target[stretch])}\n"
            f"  prediction [0, 0, {start}:] {_numbers(prediction[stretch])}"
        )


def _numbers(values: torch.Tensor) -> str:
    return " ".join(f"{value:+.5f}" for value in values.tolist())
