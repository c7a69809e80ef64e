"""Can the set-up learn the identity? The cheapest proof that every part of it works."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fxfast.data import Data
from fxfast.models import AudioModel
from fxfast.pairs.pair_set import Pair
from fxfast.training.config import TrainConfig
from fxfast.training.observers import Observer
from fxfast.training.trainer import dataset_of, train

SANITY_SECONDS = 15.0
SANITY_ESR = 0.01


@dataclass(frozen=True)
class SanityResult:
    """``esr`` is the test ESR with wet = dry; ``passed`` when it is below ``bound``."""

    esr: float
    bound: float
    seconds: float
    passed: bool


def check_identity(
    config: TrainConfig,
    data: Data | Sequence[Pair],
    model: AudioModel,
    *,
    bound: float = SANITY_ESR,
    observers: Sequence[Observer] = (),
) -> SanityResult:
    """Trains on wet = dry for a short time and tells whether the ESR falls below ``bound``.

    Everything but the target is as in a real run: data, model, loss, engine, files. The
    budget is that of ``config``, with at most ``SANITY_SECONDS``. Raises as ``train``.
    """
    seconds = min(config.seconds or SANITY_SECONDS, SANITY_SECONDS)
    identity = dataset_of(config, data).with_dry_as_wet()
    with tempfile.TemporaryDirectory(prefix="fxfast-sanity-") as folder:
        result = train(
            replace(config, seconds=seconds, patience=None),
            identity,
            model,
            Path(folder) / "run",
            observers=observers,
        )
    return SanityResult(result.test_esr, bound, result.seconds, result.test_esr < bound)
