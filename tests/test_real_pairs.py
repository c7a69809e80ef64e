"""The benchmark of real devices: its parts share no sample, its row says what holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pair_audio import guitar

from bench import real_pairs
from fxfast.audio.files import write_audio
from fxfast.pairs.pair_set import Pair

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


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "openamp_bluesdriver"
    folder.mkdir()
    for clip in range(4):
        dry = guitar(2.0, clip)
        write_audio(folder / f"clip{clip}_dry.flac", dry, RATE)
        write_audio(folder / f"clip{clip}_wet.flac", np.float32(0.5) * dry, RATE)
    return tmp_path


@pytest.mark.parametrize(("fold", "clip"), [("@0", 0), ("@1", 1), ("@2", 2), ("", 3)])
def test_each_clip_can_be_the_one_that_training_never_sees(
    clips: Path, fold: str, clip: int
) -> None:
    task = f"openamp_bluesdriver{fold}"
    assert task in real_pairs.TASKS
    pairs = real_pairs.pairs_of(task, clips)
    assert [pair.name for pair in pairs if pair.split == "test"] == [f"clip{clip}"]
    assert sum(pair.name.startswith(f"clip{clip}") for pair in pairs) == 1
    assert sum(len(pair.dry) for pair in pairs) == 4 * 2 * RATE


def test_within_the_recordings_the_end_of_the_last_is_for_the_test(clips: Path) -> None:
    pairs = real_pairs.pairs_of("openamp_bluesdriver_within", clips)
    assert [pair.name for pair in pairs if pair.split == "test"] == ["clip3 end"]
    assert sum(len(pair.dry) for pair in pairs) == 4 * 2 * RATE
    assert "clip3 begin" in [pair.name for pair in pairs if pair.split == "train"]


def test_band_levels_are_shares_of_the_energy_of_a_part() -> None:
    time = np.arange(RATE) / RATE
    low, high = (np.sin(2 * np.pi * hz * time).astype(np.float32) for hz in (100.0, 1000.0))
    pairs = [
        Pair("a", low, low, RATE, split="train"),
        Pair("b", low + high, low, RATE, split="test"),
    ]
    assert real_pairs.band_levels(pairs, "train")["80"] == pytest.approx(0.0, abs=0.1)
    assert real_pairs.band_levels(pairs, "train")["640"] < -60.0
    assert real_pairs.band_levels(pairs, "test")["640"] == pytest.approx(-3.0, abs=0.1)


def test_a_recording_of_another_gain_is_told_from_one_of_another_shape() -> None:
    rng = np.random.default_rng(0)
    wet = rng.standard_normal(20_000)
    left, gain_db = real_pairs.own_gain(2.0 * wet, wet)
    assert left == pytest.approx(0.0, abs=1e-12)
    assert gain_db == pytest.approx(-6.02, abs=0.01)
    other = wet + rng.standard_normal(20_000)
    assert real_pairs.own_gain(other, wet)[0] == pytest.approx(0.5, abs=0.02)


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
    assert set(row["dry_band_db"]) == {"train", "test"}
    assert row["must_holds"] == (row["test_esr"] <= row["must"])
    assert row["test_esr_own_gain"] <= row["test_esr"]
