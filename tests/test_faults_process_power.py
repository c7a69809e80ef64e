"""Fault 33: power is lost at any moment of a run; what a disk may then hold is replayed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from library_faults import render, sound, three_files, visible

from fxfast.rendering import publish
from fxfast.rendering.journal import JOURNAL_NAME, decode_line

LONG = os.environ.get("FXFAST_LONG_TESTS") == "1"


class Event(NamedTuple):
    """``kind`` is data, journal, folder or rename; what came to the disk, or got a name."""

    kind: str
    path: str
    content: bytes = b""
    name: str = ""


class Recorder:
    """The order in which a run brings things to the disk, as the disk would see it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[Event] = []
        fsync, fdatasync, rename = os.fsync, os.fdatasync, publish._rename_new

        def name_of(fd: int) -> str:
            return os.readlink(f"/proc/self/fd/{fd}")

        def on_fsync(fd: int) -> None:
            path = name_of(fd)
            is_folder = os.path.isdir(path)
            content = b"" if is_folder else Path(path).read_bytes()
            fsync(fd)
            self.events.append(Event("folder" if is_folder else "data", path, content))

        def on_fdatasync(fd: int) -> None:
            fdatasync(fd)
            path = name_of(fd)
            self.events.append(Event("journal", path, Path(path).read_bytes()))

        def on_rename(temp: bytes, name: bytes, folder: int) -> None:
            where = Path(name_of(folder))
            rename(temp, name, folder)
            new = str(where / os.fsdecode(name))
            self.events.append(Event("rename", str(where / os.fsdecode(temp)), name=new))

        monkeypatch.setattr(publish.os, "fsync", on_fsync)
        monkeypatch.setattr(publish.os, "fdatasync", on_fdatasync)
        monkeypatch.setattr(publish, "_rename_new", on_rename)


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    folder = three_files(tmp_path / "in")
    for number in range(6):
        sound(folder / f"more{number}.wav", 500 + number)
    with monkeypatch.context() as patched:
        recorder = Recorder(patched)
        assert not render([folder], tmp_path / "out", jobs=2).failed
    assert sum(event.kind == "rename" for event in recorder.events) == 9
    return recorder.events


def disks(events: list[Event], cut: int) -> Iterator[dict[str, bytes]]:
    """What may be on the disk when power is lost while event ``cut`` goes on.

    A name is there for certain once its folder was brought to the disk after the rename, and may
    be there once the rename began; contents are those of the last fsync, and anything before the
    first. Of the journal's last lines, which were on their way, any part may be there.
    """
    done, going = events[:cut], events[cut : cut + 1]
    unfinished: dict[str, bytes] = {}  # temporary names are used again
    sure, maybe = {}, {}
    for at, event in enumerate(done + [event for event in going if event.kind == "rename"]):
        if event.kind == "data":
            unfinished[event.path] = event.content
        elif event.kind == "rename":
            content = unfinished.pop(event.path, b"never written")
            maybe[event.name] = content
            where = str(Path(event.name).parent)
            if any(e.kind == "folder" and e.path == where for e in done[at:]):
                sure[event.name] = content
    durable = [event.content for event in done if event.kind == "journal"]
    least = durable[-1] if durable else b""
    most = next((event.content for event in going if event.kind == "journal"), least)
    torn = most[: (len(least) + len(most)) // 2]
    path = next(event.path for event in events if event.kind == "journal")
    for names, journal in ((sure, least), (maybe, least), (sure, torn), (maybe, most)):
        yield {**unfinished, **names, path: journal}


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc to name descriptors")
def test_fault_case_33_power_lost_at_any_moment(tmp_path: Path, events: list[Event]) -> None:
    """Each disk of every cut: no name without its contents, and the next run ends the work,
    leaves nothing behind, and renders nothing that has its name again."""
    folder, out = tmp_path / "in", tmp_path / "out"
    whole = visible(out)
    for cut in range(0, len(events) + 1, 1 if LONG else 3):
        for number, disk in enumerate(disks(events, cut)):
            shutil.rmtree(out)
            for name, content in disk.items():
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_bytes(content)
            _restore_times(disk)
            where = f"cut {cut}, disk {number}"
            there = {n: c for n, c in visible(out).items() if not n.endswith(".part")}
            assert there.items() <= whole.items(), where
            again = render([folder], out)
            assert (again.count("failed"), visible(out)) == (0, whole), where
            assert render([folder], out).count("done") == 9, where


def _restore_times(disk: dict[str, bytes]) -> None:
    """The times that the journal has for files, which a replay must not make look edited; and for
    what was unfinished one before this process, as every process is newer after power is back."""
    for name, content in disk.items():
        if name.endswith(".part"):
            os.utime(name, (1, 1))
        if not name.endswith(JOURNAL_NAME):
            continue
        for line in content.splitlines(keepends=True):
            values = decode_line(line) or {}
            path = Path(name).parent / values.get("out", "")
            if "file" in values and path.is_file():
                os.utime(path, ns=(values["file"][1], values["file"][1]))


def test_fault_case_33_every_name_comes_to_the_disk(tmp_path: Path, events: list[Event]) -> None:
    """Its contents and its line before it, and its folder after it."""
    out = tmp_path / "out"
    for at, event in enumerate(events):
        if event.kind != "rename":
            continue
        before, after = events[:at], events[at:]
        assert any(e.kind == "data" and e.path == event.path for e in before)
        (*_, journal) = [e for e in before if e.kind == "journal"]
        below = os.path.relpath(event.name, out)
        assert f'"out":"{below}"'.encode() in journal.content
        where = str(Path(event.name).parent)
        assert any(e.kind == "folder" and e.path == where for e in after)
