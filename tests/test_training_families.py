"""Every family that is found at once: killed in its fit, a short pair, a silent or a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pair_audio import guitar

from fxfast import models
from fxfast.audio.files import write_audio
from fxfast.cli import main
from fxfast.errors import RunError
from fxfast.pairs.effects import EFFECTS
from fxfast.pairs.pair_set import Pair
from fxfast.training import Observer, TrainConfig, train

RATE = 16_000
# A model and the effect that its pair has.
FAMILIES = {
    "linear-200ms": "delay",
    "delay": "delay",
    "chorus": "chorus",
    "compressor": "compressor",
    "gate": "gate",
}


def pair(effect: str, seconds: float = 6.0) -> Pair:
    dry = np.ascontiguousarray(guitar(3 * seconds, 2)[: round(seconds * RATE)])
    return Pair("a", dry, np.asarray(EFFECTS[effect](dry, RATE), np.float32), RATE)


class StopIn(Observer):
    """Ends the run where a fit tells its progress the nth time."""

    def __init__(self, number: int) -> None:
        self.left = number

    def on_fit(self, share: float, note: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_fit_that_is_killed_ends_as_one_that_was_not(
    name: str, number: int, tmp_path: Path
) -> None:
    pairs = [pair(FAMILIES[name])]
    train(TrainConfig(), pairs, models.create(name), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(), pairs, models.create(name), tmp_path / "cut",
              observers=[StopIn(number)])  # fmt: skip
    train(TrainConfig(), pairs, models.create(name), tmp_path / "cut", resume=True)
    one, other = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == other


BAD: dict[str, tuple[Any, str]] = {
    "silent": (lambda dry: np.zeros_like(dry), "silen"),
    "clipped": (lambda dry: np.clip(40.0 * dry, -1.0, 1.0), "clip"),
    "wrong": (lambda dry: guitar(20.0, 9)[: len(dry)], "nothing can be learnt from it"),
}


@pytest.mark.parametrize("name", [*FAMILIES, "tcn-16+delay"])
@pytest.mark.parametrize("kind", list(BAD))
def test_pairs_that_teach_nothing_are_refused_in_words(
    kind: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, words = BAD[kind]
    dry = guitar(12.0, 2)
    for side, audio in (("dry", dry), ("wet", change(dry))):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        write_audio(tmp_path / "pairs" / side / "a.wav", audio.astype(np.float32), 48_000)
    command = ["train", str(tmp_path / "pairs"), "--out", str(tmp_path / "run"), "--model", name]
    assert main(command) != 0
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["linear-200ms", "compressor", "gate", "delay"])
def test_five_seconds_are_learnt_with_a_warning(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = pair(FAMILIES[name], 5.0)
    for side in ("dry", "wet"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        write_audio(tmp_path / "pairs" / side / "a.wav", getattr(short, side), RATE)
    command = ["train", str(tmp_path / "pairs"), "--out", str(tmp_path / "run"), "--model", name]
    assert main(command) == 0
    assert "3.8 s for training, expected 20 s or more" in capsys.readouterr().err


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    pairs, config = [pair("chorus", 3.0)], TrainConfig(epochs=2, device="cpu")
    train(config, pairs, models.create("tcn-16"), tmp_path / "whole")
    train(config, pairs, models.create("tcn-16"), tmp_path / "cut")
    # As a process leaves it that is killed while it writes its first checkpoint, or its first file.
    for path in (tmp_path / "cut").iterdir():
        if path.name != "config.json":
            path.unlink()
    (tmp_path / "cut" / ".fxfast-17-c0ffee00.part").write_bytes(b"begun")
    train(config, pairs, models.create("tcn-16"), tmp_path / "cut", resume=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".fxfast-17-c0ffee00.part").write_bytes(b"begun")
    train(config, pairs, models.create("tcn-16"), tmp_path / "empty")
    whole = tmp_path / "whole"
    for name in ("cut", "empty"):
        names = sorted(path.name for path in (tmp_path / name).iterdir())
        assert names == sorted(path.name for path in whole.iterdir())
        model = (tmp_path / name / "model.safetensors").read_bytes()
        assert model == (whole / "model.safetensors").read_bytes()


def test_a_run_whose_checkpoint_is_gone_is_not_begun_again_in_silence(tmp_path: Path) -> None:
    pairs, config = [pair("chorus", 3.0)], TrainConfig(epochs=1, device="cpu")
    train(config, pairs, models.create("tcn-16"), tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    with pytest.raises(RunError, match="expected a checkpoint to resume from, got no such file"):
        train(config, pairs, models.create("tcn-16"), tmp_path / "run", resume=True)
