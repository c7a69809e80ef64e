"""Making pairs, loading pairs, and every reason to refuse."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import numpy as np
import pytest

from fxfast.audio.files import probe, read_audio, write_audio
from fxfast.audio.signal_files import varied_signal
from fxfast.audio.signals import guitar_like
from fxfast.cli import effects as effects_command
from fxfast.cli import pairs as pairs_command
from fxfast.cli import signals as signals_command
from fxfast.errors import (
    AudioFileError,
    FxfastError,
    InputError,
    OutputExistsError,
    PairError,
)
from fxfast.pairs.effects import EFFECTS, PRESETS, Effect, overdrive
from fxfast.pairs.hosts import BuiltInHost, render_with_preroll
from fxfast.pairs.make_pairs import MadePairs, make_pairs
from fxfast.pairs.manifest import read_manifest
from fxfast.pairs.pair_set import load_pairs

RATE = 48000


def one_line(raised: pytest.ExceptionInfo[BaseException]) -> str:
    assert isinstance(raised.value, FxfastError)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_pairs_are_made_and_loaded(tmp_path: Path, dry_dir: Path) -> None:
    out = tmp_path / "new" / "pairs"
    made = make_pairs([dry_dir], out, "overdrive", {"drive": 0.8})
    assert list(made.records) == read_manifest(out)
    for record in made.records:
        assert record.effect == "overdrive"
        assert record.parameters == {"drive": 0.8, "tone_hz": 3000.0, "level_db": -6.0}
        assert record.sample_rate == RATE
        assert record.deterministic is True
        assert abs(record.offset_samples) < 1.5  # its tone control is late by as much
        assert record.status == "ok"
        assert record.polarity == 1
        assert record.preroll_seconds == 2.0
    assert [record.name for record in made.records] == ["riff.1", "solo/lick"]
    assert [record.frames for record in made.records] == [24000, 33600]
    assert not made.refused
    assert probe(out / "wet" / "solo" / "lick.wav").subtype == "FLOAT"
    assert os.listdir(out.parent) == ["pairs"]

    pairs = load_pairs(out)
    assert [pair.name for pair in pairs] == ["riff.1", "solo/lick"]
    for pair, source in zip(pairs, ("riff.1.wav", "solo/lick.flac"), strict=True):
        dry = read_audio(dry_dir / source)[0][0]
        assert pair.sample_rate == RATE
        assert np.array_equal(pair.dry, dry)
        np.testing.assert_allclose(pair.wet, overdrive(dry, RATE, drive=0.8), atol=1e-6)


def test_preroll_is_played_and_cut() -> None:
    """An effect with a start transient leaves it in the two seconds of silence."""

    def click(x: np.ndarray, sample_rate: int) -> np.ndarray:
        y = x.copy()
        y[:, : int(1.9 * sample_rate)] += 1.0
        return y

    effect = Effect("click", "adds an offset at the start", "none", (), click)
    x = guitar_like(0.5, RATE, 0)
    assert np.array_equal(render_with_preroll(BuiltInHost(effect), x, RATE), x)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda x, sample_rate: x[:, 1:], "samples back"),
        (lambda x, sample_rate: x * np.float32(np.nan), "expected finite samples"),
    ],
)
def test_an_effect_that_breaks_its_word_is_refused(wrong, expected: str) -> None:  # type: ignore[no-untyped-def]
    effect = Effect("wrong", "", "", (), wrong)
    with pytest.raises(PairError, match=expected):
        render_with_preroll(BuiltInHost(effect), np.ones(9, np.float32), RATE)


def test_making_is_repeatable_to_the_byte(tmp_path: Path, dry_dir: Path, pairs_dir: Path) -> None:
    make_pairs([dry_dir], tmp_path / "again")
    for path in sorted(pairs_dir.rglob("*.*")):
        again = tmp_path / "again" / path.relative_to(pairs_dir)
        assert again.read_bytes() == path.read_bytes()


# --- what make_pairs refuses -----------------------------------------------------------------


def test_nothing_to_do_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(PairError, match="expected audio files in the folder, found none") as raised:
        make_pairs([tmp_path / "empty"], tmp_path / "out")
    assert "empty" in one_line(raised)
    with pytest.raises(PairError, match="at least one file or folder, got none"):
        make_pairs([], tmp_path / "out")
    with pytest.raises(AudioFileError, match="found nothing"):
        make_pairs([tmp_path / "missing"], tmp_path / "out")


def test_an_unknown_effect_is_refused(tmp_path: Path, dry_dir: Path) -> None:
    with pytest.raises(
        InputError, match=r"effect: expected one of gate, overdrive, .*, got 'flanger'"
    ):
        make_pairs([dry_dir], tmp_path / "out", "flanger")
    with pytest.raises(InputError, match="expected parameters of"):
        make_pairs([dry_dir], tmp_path / "out", "overdrive", {"volume": 1.0})


def left_out(made: MadePairs) -> str:
    """The reason why one recording was left out while the others were done."""
    assert len(made.refused) == 1
    (reason,) = made.refused[0].reasons
    assert "\n" not in reason
    return str(reason)


def test_an_unreadable_recording_is_left_out(tmp_path: Path, dry_dir: Path) -> None:
    broken = dry_dir / "z.wav"
    write_audio(broken, guitar_like(0.5, RATE, 0), RATE)
    os.truncate(broken, 1000)
    made = make_pairs([dry_dir], tmp_path / "out")
    assert "z.wav: truncated" in left_out(made)
    assert [pair.name for pair in load_pairs(tmp_path / "out")] == ["riff.1", "solo/lick"]
    broken.write_bytes(b"")
    made = make_pairs([dry_dir], tmp_path / "out", overwrite=True)
    assert "z.wav: expected an audio file, got an empty file" in left_out(made)
    write_audio(broken, guitar_like(0.5, RATE, 0), RATE, overwrite=True)
    content = bytearray(broken.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    broken.write_bytes(content)
    made = make_pairs([dry_dir], tmp_path / "out", overwrite=True)
    assert "NaN or infinity at frame 23999" in left_out(made)
    assert len(made.records) == 2


def test_a_name_that_is_not_unicode_is_left_out(tmp_path: Path, dry_dir: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    write_audio(dry_dir / name, guitar_like(0.3, RATE, 0), RATE)
    made = make_pairs([dry_dir], tmp_path / "out")
    assert "expected a file name in UTF-8" in left_out(made)
    assert len(made.records) == 2


def test_nothing_usable_leaves_no_output(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no sound")
    made = make_pairs([tmp_path / "a.wav"], tmp_path / "out")
    assert not made.records
    assert os.listdir(tmp_path) == ["a.wav"]


def test_stereo_and_mixed_rates_are_refused(tmp_path: Path) -> None:
    x = guitar_like(0.2, RATE, 0)
    write_audio(tmp_path / "a.wav", x, RATE)
    write_audio(tmp_path / "b.wav", np.stack([x, x]), RATE)
    write_audio(tmp_path / "c.wav", x, 44100)
    made = make_pairs([tmp_path / "a.wav", tmp_path / "b.wav"], tmp_path / "out")
    assert "b.wav: expected 1 channel (mono), got 2" in left_out(made)
    made = make_pairs([tmp_path / "a.wav", tmp_path / "c.wav"], tmp_path / "other")
    assert re.search(r"c\.wav: expected 48000 Hz as .*a\.wav, got 44100 Hz", left_out(made))


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    x = guitar_like(0.2, RATE, 0)
    for name in ("a.wav", "a.flac"):
        write_audio(tmp_path / name, x, RATE)
    with pytest.raises(PairError, match=r"expected one recording named a, .*a\.wav has that name"):
        make_pairs([tmp_path / "a.wav", tmp_path / "a.flac"], tmp_path / "out")


def test_an_existing_output_is_kept(dry_dir: Path, pairs_dir: Path) -> None:
    before = (pairs_dir / "pairs.jsonl").read_bytes()
    with pytest.raises(OutputExistsError, match="pairs: expected no output there, it exists"):
        make_pairs([dry_dir], pairs_dir, parameters={"drive": 1.0})
    assert (pairs_dir / "pairs.jsonl").read_bytes() == before


def test_overwrite_replaces_only_what_was_made(dry_dir: Path, pairs_dir: Path) -> None:
    make_pairs([dry_dir / "riff.1.wav"], pairs_dir, parameters={"drive": 1.0}, overwrite=True)
    assert [pair.name for pair in load_pairs(pairs_dir)] == ["riff.1"]
    (pairs_dir / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"found notes\.txt"):
        make_pairs([dry_dir], pairs_dir, overwrite=True)
    assert (pairs_dir / "notes.txt").read_text() == "mine"
    assert sorted(os.listdir(pairs_dir.parent)) == ["dry recordings", "pairs"]


def test_an_empty_output_folder_is_used(tmp_path: Path, dry_dir: Path) -> None:
    (tmp_path / "out").mkdir()
    make_pairs([dry_dir], tmp_path / "out")
    assert len(load_pairs(tmp_path / "out")) == 2


def test_recordings_inside_the_output_are_refused(pairs_dir: Path) -> None:
    with pytest.raises(OutputExistsError, match="lies in it"):
        make_pairs([pairs_dir / "dry"], pairs_dir, overwrite=True)
    assert len(load_pairs(pairs_dir)) == 2


# --- what load_pairs refuses -----------------------------------------------------------------


def test_folders_without_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PairError, match="expected a folder with dry/ and wet/, found none"):
        load_pairs(tmp_path / "missing")
    with pytest.raises(PairError, match="no pairs: expected a folder dry/ in it"):
        load_pairs(tmp_path)
    (tmp_path / "dry").mkdir()
    (tmp_path / "wet").mkdir()
    with pytest.raises(
        PairError, match="no pairs: expected audio files in dry/ and wet/"
    ) as raised:
        load_pairs(tmp_path)
    one_line(raised)


@pytest.mark.parametrize(("gone", "left"), [("dry", "wet"), ("wet", "dry")])
def test_half_a_pair_is_refused(pairs_dir: Path, gone: str, left: str) -> None:
    (pairs_dir / "pairs.jsonl").unlink()
    (pairs_dir / gone / "riff.1.wav").unlink()
    expected = rf"{left}/riff\.1\.wav: expected a {gone} file named riff\.1"
    with pytest.raises(PairError, match=expected):
        load_pairs(pairs_dir)


def test_pairs_that_disagree_are_refused(pairs_dir: Path) -> None:
    wet = pairs_dir / "wet" / "riff.1.wav"
    x = read_audio(wet)[0]
    write_audio(wet, x[:, :-1], RATE, overwrite=True)
    with pytest.raises(PairError, match=r"pair riff\.1: .* dry 24000 and wet 23999 frames"):
        load_pairs(pairs_dir)
    write_audio(wet, x, 44100, overwrite=True)
    with pytest.raises(PairError, match=r"pair riff\.1: .* dry 48000 Hz and wet 44100 Hz"):
        load_pairs(pairs_dir)
    write_audio(wet, np.concatenate([x, x]), RATE, overwrite=True)
    with pytest.raises(PairError, match=r"wet/riff\.1\.wav: expected 1 channel .*got 2"):
        load_pairs(pairs_dir)
    wet.write_bytes(b"no sound")
    with pytest.raises(AudioFileError, match=r"wet/riff\.1\.wav: expected an audio file"):
        load_pairs(pairs_dir)


def test_pairs_of_two_rates_are_refused(pairs_dir: Path) -> None:
    for side in ("dry", "wet"):
        path = pairs_dir / side / "solo" / "lick.wav"
        write_audio(path, read_audio(path)[0], 44100, overwrite=True)
    with pytest.raises(PairError, match=r"pair solo/lick: expected 48000 Hz as pair riff\.1"):
        load_pairs(pairs_dir)


def test_one_name_twice_is_refused(pairs_dir: Path) -> None:
    write_audio(pairs_dir / "dry" / "riff.1.flac", guitar_like(0.5, RATE, 0), RATE)
    with pytest.raises(PairError, match=r"expected one dry file named riff\.1"):
        load_pairs(pairs_dir)


# --- the commands ----------------------------------------------------------------------------


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for module in (signals_command, effects_command, pairs_command):
        module.add_parser(subparsers)
    args = parser.parse_args(words)
    return int(args.run(args))


def test_commands_make_signals_and_pairs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry, out = str(tmp_path / "dry"), str(tmp_path / "pairs")
    words = ["signals", "-o", dry, "--seconds", "0.5", "--count", "2", "--seed", "5"]
    assert command(*words, "--rate", "44100") == 0
    assert sorted(os.listdir(dry)) == ["guitar-000.wav", "guitar-001.wav", "signals.jsonl"]
    assert np.array_equal(
        read_audio(tmp_path / "dry" / "guitar-001.wav")[0][0], varied_signal(0.5, 44100, 6)[0]
    )
    assert (
        command("pairs", "make", dry, "--effect", "overdrive", "--set", "drive=0.2", "-o", out) == 0
    )
    assert "pairs: 2, seconds: 1.0, rate: 44100 Hz, effect: overdrive" in capsys.readouterr().out
    assert [pair.split for pair in load_pairs(out)] == ["train", "train"]
    assert [record.seed for record in read_manifest(out)] == [5, 6]
    with pytest.raises(OutputExistsError):
        command(*words)
    with pytest.raises(InputError, match="count: expected at least 1, got 0"):
        command("signals", "-o", dry, "--count", "0")
    with pytest.raises(SystemExit) as usage:
        command("pairs", "make", dry, "--set", "drive", "-o", out)
    assert usage.value.code == 2


def test_effects_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("effects") == 0
    printed = capsys.readouterr().out
    assert sum(name in printed for name in PRESETS) == 27
    for effect in EFFECTS.values():
        assert effect.name in printed
        assert all(knob.name in printed for knob in effect.parameters)
