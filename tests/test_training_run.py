"""Whole training runs, small ones: stops, resume, files, errors, the command."""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch

from fxfast import exchange, models
from fxfast.cli import train as train_command
from fxfast.errors import FxfastError, InputError, OutputExistsError, PairError, RunError
from fxfast.graph import ModelGraph
from fxfast.models.conv_stack import ConvLayerConfig, ConvStack, ConvStackConfig
from fxfast.pairs.pair_set import Pair
from fxfast.training import (
    EpochRecord,
    Observer,
    StepInspector,
    TrainConfig,
    check_identity,
    dataset_of,
    held_out,
    read_description,
    train,
)
from fxfast.training.checkpoint import load_checkpoint

RATE = 8000
SMALL = TrainConfig(epochs=4, batch_blocks=4, block_samples=64, learning_rate=0.02, device="cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_pair(samples: int = 6000, seed: int = 0, name: str = "a") -> Pair:
    noise = np.random.default_rng(seed).normal(size=samples + 3)
    dry = 0.05 * (noise[3:] + noise[2:-1])
    wet = 0.4 * np.tanh(30 * (dry - 0.5 * np.concatenate([[0.0], dry[:-1]])))
    return Pair(name, dry.astype(np.float32), wet.astype(np.float32), RATE)


def small_model(seed: int = 0) -> models.AudioModel:
    torch.manual_seed(seed)
    layers = (ConvLayerConfig(8, 4, 1, "tanh"), ConvLayerConfig(1, 3))
    return ConvStack(ConvStackConfig(layers))


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def graph_bytes(graph: ModelGraph) -> list[bytes]:
    return [layer.weight.tobytes() for layer in graph.layers]


class StopAfter(Observer):
    """Interrupts like Ctrl-C, after an epoch or in the middle of one."""

    def __init__(self, *, epoch: int = 0, step: int = -1) -> None:
        self.epoch, self.step = epoch, step

    def on_epoch(self, record: EpochRecord) -> None:
        if record.epoch == self.epoch:
            raise KeyboardInterrupt

    def on_step(self, step: object) -> None:
        if getattr(step, "number", None) == self.step:
            raise KeyboardInterrupt


def test_training_learns_and_leaves_a_whole_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = train(replace(SMALL, epochs=8), [make_pair()], small_model(), run)
    assert result.test_esr < 0.05 * result.dry_as_wet_esr
    assert result.test_esr < 0.5 * result.best_gain_esr
    assert result.stopped_by == "epochs"
    assert json.loads((run / "result.json").read_text())["test_esr"] == result.test_esr
    assert {entry.name for entry in run.iterdir()} == {
        "config.json",
        "log.jsonl",
        "checkpoint.pt",
        "model.safetensors",
        "result.json",
    }
    log = log_of(run)
    assert [line["epoch"] for line in log] == list(range(1, 9))
    assert set(log[0]) == set(EpochRecord.__dataclass_fields__)
    assert log[-1]["learning_rate"] < 0.1 * SMALL.learning_rate
    assert min(line["validation_esr"] for line in log) == result.validation_esr
    assert log[result.best_epoch - 1]["validation_esr"] == result.validation_esr
    description = read_description(run)
    assert description.train == replace(SMALL, epochs=8)
    assert description.sample_rate == RATE
    assert exchange.load(run).sample_rate == RATE


def test_model_file_is_the_best_epoch_and_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.2, 0.3, 0.4])
    seen: list[list[bytes]] = []

    def scripted(graph: ModelGraph, *others: object) -> float:
        seen.append(graph_bytes(graph))
        return next(scores, 0.9)

    monkeypatch.setattr("fxfast.training.trainer.evaluate", scripted)
    result = train(SMALL, [make_pair()], small_model(), tmp_path / "run")
    assert (result.best_epoch, result.validation_esr) == (2, 0.2)
    assert graph_bytes(exchange.load(tmp_path / "run")) == seen[1]
    test = dataset_of(SMALL, [make_pair()]).test
    best = held_out.evaluate(exchange.load(tmp_path / "run"), list(test.pieces()), 6)
    assert result.test_esr == pytest.approx(best, rel=1e-12)
    assert log_of(tmp_path / "run")[-1]["best_esr"] == 0.2


