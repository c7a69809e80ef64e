"""Faults of disks and limits: full, few descriptors, many files; and of the journal."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_player import one_layer_graph
from library_faults import (
    FORKING,
    check_outputs,
    codes,
    environment,
    fork_run,
    hashes,
    render,
    sound,
    three_files,
    visible,
)

from fxfast import exchange
from fxfast.rendering import Processing, render_library
from fxfast.rendering import plan as planning
from fxfast.rendering.journal import JOURNAL_NAME, decode_line, encode_line
from fxfast.rendering.output_names import OutputNames
from fxfast.rendering.scan import scan_list
from fxfast.rendering.work_key import run_line

LONG = os.environ.get("FXFAST_LONG_TESTS") == "1"
# The least that any file system tells times apart by: some have no more than even seconds.
TICK_NS = 2 * 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return three_files(tmp_path / "in")


@pytest.fixture
def whole(folder: Path, tmp_path: Path) -> dict[str, bytes]:
    assert not render([folder], tmp_path / "whole").failed
    return visible(tmp_path / "whole")


# --- 27 -----------------------------------------------------------------------------------


@pytest.mark.skipif(not FORKING, reason="the system has no fork")
def test_fault_case_27_no_room_at_any_byte(tmp_path: Path) -> None:
    """RLIMIT_FSIZE at every byte of the largest output, the journal's lines too; at one in 23
    where the tests are not long. Room again, and the same run ends the work."""
    folder, out = tmp_path / "in", tmp_path / "out"
    sound(folder / "a.wav", 300)
    sound(folder / "b.flac", 200, channels=2)
    sound(folder / "sub" / "c.wav", 100)
    assert not render([folder], tmp_path / "whole").failed
    whole = visible(tmp_path / "whole")
    journal = (tmp_path / "whole" / JOURNAL_NAME).stat().st_size
    last = max(journal, *map(len, whole.values()))
    failed = 0
    for limit in range(1, last + 2, 1 if LONG else 23):
        shutil.rmtree(out, ignore_errors=True)
        end = _run_with_room(folder, out, limit)
        assert end in (0, 1, 3), f"limit {limit}"
        failed += end != 0
        check_outputs(out, whole)
        before = len(visible(out))
        again = render([folder], out)
        assert (again.count("done"), again.count("failed")) == (before, 0), f"limit {limit}"
        assert visible(out) == whole
    assert failed > last // (2 if LONG else 46)


def _run_with_room(folder: Path, out: Path, limit: int) -> int:
    """How a run ends whose files may have ``limit`` bytes: 3 where it could not begin."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            report = render([folder], out, jobs=1)
            known = {"E_NOSPACE", "E_STOPPED", None}
            code = report.exit_code if set(codes(report.files).values()) <= known else 98
        except Exception as error:
            code = 3 if getattr(error, "code", "") == "E_OUTDIR" else 97
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_fault_case_27_a_full_disk_stops_the_run_and_room_lets_it_go_on(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    disk, folder = tmp_path / "disk", tmp_path / "in"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "fxfast-test", str(disk)], capture_output=True
    )
    if done.returncode:
        pytest.skip("this container may not mount a tmpfs")
    try:
        for number in range(12):
            sound(folder / f"{number}.wav", 50_000, seed=number)  # 200 kB each
        whole = tmp_path / "whole"
        render([folder], whole)
        report = render([folder], disk / "out", jobs=1)
        found = list(codes(report.files).values())
        assert found.count("E_NOSPACE") >= 3
        assert "E_STOPPED" in found  # no new work after three
        assert set(found) <= {None, "E_NOSPACE", "E_STOPPED"}
        assert any(note.startswith("disk: the outputs need") for note in report.notes)
        check_outputs(disk / "out", visible(whole))
        rendered = found.count(None)
        assert rendered >= 3
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        again = render([folder], disk / "out")
        assert (again.count("done"), again.count("failed")) == (rendered, 0)
        assert visible(disk / "out") == visible(whole)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- 30 -----------------------------------------------------------------------------------


@pytest.mark.skipif(not FORKING, reason="the system has no fork")
def test_fault_case_30_few_descriptors(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(30):
        sound(folder / f"{number}.wav", 500 + number)
    render([folder], tmp_path / "whole")
    used = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 16
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 32, before[1]))
    try:
        pid = fork_run([folder], out, jobs=16)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert visible(out) == visible(tmp_path / "whole")


