"""The training loop: batches in, best model of the run out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from fxfast import exchange
from fxfast.data import Data, Piece, Split, from_pairs
from fxfast.errors import ModelValueError, PairError, RunError
from fxfast.models import AudioModel
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import run_folder
from fxfast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_json
from fxfast.training.config import (
    TrainConfig,
    budget_used,
    choose_device,
    for_model,
    learning_rate_at,
)
from fxfast.training.feed import Batch, Feed, make_feed
from fxfast.training.held_out import (
    evaluate,
    held_out,
    render_piece,
    require_part,
    targets,
    unscored_samples,
)
from fxfast.training.levels import Levels, measure_levels
from fxfast.training.metrics import Comparison, compare
from fxfast.training.observers import EpochRecord, Observer, Step
from fxfast.training.optimisation import Optimisation
from fxfast.training.overfitting import Verdict, judge
from fxfast.training.run_folder import RunFolder

# Within a long epoch a checkpoint is written so often.
CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class TrainResult:
    """The figures of a finished run: RUN/result.json.

    ``test_esr`` is that of the best model on audio that training never saw;
    ``dry_as_wet_esr`` and ``best_gain_esr`` are what doing nothing and a plain gain
    score on the same audio. ``scores`` are all figures of the three, ``overfitting`` says in words
    whether the model learnt the training audio by heart.
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
    scores: Comparison
    overfitting: Verdict


def train(
    config: TrainConfig,
    data: Data | Sequence[Pair],
    model: AudioModel,
    run_dir: Path | str,
    *,
    resume: bool = False,
    observers: Sequence[Observer] = (),
) -> TrainResult:
    """Trains ``model`` on data of one sample rate and leaves the best one in ``run_dir``.

    Pairs are split as ``config`` says, a dataset as it is. Each epoch ends with a validation by
    the engine; checkpoints are written then and within long epochs. ``resume`` goes on from the
    last one, to the same weights as without the stop when the budget is in epochs. ``model``
    holds the last weights afterwards, RUN/model.safetensors the best.
    A model with a ``fit`` is fitted first, which is the first epoch of the log.
    Raises ``PairError`` for unusable data, ``OutputExistsError`` when ``run_dir`` is
    there already, ``RunError`` when the device is absent, the run cannot be resumed or
    the loss is no longer finite.
    """
    config = for_model(config, model.receptive_field, model.carries_state)
    data = dataset_of(config, data)
    sample_rate = data.sample_rate
    _require_knobs(model, data)
    on_cpu = config.device == "auto" and model.on_cpu_alone
    device = choose_device("cpu" if on_cpu else config.device)
    field = unscored_samples(model) + 1
    takes_steps = model.trains_after_fit or not model.has_fit()
    heard = model.receptive_field if takes_steps else field
    levels = measure_levels(data.train, heard, config.pre_emphasis)
    require_part(data, "train", heard, levels.longest >= heard, levels.has_signal)
    pieces = held_out(data, field, model.hears_from_start)
    description = run_folder.describe_run(config, model, data)
    if resume:
        folder = run_folder.continue_run(Path(run_dir), description)
    else:
        folder = run_folder.start_run(Path(run_dir), description)
    feed = make_feed(config, data.train, model.to(device), device)
    if model.has_fit():
        pieces["train"] = list(data.train.pieces(from_start=model.hears_from_start))
    trainer = _Trainer(config, feed, pieces, levels, model, folder, sample_rate)
    if resume and not folder.was_killed_at_start:
        trainer.restore(load_checkpoint(folder.checkpoint))
    else:
        model.calibrate(levels.dry_rms, levels.wet_rms)
        save_checkpoint(trainer.checkpoint(), folder.checkpoint)
    stopped_by = trainer.run(observers)
    result = trainer.result(stopped_by)
    write_json(folder.result, asdict(result))
    return result


def _require_knobs(model: AudioModel, data: Data) -> None:
    wanted, found = ([knob.name for knob in each] for each in (model.knobs, data.controls))
    if wanted and wanted != found:
        raise PairError(
            f"pairs: expected the knobs of the model, {', '.join(wanted)}, got "
            f"{', '.join(found) or 'none that is turned'}"
        )


def dataset_of(config: TrainConfig, data: Data | Sequence[Pair]) -> Data:
    """The data themselves, or pairs with the split of the config."""
    if isinstance(data, Data):
        return data
    fractions = (config.train_fraction, config.validation_fraction, config.test_fraction)
    return from_pairs(data, Split(*fractions, config.guard_samples))


