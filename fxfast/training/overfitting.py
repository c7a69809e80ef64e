"""Does the model learn the effect, or the training audio by heart? Said in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Validation has to be so much worse than at its best, for so many epochs, and for this share of
# all, before it is called overfitting and not noise.
WORSE = 1.1
LEAST_EPOCHS = 3
LEAST_SHARE = 0.15
# So many times the training loss, validation is another matter than training even where it falls.
GAP = 5.0


@dataclass(frozen=True)
class Verdict:
    """Whether the model overfits, and why one says so; ``words`` is one line."""

    overfits: bool
    words: str


def judge(epochs: Sequence[Mapping[str, Any]]) -> Verdict:
    """From the epochs of a log (``EpochRecord`` as a mapping), in order."""
    trained = [epoch for epoch in epochs if epoch["steps"]]
    if len(trained) < 2:
        return Verdict(False, "overfitting: too few epochs to tell")
    losses = np.array([epoch["train_loss"] for epoch in trained], float)
    validation = np.array([epoch["validation_esr"] for epoch in trained], float)
    best = int(np.argmin(validation))
    after = len(trained) - 1 - best
    enough = max(LEAST_EPOCHS, round(LEAST_SHARE * len(trained)))
    tail = slice(len(trained) - min(after, enough), None)
    worse = after >= enough and bool(validation[tail].min() > WORSE * validation[best])
    if worse and float(np.median(losses[tail])) < losses[best]:
        return Verdict(
            True,
            f"overfitting: since epoch {trained[best]['epoch']} the validation ESR rose from "
            f"{validation[best]:.5f} to {validation[-1]:.5f} while the training loss fell from "
            f"{losses[best]:.5f} to {losses[-1]:.5f}; more audio or a smaller model would help",
        )
    if worse:
        return Verdict(
            False,
            f"not overfitting: validation and training are both worse than in epoch "
            f"{trained[best]['epoch']}; a smaller learning rate would help",
        )
    figures = (
        f"validation ESR {validation[best]:.5f} beside a training loss of {losses[best]:.5f} "
        f"in the best epoch ({trained[best]['epoch']})"
    )
    if validation[best] > GAP * losses[best]:
        return Verdict(
            False,
            f"validation still follows training, from afar: {figures}; training is learnt in "
            f"detail that does not carry over, or lacks what validation has: more audio would help",
        )
    return Verdict(False, f"no overfitting: {figures}")