MEASURE = """
import sys
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
from pathlib import Path
from fxfast.rendering.output_names import OutputNames
from fxfast.rendering.plan import plan_table
from fxfast.rendering.scan import scan_inputs, scan_list
kind, given, out = sys.argv[1:]
before = resident()
table = scan_list(given, Path(given).parent) if kind == "list" else scan_inputs([given])
plan = plan_table(table, out, OutputNames())
print(len(plan), resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc to see memory")
@pytest.mark.parametrize("kind", ["folder", "list"])
def test_fault_case_30_many_files_take_little_memory(tmp_path: Path, kind: str) -> None:
    """200,000 files in one folder, and a list of 1,000,000 lines; a tenth where it is not long."""
    files = 200_000 if LONG else 20_000
    (tmp_path / "in").mkdir()
    for number in range(files):
        os.close(os.open(tmp_path / "in" / f"song number {number:07}.wav", os.O_CREAT))
    given = tmp_path / "in"
    if kind == "list":
        given = tmp_path / "list.txt"
        rows = 5 * files
        with open(given, "w") as file:
            # Names of one folder, and of links to it, so that every line is a path of its own.
            for number in range(5):
                (tmp_path / f"in{number}").symlink_to("in")
            for row in range(rows):
                file.write(f"in{row % 5}/song number {row // 5:07}.wav\n")
        files = rows
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(given), str(tmp_path / "out")],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    planned, grown = map(int, done.stdout.split())
    assert planned == files
    # Names have 23 bytes. What a piece of a folder takes on its way is there once.
    assert grown < 160 * files + (4 << 20)


NOTHING_TO_DO = """
import re, sys
from fxfast.cli import main
code = main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
print(1024 * int(peak))
sys.exit(code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc to see memory")
@pytest.mark.parametrize("folders", [1, 1000])
def test_fault_case_30_nothing_to_do_takes_little_memory(tmp_path: Path, folders: int) -> None:
    """A library of 100,000 files that are done, in one folder or in 1,000; a tenth where it is not
    long. Beside the same command for one file, each takes its name and little more."""
    files = 100_000 if LONG else 10_000
    command = [sys.executable, "-c", NOTHING_TO_DO]
    peaks = []
    for count in (1, files):
        base = tmp_path / str(count)
        model = done_library(base, count, min(folders, count))
        done = subprocess.run(
            [*command, "render", model, base / "in", "--out", base / "out"],
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"done before: {count} files" in done.stdout
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 160 * files + (4 << 20)


def done_library(base: Path, files: int, folders: int) -> Path:
    """A model, inputs, outputs, and a journal that knows them, without rendering any."""
    model = base / "model.safetensors"
    for part in ("in", "out"):
        for number in range(folders):
            (base / part / f"folder {number:04}").mkdir(parents=True)
    exchange.save(one_layer_graph(0.5), model)
    settings = {**Processing().key(), "subtype": "keep"}
    first = run_line(exchange.load(model), settings)
    lines = [encode_line(first)]
    for number in range(files):
        name = f"folder {number % folders:04}/song number {number:07}.wav"
        state = []
        for part in ("in", "out"):
            os.close(os.open(base / part / name, os.O_CREAT))
            found = os.stat(base / part / name)
            state.append([found.st_size, found.st_mtime_ns])
        line = {"out": name, "in": str(base / "in" / name), "id": state[0], "run": first["run"]}
        lines.append(encode_line({**line, "file": state[1]}))
    (base / "out" / JOURNAL_NAME).write_bytes(b"".join(lines))
    return model


def test_fault_case_30_a_list_names_what_it_cannot_read(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"none{n}.wav\n" for n in range(2000)) + "a.wav\n")
    table = scan_list(listed, folder)
    plan = planning.plan_table(table, tmp_path / "out", OutputNames())
    assert len(plan) == 2001
    report = render_library(_player(), [], tmp_path / "out", listed=listed, list_root=folder)
    assert (report.count("failed"), report.count("rendered")) == (2000, 1)


def _player() -> object:
    from fake_player import FakePlayer

    return FakePlayer(0.5, 0.25)


# --- 38 -----------------------------------------------------------------------------------


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _garbage(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    noise = [b"\0\xff garbage\n", b'{"crc":"00000000","out":"a.wav"}\n', b"[" * 100_000 + b"\n"]
    path.write_bytes(b"".join([*noise, *lines, b"no newline at the end"]))


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _newer(path: Path) -> None:
    lines = [decode_line(line) or {} for line in path.read_bytes().splitlines(keepends=True)]
    for line in lines:
        line.pop("crc")
        line["version"] = 2
        line.pop("file", None)  # whatever a later version says in another way
    path.write_bytes(b"".join(map(encode_line, lines)))


def _wrong_types(path: Path) -> None:
    lines = [{"out": 3, "in": [], "id": None, "run": {}, "file": "x"}, {"version": []}, {}]
    path.write_bytes(path.read_bytes() + b"".join(map(encode_line, lines)))


@pytest.mark.parametrize(
    ("damage", "fewest_done"),
    [
        (_torn, 2),
        (_twice, 3),
        (_garbage, 3),
        (_flipped, 2),
        (_newer, 0),
        (_wrong_types, 3),
        (os.unlink, 0),
    ],
    ids=["torn", "twice", "garbage", "flipped", "newer", "types", "deleted"],
)
def test_fault_case_38_a_damaged_journal_is_rebuilt(
    folder: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    damage: Callable[[Path], None],
    fewest_done: int,
) -> None:
    """What no line vouches for is rendered and compared, not trusted, and then in the journal."""
    out = tmp_path / "out"
    render([folder], out, jobs=1)
    damage(out / JOURNAL_NAME)
    again = render([folder], out)
    assert not again.failed
    assert fewest_done <= again.count("done") <= 3
    assert visible(out) == whole
    assert render([folder], out).count("done") == 3


def test_fault_case_38_a_line_is_believed_only_with_its_output(
    folder: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    render([folder], out)
    (out / "a.wav").write_bytes(b"edited")
    state = (out / "b.flac").stat()
    os.utime(out / "b.flac", ns=(state.st_atime_ns, state.st_mtime_ns + TICK_NS))
    (out / "sub" / "c.wav").unlink()
    assert render([folder], out).count("rendered") == 3
    assert visible(out) == whole
    # A file of somebody else's is never replaced where the journal is whole or is lost.
    for lose in (False, True):
        sound(folder / "new.wav", 700)
        (out / "new.wav").write_bytes(b"mine")
        if lose:
            (out / JOURNAL_NAME).unlink()
        report = render([folder], out)
        assert codes(report.failed) == {"new.wav": "E_EXISTS"}
        assert (out / "new.wav").read_bytes() == b"mine"


# --- 39 -----------------------------------------------------------------------------------


def test_fault_case_39_clocks_do_not_matter_but_contents_can(folder: Path, tmp_path: Path) -> None:
    out, hashed = tmp_path / "out", tmp_path / "hashed"
    far = time.time_ns() + 365 * 24 * 3600 * 10**9
    os.utime(folder / "a.wav", ns=(far, far))  # the future
    os.utime(folder / "b.flac", ns=(0, 0))  # a clock that jumped back
    assert not render([folder], out).failed
    assert not render([folder], hashed, by_hash=True).failed
    assert render([folder], out).count("done") == 3
    assert render([folder], hashed, by_hash=True).count("done") == 3
    # Another time and the same contents: new by time, known by contents.
    os.utime(folder / "a.wav", ns=(far + TICK_NS, far + TICK_NS))
    assert render([folder], hashed, by_hash=True).count("done") == 3
    assert render([folder], out).count("rendered") == 1
    # The same size and time and other contents: only the contents tell.
    state = (folder / "a.wav").stat()
    sound(folder / "a.wav", 3000, seed=5)
    os.utime(folder / "a.wav", ns=(state.st_atime_ns, state.st_mtime_ns))
    before = hashes(out)
    assert render([folder], out).count("done") == 3
    assert hashes(out)["a.wav"] == before["a.wav"]
    again = render([folder], hashed, by_hash=True)
    assert (again.count("rendered"), again.count("done")) == (1, 2)
    assert hashes(hashed)["a.wav"] != before["a.wav"]
