"""The model that suits what pairs hold: from the findings to a run of ``fxfast train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import lfilter

from fxfast import models
from fxfast.audio.files import write_audio
from fxfast.cli import main
from fxfast.errors import PairError
from fxfast.exchange import load
from fxfast.identify import FAMILIES, identify
from fxfast.models.choice import PRESET_OF_FAMILY, preset_for

RATE = 16_000


def pairs(folder: Path, wet: np.ndarray, dry: np.ndarray) -> Path:
    for name, audio in (("dry", dry), ("wet", wet)):
        (folder / name).mkdir(parents=True)
        write_audio(folder / name / "take.wav", audio.astype(np.float32), RATE)
    return folder


def sound() -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal(14 * RATE)).astype(np.float32)


def test_every_family_but_sides_that_do_not_belong_together_has_a_preset() -> None:
    assert set(PRESET_OF_FAMILY) == set(FAMILIES) - {"unrelated"}
    for preset in PRESET_OF_FAMILY.values():
        models.create(preset)
    findings = identify([(sound(), sound()[::-1].copy())], RATE)
    with pytest.raises(PairError, match="expected wet made from dry, got sides that do not"):
        preset_for(replace(findings, family="unrelated"))


@pytest.mark.parametrize(
    ("echo_ms", "preset"),
    [
        ((120.0, 240.0, 359.9), "delay"),
        ((333.3,), "delay"),
        ((1000.0, 2001.5), "delay"),
        ((250.0, 400.0), "linear-10s"),
        ((100.0, 250.0, 300.0), "linear-10s"),
    ],
)
def test_echoes_that_are_no_rounds_of_the_first_are_an_impulse_response(
    echo_ms: tuple[float, ...], preset: str
) -> None:
    findings = identify([(sound(), sound())], RATE)
    found = replace(findings, family="feedback-delay",
                    linear=replace(findings.linear, echo_ms=echo_ms))  # fmt: skip
    assert preset_for(found) == preset


def test_a_run_takes_the_model_that_suits_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = sound()
    folder = pairs(tmp_path / "pairs", lfilter([0.5, 0.2, -0.1], [1.0, -0.6], dry), dry)
    run = tmp_path / "run"
    assert main(["train", str(folder), "--model", "auto", "--out", str(run), "--no-check"]) == 0
    assert "model: linear-10s, for linear" in capsys.readouterr().out
    assert load(run / "model.safetensors").root.kind == "linear"
    # It is named in the run: a resume asks for nothing.
    assert main(["train", str(folder), "--model", "auto", "--out", str(run), "--resume"]) == 0
