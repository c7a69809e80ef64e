"""From pairs to a trained model: loss, loop, checkpoints, checks."""

from fxfast.training.config import TrainConfig
from fxfast.training.evaluation import Evaluation, evaluate_model
from fxfast.training.held_out import evaluate
from fxfast.training.losses import esr_loss
from fxfast.training.metrics import (
    Comparison,
    Scores,
    best_gain,
    compare,
    esr,
    esr_of_best_gain,
    score,
)
from fxfast.training.observers import EpochRecord, Observer, Step, StepInspector
from fxfast.training.overfitting import Verdict, judge
from fxfast.training.progress_bar import ProgressBar
from fxfast.training.run_folder import read_description
from fxfast.training.sanity import SanityResult, check_identity
from fxfast.training.trainer import TrainResult, dataset_of, train

__all__ = [
    "Comparison",
    "EpochRecord",
    "Evaluation",
    "Observer",
    "ProgressBar",
    "SanityResult",
    "Scores",
    "Step",
    "StepInspector",
    "TrainConfig",
    "TrainResult",
    "Verdict",
    "best_gain",
    "check_identity",
    "compare",
    "dataset_of",
    "esr",
    "esr_loss",
    "esr_of_best_gain",
    "evaluate",
    "evaluate_model",
    "judge",
    "read_description",
    "score",
    "train",
]
