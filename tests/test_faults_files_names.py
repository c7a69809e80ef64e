"""Faults of file systems: what is no file, links, names, collisions, folders in the way."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from library_faults import (
    FORKING,
    TrickyPlayer,
    check_outputs,
    codes,
    hashes,
    render,
    report_lines,
    sound,
    three_files,
    visible,
    without_privileges,
)

from fxfast.audio.files import open_audio, probe, read_audio
from fxfast.errors import CollisionError, InputError, NotFileError, OutputFolderError
from fxfast.rendering import OutputNames, RunOptions, render_library
from fxfast.rendering.plan import folds_case, plan_library

MARK = 0.75
REFUSED_S = 0.1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return three_files(tmp_path / "in")


def outcome(
    inputs: list[Any], out: Path, *, names: OutputNames | None = None, **more: Any
) -> dict[str, str | None]:
    """Codes by name, after the common checks C3 and C4."""
    report = render_library(TrickyPlayer({}), inputs, out, names=names, **more)
    lines = out.parent / "report.jsonl"
    report.files.write_lines(lines)
    assert len(report_lines(lines)) == len(report.files)
    assert not list(out.rglob("*.part"))
    return codes(report.files)


# --- 19 ------------------------------------------------------------------------------


def _append(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(bytes(4096))


def _overwrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(200)
        file.write(bytes(4096))


def _replace(path: Path) -> None:
    other = sound(path.with_name("other.tmp.wav"), 60_000, seed=9)
    os.replace(other, path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_append, {"E_CHANGED"}),
        (_overwrite, {"E_CHANGED"}),
        (_replace, {"E_CHANGED"}),
        (lambda path: os.truncate(path, 50_000), {"E_CHANGED", "E_TRUNCATED"}),
        (os.unlink, {"E_CHANGED"}),
    ],
    ids=["growing", "overwritten", "replaced", "truncated", "removed"],
)
def test_fault_case_19_inputs_that_change_while_they_are_read(
    folder: Path, tmp_path: Path, change: Callable[[Path], None], expected: set[str]
) -> None:
    render([folder], tmp_path / "whole")
    victim = sound(folder / "victim.wav", 60_000, first=MARK)
    out = tmp_path / "out"
    player = TrickyPlayer({MARK: lambda: change(victim)})
    report = render([folder], out, player, jobs=1)
    assert codes(report.files)["victim.wav"] in expected
    check_outputs(out, visible(tmp_path / "whole"))
    assert len(visible(out)) == 3


# --- 20 ------------------------------------------------------------------------------


def test_fault_case_20_what_is_no_file_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    (folder / "folder.wav").mkdir()
    os.mkfifo(folder / "fifo.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.getcwd()
        os.chdir(folder)  # the name of a socket is short
        try:
            listening.bind("socket.wav")
        finally:
            os.chdir(here)
    made = {"folder.wav", "fifo.wav", "socket.wav"}
    if os.geteuid() == 0:
        try:
            os.mknod(folder / "zero.wav", stat.S_IFCHR | 0o666, os.makedev(1, 5))
            made.add("zero.wav")
        except PermissionError:
            pass  # a container without devices
    found = outcome([folder], tmp_path / "out")
    assert {name for name, code in found.items() if code == "E_NOTFILE"} == made
    # Named one by one they are refused too, and at once: nothing waits for a writer or reads on.
    named = [folder / name for name in made if name != "folder.wav"]
    for path in (*named, Path("/dev/zero"), Path("/dev/full")):
        (code,) = outcome([path], tmp_path / "named").values()
        assert code == "E_NOTFILE", path
    for path in (*named, folder / "folder.wav", Path("/dev/zero"), Path("/dev/full")):
        assert refused_within_s(path) < REFUSED_S, path


def refused_within_s(path: Path) -> float:
    """The shortest of a few waits for the refusal of what is no file: others use this machine."""
    waits = []
    for opened in (probe, open_audio, read_audio) * 3:
        started = time.perf_counter()
        with pytest.raises(NotFileError):
            opened(path)
        waits.append(time.perf_counter() - started)
    return min(waits)


@pytest.mark.skipif(not FORKING, reason="the system has no fork")
def test_fault_case_20_a_file_that_may_not_be_read(folder: Path, tmp_path: Path) -> None:
    (folder / "a.wav").chmod(0)
    (folder / "shut").mkdir(0)

    def check() -> None:
        found = outcome([folder], tmp_path / "out")
        expected = {"a.wav": "E_NOTFILE", "b.flac": None, "c.wav": None, "shut": "E_NOTFILE"}
        assert found == expected
        assert refused_within_s(folder / "a.wav") < REFUSED_S

    assert without_privileges(check)


# --- 21 ------------------------------------------------------------------------------


def test_fault_case_21_links(folder: Path, tmp_path: Path) -> None:
    secret = sound(tmp_path / "secret" / "s.wav")
    (folder / "loop.wav").symlink_to("loop.wav")
    (folder / "sub" / "up").symlink_to(folder)
    (folder / "out.wav").symlink_to(secret)
    (folder / "away").symlink_to(secret.parent)
    (folder / "alias.wav").symlink_to("a.wav")
    os.link(folder / "a.wav", folder / "hard.wav")
    plain = outcome([folder], tmp_path / "plain")
    assert {name for name, code in plain.items() if code == "E_LINK"} == {
        "loop.wav",
        "out.wav",
        "alias.wav",
    }
    assert set(visible(tmp_path / "plain")) == {"a.wav", "b.flac", "hard.wav", "sub/c.wav"}
    followed = outcome([folder], tmp_path / "out", options=RunOptions(follow=True))
    assert followed["loop.wav"] == "E_NOTFILE"
    assert followed["out.wav"] == "E_OUTSIDE"
    # A folder is entered once; every name of a file in it has an output.
    assert set(visible(tmp_path / "out")) == {
        *("a.wav", "alias.wav", "b.flac", "hard.wav", "sub/c.wav")
    }


def test_fault_case_21_folders_that_lead_into_each_other(folder: Path, tmp_path: Path) -> None:
    sound(folder / "one" / "x.wav")
    sound(folder / "two" / "y.wav")
    (folder / "one" / "to-two").symlink_to("../two")
    (folder / "two" / "to-one").symlink_to("../one")
    (folder / "one" / "self").symlink_to(".")
    report = render([folder], tmp_path / "out", follow=True)
    assert (report.count("rendered"), len(report.files)) == (5, 5)
    # One file by several ways of naming it is one job: where the first of them puts it.
    ways = [folder / "sub" / "c.wav", folder / "sub", folder / "one" / ".." / "sub" / "c.wav"]
    again = render(ways, tmp_path / "ways")
    assert (again.count("rendered"), len(again.files)) == (1, 1)


def _remove_chain(top: Path) -> None:
    """Remove folders too deep for a path: each time the second takes the place of the first."""
    while (top / "d").exists():
        if (top / "d" / "d").exists():
            os.rename(top / "d" / "d", top / "next")
            os.rmdir(top / "d")
            os.rename(top / "next", top / "d")
        else:
            os.rmdir(top / "d")


@pytest.mark.slow
def test_fault_case_21_a_tree_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    top = tmp_path / "in"
    sound(top / "a.wav")
    fd = os.open(top, os.O_RDONLY)
    try:
        for _ in range(10_000):
            os.mkdir("d", dir_fd=fd)
            inner = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(fd)
        started = time.perf_counter()
        report = render([top], tmp_path / "out")
        assert time.perf_counter() - started < 120  # every folder of it by its whole path: hours
    finally:
        _remove_chain(top)
    # What lies deeper than a path can be long has its line too.
    (line,) = report.failed
    assert (line.code, report.count("rendered")) == ("E_NOTFILE", 1)
    assert "cannot list the folder: File name too long" in line.message


# --- 22 ------------------------------------------------------------------------------


def test_fault_case_22_lists_do_not_lead_out(folder: Path, tmp_path: Path) -> None:
    sound(tmp_path / "secret.wav")
    (folder / "link.wav").symlink_to("../secret.wav")
    rows = [
        *(b"../secret.wav", b"../../etc/passwd", b"/etc/passwd", b"sub/../../secret.wav"),
        *(b"a\0b.wav", b"C:\\x.wav", b"\\\\server\\share\\x.wav", b"//server/x.wav", b"link.wav"),
    ]
    good = [b"a.wav", b"./sub/../b.flac", os.fsencode(folder / "sub" / "c.wav")]
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"\r\n".join([*good[:1], *rows, *good[1:]]) + b"\n\n")
    out = tmp_path / "out"
    report = render_library(TrickyPlayer({}), [], out, listed=listed, list_root=folder)
    assert [file.code for file in report.files] == [None, *["E_OUTSIDE"] * 9, None, None]
    assert set(visible(out)) == {"a.wav", "b.flac", "sub/c.wav"}
    assert {p.name for p in tmp_path.iterdir()} == {"in", "list.txt", "out", "secret.wav"}


def test_fault_case_22_outputs_stay_below_their_folder(folder: Path, tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(elsewhere)
    found = outcome([folder], out)
    assert found == {"a.wav": None, "b.flac": None, "c.wav": "E_OUTSIDE"}
    assert not list(elsewhere.iterdir())
    for pattern in ("../{path}", "/tmp/{path}", "x/../../{path}", "{path}\0"):
        with pytest.raises(InputError, match="expected a path below the output folder"):
            outcome([folder], tmp_path / "never", names=OutputNames(pattern=pattern))
    assert not (tmp_path / "never").exists()


# --- 23 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pair",
    [
        ("a.wav", "a.aiff"),
        ("A.wav", "a.wav"),
        (unicodedata.normalize("NFC", "é.wav"), unicodedata.normalize("NFD", "é.wav")),
        ("STRASSE.wav", "straße.wav"),
    ],
    ids=["suffix", "case", "normal-form", "case-folding"],
)
def test_fault_case_23_collisions_are_found_in_the_plan(
    tmp_path: Path, pair: tuple[str, str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for number, name in enumerate(pair):
        sound(folder / name.replace(".aiff", ".wav"), 100 + number)
        if name.endswith(".aiff"):
            os.rename(folder / "a.wav", folder / name)
            sound(folder / "a.wav", 100)
    if len(os.listdir(folder)) < 2:
        pytest.skip("the disk of the tests holds only one of these names")
    with pytest.raises(CollisionError, match="expected one input for each output") as caught:
        render([folder], out)
    assert caught.value.code == "E_COLLISION"
    ((one, other),) = caught.value.details["pairs"]
    assert {Path(one).name, Path(other).name} == set(pair)
    assert not out.exists()
    if pair[0] == "a.wav":
        names = OutputNames(keep_suffix=True)
        assert {f.output.name for f in plan_library([folder], out, names=names)} == {
            "a.wav",
            "a.aiff.wav",
        }
    elif not folds_case(tmp_path):
        names = OutputNames(allow_similar=True)
        assert outcome([folder], out, names=names) == {pair[0]: None, pair[1]: None}


def test_fault_case_23_more_names_that_meet(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    sound(folder / "x.wav")
    sound(folder / "x.wav.wav")
    assert len(plan_library([folder], out)) == 2
    names = OutputNames(format="flac", keep_suffix=True)
    sound(folder / "x.wav.flac")
    with pytest.raises(CollisionError):
        plan_library([folder], out, names=names)
    with pytest.raises(InputError, match=r"models: expected names that differ"):
        plan_library([folder], out, models=("clean", "Clean"))
    with pytest.raises(InputError, match=r"expected \{model\} in it for 2 models"):
        plan_library([folder], out, names=OutputNames(pattern="{path}"), models=("a", "b"))


# --- 24 ------------------------------------------------------------------------------


def test_fault_case_24_any_name(tmp_path: Path) -> None:
    source = sound(tmp_path / "plain.wav")
    names = [
        *("🎸 emoji.wav", "\u05d0\u202e rtl.wav", "new\nline.wav", "-dash.wav", "trailing .wav"),
        *("dot..wav", "back\\slash.wav", "n" * 251 + ".wav", "bytes\udcff\udc80.wav"),
    ]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        shutil.copy(source, folder / name)
    out, lines = tmp_path / "out", tmp_path / "report.jsonl"
    report = render([folder], out)
    report.files.write_lines(lines)
    assert set(visible(out)) == set(names)
    found = report_lines(lines)  # which is UTF-8, and JSON
    assert len(found) == len(names)
    shown = [os.fsdecode(bytes.fromhex(line["input_hex"])) for line in found if "input_hex" in line]
    assert str(folder / "new\nline.wav") in shown
    assert str(folder / "bytes\udcff\udc80.wav") in shown
    assert all("\n" not in line["input"] for line in found)
    json.dumps(report.to_json()).encode("utf-8")
    assert render([folder], out).count("done") == len(names)


# --- 25, 26 ------------------------------------------------------------------------------


def test_fault_case_25_inputs_are_only_read(folder: Path, tmp_path: Path) -> None:
    before = hashes(folder)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        assert set(outcome([folder], tmp_path / "a" / "b" / "out").values()) == {None}
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == times
    finally:
        for path in (folder, folder / "sub"):
            path.chmod(0o755)
    assert hashes(folder) == before


def test_fault_case_25_outputs_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    places = [tmp_path / "file", tmp_path / "file" / "out", Path("/proc/fxfast/out")]
    (tmp_path / "closed").mkdir(0o555)
    (tmp_path / "blocked" / ".fxfast-journal.jsonl").mkdir(parents=True)
    places.append(tmp_path / "blocked")

    def refused(place: Path) -> None:
        with pytest.raises(OutputFolderError) as caught:
            render([folder], place)
        assert caught.value.code == "E_OUTDIR"

    for place in places:
        refused(place)
    assert without_privileges(lambda: refused(tmp_path / "closed"))
    other = Path("/dev/shm")
    if other.is_dir() and other.stat().st_dev != tmp_path.stat().st_dev:
        out = other / f"fxfast-test-{os.getpid()}"
        try:
            assert set(outcome([folder], out / "out").values()) == {None}
        finally:
            shutil.rmtree(out)


def test_fault_case_26_an_output_is_never_an_input(folder: Path, tmp_path: Path) -> None:
    before = hashes(folder)
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(folder)
    hard.mkdir()
    os.link(folder / "b.flac", hard / "a.wav")
    for out in (folder, link, hard):
        for overwrite in (False, True):
            with pytest.raises(CollisionError, match="expected an output that is not an input"):
                render([folder], out, overwrite=overwrite)
    assert hashes(folder) == before
    assert os.listdir(hard) == ["a.wav"]
