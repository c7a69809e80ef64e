"""Runs that are killed at any moment, and what the next run makes of it.

Eight cycles in every run of the tests; all 200 with FXFAST_LONG_TESTS=1, as ``.ci/run`` sets it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from library_faults import FORKING, check_outputs, fork_run, render, sound, visible

from fxfast.rendering.journal import JOURNAL_NAME, decode_line

LONG = os.environ.get("FXFAST_LONG_TESTS") == "1"
CYCLES = 200 if LONG else 8
FILES = 500 if LONG else 60
JOBS = 2


def lines_of(out: Path) -> list[str]:
    """The outputs that whole lines of the journal name, in their order."""
    try:
        data = (out / JOURNAL_NAME).read_bytes()
    except FileNotFoundError:
        return []
    found = [decode_line(line) for line in data.splitlines(keepends=True)]
    return [line["out"] for line in found if line and "out" in line]


@pytest.mark.slow
@pytest.mark.skipif(not FORKING, reason="the system has no fork")
def test_fault_case_32_killed_at_any_moment_and_resumed(tmp_path: Path) -> None:
    """Killed 200 times at random, resumed each time: in the end every byte is as without."""
    folder = tmp_path / "in"
    for number in range(FILES):
        suffix = "flac" if number % 3 == 0 else "wav"
        sound(folder / str(number % 7) / f"{number}.{suffix}", 500 + 17 * (number % 40))
    whole_dir, out = tmp_path / "whole", tmp_path / "out"
    started = time.perf_counter()
    assert not render([folder], whole_dir, jobs=JOBS, isolate=True).failed
    took = time.perf_counter() - started
    whole = visible(whole_dir)
    chance = random.Random(0)
    rounds = 0
    done: set[str] = set()
    for _ in range(CYCLES):
        if len(done) == FILES:
            # It is all there: begin again, for another round of kills.
            assert visible(out) == whole
            rounds += 1
            out, done = tmp_path / f"out-{rounds}", set()
        noted = len(lines_of(out))
        run = fork_run([folder], out, jobs=JOBS, isolate=True)
        time.sleep(chance.uniform(0, 0.2 * took))
        os.kill(run, signal.SIGKILL)
        os.waitpid(run, 0)
        wait_for_the_worker(out)
        check_outputs(out, whole, temps=True)
        # Only files that were in hand are rendered again: never one that has its name.
        assert not done & set(lines_of(out)[noted:])
        done = {name for name in visible(out) if not name.endswith(".part")}
    report = render([folder], out, jobs=JOBS, isolate=True)
    assert not report.failed
    assert report.count("done") == len(done)
    assert visible(out) == whole


def wait_for_the_worker(out: Path) -> None:
    """The worker dies with its parent: then the lock of the journal is free."""
    import fcntl

    try:
        fd = os.open(out / JOURNAL_NAME, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                assert time.monotonic() < deadline, "the worker outlived its parent"
                time.sleep(0.001)
    finally:
        os.close(fd)


@pytest.mark.skipif(not FORKING, reason="the system has no fork")
@pytest.mark.parametrize("isolate", [True, False])
def test_fault_case_32_a_kill_renders_only_files_in_hand_again(
    tmp_path: Path, isolate: bool
) -> None:
    """Killed once, after some files: what had its name is not rendered again."""
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(30):
        sound(folder / f"{number}.wav", 2000 + number)
    run = fork_run([folder], out, jobs=JOBS, isolate=isolate, seconds_per_block=0.05)
    deadline = time.monotonic() + 120
    while len(visible(out)) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    wait_for_the_worker(out)
    named = {name for name in visible(out) if not name.endswith(".part")}
    report = render([folder], out, jobs=JOBS)
    assert not report.failed
    assert report.count("done") == len(named)
    # C2: what the killed run left unfinished is gone.
    assert len(visible(out)) == 30
