"""What is found in a pair, what is put right, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pair_audio import RATE, RECORDINGS, guitar, needs_recordings, recording, shifted

from fxfast.audio.files import read_audio, write_audio
from fxfast.audio.resample import resample
from fxfast.cli import main
from fxfast.errors import OutputExistsError, PairError
from fxfast.pairs.add_pairs import add_pairs, check_folder
from fxfast.pairs.check_pairs import CheckedPair, CheckRules, Finding, check_pair
from fxfast.pairs.command_host import CommandHost
from fxfast.pairs.effects import overdrive
from fxfast.pairs.make_pairs import make_pairs
from fxfast.pairs.manifest import file_sha256, read_manifest
from fxfast.pairs.pair_set import load_pairs


def dry() -> np.ndarray:
    return guitar(5.0, 3)


def wet() -> np.ndarray:
    return overdrive(dry(), RATE, tone_hz=6000.0)


def checked(
    wet_sound: np.ndarray, dry_sound: np.ndarray | None = None, rules: CheckRules | None = None,
    rates: tuple[int, int] = (RATE, RATE),
) -> CheckedPair:  # fmt: skip
    x = dry() if dry_sound is None else dry_sound
    sides = np.atleast_2d(x), np.atleast_2d(wet_sound)
    return check_pair("take", sides[0], rates[0], sides[1], rates[1], rules)


def finding(pair: CheckedPair, check: str) -> Finding:
    return next(row for row in pair.findings if row.check == check)


def test_a_good_pair_is_ok_and_kept_as_it_is() -> None:
    pair = checked(wet())
    assert (pair.status, pair.reasons) == ("ok", [])
    assert pair.dry is not None
    assert pair.wet is not None
    assert np.array_equal(pair.dry, dry())
    assert np.array_equal(pair.wet, wet())
    assert {row.check for row in pair.findings} >= {
        "sample_rate", "dry_clipping", "wet_clipping", "dry_dc", "wet_dc", "dry_peak", "wet_peak",
        "belongs", "drift", "offset", "polarity", "gain", "length", "noise_floor",
    }  # fmt: skip
    assert all(0.0 <= row.confidence <= 1.0 for row in pair.findings)


@pytest.mark.parametrize("samples", [-3000, 2500])
def test_offset_and_polarity_are_put_right(samples: int) -> None:
    pair = checked(shifted(-wet(), samples))
    assert pair.status == "fixed"
    assert len(pair.reasons) == 2
    assert pair.dry is not None
    assert pair.wet is not None
    assert len(pair.dry) == len(pair.wet) == len(dry()) - abs(samples)
    start = max(0, -samples)
    assert np.array_equal(pair.dry, dry()[start : start + len(pair.dry)])
    assert np.array_equal(pair.wet[100:-3100], wet()[start : start + len(pair.wet)][100:-3100])


def test_what_may_not_be_put_right_is_kept() -> None:
    rules = CheckRules(fix_offset=False, fix_polarity=False)
    pair = checked(shifted(-wet(), 50), rules=rules)
    assert finding(pair, "offset").action == "warned"
    assert finding(pair, "polarity").action == "ok"
    assert pair.wet is not None
    assert np.array_equal(pair.wet, shifted(-wet(), 50))


def test_another_rate_is_resampled() -> None:
    pair = checked(resample(wet(), RATE, 44100), rates=(RATE, 44100))
    assert pair.status == "fixed"
    assert "wet at 44100 Hz, dry at 48000 Hz: wet resampled" in pair.reasons
    assert pair.sample_rate == RATE
    assert pair.wet is not None
    assert np.mean(np.square(pair.wet - wet()[: len(pair.wet)])) < 1e-4 * np.mean(wet() ** 2)


def test_a_rate_that_is_not_said_is_refused() -> None:
    assert checked(resample(wet(), RATE, 44100)).status == "refused"


@pytest.mark.parametrize(
    ("spoil", "check", "reason"),
    [
        (lambda y: y + np.float32(0.05), "wet_dc", "wet has a DC offset of 0.0"),
        (lambda y: np.clip(4 * y, -1, 1), "wet_clipping", "wet is clipped at full scale"),
        (lambda y: 1e-3 * y, "gain", "wet level -58"),
        (
            lambda y: y + 0.05 * np.random.default_rng(0).normal(size=len(y)).astype(np.float32),
            "noise_floor",
            "wet noise of -26 dBFS where the dry is silent",
        ),
        (lambda y: resample(y, 1_000_000, 1_000_012), "drift", "drift: the offset moves by 2."),
    ],
)
def test_what_may_spoil_the_result_is_said(spoil, check: str, reason: str) -> None:  # type: ignore[no-untyped-def]
    pair = checked(spoil(wet()))
    assert finding(pair, check).action == "warned"
    assert any(text.startswith(reason) for text in pair.reasons), pair.reasons
    assert pair.status == "warned"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: np.zeros(5 * RATE, np.float32), "wet is silent: its peak is -200 dBFS"),
        (lambda: overdrive(guitar(5.0, 9), RATE), "wet does not belong to dry"),
        (lambda: shifted(wet(), 100_000), "wet does not belong to dry: no offset within 2 s"),
        (lambda: resample(wet(), 1_000_000, 1_000_300), "drift: the offset moves by 6"),
        (lambda: wet()[:4000], "dry and wet share 0.083 s, expected 0.1 s or more"),
        (lambda: np.clip(500 * wet(), -1, 1), "wet is clipped at full scale"),
    ],
)
def test_what_cannot_be_learnt_is_refused(make, reason: str) -> None:  # type: ignore[no-untyped-def]
    pair = checked(make())
    assert pair.status == "refused"
    assert any(text.startswith(reason) for text in pair.reasons), pair.reasons
    assert pair.dry is None
    assert pair.wet is None


def test_a_shorter_wet_is_cut_or_warned_of() -> None:
    slightly = checked(wet()[:-1000])
    assert slightly.status == "fixed"
    assert "0.021 s shorter than dry" in slightly.reasons[0]
    assert slightly.dry is not None
    assert len(slightly.dry) == 5 * RATE - 1000
    assert checked(wet()[: 3 * RATE]).status == "warned"


def test_swapped_sides_are_put_right() -> None:
    left, right = guitar(5.0, 3), guitar(5.0, 4)
    stereo_wet = np.stack([overdrive(right, RATE), overdrive(left, RATE)])
    pair = checked(stereo_wet, np.stack([left, right]))
    assert finding(pair, "channels_swapped").action == "fixed"
    assert pair.wet is not None
    assert np.array_equal(pair.wet, overdrive(left, RATE))
    straight = checked(stereo_wet[::-1], np.stack([left, right]), CheckRules(channel=1))
    assert finding(straight, "channels_swapped").action == "ok"
    assert straight.wet is not None
    assert np.array_equal(straight.wet, overdrive(right, RATE))


def test_the_side_that_sounds_is_taken_for_a_mono_dry() -> None:
    pair = checked(np.stack([np.zeros_like(wet()), wet()]))
    assert pair.wet is not None
    assert np.array_equal(pair.wet, wet())


def test_two_equal_sides_are_as_good_as_one() -> None:
    assert checked(np.stack([wet(), wet()])).status == "ok"


# --- folders and commands --------------------------------------------------------------------


def write(path: Path, x: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, x, rate)
    return path


@pytest.fixture
def takes(tmp_path: Path) -> Path:
    """Three recorded pairs: a good one, a shifted one, one with the wet of another."""
    for number, name in enumerate(("a", "b", "c")):
        write(tmp_path / "in" / f"{name}.wav", guitar(4.0, number))
    write(tmp_path / "back" / "a.wav", overdrive(guitar(4.0, 0), RATE))
    write(tmp_path / "back" / "b.flac", shifted(-overdrive(guitar(4.0, 1), RATE), 480))
    write(tmp_path / "back" / "c.wav", overdrive(guitar(4.0, 0), RATE))
    return tmp_path


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_added_pairs_are_aligned_and_written_down(
    takes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = takes / "pairs"
    words = ["pairs", "add", str(takes / "in"), str(takes / "back"), "-o", str(out), "--json"]
    assert main([*words, "--jobs", "2"]) == 1
    rows = json_lines(capsys.readouterr().out)
    assert [(row["name"], row["status"]) for row in rows] == [
        ("a", "fixed" if rows[0]["reasons"] else "ok"), ("b", "fixed"), ("c", "refused"),
    ]  # fmt: skip
    assert rows[1]["offset_samples"] == pytest.approx(480.0, abs=1.0)
    assert rows[1]["polarity"] == -1
    for row in rows:
        assert row.keys() >= {
            "offset_samples", "polarity", "gain_db", "drift_ppm", "confidence", "status", "reasons",
        }  # fmt: skip
    assert [pair.name for pair in load_pairs(out)] == ["a", "b"]
    records = read_manifest(out)
    assert [record.polarity for record in records] == [1, -1]
    assert records[1].wet_sha256 == file_sha256(out / records[1].wet)
    assert main(["pairs", "check", str(out), "--json"]) == 0
    again = json_lines(capsys.readouterr().out)
    assert [row["polarity"] for row in again] == [1, 1]
    assert all(abs(float(str(row["offset_samples"]))) < 1.5 for row in again)


def test_pairs_are_added_to_those_that_are_there(takes: Path) -> None:
    out = takes / "pairs"
    sides = takes / "in" / "a.wav", takes / "back" / "a.wav"
    add_pairs(*sides, out, knobs={"drive": 0.5}, split="test")
    add_pairs(*sides, out, name="more/a")
    assert [pair.name for pair in load_pairs(out)] == ["a", "more/a"]
    assert [pair.knobs for pair in load_pairs(out)] == [{"drive": 0.5}, {}]
    assert [pair.split for pair in load_pairs(out)] == ["test", ""]
    with pytest.raises(OutputExistsError, match="expected no pair of this name"):
        add_pairs(*sides, out)
    slow = write(takes / "slow.wav", resample(guitar(4.0, 0), RATE, 44100), 44100)
    (other,) = add_pairs(slow, takes / "back" / "a.wav", out, name="slow")
    assert other.reasons == ["44100 Hz: expected 48000 Hz as the others of the folder"]
    assert len(read_manifest(out)) == 2


def test_pairs_are_added_to_a_folder_without_a_manifest(takes: Path) -> None:
    for side, name in (("dry", "in"), ("wet", "back")):
        write(takes / "pairs" / side / "old.wav", read_audio(takes / name / "a.wav")[0][0])
    add_pairs(takes / "in" / "a.wav", takes / "back" / "a.wav", takes / "pairs", name="new")
    assert [pair.name for pair in load_pairs(takes / "pairs")] == ["new", "old"]


def test_what_cannot_be_read_is_refused_and_the_rest_done(takes: Path) -> None:
    (takes / "in" / "empty.wav").write_bytes(b"")
    (takes / "back" / "empty.wav").write_bytes(b"")
    (takes / "back" / "lonely.wav").write_bytes(b"")
    name = os.fsdecode(b"caf\xe9.wav")
    write(takes / "in" / name, guitar(4.0, 0))
    write(takes / "back" / name, guitar(4.0, 0))
    pairs = add_pairs(takes / "in", takes / "back", takes / "pairs")
    reasons = {pair.name: pair.reasons for pair in pairs if pair.alignment is None}
    assert all(len(texts) == 1 and "\n" not in texts[0] for texts in reasons.values())
    assert "got an empty file" in reasons["empty"][0]
    assert reasons["lonely"] == ["expected a dry file beside the wet one, found none"]
    assert "expected a file name in UTF-8" in reasons[os.fsdecode(b"caf\xe9")][0]
    assert len(load_pairs(takes / "pairs")) == 2


def test_a_folder_is_checked_and_left_as_it_is(takes: Path) -> None:
    os.rename(takes / "in", takes / "dry")
    os.rename(takes / "back", takes / "wet")
    before = {path: file_sha256(path) for path in takes.rglob("*.*")}
    pairs = check_folder(takes)
    assert [pair.status for pair in pairs][1:] == ["fixed", "refused"]
    assert {path: file_sha256(path) for path in takes.rglob("*.*")} == before


def test_nothing_to_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="expected a folder dry/ in it, found none"):
        check_folder(tmp_path)
    for side in ("dry", "wet"):
        (tmp_path / side).mkdir()
    with pytest.raises(PairError, match="expected audio files, found none"):
        check_folder(tmp_path)
    file = write(tmp_path / "a.wav", guitar(4.0, 0))
    with pytest.raises(PairError, match="expected two files or two folders, got one of each"):
        add_pairs(file, tmp_path / "wet", tmp_path / "out")


def test_a_picture_on_request(takes: Path) -> None:
    out, pictures = takes / "pairs", takes / "pictures"
    words = ["pairs", "add", str(takes / "in" / "b.wav"), str(takes / "back" / "b.flac")]
    assert main([*words, "-o", str(out), "--pictures", str(pictures)]) == 0
    text = (pictures / "b.svg").read_text()
    assert text.startswith("<svg")
    for title in ("waveforms", "correlation", "transfer", "spectra"):
        assert title in text
    import xml.etree.ElementTree as ElementTree

    assert ElementTree.fromstring(text).tag.endswith("svg")


# --- recordings ------------------------------------------------------------------------------


@needs_recordings
def test_the_drifting_tape_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = RECORDINGS / "pairs" / "tape_drift"
    words = ["pairs", "add", str(folder / "dry.flac"), str(folder / "wet.flac"), "--json"]
    assert main([*words, "-o", str(tmp_path / "pairs")]) == 1
    (row,) = json_lines(capsys.readouterr().out)
    assert row["status"] == "refused"
    assert any("drift" in reason for reason in row["reasons"])  # type: ignore[attr-defined]
    assert float(str(row["drift_ppm"])) < -700
    assert not (tmp_path / "pairs").exists()


@needs_recordings
def test_a_take_with_the_wet_of_another_is_refused() -> None:
    preset = recording("zoo/ts-2.flac")
    pair = checked(preset[20 * RATE : 26 * RATE], recording("zoo/dry.flac")[: 6 * RATE])
    assert pair.status == "refused"


def test_changed_files_are_told(takes: Path) -> None:
    out = takes / "pairs"
    add_pairs(takes / "in" / "a.wav", takes / "back" / "a.wav", out)
    assert finding(check_folder(out)[0], "hash").action == "ok"
    write_audio(out / "wet" / "a.wav", 0.5 * load_pairs(out)[0].wet, RATE, overwrite=True)
    (pair,) = check_folder(out)
    assert pair.status == "warned"
    assert pair.reasons[-1] == "changed since the manifest was written: wet/a.wav"


def test_an_effect_may_invert(takes: Path) -> None:
    """What an effect that was played here does to the polarity is its own."""
    command = f"{sys.executable} {takes / 'invert.py'} {{in}} {{out}}"
    (takes / "invert.py").write_text(
        "import sys, soundfile\nx, rate = soundfile.read(sys.argv[1], dtype='float32')\n"
        "soundfile.write(sys.argv[2], -x, rate, subtype='FLOAT')\n"
    )
    made = make_pairs([takes / "in" / "a.wav"], takes / "pairs", CommandHost(command))
    assert (made.records[0].polarity, made.records[0].status) == (-1, "ok")
    assert [pair.status for pair in check_folder(takes / "pairs")] == ["ok"]
    (pair,) = load_pairs(takes / "pairs")
    np.testing.assert_array_equal(pair.wet, -pair.dry)
