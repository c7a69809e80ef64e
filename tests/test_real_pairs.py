"""The benchmark of real devices: its parts share no sample, its row says what holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pair_audio import guitar

from bench import real_pairs
from fxfast.audio.files import write_audio

RATE = 48_000
TAKES = {"bass": 3.0, "drumHH": 0.5, "drumKick": 1.5, "sweep": 2.0, "guitar": 2.5}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "cl1b").mkdir()
    for seed, (name, seconds) in enumerate(TAKES.items()):
        dry = guitar(seconds, seed)
        write_audio(tmp_path / "cl1b" / f"{name}_dry.flac", dry, RATE)
        write_audio(tmp_path / "cl1b" / f"{name}_wet_GC.flac", np.float32(0.5) * dry, RATE)
    return tmp_path


def test_the_guitar_is_for_the_test_and_the_parts_share_no_sample(recordings: Path) -> None:
    pairs = real_pairs.pairs_of("cl1b_GC", recordings)
    assert [pair.name for pair in pairs if pair.split == "test"] == ["guitar"]
    for name, seconds in TAKES.items():
        own = [pair for pair in pairs if pair.name.split()[0] == name]
        assert sum(len(pair.dry) for pair in own) == round(seconds * RATE)
        assert all(len(pair.dry) == len(pair.wet) for pair in own)


def test_a_row_says_whether_the_must_holds(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recordings / "out.json"
    options = ["--data", str(recordings), "--work", str(recordings / "runs"), "--out", str(out)]
    arguments = ["real_pairs", "cl1b_GC", "--model", "linear-200ms", *options]
    monkeypatch.setattr("sys.argv", arguments)
    assert real_pairs.main() == 0
    assert "cl1b_GC: linear-200ms" in capsys.readouterr().out
    row = json.loads(out.read_text())["tasks"]["cl1b_GC"]
    assert row["must"] == pytest.approx(row["best_gain_esr"] / 4)
    assert row["must_holds"] == (row["test_esr"] <= row["must"])
