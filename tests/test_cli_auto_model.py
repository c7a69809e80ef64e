"""``fxfast train --model auto`` on pairs at several settings of knobs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pair_audio import guitar
from test_training_knobs import write_pairs
from test_training_run import RATE, make_pair, one_thread

from fxfast import exchange
from fxfast.cli import main
from fxfast.cli.auto_model import MOST_SETTINGS, chosen_model
from fxfast.data import from_pairs
from fxfast.errors import PairError
from fxfast.graph import Knob
from fxfast.models.choice import CONDITIONED_PRESET_OF_FAMILY
from fxfast.pairs.effects import EFFECTS
from fxfast.pairs.pair_set import Pair

__all__ = ["one_thread"]
EFFECT_RATE = 16_000


def pairs_at(effect: str, knob: str, *values: float) -> list[Pair]:
    dry = guitar(24.0, 2)[: 8 * EFFECT_RATE]
    return [
        Pair(f"{value:g}", dry, np.asarray(EFFECTS[effect](dry, EFFECT_RATE, **{knob: value}),
                                           np.float32), EFFECT_RATE, {knob: value, "other": 1.0})
        for value in values
    ]  # fmt: skip


def gains(*levels: float) -> list[Pair]:
    dry = make_pair(40_000).dry
    return [
        Pair(f"{level:g}", dry, (level * dry).astype(np.float32), RATE, {"level": level})
        for level in levels
    ]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            lambda: pairs_at("overdrive", "drive", 0.0, 1.0),
            ["drive=0: nonlinear, because", "drive=1: nonlinear, because",
             "model: a1-standard, for nonlinear, with drive as input"],
        ),
        (
            lambda: pairs_at("compressor", "ratio", 1.0, 8.0),
            ["ratio=1: linear, because", "ratio=8: compressor, because",
             "model: a1-standard, for linear and compressor, with ratio as input",
             "note: compressor takes no knobs, but is far closer where one setting is enough"],
        ),
        (
            lambda: gains(0.1, 0.5, 1.0),
            ["level=0.5: linear", "model: a1-standard, for linear, with level as input"],
        ),
    ],
)  # fmt: skip
def test_knobs_that_are_turned_choose_a_model_that_takes_them(
    pairs: Callable[[], list[Pair]], said: list[str]
) -> None:
    words = io.StringIO()
    assert chosen_model(from_pairs(pairs()), words) == "a1-standard"
    for each in said:
        assert each in words.getvalue()
    assert "other" not in words.getvalue()


@pytest.mark.parametrize(
    ("effect", "knob", "values", "said"),
    [
        (
            "delay",
            "time_ms",
            (120.0, 300.0),
            r"got feedback-delay at time_ms=120: .*--model delay`",
        ),
        ("chorus", "depth", (0.05, 0.1), r"got modulated-delay at depth=0.05: .*--model chorus`"),
        (
            *("reverb", "mix", (0.3, 0.6)),
            r"got linear with a memory of \d\.\d\d s at mix=0.3: .*--model linear-10s`",
        ),
    ],
)
def test_an_effect_that_no_model_with_knobs_learns_is_refused_with_what_to_do(
    effect: str, knob: str, values: tuple[float, ...], said: str
) -> None:
    with pytest.raises(PairError, match="expected an effect that a model with knobs can .*" + said):
        chosen_model(from_pairs(pairs_at(effect, knob, *values)), io.StringIO())


def test_of_many_settings_those_at_the_ends_are_looked_at() -> None:
    words = io.StringIO()
    levels = [round(0.1 * n, 1) for n in range(1, 13)]
    chosen_model(from_pairs(gains(*levels)), words)
    looked_at = [line.split(":")[0] for line in words.getvalue().splitlines() if "because" in line]
    assert len(looked_at) == MOST_SETTINGS
    assert (looked_at[0], looked_at[-1]) == ("level=0.1", "level=1.2")


def test_a_run_of_several_folders_is_conditioned_on_what_differs_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(CONDITIONED_PRESET_OF_FAMILY, "linear", "a1-nano")  # type: ignore[arg-type]
    for pair in gains(0.5, 1.5):
        write_pairs(tmp_path / pair.name, [pair])
    folders = [str(tmp_path / name) for name in ("0.5", "1.5")]
    run = tmp_path / "run"
    words = ["train", *folders, "--out", str(run), "--no-check", "--batch", "4", "--block", "2048"]
    assert main([*words, "--model", "auto", "--epochs", "1"]) == 0
    assert "model: a1-nano, for linear, with level as input" in capsys.readouterr().out
    assert exchange.load(run).knobs == (Knob("level", 0.5, 1.5, 1.0),)
    # It is named in the run: a resume looks at nothing.
    assert main([*words, "--model", "auto", "--epochs", "2", "--resume"]) == 0
    assert "because" not in capsys.readouterr().out


def test_a_refused_effect_leaves_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path / "pairs", pairs_at("delay", "time_ms", 120.0, 300.0))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "pairs"), "--model", "auto", "--out", str(run)]) == 1
    assert "got feedback-delay at time_ms=120" in capsys.readouterr().err
    assert not run.exists()
