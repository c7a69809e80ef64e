"""The zoo's driver on a tiny zoo: rows, musts, going on, the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from bench import zoo
from bench.zoo_table import zoo_table
from fxfast import models

RATE = 8000


def scores(esr: float, best_gain: float = 1.0, **others: float | None) -> dict[str, Any]:
    model = {"esr": esr, "loud_esr": esr, "quiet_error_dbfs": None, **others}
    return {"model": model, "best_gain": {"esr": best_gain}}


def test_musts_are_those_of_the_effects() -> None:
    def holds(preset: str, *args: float, **others: float | None) -> bool:
        return bool(zoo.must_of(preset, scores(*args, **others))["must_holds"])

    assert holds("ts-1", 0.0009)
    assert not holds("ts-2", 0.0009)
    assert holds("fuzz-2", 0.002)
    assert not holds("fuzz-1", 0.006)
    assert not holds("comp-1", 0.003, 0.009)
    assert holds("comp-1", 0.002, 0.009)
    assert not holds("comp-3", 0.02, 0.2)
    assert holds("gate-1", 0.0005, quiet_error_dbfs=-61.0)
    assert not holds("gate-1", 0.0005, quiet_error_dbfs=-59.0)
    assert not holds("gate-1", 0.002, quiet_error_dbfs=-90.0)


@pytest.mark.slow
def test_the_driver_trains_scores_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    dry = (0.1 * rng.normal(size=12 * RATE)).astype(np.float32)
    (tmp_path / "zoo").mkdir()
    for name, audio in {"dry": dry, "ts-1": np.tanh(8 * dry) / 4, "gate-1": dry}.items():
        sf.write(tmp_path / "zoo" / f"{name}.flac", audio, RATE, subtype="PCM_16")
    out = tmp_path / "results" / "zoo_x.json"
    words = ["zoo", "--zoo", str(tmp_path / "zoo"), "--work", str(tmp_path / "work")]
    words += ["--model", "dense-64", "--seconds", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*words, "ts-1"])
    assert zoo.main() == 0
    first = json.loads(out.read_text())["presets"]
    row = first["ts-1"]
    assert row["family"] == "nonlinear"
    assert 0 < row["scores"]["model"]["esr"] < 1
    assert row["weights"] == sum(p.numel() for p in models.create("dense-64").parameters())
    assert row["times_real_time"] > 1
    monkeypatch.setattr(sys, "argv", words)
    assert zoo.main() == 0
    result = json.loads(out.read_text())
    assert list(result["presets"]) == ["ts-1", "gate-1"]
    assert result["presets"]["ts-1"] == row
    assert "ts-1: nonlinear, dense-64" in capsys.readouterr().out
    table = zoo_table(result).splitlines()
    assert table[2].startswith("| gate-1 | ")
    assert len(table) == 6
