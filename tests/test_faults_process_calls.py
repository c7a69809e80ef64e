"""Calls of the system that fail: the Nth of each kind, in a run of three files.

Every run of the tests takes some of the points; ``FXFAST_LONG_TESTS=1``, as ``.ci/run`` sets it,
takes every one.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from library_faults import ROOT, codes, environment, render, three_files, visible

from fxfast.rendering import publish

LONG = os.environ.get("FXFAST_LONG_TESTS") == "1"
CALLS = (
    *("open-eio", "open-emfile", "read-short", "read-eio", "write-short", "write-eio"),
    *("write-eintr", "write-enospc", "fsync-eio", "close-eio", "rename-exdev", "rename-eacces"),
)
LASTING = tuple(f"{name}-lasting" for name in CALLS if name != "write-eintr")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that makes calls fail, compiled here."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler (cc)")
    library = tmp_path_factory.mktemp("shim") / "fail_calls.so"
    source = ROOT / "tests" / "fail_calls.c"
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"the C compiler cannot build the shim: {built.stderr[:200]}")
    return library


def sweep(shim: Path, folder: Path, kinds: tuple[str, ...], step: int) -> list[dict[str, object]]:
    """The results of ``fault_sweep.py``; on a disk in memory where there is one."""
    script = ROOT / "tests" / "fault_sweep.py"
    run = subprocess.run(
        [sys.executable, str(script), str(folder), "--step", str(step), *kinds],
        env=environment(LD_PRELOAD=str(shim)),
        capture_output=True,
        text=True,
        timeout=900,
    )
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(results) == len(kinds), run.stdout + run.stderr
    for result in results:
        assert result["violation_count"] == 0, result
    return results


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [CALLS, LASTING], ids=["once", "lasting"])
def test_fault_case_28_the_nth_call_fails(
    shim: Path, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    results = sweep(shim, tmp_path, kinds, 1 if LONG else 4)
    for result in results:
        # The last point is the first N that a run without a fault does not reach.
        assert result["last_n"] > 3, result
        assert (
            set(result["ends"]) - {"ok"}
            or "short" in str(result["fault"])
            or ("close" in str(result["fault"]) or "eintr" in str(result["fault"]))
        ), result


@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="minutes: FXFAST_LONG_TESTS=1")
def test_fault_case_28_memory_that_is_refused(shim: Path, tmp_path: Path) -> None:
    sweep(shim, tmp_path, ("mmap-enomem", "mmap-enomem-lasting"), 1)


def test_fault_case_29_a_failed_fsync_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system reports a lost write once: the file fails, and the next run renders it anew."""
    folder, out = three_files(tmp_path / "in"), tmp_path / "out"
    render([folder], tmp_path / "whole")
    asked: list[int] = []

    def fail_first(fd: int, fsync: object = os.fsync) -> None:
        asked.append(fd)
        if len(asked) == 1:
            raise OSError(errno.EIO, "Input/output error")
        fsync(fd)  # type: ignore[operator]

    monkeypatch.setattr(publish.os, "fsync", fail_first)
    report = render([folder], out, jobs=1)
    assert sorted(code or "" for code in codes(report.files).values()) == ["", "", "E_WRITE"]
    (failed,) = report.failed
    assert not Path(failed.output).exists()
    assert len(visible(out)) == 2
    again = render([folder], out)
    assert (again.count("rendered"), again.count("done")) == (1, 2)
    assert visible(out) == visible(tmp_path / "whole")


class Recorder:
    """The order in which a run brings things to the disk, as the disk would see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        fsync, fdatasync, rename = os.fsync, os.fdatasync, publish._rename_new

        def name_of(fd: int) -> str:
            return os.readlink(f"/proc/self/fd/{fd}")

        def on_fsync(fd: int) -> None:
            name = name_of(fd)
            fsync(fd)
            self.events.append(("folder" if os.path.isdir(name) else "data", name))

        def on_fdatasync(fd: int) -> None:
            fdatasync(fd)
            self.events.append(("journal", Path(name_of(fd)).read_text()))

        def on_rename(temp: bytes, name: bytes, folder: int) -> None:
            where = Path(name_of(folder))
            rename(temp, name, folder)
            pair = f"{where / os.fsdecode(temp)}\0{where / os.fsdecode(name)}"
            self.events.append(("rename", pair))

        monkeypatch.setattr(publish.os, "fsync", on_fsync)
        monkeypatch.setattr(publish.os, "fdatasync", on_fdatasync)
        monkeypatch.setattr(publish, "_rename_new", on_rename)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to name descriptors")
def test_fault_case_33_power_lost_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorded order of a run, cut after every event.

    What a disk may show after the cut: a name only after its rename began; contents surely only
    after their fsync. So at every cut each name that may be there must have its contents, and a
    line, on the disk.
    """
    folder, out = three_files(tmp_path / "in"), tmp_path / "out"
    for number in range(6):
        shutil.copy(folder / "a.wav", folder / f"more{number}.wav")
    recorder = Recorder(monkeypatch)
    assert not render([folder], out, jobs=2).failed
    events = recorder.events
    names = [value.split("\0") for kind, value in events if kind == "rename"]
    assert len(names) == 9
    for cut in range(len(events) + 1):
        before = events[:cut]
        data = {value for kind, value in before if kind == "data"}
        journal = next((v for kind, v in reversed(before) if kind == "journal"), "")
        for kind, value in events[: cut + 1]:  # the event that is going on may have happened
            if kind == "rename":
                temp, name = value.split("\0")
                assert temp in data, f"named before its contents are on the disk: {name}"
                below = os.path.relpath(name, out)
                assert f'"out":"{below}"' in journal, f"named before its line: {name}"
    folders = {value for kind, value in events if kind == "folder"}
    assert folders == {str(Path(name).parent) for _, name in names}
    last = {name: at for at, (kind, value) in enumerate(events) if kind == "rename"
            for name in [str(Path(value.split("\0")[1]).parent)]}  # fmt: skip
    for where, at in last.items():
        assert ("folder", where) in events[at:], "a rename that was not brought to the disk"
