"""Faults of processes: killed, crashed, stuck and starved workers, signals, two runs at once."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from fake_player import FakePlayer, one_layer_graph
from library_faults import (
    BEFORE,
    NOW,
    TrickyPlayer,
    check_outputs,
    children_of,
    codes,
    render,
    report_lines,
    sound,
    start_command,
    three_files,
    visible,
)

from fxfast import exchange
from fxfast.audio.sample_codings import SampleDecoder
from fxfast.cli import main
from fxfast.errors import InputError, LockedError
from fxfast.rendering import FileReport, RunOptions, Watcher, render_library
from fxfast.rendering.journal import Journal
from fxfast.rendering.plan import plan_library
from fxfast.rendering.supervise import Supervisor
from fxfast.rendering.work import RENDER, Work

MARK = 0.75


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return three_files(tmp_path / "in")


@pytest.fixture
def whole(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    """The reference: every file, rendered without a fault."""
    assert not render([folder], tmp_path / "whole").failed
    return visible(tmp_path / "whole")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    exchange.save(one_layer_graph(0.25, 0.5), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def wait_for(condition: Callable[[], object], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def pending(pid: int, number: int) -> bool:
    """Whether a signal has not come to a process yet: the same one again would be lost."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = re.findall(r"^(?:SigPnd|ShdPnd):\s+(\w+)", status, re.MULTILINE)
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


# --- 31: a stuck file --------------------------------------------------------------------


@pytest.mark.parametrize("isolate", [True, False])
def test_fault_case_31_a_slow_file_is_given_up_and_the_others_go_on(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, isolate: bool
) -> None:
    sound(folder / "slow.wav", 200_000, first=MARK)
    # In a process of its own it may be stuck for ever; a thread has to come back by itself.
    player = TrickyPlayer({MARK: lambda: time.sleep(600 if isolate else 4.0)})
    out = tmp_path / "out"
    started = time.perf_counter()
    report = render([folder], out, player, isolate=isolate, timeout_s=2.0, jobs=1)
    assert time.perf_counter() - started < 120
    assert codes(report.files)["slow.wav"] == "E_TIMEOUT"
    assert report.count("rendered") == 3
    check_outputs(out, whole)
    assert len(visible(out)) == 3


@pytest.mark.parametrize("name", ["slow.wav", "slow.flac"])
@pytest.mark.parametrize("part", ["header", "sound"])
def test_fault_case_31_a_read_that_never_returns(
    folder: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    part: str,
) -> None:
    """As of a server that is gone: the system holds the thread in the read until it is killed."""
    slow = sound(folder / name, 200_000)
    inode = slow.stat().st_ino
    silent, _keeps_it_open = os.pipe()

    def stuck(real: Callable[..., object]) -> Callable[..., object]:
        def read(*arguments: object) -> object:
            fd = arguments[0] if isinstance(arguments[0], int) else arguments[1]
            assert isinstance(fd, int)
            if os.fstat(fd).st_ino == inode:
                os.read(silent, 1)
            return real(*arguments)

        return read

    class Order(Watcher):
        seen: ClassVar[list[str]] = []

        def on_file(self, file: FileReport) -> None:
            self.seen.append(Path(file.input).name)

    if part == "header":
        monkeypatch.setattr(os, "pread", stuck(os.pread))
    else:
        monkeypatch.setattr(os, "preadv", stuck(os.preadv))
        monkeypatch.setattr(SampleDecoder, "read", stuck(SampleDecoder.read))
    Order.seen.clear()
    out = tmp_path / "out"
    options = RunOptions(isolate=True, timeout_s=2.0, jobs=2)
    started = time.perf_counter()
    report = render_library(
        FakePlayer(NOW, BEFORE), [folder], out, options=options, watcher=Order()
    )
    assert time.perf_counter() - started < 120  # it would be for ever
    expected = {"a.wav": None, "b.flac": None, "c.wav": None, name: "E_TIMEOUT"}
    assert codes(report.files) == expected, [file.message for file in report.failed]
    assert visible(out) == whole
    if part == "sound":  # the others did not wait for it
        assert Order.seen[-1] == name
    os.close(silent)
    os.close(_keeps_it_open)


