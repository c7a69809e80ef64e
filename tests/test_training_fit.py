"""Models that are fitted at once: the hook of the contract, and the run that it leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch

from fxfast import exchange
from fxfast.data import Piece
from fxfast.errors import PairError
from fxfast.graph import Linear, ModelGraph
from fxfast.models.base import AudioModel, Progress
from fxfast.pairs.pair_set import Pair
from fxfast.training import Observer, TrainConfig, train

RATE = 8000
DELAY = 3000  # samples: longer than the validation and test parts of the pair


@dataclass(frozen=True)
class EchoConfig:
    delay_samples: int


class Echo(AudioModel):
    """y[t] = gain * x[t - delay_samples], the gain by least squares."""

    architecture = "test-echo"
    hears_from_start = True
    fails_after: ClassVar[int | None] = None

    def __init__(self, config: EchoConfig) -> None:
        super().__init__()
        self.config = config
        self.gain = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x_bct: torch.Tensor) -> torch.Tensor:
        return self.gain * x_bct[:, :, : x_bct.shape[2] - self.config.delay_samples]

    @property
    def receptive_field(self) -> int:
        return self.config.delay_samples + 1

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        assert sample_rate == RATE
        assert len(validation) == len(training)
        progress(0.5, "gain")
        if self.fails_after is not None:
            raise KeyboardInterrupt
        (piece,) = training
        assert piece.start_sample == 0
        delayed = np.concatenate([np.zeros(self.config.delay_samples, np.float32), piece.dry])
        x = delayed[: len(piece.wet)]
        with torch.no_grad():
            self.gain.fill_(float(x @ piece.wet / (x @ x)))

    def as_torch(self) -> torch.nn.Module:
        return self

    def to_graph(self, sample_rate: int) -> ModelGraph:
        taps = np.zeros(self.receptive_field, np.float32)
        taps[-1] = float(self.gain.detach())
        return ModelGraph(Linear(taps), sample_rate)

    @classmethod
    def from_graph(cls, graph: ModelGraph) -> Self:
        raise NotImplementedError

    @classmethod
    def config_from_dict(cls, values: Mapping[str, Any]) -> EchoConfig:
        return EchoConfig(**values)


class EchoThenSteps(Echo):
    hears_from_start = False
    trains_after_fit = True


def echo_pair(seed: int = 0, samples: int = 16_000) -> Pair:
    dry = (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)
    wet = np.zeros_like(dry)
    wet[DELAY:] = np.float32(0.4) * dry[:-DELAY]
    return Pair("a", dry, wet, RATE)


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_a_fit_is_the_whole_run_and_hears_files_from_the_start(tmp_path: Path) -> None:
    class Notes(Observer):
        seen: ClassVar[list[tuple[float, str]]] = []

        def on_fit(self, share: float, note: str) -> None:
            self.seen.append((share, note))

    result = train(TrainConfig(), [echo_pair()], Echo(EchoConfig(DELAY)), tmp_path / "run",
                   observers=[Notes()])  # fmt: skip
    assert Notes.seen == [(0.5, "gain")]
    assert (result.stopped_by, result.epochs, result.steps) == ("fit", 1, 0)
    # 2,000 samples of test, and every one of them is scored though the echo is 3,000 late.
    assert result.test_esr < 1e-12
    assert result.best_gain_esr > 0.9
    (record,) = log_of(tmp_path / "run")
    assert (record["steps"], record["epoch"]) == (0, 1)
    assert record["train_loss"] < 1e-12
    saved = exchange.load(tmp_path / "run" / "model.safetensors").root
    assert isinstance(saved, Linear)
    assert saved.taps[-1] == pytest.approx(0.4)


def test_a_killed_fit_is_done_again_and_a_finished_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, pairs = tmp_path / "run", [echo_pair()]
    monkeypatch.setattr(Echo, "fails_after", 0)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(), pairs, Echo(EchoConfig(DELAY)), run)
    monkeypatch.setattr(Echo, "fails_after", None)
    resumed = train(TrainConfig(), pairs, Echo(EchoConfig(DELAY)), run, resume=True)
    other = train(TrainConfig(), pairs, Echo(EchoConfig(DELAY)), tmp_path / "other")
    assert resumed.test_esr == other.test_esr
    written = (run / "model.safetensors").read_bytes()
    assert written == (tmp_path / "other" / "model.safetensors").read_bytes()
    monkeypatch.setattr(Echo, "fails_after", 0)
    again = train(TrainConfig(), pairs, Echo(EchoConfig(DELAY)), run, resume=True)
    assert again.test_esr == resumed.test_esr


def test_steps_follow_a_fit_where_the_class_says_so(tmp_path: Path) -> None:
    config = TrainConfig(epochs=3, batch_blocks=2, block_samples=500, learning_rate=1e-4,
                         device="cpu")  # fmt: skip
    model = EchoThenSteps(EchoConfig(DELAY))
    result = train(config, [echo_pair(samples=40_000)], model, tmp_path / "run")
    assert result.stopped_by == "epochs"
    steps = [record["steps"] for record in log_of(tmp_path / "run")]
    assert steps[0] == 0
    assert min(steps[1:]) > 0
    assert len(steps) == 3


def test_silence_is_refused_before_a_fit(tmp_path: Path) -> None:
    pair = echo_pair()
    silent = Pair("a", pair.dry, np.zeros_like(pair.wet), RATE)
    with pytest.raises(PairError, match="wet: expected a signal in the training part"):
        train(TrainConfig(), [silent], Echo(EchoConfig(DELAY)), tmp_path / "run")
