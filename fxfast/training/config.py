"""What a training run is told, and the learning-rate schedule that follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch

from fxfast.errors import InputError, RunError

DEVICES = ("auto", "cpu", "cuda")
SCHEDULES = ("cosine", "exponential", "constant")
# Share of the budget: at full rate from the first step, relu layers can die at once.
WARM_UP = 0.05
# The least and the most samples of a block of windows, and the blocks of the least.
BLOCK_SAMPLES = (256, 8192)
BLOCKS = 16
# From a longer field on, as chains have it, a block has up to so many samples and stands alone.
LONG_FIELD, LONG_BLOCK_SAMPLES = 20_000, 65_536
# Lanes of a recurrent net, the samples of a chunk, and the chunks from one start to the next.
LANES = 16
LANE_CHUNK = 512
LANE_CHUNKS = 32


@dataclass(frozen=True)
class TrainConfig:
    """A run stops at the first of ``seconds`` (training time over all resumes),
    ``epochs`` and ``patience`` (epochs without a better validation ESR); None is no limit.

    A step takes ``batch_blocks`` blocks of ``block_samples`` targets. Of a recurrent net these are
    lanes and their chunks, and a lane starts anew after ``segment_blocks`` chunks. None leaves
    them to ``for_model``. The learning rate
    rises over the first ``WARM_UP`` of the budget to ``learning_rate`` and then, with ``schedule``
    "cosine", falls along half a cosine to ``final_learning_rate``, so a short run decays as fully
    as a long one; "exponential" multiplies it by ``decay`` every epoch and "constant" keeps it,
    both from the first step. Gradients are scaled down to norm ``max_gradient_norm`` (0: never).
    The loss is the ESR, with ``pre_emphasis`` as the coefficient of its filter (0 is off, 0.95 is
    usual), plus ``dc_weight`` times the DC loss and ``stft_weight`` times the multi-resolution
    STFT loss.
    The three fractions and ``guard_samples`` are those of ``Split``, for data without one.
    """

    seconds: float | None = None
    epochs: int | None = 30
    patience: int | None = None
    batch_blocks: int | None = None
    block_samples: int | None = None
    segment_blocks: int | None = None
    learning_rate: float = 5e-3
    final_learning_rate: float = 2e-5
    schedule: str = "cosine"
    decay: float = 0.993
    max_gradient_norm: float = 1.0
    pre_emphasis: float = 0.0
    dc_weight: float = 0.0
    stft_weight: float = 0.0
    seed: int = 0
    device: str = "auto"
    train_fraction: float = 0.75
    validation_fraction: float = 0.125
    test_fraction: float = 0.125
    guard_samples: int = 0

    def __post_init__(self) -> None:
        # Pre-emphasis costs the first sample of a block, so two are needed.
        for name, least in (("batch_blocks", 1), ("block_samples", 2), ("segment_blocks", 1)):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), least)
        _at_least("seed", self.seed, 0)
        for name in ("seconds", "epochs", "patience", "learning_rate"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name}: expected a number above 0, got {value!r}")
        if not 0 <= self.final_learning_rate <= self.learning_rate:
            raise InputError(
                f"final_learning_rate: expected 0 to learning_rate ({self.learning_rate}), "
                f"got {self.final_learning_rate}"
            )
        if not 0 <= self.pre_emphasis < 1:
            raise InputError(f"pre_emphasis: expected 0 to below 1, got {self.pre_emphasis}")
        for name in ("max_gradient_norm", "dc_weight", "stft_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: expected a number of at least 0, got {value!r}")
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"schedule: expected one of {', '.join(SCHEDULES)}, got {self.schedule!r}"
            )
        if not 0 < self.decay <= 1:
            raise InputError(f"decay: expected above 0 to 1, got {self.decay!r}")
        if self.seconds is None and self.epochs is None and self.patience is None:
            raise InputError("budget: expected seconds, epochs or patience, got none of them")
        if self.device not in DEVICES:
            raise InputError(f"device: expected one of {', '.join(DEVICES)}, got {self.device!r}")


def for_model(config: TrainConfig, receptive_field: int, carries_state: bool) -> TrainConfig:
    """The config with the sizes of a step that suit the model, where it leaves them open.

    A block costs its history on top: so it grows with the receptive field, and there are fewer in
    a step. Many small steps learn far more than few large ones: A1 standard on an overdrive, five
    epochs of 44 s, comes to a test ESR of 0.0004 with 2 blocks of 4096 samples and of 0.0016 with 2
    of 8192.
    """
    block, batch, segment = config.block_samples, config.batch_blocks, config.segment_blocks
    if carries_state:
        block, batch, segment = block or LANE_CHUNK, batch or LANES, segment or LANE_CHUNKS
    else:
        most = BLOCK_SAMPLES[1] if receptive_field <= LONG_FIELD else LONG_BLOCK_SAMPLES
        field = min(max(receptive_field, BLOCK_SAMPLES[0]), most)
        block = block or 1 << (field - 1).bit_length()
        batch = batch or max(
            1 if block > BLOCK_SAMPLES[1] else 2, round(BLOCKS * (BLOCK_SAMPLES[0] / block) ** 0.75)
        )
    return replace(config, block_samples=block, batch_blocks=batch, segment_blocks=segment)


def _at_least(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise InputError(f"{name}: expected an integer of at least {least}, got {value!r}")


def budget_used(config: TrainConfig, elapsed_seconds: float, epochs_done: float) -> float:
    """The share of the budget that is used, 0 to 1; without seconds or epochs always 0."""
    shares = [0.0]
    if config.seconds is not None:
        shares.append(elapsed_seconds / config.seconds)
    if config.epochs is not None:
        shares.append(epochs_done / config.epochs)
    return min(max(shares), 1.0)


def learning_rate_at(config: TrainConfig, used: float, epoch: int = 0) -> float:
    """The learning rate when ``used`` (0 to 1) of the budget is used, after ``epoch`` epochs."""
    high, low = config.learning_rate, config.final_learning_rate
    if config.schedule == "constant":
        return high
    if config.schedule == "exponential":
        return max(low, high * config.decay**epoch)
    if used < WARM_UP:
        return low + (high - low) * used / WARM_UP
    return low + (high - low) * 0.5 * (1.0 + math.cos(math.pi * (used - WARM_UP) / (1 - WARM_UP)))


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where torch finds a usable GPU, else the CPU.

    Raises ``RunError`` when ``cuda`` is asked for and absent.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        built = torch.version.cuda
        reason = f"built for CUDA {built}, no usable GPU" if built else "built without CUDA"
        raise RunError(
            f"device: expected a CUDA GPU, got none (torch {torch.__version__} {reason})"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")