# --- 34: signals ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fault_case_34_a_signal_lets_files_in_hand_end(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, model: Path, number: int
) -> None:
    for count in range(20):
        sound(folder / f"more{count}.wav", 20_000, seed=count)
    reference = tmp_path / "all"
    render([folder], reference)
    out, lines = tmp_path / "out", tmp_path / "report.jsonl"
    run = start_command(
        model, folder, "--out", out, "--report", lines, "--jobs", 2, "--grace", 90, seconds=0.4
    )
    wait_for(lambda: len(visible(out)) > 2)
    run.send_signal(number)
    printed, errors = run.communicate(timeout=120)
    assert (run.returncode, errors) == (130, b"")
    assert b"interrupted; the same command goes on where it stopped" in printed
    check_outputs(out, visible(reference))
    found = report_lines(lines)
    assert len(found) == 23
    states = {line["status"] for line in found}
    assert states == {"rendered", "failed"}
    assert {line["code"] for line in found} == {None, "E_STOPPED"}
    rendered = sum(line["status"] == "rendered" for line in found)
    assert rendered == len(visible(out))
    again = render([folder], out)
    assert again.count("done") == rendered
    assert visible(out) == visible(reference)


def test_fault_case_34_after_the_grace_time_and_twice_files_in_hand_are_given_up(
    folder: Path, tmp_path: Path, model: Path
) -> None:
    sound(folder / "long.wav", 5_000_000)  # two minutes of 0.4 s for each block
    reports = []
    for twice, out in ((False, tmp_path / "once"), (True, tmp_path / "twice")):
        lines = tmp_path / f"{twice}.jsonl"
        grace = 600 if twice else 0.5
        run = start_command(
            model, folder, "--out", out, "--report", lines, "--grace", grace, seconds=0.4
        )
        wait_for(lambda out=out: list(out.glob(".fxfast-*.part")))
        asked = time.monotonic()
        run.send_signal(signal.SIGINT)
        if twice:
            wait_for(lambda run=run: not pending(run.pid, signal.SIGINT))
            run.send_signal(signal.SIGINT)
        run.communicate(timeout=120)
        assert run.returncode == 130
        assert time.monotonic() - asked < 60
        assert not list(out.rglob("*.part"))
        reports.append(report_lines(lines))
    for found in reports:
        assert len(found) == 4
        (long,) = [line for line in found if line["input"].endswith("long.wav")]
        assert long["code"] == "E_STOPPED"


def test_fault_case_34_hangup_pipe_stop_and_continue_do_no_harm(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, model: Path
) -> None:
    out = tmp_path / "out"
    run = start_command(model, folder, "--out", out, seconds=0.3)
    run.stdout.close()  # whoever reads the summary is gone
    wait_for(lambda: list(out.rglob("*.part")) or visible(out))
    run.send_signal(signal.SIGHUP)
    for child in (run.pid, *children_of(run.pid)):
        os.kill(child, signal.SIGSTOP)
    time.sleep(0.3)
    for child in (run.pid, *children_of(run.pid)):
        os.kill(child, signal.SIGCONT)
    assert run.wait(timeout=120) == 0
    assert run.stderr.read() == b""
    assert visible(out) == whole


# --- 35: two runs ---------------------------------------------------------------------------