@dataclass
class _Progress:
    """The steps of an epoch so far."""

    losses: list[torch.Tensor] = field(default_factory=list)
    samples: int = 0
    waited: float = 0.0
    trained: float = 0.0


class _Trainer:
    """The state of a run between steps; ``epoch`` and ``step`` count what is finished."""

    def __init__(
        self,
        config: TrainConfig,
        feed: Feed,
        pieces: dict[str, list[Piece]],
        levels: Levels,
        model: AudioModel,
        folder: RunFolder,
        sample_rate: int,
    ) -> None:
        self.config, self.pieces, self.model = config, pieces, model
        self.folder, self.sample_rate = folder, sample_rate
        self.feed = feed
        self.optimisation = Optimisation(config, model, levels.target_energy, folder.bad_batch)
        self.epoch = self.step = self.best_epoch = 0
        self.best_esr = math.inf
        self.progress = _Progress()
        self.elapsed_before = 0.0
        self.started = self.saved = time.monotonic()

    @property
    def elapsed_seconds(self) -> float:
        return self.elapsed_before + time.monotonic() - self.started

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(
            model=self.model.state_dict(),
            optimizer=self.optimisation.optimizer.state_dict(),
            epoch=self.epoch,
            step=self.step,
            seed=self.config.seed,
            best_esr=self.best_esr,
            best_epoch=self.best_epoch,
            elapsed_seconds=self.elapsed_seconds,
            feed=self.feed.state_dict(),
            losses=torch.stack(self.progress.losses) if self.progress.losses else torch.zeros(0),
            samples=self.progress.samples,
            waited=self.progress.waited,
            trained=self.progress.trained,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        try:
            self.model.load_state_dict(checkpoint.model)
            self.optimisation.optimizer.load_state_dict(checkpoint.optimizer)
            self.feed.load_state_dict(checkpoint.feed)
        except (RuntimeError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise RunError(
                f"{self.folder.checkpoint}: expected the state of this model, got {reason}"
            ) from error
        self.epoch, self.step = checkpoint.epoch, checkpoint.step
        self.best_esr, self.best_epoch = checkpoint.best_esr, checkpoint.best_epoch
        self.elapsed_before = checkpoint.elapsed_seconds
        self.progress = _Progress(
            list(checkpoint.losses), checkpoint.samples, checkpoint.waited, checkpoint.trained
        )
        self.started = self.saved = time.monotonic()
        run_folder.cut_log(self.folder, self.epoch)

    def _save(self) -> None:
        save_checkpoint(self.checkpoint(), self.folder.checkpoint)
        self.saved = time.monotonic()

    def run(self, observers: Sequence[Observer]) -> str:
        """A fit where the model has one, then epochs until the budget is used; returns what ended
        the run."""
        while True:
            stopped_by = self._stop_reason()
            if stopped_by:
                return stopped_by
            fits = self.model.has_fit() and self.epoch == 0
            record = self._fit(observers) if fits else self._run_epoch(observers)
            run_folder.append_log(self.folder, record)
            self._save()
            for observer in observers:
                observer.on_epoch(record)

    def _fit(self, observers: Sequence[Observer]) -> EpochRecord:
        """The first epoch of a model that is found from the whole training part at once."""

        def progress(share: float, note: str) -> None:
            for observer in observers:
                observer.on_fit(share, note)

        began = time.monotonic()
        train, validation = self.pieces["train"], self.pieces["validation"]
        self.model.fit(train, validation, self.sample_rate, progress)
        self.epoch += 1
        graph = self.model.to_graph(self.sample_rate)
        train_esr = evaluate(graph, train, unscored_samples(self.model) + 1)
        self._require_finite(train_esr, 0.0)
        validation_esr = self._validate()
        seconds = time.monotonic() - began
        return EpochRecord(
            epoch=self.epoch,
            steps=0,
            train_loss=train_esr,
            validation_esr=validation_esr,
            best_esr=self.best_esr,
            learning_rate=0.0,
            seconds=seconds,
            elapsed_seconds=self.elapsed_seconds,
            samples_per_second=sum(len(piece.wet) for piece in train) / max(seconds, 1e-9),
            steps_per_second=0.0,
            data_wait=0.0,
        )

    def _stop_reason(self) -> str:
        config = self.config
        if self.epoch and self.model.has_fit() and not self.model.trains_after_fit:
            return "fit"
        if config.epochs is not None and self.epoch >= config.epochs:
            return "epochs"
        if self.epoch and self._time_is_up():
            return "seconds"
        if config.patience is not None and self.epoch - self.best_epoch >= config.patience:
            return "patience"
        return ""

    def _run_epoch(self, observers: Sequence[Observer]) -> EpochRecord:
        learning_rate = self._take_steps(observers)
        progress, self.progress = self.progress, _Progress()
        train_loss = float(torch.stack(progress.losses).mean())
        self.epoch += 1
        self.feed.sampler.set_epoch(self.epoch)
        self._require_finite(train_loss, learning_rate)
        steps_ended = time.monotonic()
        validation_esr = self._validate()
        return EpochRecord(
            epoch=self.epoch,
            steps=len(progress.losses),
            train_loss=train_loss,
            validation_esr=validation_esr,
            best_esr=self.best_esr,
            learning_rate=learning_rate,
            seconds=progress.trained + time.monotonic() - steps_ended,
            elapsed_seconds=self.elapsed_seconds,
            samples_per_second=progress.samples / max(progress.trained, 1e-9),
            steps_per_second=len(progress.losses) / max(progress.trained, 1e-9),
            data_wait=progress.waited / max(progress.trained, 1e-9),
        )

    def _take_steps(self, observers: Sequence[Observer]) -> float:
        """The steps that are left of the epoch, or of the time; the last learning rate."""
        progress, steps_in_epoch = self.progress, self.feed.steps
        learning_rate = self.optimisation.learning_rate
        self.model.train()
        batches = self.feed.batches()
        while True:
            began, waited = time.perf_counter(), self.feed.waited_seconds
            batch = next(batches, None)
            progress.waited += self.feed.waited_seconds - waited
            if batch is None or (progress.losses and self._time_is_up()):
                break
            epochs_done = self.epoch + len(progress.losses) / steps_in_epoch
            used = budget_used(self.config, self.elapsed_seconds, epochs_done)
            learning_rate = learning_rate_at(self.config, used, self.epoch)
            step = self._take_step(batch, learning_rate, used)
            progress.losses.append(step.loss)
            progress.samples += batch.y_bct.numel()
            progress.trained += time.perf_counter() - began
            if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
                self._save()
            for observer in observers:
                observer.on_step(step)
        return learning_rate

    def _time_is_up(self) -> bool:
        return self.config.seconds is not None and self.elapsed_seconds >= self.config.seconds

    def _take_step(self, batch: Batch, learning_rate: float, used: float) -> Step:
        loss, prediction_bct = self.optimisation.step(
            batch, learning_rate, self.step, self.epoch + 1
        )
        self.step += 1
        return Step(
            number=self.step - 1,
            epoch=self.epoch + 1,
            used=used,
            loss=loss,
            x_bct=batch.x_bct,
            y_bct=batch.y_bct,
            prediction_bct=prediction_bct,
            steps_per_second=len(self.progress.losses) / max(self.progress.trained, 1e-9),
            data_wait=self.progress.waited / max(self.progress.trained, 1e-9),
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
        try:
            graph = self.model.to_graph(self.sample_rate)
        except ModelValueError as error:
            raise RunError(
                f"{error}, in epoch {self.epoch} at learning rate "
                f"{self.optimisation.learning_rate:.2g} (a smaller one may help)"
            ) from error
        field = unscored_samples(self.model) + 1
        validation_esr = evaluate(graph, self.pieces["validation"], field)
        if validation_esr < self.best_esr:
            self.best_esr, self.best_epoch = validation_esr, self.epoch
            exchange.save(graph, self.folder.model)
        return validation_esr

    def result(self, stopped_by: str) -> TrainResult:
        history = unscored_samples(self.model)
        test = self.pieces["test"]
        wanted = targets(test, history + 1)
        player = Player(exchange.load(self.folder.model), mode="stream")
        scores = compare(
            [render_piece(player, piece)[history:] for piece in test],
            [piece.dry[history:] for piece in test],
            wanted,
            self.sample_rate,
        )
        return TrainResult(
            run_dir=str(self.folder.path),
            test_esr=_known(scores.model.esr),
            dry_as_wet_esr=_known(scores.dry_as_wet.esr),
            best_gain_esr=_known(scores.best_gain.esr),
            validation_esr=self.best_esr,
            best_epoch=self.best_epoch,
            epochs=self.epoch,
            steps=self.step,
            seconds=self.elapsed_seconds,
            stopped_by=stopped_by,
            scores=scores,
            overfitting=judge(run_folder.read_log(self.folder)),
        )


def _known(value: float | None) -> float:
    """An ESR of targets that ``require_part`` found not to be silent."""
    assert value is not None
    return value
