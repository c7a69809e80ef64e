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
    *(
        "write-eintr",
        "write-enospc",
        "write-edquot",
        "fsync-eio",
        "close-eio",
        "rename-exdev",
        "rename-eacces",
    ),
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
        timeout=3000,  # minutes on a machine that nobody else uses
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
    memory = ("mmap-enomem", "malloc-enomem")
    sweep(shim, tmp_path, (*memory, *(f"{name}-lasting" for name in memory)), 1)


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
