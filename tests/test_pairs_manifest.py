"""The manifest of a folder of pairs: what it carries, and a reader that trusts nothing."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from fxfast.cli import effects as effects_command
from fxfast.cli import pairs as pairs_command
from fxfast.cli import signals as signals_command
from fxfast.errors import (
    FxfastError,
    PairError,
)
from fxfast.pairs.make_pairs import make_pairs
from fxfast.pairs.manifest import read_manifest
from fxfast.pairs.pair_set import load_pairs

RATE = 48000


def one_line(raised: pytest.ExceptionInfo[BaseException]) -> str:
    assert isinstance(raised.value, FxfastError)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for module in (signals_command, effects_command, pairs_command):
        module.add_parser(subparsers)
    args = parser.parse_args(words)
    return int(args.run(args))


def test_a_folder_without_a_manifest_is_as_good(pairs_dir: Path) -> None:
    (pairs_dir / "pairs.jsonl").unlink()
    assert [pair.name for pair in load_pairs(pairs_dir)] == ["riff.1", "solo/lick"]
    assert read_manifest(pairs_dir) == []


def test_knobs_reach_the_pairs(tmp_path: Path, dry_dir: Path) -> None:
    out = str(tmp_path / "knobs")
    words = ("pairs", "make", str(dry_dir), "--effect", "overdrive", "-o", out, "--json")
    assert command(*words, "--knob", "drive=0,0.5", "--knob", "level_db=-6,-9") == 0
    pairs = load_pairs(out)
    assert len(pairs) == 8
    assert pairs[0].name == "drive=0,level_db=-6/riff.1"
    assert pairs[0].knobs == {"drive": 0.0, "level_db": -6.0}
    assert {record.parameters["drive"] for record in read_manifest(out)} == {0.0, 0.5}


def edited(pairs_dir: Path, **values: object) -> None:
    path = pairs_dir / "pairs.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1].update(values)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    "path",
    [
        "../x.wav",
        "/etc/passwd",
        "dry/../../x.wav",
        "",
        "a\\b.wav",
        "C:/x.wav",
        "a\0.wav",
        ".",
        "./",
    ],
)
def test_a_manifest_cannot_lead_out_of_its_folder(pairs_dir: Path, path: str) -> None:
    edited(pairs_dir, wet=path)
    with pytest.raises(PairError, match=r"line 2: (wet: expected a text|expected a path inside)"):
        load_pairs(pairs_dir)


def test_a_manifest_cannot_lead_out_by_a_link(pairs_dir: Path, tmp_path: Path) -> None:
    (pairs_dir / "link").symlink_to(tmp_path)
    edited(pairs_dir, wet="link/x.wav")
    with pytest.raises(PairError, match="leads out of it"):
        read_manifest(pairs_dir)


def test_a_path_that_leads_nowhere_is_refused(pairs_dir: Path) -> None:
    (pairs_dir / "circle").symlink_to("circle")
    for path in ("circle/x.wav", "\ud800.wav"):
        edited(pairs_dir, wet=path)
        with pytest.raises(PairError, match=r"line 2: expected a path, .* leads nowhere") as raised:
            read_manifest(pairs_dir)
        one_line(raised)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"sample_rate": "high"}, "line 2: sample_rate: expected a whole number, got 'high'"),
        ({"knobs": {"drive": "loud"}}, "line 2: knobs: drive: expected a number, got 'loud'"),
        ({"split": "maybe"}, "line 2: split: expected one of train, validation, test"),
        ({"name": "riff.1"}, "expected each name once, got 'riff.1' twice"),
        ({"name": "gone"}, "expected the files of pair gone"),
        ({"polarity": True}, "line 2: polarity: expected a whole number, got True"),
    ],
)
def test_a_wrong_manifest_is_refused(
    pairs_dir: Path, values: dict[str, object], expected: str
) -> None:
    edited(pairs_dir, **values)
    with pytest.raises(PairError, match=expected) as raised:
        load_pairs(pairs_dir)
    one_line(raised)


@pytest.mark.parametrize("line", [b"{", b"[]", b"\xff", b"nan", b"{}", b"[" * 5000])
def test_what_is_no_manifest_is_refused(pairs_dir: Path, line: bytes) -> None:
    (pairs_dir / "pairs.jsonl").write_bytes(line + b"\n")
    with pytest.raises(PairError, match=r"pairs\.jsonl: line 1: "):
        read_manifest(pairs_dir)


def test_what_later_versions_say_is_left_alone(pairs_dir: Path) -> None:
    edited(pairs_dir, mood="blue")
    assert len(read_manifest(pairs_dir)) == 2


def test_pairs_of_an_earlier_version_can_be_replaced(dry_dir: Path, pairs_dir: Path) -> None:
    (pairs_dir / "pairs.jsonl").unlink()
    names = [{"name": "riff.1"}, {"name": "solo/lick"}]
    (pairs_dir / "pairs.json").write_text(json.dumps({"pairs": names}))
    make_pairs([dry_dir], pairs_dir, overwrite=True)
    assert sorted(os.listdir(pairs_dir)) == ["dry", "pairs.jsonl", "wet"]