def test_fault_case_35_two_runs_on_one_output(
    folder: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    model: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    first = start_command(model, folder, "--out", out, "--jobs", 1, seconds=0.7)
    wait_for(lambda: list(out.rglob("*.part")) or visible(out))
    os.kill(first.pid, signal.SIGSTOP)  # it goes on, however slow this process is
    with pytest.raises(LockedError, match="expected no other run with this output folder"):
        render([folder], out)
    assert main(["render", str(model), str(folder), "--out", str(out)]) == 2
    assert "expected no other run with this output folder" in capsys.readouterr().err
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait(timeout=120) == 0
    first.communicate()
    assert visible(out) == whole
    assert render([folder], out).count("done") == 3


# --- 36: memory, killed workers -----------------------------------------------------------------


@pytest.mark.parametrize("isolate", [True, False])
def test_fault_case_36_memory_that_is_not_there_fails_one_file(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, isolate: bool
) -> None:
    sound(folder / "big.wav", 3000, first=MARK)
    held = []

    def allocate() -> None:
        held.append(np.ones(1 << 44, np.uint8))  # more than the address space allows

    out = tmp_path / "out"
    report = render([folder], out, TrickyPlayer({MARK: allocate}), isolate=isolate)
    assert codes(report.files)["big.wav"] == "E_NOMEM"
    assert report.count("rendered") == 3
    assert visible(out) == whole


def test_fault_case_36_a_limit_of_the_address_space_ends_cleanly(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, model: Path
) -> None:
    """Whatever the limit: the run ends, with a report or an error, and no output is wrong."""
    tests = str(Path(__file__).parent)
    script = (
        "import resource, sys; sys.path.insert(0, sys.argv[2])\n"
        "import numpy, soundfile, soxr, fxfast.exchange.safetensors, fxfast._native\n"
        "import fxfast.rendering.supervise, fxfast.player\n"
        "import importlib; from fake_player import FakePlayer\n"
        "lib = importlib.import_module('fxfast.rendering.render_library')\n"
        "lib._player_of = lambda model, isa, device: FakePlayer(0.5, 0.25)\n"
        "from fxfast.cli import main, render, library_watch\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "limit = used + int(float(sys.argv[1]) * 2**20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "sys.exit(main(sys.argv[3:]))\n"
    )
    command = ["render", str(model), str(folder), "--out"]
    ends = set()
    for room_mib in (1, 40, 600):
        out = tmp_path / f"out-{room_mib}"
        run = subprocess.run(
            [sys.executable, "-c", script, str(room_mib), tests, *command, str(out), "--jobs", "2"],
            capture_output=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": str(Path(tests).parent), "OMP_NUM_THREADS": "1"},
        )
        check_outputs(out, whole)
        ends.add(run.returncode)
    assert 0 in ends
    assert ends <= {0, 1}


def test_fault_case_36_the_budget_of_memory_is_kept(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"memory: expected at least \d+ MiB for this run, got 1"):
        render([folder], tmp_path / "out", memory_mib=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = render([folder], tmp_path / "out", memory_mib=before + 20, jobs=16)
    assert report.count("rendered") == 3


def test_fault_case_36_a_killed_worker_is_noticed_at_once(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    plan = plan_library([folder], out)
    player = TrickyPlayer({})
    player.seconds_per_block = 0.3
    work = Work(plan, (player,), ("run",), np.zeros(3, np.uint8), Journal(out), 1, 1)
    supervisor = Supervisor(work)
    killed_at = None
    results = []
    for result in supervisor.run((RENDER, job) for job in range(3)):
        if result is not None:
            results.append(result)
        elif killed_at is None and supervisor.worker_pid and list(out.rglob("*.part")):
            first = supervisor.worker_pid
            os.kill(first, signal.SIGKILL)
            killed_at = time.monotonic()
        elif killed_at and first and supervisor.worker_pid != first:
            # A tick of a tenth of a second, and a fork; a worker that is only silent has 5 s.
            assert time.monotonic() - killed_at < 4.0
            first = 0
    supervisor.close()
    assert first == 0
    assert sorted(r["job"] for r in results) == [0, 1, 2]
    assert not any("error" in r for r in results)
    check_outputs(out, whole, temps=True)


# --- 37: crashes --------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
def test_fault_case_37_a_crash_fails_the_file_that_crashes(
    folder: Path, whole: dict[str, bytes], tmp_path: Path, jobs: int
) -> None:
    sound(folder / "poison.wav", 9000, first=MARK)
    tries = tmp_path / "tries"

    def crash() -> None:
        with open(tries, "a") as file:
            file.write("x")
        faulthandler.disable()
        ctypes.string_at(0)

    out = tmp_path / "out"
    report = render([folder], out, TrickyPlayer({MARK: crash}), isolate=True, jobs=jobs)
    assert codes(report.files) == {
        "a.wav": None,
        "b.flac": None,
        "c.wav": None,
        "poison.wav": "E_CRASH",
    }
    (failed,) = report.failed
    assert "ended the worker process 2 times (SIGSEGV), given up" in failed.message
    assert tries.read_text() == "xx"
    check_outputs(out, whole)
    assert len(visible(out)) == 3
    json.dumps(report.to_json())


def test_fault_case_37_a_file_that_exits_the_process_is_the_same(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    sound(folder / "poison.wav", 9000, first=MARK)
    out = tmp_path / "out"
    report = render([folder], out, TrickyPlayer({MARK: lambda: os._exit(3)}), isolate=True)
    assert codes(report.files)["poison.wav"] == "E_CRASH"
    assert report.count("rendered") == 3
    check_outputs(out, whole)


def test_render_library_isolated_gives_the_samples_of_threads(folder: Path, tmp_path: Path) -> None:
    graph = one_layer_graph(0.25, 0.5)
    pytest.importorskip("fxfast._native", reason="the engine is not built")
    for isolate in (True, False):
        options = RunOptions(isolate=isolate)
        report = render_library(graph, [folder], tmp_path / str(isolate), options=options)
        assert report.exit_code == 0
    assert visible(tmp_path / "True") == visible(tmp_path / "False")