def test_patience_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.2, 0.3, 0.4, 0.1])
    monkeypatch.setattr("fxfast.training.trainer.evaluate", lambda *given: next(scores, 0.9))
    config = replace(SMALL, epochs=None, patience=2)
    result = train(config, [make_pair()], small_model(), tmp_path / "run")
    assert (result.epochs, result.best_epoch, result.stopped_by) == (4, 2, "patience")


def test_seconds_stop_in_the_middle_of_an_epoch_after_a_full_decay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count(step=0.001)  # a clock that no other program can hold up
    clock = SimpleNamespace(monotonic=lambda: next(looks), perf_counter=time.perf_counter)
    monkeypatch.setattr("fxfast.training.trainer.time", clock)
    config = replace(SMALL, epochs=None, seconds=0.5, block_samples=8, batch_blocks=1)
    result = train(config, [make_pair(60000)], small_model(), tmp_path / "run")
    assert (result.stopped_by, result.epochs) == ("seconds", 1)
    log = log_of(tmp_path / "run")
    assert log[0]["steps"] == result.steps < 5000
    assert log[0]["learning_rate"] < 0.05 * config.learning_rate
    assert 0.5 <= result.seconds < 0.6


@pytest.mark.parametrize("stop", [StopAfter(epoch=2), StopAfter(step=70), StopAfter(step=3)])
def test_resumed_run_gives_the_same_weights(tmp_path: Path, stop: StopAfter) -> None:
    pairs = [make_pair(), make_pair(2000, 1, "b")]
    whole_model, cut_model = small_model(), small_model()
    whole = train(SMALL, pairs, whole_model, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, pairs, cut_model, tmp_path / "cut", observers=[stop])
    other_start = small_model(seed=99)
    resumed = train(SMALL, pairs, other_start, tmp_path / "cut", resume=True)
    for name, value in whole_model.state_dict().items():
        assert torch.equal(other_start.state_dict()[name], value), name
    one, two = (load_checkpoint(tmp_path / run / "checkpoint.pt") for run in ("whole", "cut"))
    for index, state in one.optimizer["state"].items():
        for key, value in state.items():
            assert torch.equal(value, two.optimizer["state"][index][key])
    assert resumed.test_esr == whole.test_esr
    assert (resumed.steps, resumed.epochs) == (whole.steps, whole.epochs)
    assert (tmp_path / "cut/model.safetensors").read_bytes() == (
        tmp_path / "whole/model.safetensors"
    ).read_bytes()
    for a, b in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "cut"), strict=True):
        assert (a["epoch"], a["train_loss"], a["validation_esr"]) == (
            b["epoch"],
            b["train_loss"],
            b["validation_esr"],
        )


