"""The training loop: blocks in, best model of the run out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from fxfast import exchange
from fxfast.data.windows import Batch, Piece, TimeSplit, WindowSet, split_by_time
from fxfast.errors import PairError, RunError
from fxfast.graph import ModelGraph
from fxfast.models import AudioModel
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import run_folder
from fxfast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_json
from fxfast.training.config import TrainConfig, budget_used, choose_device, learning_rate_at
from fxfast.training.losses import esr_loss, pre_emphasize
from fxfast.training.metrics import esr, esr_of_best_gain
from fxfast.training.observers import EpochRecord, Observer, Step
from fxfast.training.run_folder import RunFolder

# Adam that forgets old gradients faster than usual, and a bound on their norm: both make
# the high learning rates usable that short runs need.
ADAM_BETAS = (0.9, 0.99)
MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class TrainResult:
    """The figures of a finished run: RUN/result.json.

    ``test_esr`` is that of the best model on audio that training never saw;
    ``dry_as_wet_esr`` and ``best_gain_esr`` are what doing nothing and a plain gain
    score on the same audio.
    """

    run_dir: str
    test_esr: float
    dry_as_wet_esr: float
    best_gain_esr: float
    validation_esr: float
    best_epoch: int
    epochs: int
    steps: int
    seconds: float
    stopped_by: str


def train(
    config: TrainConfig,
    pairs: Sequence[Pair],
    model: AudioModel,
    run_dir: Path | str,
    *,
    resume: bool = False,
    observers: Sequence[Observer] = (),
) -> TrainResult:
    """Trains ``model`` on pairs of one sample rate and leaves the best one in ``run_dir``.

    Each epoch ends with a validation by the engine and a checkpoint; ``resume`` goes on
    from the last one, to the same weights as without the stop when the budget is in
    epochs. ``model`` holds the last weights afterwards, RUN/model.safetensors the best.
    Raises ``PairError`` for unusable pairs, ``OutputExistsError`` when ``run_dir`` is
    there already, ``RunError`` when the device is absent, the run cannot be resumed or
    the loss is no longer finite.
    """
    _require_usable(pairs)
    device = choose_device(config.device)
    split = _split(config, pairs, model)
    description = run_folder.describe_run(config, model, pairs)
    if resume:
        folder = run_folder.continue_run(Path(run_dir), description)
    else:
        folder = run_folder.start_run(Path(run_dir), description)
    trainer = _Trainer(config, split, model.to(device), folder, description.sample_rate, device)
    if resume:
        trainer.restore(load_checkpoint(folder.checkpoint))
    else:
        model.calibrate(*trainer.training_levels_rms())
        save_checkpoint(trainer.checkpoint(), folder.checkpoint)
    stopped_by = trainer.run(observers)
    result = trainer.result(stopped_by)
    write_json(folder.result, asdict(result))
    return result


def _require_usable(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise PairError("pairs: expected at least one, got none")
    for pair in pairs:
        if pair.dry.ndim != 1 or pair.dry.shape != pair.wet.shape:
            raise PairError(
                f"{pair.name}: expected dry and wet of one shape (T,), "
                f"got {pair.dry.shape} and {pair.wet.shape}"
            )
        if pair.sample_rate != pairs[0].sample_rate:
            raise PairError(
                f"{pair.name}: expected {pairs[0].sample_rate} Hz as in {pairs[0].name}, "
                f"got {pair.sample_rate} Hz"
            )
        for side, audio in (("dry", pair.dry), ("wet", pair.wet)):
            if audio.dtype != np.float32:
                raise PairError(
                    f"{pair.name}: expected float32 samples in {side}, got {audio.dtype}"
                )
            if not np.isfinite(audio).all():
                raise PairError(
                    f"{pair.name}: expected finite samples in {side}, got NaN or infinity"
                )


def _split(config: TrainConfig, pairs: Sequence[Pair], model: AudioModel) -> TimeSplit:
    split = split_by_time(
        pairs,
        receptive_field=model.receptive_field,
        train=config.train_fraction,
        validation=config.validation_fraction,
        test=config.test_fraction,
        guard_samples=config.guard_samples,
    )
    parts = {"training": split.train, "validation": split.validation, "test": split.test}
    for part, pieces in parts.items():
        if not any(np.any(wet) for wet in _targets(pieces, model.receptive_field)):
            raise PairError(f"wet: expected a signal in the {part} part, got silence")
    return split


def _targets(pieces: Sequence[Piece], receptive_field: int) -> list[np.ndarray]:
    """The samples of wet that have their whole input history inside the piece."""
    return [piece.wet[receptive_field - 1 :] for piece in pieces]


def evaluate(graph: ModelGraph, pieces: Sequence[Piece], receptive_field: int) -> float:
    """ESR of a graph over pieces, rendered by the engine, after the first samples.

    ``receptive_field`` is the model's: that of a recurrent one includes its warm-up.
    """
    player = Player(graph, mode="stream")
    predictions = [player.render(piece.dry)[receptive_field - 1 :] for piece in pieces]
    return esr(predictions, _targets(pieces, receptive_field))


class _Trainer:
    """The state of a run between steps; ``epoch`` and ``step`` count what is finished."""

    def __init__(
        self,
        config: TrainConfig,
        split: TimeSplit,
        model: AudioModel,
        folder: RunFolder,
        sample_rate: int,
        device: torch.device,
    ) -> None:
        self.config, self.split, self.model = config, split, model
        self.folder, self.sample_rate = folder, sample_rate
        self.windows = WindowSet(
            split.train,
            receptive_field=model.receptive_field,
            block_samples=config.block_samples,
            batch_blocks=config.batch_blocks,
            seed=config.seed,
            device=device,
        )
        self.energy_floor = self._mean_target_energy(device)
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=config.learning_rate, betas=ADAM_BETAS
        )
        self.epoch = self.step = self.best_epoch = 0
        self.best_esr = math.inf
        self.elapsed_before = 0.0
        self.started = time.monotonic()

    def _mean_target_energy(self, device: torch.device) -> float:
        total = count = 0.0
        for wet in _targets(self.split.train, self.model.receptive_field):
            signal = torch.from_numpy(wet)[None, None]
            if self.config.pre_emphasis:
                signal = pre_emphasize(signal, self.config.pre_emphasis)
            total += float(signal.double().square().sum())
            count += signal.numel()
        return max(total / max(count, 1.0), 1e-12)

    @property
    def elapsed_seconds(self) -> float:
        return self.elapsed_before + time.monotonic() - self.started

    def training_levels_rms(self) -> tuple[float, float]:
        """Root mean square of dry and of wet over the training part."""
        dry = np.concatenate([piece.dry for piece in self.split.train]).astype(np.float64)
        wet = np.concatenate([piece.wet for piece in self.split.train]).astype(np.float64)
        return float(np.sqrt(np.mean(dry**2))), float(np.sqrt(np.mean(wet**2)))

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            epoch=self.epoch,
            step=self.step,
            seed=self.config.seed,
            best_esr=self.best_esr,
            best_epoch=self.best_epoch,
            elapsed_seconds=self.elapsed_seconds,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        try:
            self.model.load_state_dict(checkpoint.model)
            self.optimizer.load_state_dict(checkpoint.optimizer)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"{self.folder.checkpoint}: expected the state of this model, got {reason}"
            ) from error
        self.epoch, self.step = checkpoint.epoch, checkpoint.step
        self.best_esr, self.best_epoch = checkpoint.best_esr, checkpoint.best_epoch
        self.elapsed_before = checkpoint.elapsed_seconds
        self.started = time.monotonic()
        run_folder.cut_log(self.folder, self.epoch)

    def run(self, observers: Sequence[Observer]) -> str:
        """Epochs until the budget is used; returns what ended the run."""
        while True:
            stopped_by = self._stop_reason()
            if stopped_by:
                return stopped_by
            record = self._run_epoch(observers)
            run_folder.append_log(self.folder, record)
            save_checkpoint(self.checkpoint(), self.folder.checkpoint)
            for observer in observers:
                observer.on_epoch(record)

    def _stop_reason(self) -> str:
        config = self.config
        if config.epochs is not None and self.epoch >= config.epochs:
            return "epochs"
        if self.epoch and self._time_is_up():
            return "seconds"
        if config.patience is not None and self.epoch - self.best_epoch >= config.patience:
            return "patience"
        return ""

    def _run_epoch(self, observers: Sequence[Observer]) -> EpochRecord:
        began, first_step, samples = time.monotonic(), self.step, 0
        steps_in_epoch = self.windows.steps(self.epoch)
        losses: list[torch.Tensor] = []
        learning_rate = 0.0
        self.model.train()
        for batch in self.windows.epoch(self.epoch):
            if losses and self._time_is_up():
                break
            epochs_done = self.epoch + len(losses) / steps_in_epoch
            used = budget_used(self.config, self.elapsed_seconds, epochs_done)
            learning_rate = learning_rate_at(self.config, used)
            step = self._take_step(batch, learning_rate, used)
            losses.append(step.loss)
            samples += batch.y_bct.numel()
            for observer in observers:
                observer.on_step(step)
        train_loss = float(torch.stack(losses).mean())
        training_seconds = time.monotonic() - began
        self.epoch += 1
        self._require_finite(train_loss, learning_rate)
        validation_esr = self._validate()
        return EpochRecord(
            epoch=self.epoch,
            steps=self.step - first_step,
            train_loss=train_loss,
            validation_esr=validation_esr,
            best_esr=self.best_esr,
            learning_rate=learning_rate,
            seconds=time.monotonic() - began,
            elapsed_seconds=self.elapsed_seconds,
            samples_per_second=samples / max(training_seconds, 1e-9),
        )

    def _time_is_up(self) -> bool:
        return self.config.seconds is not None and self.elapsed_seconds >= self.config.seconds

    def _take_step(self, batch: Batch, learning_rate: float, used: float) -> Step:
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        prediction_bct = self.model(batch.x_bct)
        loss = esr_loss(
            prediction_bct,
            batch.y_bct,
            batch.mask_bct,
            pre_emphasis=self.config.pre_emphasis,
            energy_floor=self.energy_floor,
        )
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.step += 1
        return Step(
            number=self.step - 1,
            epoch=self.epoch + 1,
            used=used,
            loss=loss.detach(),
            x_bct=batch.x_bct,
            y_bct=batch.y_bct,
            prediction_bct=prediction_bct.detach(),
        )

    def _require_finite(self, train_loss: float, learning_rate: float) -> None:
        if not math.isfinite(train_loss) or not all(
            bool(torch.isfinite(p).all()) for p in self.model.parameters()
        ):
            raise RunError(
                f"loss: expected a finite value, got {train_loss} in epoch {self.epoch} at "
                f"learning rate {learning_rate:.2g} (a smaller one may help)"
            )

    def _validate(self) -> float:
        graph = self.model.to_graph(self.sample_rate)
        validation_esr = evaluate(graph, self.split.validation, self.model.receptive_field)
        if validation_esr < self.best_esr:
            self.best_esr, self.best_epoch = validation_esr, self.epoch
            exchange.save(graph, self.folder.model)
        return validation_esr

    def result(self, stopped_by: str) -> TrainResult:
        history = self.model.receptive_field - 1
        test = self.split.test
        inputs = [piece.dry[history:] for piece in test]
        targets = _targets(test, history + 1)
        return TrainResult(
            run_dir=str(self.folder.path),
            test_esr=evaluate(exchange.load(self.folder.model), test, history + 1),
            dry_as_wet_esr=esr(inputs, targets),
            best_gain_esr=esr_of_best_gain(inputs, targets),
            validation_esr=self.best_esr,
            best_epoch=self.best_epoch,
            epochs=self.epoch,
            steps=self.step,
            seconds=self.elapsed_seconds,
            stopped_by=stopped_by,
        )
