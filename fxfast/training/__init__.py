"""From pairs to a trained model: loss, loop, checkpoints, checks."""

from fxfast.training.config import TrainConfig
from fxfast.training.held_out import evaluate
from fxfast.training.losses import esr_loss
from fxfast.training.metrics import best_gain, esr, esr_of_best_gain
from fxfast.training.observers import EpochRecord, Observer, ProgressBar, Step, StepInspector
from fxfast.training.run_folder import read_description
from fxfast.training.sanity import SanityResult, check_identity
from fxfast.training.trainer import TrainResult, train

__all__ = [
    "EpochRecord",
    "Observer",
    "ProgressBar",
    "SanityResult",
    "Step",
    "StepInspector",
    "TrainConfig",
    "TrainResult",
    "best_gain",
    "check_identity",
    "esr",
    "esr_loss",
    "esr_of_best_gain",
    "evaluate",
    "read_description",
    "train",
]