def test_resume_goes_on_after_a_finished_budget_and_drops_unsaved_log_lines(
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    train(replace(SMALL, epochs=2), [make_pair()], small_model(), run)
    with (run / "log.jsonl").open("a") as log:
        log.write(json.dumps({"epoch": 3}) + '\n{"epo')  # a crash after logging, while logging
    result = train(replace(SMALL, epochs=4), [make_pair()], small_model(), run, resume=True)
    assert result.epochs == 4
    assert [line["epoch"] for line in log_of(run)] == [1, 2, 3, 4]
    again = train(replace(SMALL, epochs=4), [make_pair()], small_model(), run, resume=True)
    assert (again.epochs, again.test_esr) == (4, result.test_esr)


def test_same_seed_gives_the_same_run_and_another_seed_another(tmp_path: Path) -> None:
    results = [
        train(replace(SMALL, epochs=1, seed=seed), [make_pair()], small_model(), tmp_path / str(i))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert results[0].test_esr == results[1].test_esr != results[2].test_esr


def test_existing_run_is_not_touched(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="expected a new folder for the run"):
        train(SMALL, [make_pair()], small_model(), run)
    assert [entry.name for entry in run.iterdir()] == ["notes.txt"]


def test_resume_of_something_else_is_an_error(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(RunError, match=r"config.json: expected a training run to resume"):
        train(SMALL, [make_pair()], small_model(), run, resume=True)
    assert not run.exists()
    config = replace(SMALL, epochs=1)
    train(config, [make_pair()], small_model(), run)
    with pytest.raises(RunError, match=r"seed: expected 0 as in the run to resume .* got 5"):
        train(replace(config, seed=5), [make_pair()], small_model(), run, resume=True)
    with pytest.raises(RunError, match="expected the pairs of the run to resume, got other audio"):
        train(config, [make_pair(seed=9)], small_model(), run, resume=True)
    with pytest.raises(RunError, match="expected the model of the run to resume"):
        train(config, [make_pair()], models.create("dense-64"), run, resume=True)
    (run / "config.json").write_text("{}")
    with pytest.raises(RunError, match=r"config.json: expected the configuration of a run"):
        train(config, [make_pair()], small_model(), run, resume=True)


def nan_pair() -> Pair:
    pair = make_pair()
    wet = pair.wet.copy()
    wet[100] = np.nan
    return replace(pair, wet=wet)


def quiet_test_pair() -> Pair:
    pair = make_pair()
    wet = pair.wet.copy()
    wet[5000:] = 0.0
    return replace(pair, wet=wet)


BAD_PAIRS = {
    "pairs: expected at least one, got none": [],
    r"a: expected dry and wet of one shape \(T,\), got \(6000,\) and \(5000,\)": [
        replace(make_pair(), wet=make_pair().wet[:5000])
    ],
    "b: expected 8000 Hz as in a, got 44100 Hz": [
        make_pair(),
        replace(make_pair(name="b"), sample_rate=44100),
    ],
    "a: expected finite samples in wet, got NaN": [nan_pair()],
    "a: expected float32 samples in dry, got float64": [
        replace(make_pair(), dry=make_pair().dry.astype(np.float64))
    ],
    "wet: expected a signal in the test part, got silence": [quiet_test_pair()],
    "pairs: expected at least one of": [make_pair(30)],
}


@pytest.mark.parametrize("message", BAD_PAIRS)
def test_unusable_pairs_are_errors(tmp_path: Path, message: str) -> None:
    with pytest.raises(PairError, match=message):
        train(SMALL, BAD_PAIRS[message], small_model(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_diverging_run_is_an_error_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    config = replace(SMALL, learning_rate=1e30)
    with pytest.raises(RunError, match=r"loss: expected a finite value, got .* in epoch 1"):
        train(config, [make_pair()], small_model(), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run/checkpoint.pt").epoch == 0


def test_absent_gpu_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RunError, match="device: expected a CUDA GPU, got none"):
        train(replace(SMALL, device="cuda"), [make_pair()], small_model(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_training_on_a_gpu(tmp_path: Path) -> None:
    config = replace(SMALL, device="cuda", epochs=8)
    result = train(config, [make_pair()], small_model(), tmp_path / "run")
    assert result.test_esr < 0.05 * result.dry_as_wet_esr


def test_sanity_tells_a_set_up_that_learns_from_one_that_does_not() -> None:
    good = check_identity(replace(SMALL, epochs=12), [make_pair()], small_model())
    assert good.passed
    assert good.esr < good.bound
    frozen = replace(SMALL, epochs=1, learning_rate=1e-9, final_learning_rate=0.0)
    bad = check_identity(frozen, [make_pair()], small_model())
    assert not bad.passed


def test_inspector_prints_shapes_target_and_prediction(tmp_path: Path) -> None:
    lines: list[str] = []
    inspector = StepInspector({0, 5}, lines.append)
    train(
        replace(SMALL, epochs=1),
        [make_pair()],
        small_model(),
        tmp_path / "r",
        observers=[inspector],
    )
    assert len(lines) == 2
    assert lines[0].startswith("step 0 (epoch 1): loss ")
    # 4 blocks, and one more where the end of the audio cuts one in two.
    assert re.search(
        r"x \(([45]), 1, 69\)  target \(\1, 1, 64\)  prediction \(\1, 1, 64\)", lines[0]
    )
    assert lines[1].startswith("step 5 ")
    values = [row.split(":]")[1].split() for row in lines[1].splitlines() if ":]" in row]
    assert [len(row) for row in values] == [8, 8]
    assert all(np.isfinite(float(value)) for row in values for value in row)


@pytest.fixture
def pairs_dir(tmp_path: Path) -> Path:
    pair = make_pair()
    for side, audio in (("dry", pair.dry), ("wet", pair.wet)):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        sf.write(tmp_path / "pairs" / side / "a.wav", audio, RATE, subtype="FLOAT")
    return tmp_path / "pairs"


def run_command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    train_command.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["train", *(str(word) for word in words)])
    return int(args.run(args))


BASIC = ("--model", "dense-64", "--batch", 2, "--block", 512, "--device", "cpu")


def test_command_trains_resumes_and_reports(
    pairs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert run_command(pairs_dir, *BASIC, "--out", out, "--epochs", 2, "--inspect", "0,1") == 0
    printed = capsys.readouterr()
    assert "step 0 (epoch 1)" in printed.out
    assert "step 1 (epoch 1)" in printed.out
    assert "test ESR" in printed.out
    assert "dry as wet" in printed.out
    # No bar when nobody looks; less than a second of audio is said to be little.
    assert printed.err.startswith("fxfast: warning: pairs: 0.6 s for training, expected 20 s")
    assert printed.err.count("\n") == 1
    assert run_command(pairs_dir, "--out", out, "--resume", "--epochs", 3, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["epochs"] == 3
    assert read_description(out).train.block_samples == 512


def test_command_sets_pre_emphasis_and_a_time_budget(pairs_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--out", out, "--seconds", 0.2, "--pre-emphasis", "--lr", 0.01, "--seed", 3)
    assert run_command(pairs_dir, *BASIC, *words) == 0
    config = read_description(out).train
    assert (config.seconds, config.epochs) == (0.2, None)
    assert (config.pre_emphasis, config.learning_rate, config.seed) == (0.95, 0.01, 3)


def test_command_sanity_has_an_exit_code(
    pairs_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(pairs_dir, *BASIC, "--sanity", "--epochs", 40, "--lr", 0.01) == 0
    assert "learns the identity" in capsys.readouterr().out
    assert run_command(pairs_dir, *BASIC, "--sanity", "--epochs", 1, "--lr", 1e-4, "--json") == 1
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_command_errors(pairs_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    cases: list[tuple[type[FxfastError], str, tuple[object, ...]]] = [
        (InputError, "--out: expected the folder", (*BASIC,)),
        (InputError, "--model: expected the name", ("--out", out)),
        (InputError, "--sanity: expected a run from the start", (*BASIC, "--sanity", "--resume")),
        (OutputExistsError, "expected a new folder", (*BASIC, "--out", pairs_dir)),
        (RunError, "config.json: expected a training run", ("--out", out, "--resume")),
    ]
    for kind, message, words in cases:
        with pytest.raises(kind, match=message):
            run_command(pairs_dir, *words)
    with pytest.raises(SystemExit):
        run_command(pairs_dir, *BASIC, "--out", out, "--inspect", "one")
    assert not out.exists()
