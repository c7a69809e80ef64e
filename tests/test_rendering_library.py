"""Many files: planned before any work, each on its own, all in the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_player import MODEL_RATE, FakePlayer, one_layer_graph

from fxfast.audio.files import probe, read_audio
from fxfast.errors import InputError
from fxfast.rendering import FileReport, Processing, Watcher, render_library
from fxfast.rendering.journal import JOURNAL_NAME
from fxfast.rendering.leftovers import remove_leftovers
from fxfast.rendering.plan import plan_library


def sound(path: Path, frames: int = 2000, rate: int = MODEL_RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(frames)
    x_tc = random.uniform(-0.4, 0.4, (frames, channels))
    soundfile.write(path, x_tc, rate, format="AIFF" if path.suffix == ".aif" else None)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """in/ with files of every kind, two folders deep, and files that are no audio."""
    folder = tmp_path / "in"
    sound(folder / "a.wav", 3000)
    sound(folder / "b.FLAC", 3001, channels=2)
    sound(folder / "sub" / "c.ogg", 3002)
    sound(folder / "sub" / "deep" / "d.aif", 3003)
    (folder / "notes.txt").write_text("not audio")
    (folder / ".hidden.wav").write_text("hidden")
    return folder


TREE_OUTPUTS = ["a.wav", "b.FLAC", "sub/c.flac", "sub/deep/d.wav"]


def files_below(folder: Path) -> list[str]:
    found = (p.relative_to(folder) for p in folder.rglob("*") if not p.is_dir())
    return sorted(str(p) for p in found if p.name != JOURNAL_NAME)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files_below(folder)}


def outputs(inputs: list[Any], out: Path, format: str = "keep") -> list[str]:
    return sorted(str(f.output.relative_to(out)) for f in plan_library(inputs, out, format))


# --- the plan ----------------------------------------------------------------------


def test_folder_keeps_its_tree(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert outputs([tree], out) == TREE_OUTPUTS
    assert outputs([f"{tree}/"], out, "wav") == ["a.wav", "b.wav", "sub/c.wav", "sub/deep/d.wav"]
    assert outputs([tree], out, "flac") == ["a.flac", "b.FLAC", "sub/c.flac", "sub/deep/d.flac"]


def test_files_go_to_the_output_folder_and_are_rendered_once(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    deep = tree / "sub" / "deep" / "d.aif"
    assert outputs([deep, tree / "a.wav", deep], out) == ["a.wav", "d.wav"]
    assert outputs([tree, deep, tree / "sub" / ".." / "a.wav"], out) == TREE_OUTPUTS


def test_globs_keep_the_tree_below_their_fixed_part(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert outputs([f"{tree}/*"], out) == TREE_OUTPUTS
    assert outputs([f"{tree}/**/*.[aow]*"], out) == ["a.wav", "sub/c.flac", "sub/deep/d.wav"]
    assert outputs([f"{tree}/sub/**"], out) == ["c.flac", "deep/d.wav"]
    monkeypatch.chdir(tree)
    assert outputs(["*.wav", "s*b/*.ogg"], out) == ["a.wav", "sub/c.flac"]
    sound(tree / "[x].wav")
    assert outputs(["[x].wav"], out) == ["[x].wav"]


def test_output_folder_inside_the_input_is_no_input(tree: Path) -> None:
    for _ in range(2):
        report = render_library(FakePlayer(), [tree], tree / "out", overwrite=True, jobs=1)
        assert [f.status for f in report.files] == ["rendered"] * 4
    assert files_below(tree / "out") == TREE_OUTPUTS
    assert outputs([f"{tree}/*"], tree / "out") == TREE_OUTPUTS


def test_names_of_any_bytes(tmp_path: Path) -> None:
    source = sound(tmp_path / "plain.wav")
    names = ["new\nline.wav", "-dash.wav", "émoji 🎸.wav", "bytes\udcff.wav"]
    for name in names:
        os.link(source, tmp_path / name)
    report = render_library(FakePlayer(), [tmp_path / n for n in names], tmp_path / "out")
    assert not report.failed
    assert files_below(tmp_path / "out") == sorted(names)
    json.dumps(report.to_json()).encode("utf-8")
    assert all("\n" not in f.input + f.output for f in report.files)


def refused(match: str, inputs: list[Any], out: Path, **settings: Any) -> None:
    """The run fails before any work: nothing is written."""
    existed = out.exists()
    with pytest.raises(InputError, match=match) as caught:
        render_library(FakePlayer(), inputs, out, **settings)
    assert "\n" not in str(caught.value)
    assert out.exists() == existed


def test_two_inputs_with_one_output(tree: Path, tmp_path: Path) -> None:
    sound(tree / "a.flac")
    sound(tree / "a.aiff")
    out = tmp_path / "out"
    message = r"out/a\.wav: expected one input for each output, got .*/a\.aiff and .*/a\.wav"
    refused(message, [tree], out)
    refused(r"a\.wav \(1 more such outputs\)|\(1 more", [tree], out, format="wav")
    other = sound(tmp_path / "other" / "a.wav")
    refused("expected one input for each output", [tree / "a.wav", other], out)


def test_output_that_is_an_input(tree: Path, tmp_path: Path) -> None:
    message = "expected an output that is not an input of the run"
    refused(message, [tree], tree, overwrite=True)
    refused(message, [tree / "a.wav"], tree, overwrite=True)
    out = tmp_path / "out"
    out.mkdir()
    os.link(tree / "b.FLAC", out / "a.wav")
    refused(message, [tree], out, overwrite=True)
    link = tmp_path / "link"
    link.symlink_to(tree)
    refused(message, [tree], link, overwrite=True)


def test_inputs_that_match_nothing(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").touch()
    refused("empty: expected a folder with audio files .*found none", [tmp_path / "empty"], out)
    refused(r"none\.wav: expected a file, a folder or a glob, found", [tree / "none.wav"], out)
    refused(r"\*\.mp3: expected a pattern that matches audio files", [f"{tree}/*.mp3"], out)
    refused(r"\*\.txt: expected a pattern that matches audio files", [f"{tree}/*.txt"], out)
    refused("inputs: expected at least one file, folder or glob, got none", [], out)
    sound(tmp_path / "other.wav")
    refused("expected a file below", [f"{tree}/*/../../other.wav"], out)


def test_wrong_arguments(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused("expected a folder for the output, got a file", [tree], tree / "a.wav")
    refused("jobs: expected an integer of at least 1, got 0", [tree], out, jobs=0)
    refused("block_frames: expected an integer", [tree], out, block_frames=0)
    refused("format: expected one of keep, wav, flac, got 'mp3'", [tree], out, format="mp3")
    refused("subtype: expected one of keep, pcm_16", [tree], out, subtype="pcm_12")
    refused("for flac, got 'float'", [tree], out, format="flac", subtype="float")
    (tmp_path / "wet").write_text("a file")
    refused("expected a folder for the output, got a file", [tree], tmp_path / "wet")
    refused("isa: expected none for a ready player, got 'avx2'", [tree], out, isa="avx2")


# --- the run -----------------------------------------------------------------------


def test_renders_a_tree_and_reports_every_file(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[FileReport] = []
    planned: list[tuple[int, float]] = []

    class Seeing(Watcher):
        def on_plan(self, files: int, audio_seconds: float) -> None:
            planned.append((files, audio_seconds))

        def on_file(self, file: FileReport) -> None:
            seen.append(file)

    report = render_library(FakePlayer(0.5), [tree], out, jobs=2, watcher=Seeing())
    assert planned == [(4, pytest.approx(sum(range(3000, 3004)) / MODEL_RATE))]
    assert {file.input for file in seen} == {file.input for file in report.files}
    assert all(file in list(report.files) for file in seen)
    assert files_below(out) == TREE_OUTPUTS
    assert [Path(f.output).relative_to(out).as_posix() for f in report.files] == TREE_OUTPUTS
    assert report.count("rendered") == 4
    assert report.audio_seconds == pytest.approx(sum(range(3000, 3004)) / MODEL_RATE)
    assert report.realtime_factor == pytest.approx(report.audio_seconds / report.wall_seconds)
    assert all(f.wall_seconds > 0 and f.code is None and f.message is None for f in report.files)
    assert probe(out / "b.FLAC").channels == 2
    x_ct, _ = read_audio(tree / "a.wav")
    assert np.abs(read_audio(out / "a.wav")[0] - 0.5 * x_ct).max() <= 2**-15


def test_jobs_and_blocks_do_not_change_a_bit(tree: Path, tmp_path: Path) -> None:
    sound(tree / "rate.wav", 2500, 44_100)
    results = []
    for number, (jobs, block_frames) in enumerate([(1, 1 << 14), (2, 100), (7, 1)]):
        out = tmp_path / str(number)
        player = FakePlayer(0.5, 0.25)
        settings: dict[str, Any] = {"jobs": jobs, "block_frames": block_frames}
        report = render_library(
            player, [tree], out, processing=Processing(resample=True), **settings
        )
        assert not report.failed
        results.append(contents(out))
    assert results[0] == results[1] == results[2]


def test_bad_files_do_not_stop_the_others(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tree / "bad.wav").write_text("no sound")
    sound(tree / "rate.wav", rate=44_100)
    (tree / "link.wav").symlink_to("nowhere")
    (tree / "cut.wav").write_bytes((tree / "a.wav").read_bytes()[:1000])
    out.mkdir()
    (out / "a.wav").write_bytes(b"mine")
    (out / "sub").write_bytes(b"a file where a folder has to be")
    report = render_library(FakePlayer(), [tree], out, jobs=2)
    found = {Path(f.input).name: (f.status, f.code) for f in report.files}
    assert found == {
        "a.wav": ("failed", "E_EXISTS"),
        "b.FLAC": ("rendered", None),
        "bad.wav": ("failed", "E_FORMAT"),
        "cut.wav": ("failed", "E_TRUNCATED"),
        "link.wav": ("skipped", "E_LINK"),
        "rate.wav": ("failed", "E_RATE"),
        "c.ogg": ("failed", "E_WRITE"),
        "d.aif": ("failed", "E_WRITE"),
    }
    for file in report.failed:
        assert file.message is not None
        assert "\n" not in file.message
        assert Path(file.input).name in file.message or str(out) in file.message
    assert files_below(out) == ["a.wav", "b.FLAC", "sub"]
    assert (out / "a.wav").read_bytes() == b"mine"


def test_unforeseen_errors_fail_one_file(tree: Path, tmp_path: Path) -> None:
    class Broken(FakePlayer):
        def stream(self, channels: int = 1) -> Any:
            if channels == 2:
                raise LookupError("two\nlines")
            return super().stream(channels)

    report = render_library(Broken(), [tree], tmp_path / "out", jobs=1)
    (failed,) = report.failed
    assert (failed.code, Path(failed.input).name) == ("E_INTERNAL", "b.FLAC")
    assert failed.message == f"{tree / 'b.FLAC'}: LookupError: two lines"
    assert "b.FLAC" not in files_below(tmp_path / "out")


def test_overwrite_replaces(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    render_library(FakePlayer(0.5), [tree], out)
    before = contents(out)
    again = render_library(FakePlayer(0.25), [tree], out)
    assert [f.code for f in again.files] == ["E_EXISTS"] * 4
    assert contents(out) == before
    assert not render_library(FakePlayer(0.25), [tree], out, overwrite=True).failed
    assert all(contents(out)[name] != before[name] for name in before)


def test_dry_run_checks_and_writes_nothing(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tree / "bad.wav").write_text("no sound")
    sound(tree / "rate.wav", rate=44_100)
    report = render_library(one_layer_graph(1.0), [tree], out, dry_run=True)
    assert not out.exists()
    codes = {Path(f.input).name: (f.status, f.code) for f in report.files}
    assert codes["bad.wav"] == ("failed", "E_FORMAT")
    assert codes["rate.wav"] == ("failed", "E_RATE")
    assert codes["a.wav"] == ("planned", None)
    assert report.count("planned") == 4
    assert report.audio_seconds == pytest.approx(sum(range(3000, 3004)) / MODEL_RATE)
    render_library(FakePlayer(), [tree / "a.wav"], out)
    (existing,) = render_library(FakePlayer(), [tree / "a.wav"], out, dry_run=True).files
    assert existing.status == "done"
    (existing,) = render_library(FakePlayer(0.5), [tree / "a.wav"], out, dry_run=True).files
    assert existing.code == "E_EXISTS"


def test_report_is_json(tree: Path, tmp_path: Path) -> None:
    sound(tree / "rate.wav", rate=44_100)
    report = render_library(FakePlayer(4.0), [tree], tmp_path / "out")
    document = json.loads(json.dumps(report.to_json()))
    assert (document["rendered"], document["failed"], document["skipped"]) == (4, 1, 0)
    assert len(document["files"]) == 5
    assert document["clipped"] == sum(f["clipped"] for f in document["files"]) > 0


# --- interrupted and killed runs ------------------------------------------------------


def test_interrupt_leaves_no_unfinished_file(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sound(tree / "long.wav", 200_000)

    class Interrupting(Watcher):
        def on_file(self, file: FileReport) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_library(
            FakePlayer(seconds_per_block=0.05),
            [tree],
            out,
            jobs=2,
            block_frames=500,
            watcher=Interrupting(),
        )
    assert "long.wav" not in files_below(out)
    assert not [name for name in files_below(out) if name.endswith(".part")]


KILLED_RUN = """
import sys
sys.path[:0] = sys.argv[3:]
from fake_player import FakePlayer
from fxfast.rendering import render_library
player = FakePlayer(0.5, 0.25, seconds_per_block=0.02)
render_library(player, [sys.argv[1]], sys.argv[2], jobs=2, block_frames=500)
"""


def test_killed_run_shows_only_complete_files_and_the_next_run_cleans_up(
    tree: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    sound(tree / "long.wav", 500_000)
    render_library(FakePlayer(0.5, 0.25), [tree], whole)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    run = subprocess.Popen([sys.executable, "-c", KILLED_RUN, str(tree), str(out), *paths])
    try:
        deadline = time.monotonic() + 120
        while not ((out / "b.FLAC").exists() and list(out.glob(".fxfast-*.part"))):
            assert run.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert list(out.glob(".fxfast-*.part"))
    done = [name for name in files_below(out) if not name.endswith(".part")]
    assert "long.wav" not in done
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in done)
    report = render_library(FakePlayer(0.5, 0.25), [tree], out)
    assert not report.failed
    assert report.count("done") == len(done)
    assert contents(out) == contents(whole)


def test_only_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stay = [f".fxfast-{os.getpid()}-0.part", ".fxfast-1-x.part", "song.part", ".fxfast-a-0.part"]
    for name in [*stay, f".fxfast-{gone.pid}-0.part", f".fxfast-{os.getpid()}-1.part"]:
        (tmp_path / name).touch()
    (tmp_path / f".fxfast-{gone.pid}-1.part").mkdir()
    # Older than this process: the number belonged to another one.
    os.utime(tmp_path / f".fxfast-{os.getpid()}-1.part", (1000, 1000))
    assert remove_leftovers([tmp_path, tmp_path / "none"]) == 2
    assert sorted(os.listdir(tmp_path)) == sorted([*stay, f".fxfast-{gone.pid}-1.part"])


# --- with the engine ------------------------------------------------------------------


def test_graph_is_rendered_by_the_engine(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("fxfast._native", reason="the engine is not built")
    from fxfast.player import Player

    graph = one_layer_graph(0.5, -0.25, 1.0)
    report = render_library(graph, [tree], tmp_path / "graph", jobs=2)
    assert not report.failed
    again = render_library(Player(graph, threads=1), [tree], tmp_path / "player", jobs=1)
    assert not again.failed
    assert contents(tmp_path / "graph") == contents(tmp_path / "player")
