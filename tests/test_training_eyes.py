"""What a user sees of a run: progress, TensorBoard, the picture, words about the material."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training_run import RATE, SMALL, StopAfter, log_of, make_pair, one_thread, small_model
from test_training_scores import write_folder

from fxfast.cli import main
from fxfast.errors import BuildError, PairError
from fxfast.pairs.pair_set import Pair
from fxfast.training import Step, dataset_of, train
from fxfast.training import progress_bar as bars
from fxfast.training.material_checks import check_amount, check_coverage, check_material
from fxfast.training.pictures import write_picture
from fxfast.training.tensorboard_log import TensorBoardLog

__all__ = ["one_thread"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_shows_losses_speed_and_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(bars, "_REFRESH_SECONDS", 0.0)
    with bars.ProgressBar() as bar:
        train(SMALL, [make_pair()], small_model(), tmp_path / "run", observers=[bar])
        bar._progress.refresh()
    text = terminal.getvalue()
    for word in ("training", "validation ESR", "best", "to the end"):
        assert word in text
    step = Step(3, 2, 0.5, torch.tensor(0.25), *[torch.zeros(1)] * 3, 12.5, 0.004)
    assert bars.step_note(step) == "epoch 2  loss 0.25000  12.5 steps/s  data wait 0.4%"


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_gets_the_curves_also_after_a_stop(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    board = TensorBoardLog(run)
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, [make_pair()], small_model(), run, observers=[board, StopAfter(epoch=2)])
    board.close()
    board = TensorBoardLog(run)
    train(SMALL, [make_pair()], small_model(9), run, resume=True, observers=[board])
    board.close()
    got, log = scalars(run / "tensorboard"), log_of(run)
    assert [step for step, _ in got["ESR/validation"]] == [1, 2, 3, 4]
    expected = [epoch["validation_esr"] for epoch in log]
    assert [value for _, value in got["ESR/validation"]] == pytest.approx(expected, rel=1e-5)
    assert len(got["loss/train"]) == -(-sum(int(epoch["steps"]) for epoch in log) // 10)
    assert {"run/data wait", "run/learning rate", "run/steps per second"} <= set(got)


@pytest.mark.parametrize(
    ("batch", "epochs", "stop"),
    [
        (3, 4, {"step": 40}),  # goes on shortly before the end of an epoch
        (99, 12, {"epoch": 10}),  # a step in each epoch
    ],
)
def test_tensorboard_keeps_every_point_of_a_run_that_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, epochs: int, stop: dict[str, int]
) -> None:
    files = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    # Files of one second are read in the order of a counter, as text: 10 comes before 9.
    monkeypatch.setattr(files, "_global_uid", type(files._global_uid)(100))
    monkeypatch.setattr("fxfast.training.trainer.CHECKPOINT_SECONDS", -1.0)  # after every step
    config = replace(SMALL, batch_blocks=batch, epochs=epochs)
    runs = tmp_path / "whole", tmp_path / "cut"
    boards = [TensorBoardLog(run) for run in runs]
    train(config, [make_pair()], small_model(), runs[0], observers=[boards[0]])
    cut_by = [boards[1], StopAfter(**stop)]
    with pytest.raises(KeyboardInterrupt):
        train(config, [make_pair()], small_model(), runs[1], observers=cut_by)
    boards.append(TensorBoardLog(runs[1]))
    train(config, [make_pair()], small_model(9), runs[1], resume=True, observers=[boards[2]])
    for board in boards:
        board.close()
    whole, cut = (scalars(run / "tensorboard") for run in runs)
    for name in ("loss/train", "loss/train of epoch", "ESR/validation", "ESR/best"):
        assert cut[name] == whole[name], name


def test_the_picture_of_a_run_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pairs = [make_pair(name="a $x$ [b]"), make_pair(2000, 1, "c/d")]
    train(SMALL, pairs, small_model(), tmp_path / "run")
    path = write_picture(tmp_path / "run", dataset_of(SMALL, pairs))
    from matplotlib.image import imread

    pixels = imread(path)
    assert pixels.shape[0] >= 600
    assert pixels.shape[1] >= 1000
    assert pixels[..., :3].std() > 0.05  # something is drawn


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("matplotlib.figure", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    data = dataset_of(SMALL, [make_pair()])
    with pytest.raises(BuildError, match=r"expected the package, got none: .* 'fxfast\[tensorb"):
        TensorBoardLog(tmp_path)
    with pytest.raises(BuildError, match=r"expected the package, got none: .* 'fxfast\[plots"):
        write_picture(tmp_path, data)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=round(seconds * RATE))
    notes = np.repeat(np.random.default_rng(seed + 1).uniform(0.1, 1, len(noise) // 500 + 1), 500)
    return (0.1 * noise * notes[: len(noise)]).astype(np.float32)


def pair(dry: np.ndarray, wet: np.ndarray) -> Pair:
    return Pair("take", dry.astype(np.float32), wet.astype(np.float32), RATE)


DRY = sound(6.0)
UNFIT: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "pair take: dry is silent: its peak is": (0 * DRY, DRY),
    "pair take: wet is silent: its peak is": (DRY, 0 * DRY),
    "pair take: wet is clipped at full scale: [0-9]+ samples": (DRY, np.clip(40 * DRY, -1, 1)),
    "pair take: wet does not belong to dry": (DRY, sound(6.0, 5)),
}


@pytest.mark.parametrize("message", UNFIT)
def test_material_that_cannot_be_learnt_is_refused(message: str) -> None:
    with pytest.raises(PairError, match=message) as error:
        check_material([pair(*UNFIT[message])])
    assert "\n" not in str(error.value)


def test_material_that_may_spoil_the_result_is_said() -> None:
    good = pair(DRY, np.tanh(3 * DRY))
    assert check_material([good]) == []
    clipped = np.array(good.wet)
    clipped[1000:1020] = 1.0
    assert check_material([pair(DRY, clipped)]) == [
        "pair take: wet is clipped at full scale: 20 samples"
    ]
    late = np.concatenate([np.zeros(200), np.tanh(3 * DRY)[:-200]])
    (line,) = check_material([pair(DRY, late)])
    assert line.startswith("pair take: wet 200.")
    assert line.endswith("; `fxfast pairs add` takes that out of a recording")
    (line,) = check_amount(dataset_of(SMALL, [good]))
    assert line.startswith("pairs: 4.5 s for training, expected 20 s or more")


def test_the_command_says_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def words(folder: Path, *more: str) -> list[str]:
        sizes = ["--model", "dense-64", "--epochs", "2", "--block", "64", "--batch", "4"]
        return ["train", str(folder), *sizes, "--out", str(tmp_path / f"{folder.name}-run"), *more]

    short = write_folder(tmp_path / "short", [pair(DRY[: 5 * RATE], np.tanh(3 * DRY[: 5 * RATE]))])
    assert main(words(short, "--tensorboard", "--split", "44", "6", "10", "--json")) == 0
    out, err = capsys.readouterr()
    assert "fxfast: warning: pairs: 3.7 s for training, expected 20 s or more" in err
    result = json.loads(out)
    assert result["overfitting"]["words"]
    assert result["scores"]["model"]["esr"] == result["test_esr"]
    run = tmp_path / "short-run"
    assert (run / "training.png").exists()
    assert list((run / "tensorboard").iterdir())
    described: Any = json.loads((run / "config.json").read_text())["train"]
    assert described["test_fraction"] == pytest.approx(1 / 6)
    wrong = write_folder(tmp_path / "wrong", [pair(DRY, sound(6.0, 5))])
    assert main(words(wrong)) == 1
    assert "pair take: wet does not belong to dry" in capsys.readouterr().err
    assert not (tmp_path / "wrong-run").exists()
    assert main(words(wrong, "--no-check")) == 0
    assert "hardly better than a plain gain: the effect is not learnt" in capsys.readouterr().out
    plain = write_folder(tmp_path / "plain", [pair(DRY, 0.5 * DRY)])
    assert main(words(plain)) == 0
    assert "hardly better" not in capsys.readouterr().out


def test_an_octave_that_only_the_test_has_is_said() -> None:
    rate = 16_000
    time = np.arange(4 * rate) / rate
    low, high = (np.sin(2 * np.pi * hz * time).astype(np.float32) for hz in (100.0, 1000.0))
    parts = ("train", "validation", "test")
    known = [Pair(part, low + high, low, rate, split=part) for part in parts]
    assert check_coverage(dataset_of(SMALL, known)) == []
    strange = [*known[:2], Pair("test", low + 0.5 * high, low, rate, split="test")]
    strange[0] = Pair("train", high, high, rate, split="train")
    (line,) = check_coverage(dataset_of(SMALL, strange))
    assert line == (
        "pairs: dry has 80% of its energy in the test from 80 to 160 Hz, in training 0.00%: what "
        "the effect does there is not learnt"
    )
