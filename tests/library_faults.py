"""What the tests of faults of a library run share: inputs, the reference, the common checks."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from fake_player import MODEL_RATE, FakePlayer, FakeStream

from fxfast.rendering import LibraryReport, RunOptions, render_library
from fxfast.rendering.journal import JOURNAL_NAME

ROOT = Path(__file__).resolve().parent.parent
FORKING = hasattr(os, "fork")
NOW, BEFORE = 0.5, 0.25  # what the fake model does

# A process that renders as the command does, with a fake model whose blocks take some time.
SCRIPT = """
import importlib, os, sys
sys.path[:0] = [{tests!r}, {root!r}]
from fake_player import FakePlayer
library = importlib.import_module("fxfast.rendering.render_library")
player = FakePlayer({now}, {before}, seconds_per_block=float(os.environ.get("SECONDS", "0")))
library._player_of = lambda model, isa, device: player
from fxfast.cli import main
sys.exit(main(sys.argv[1:]))
"""


class TrickyPlayer(FakePlayer):
    """Calls ``trick(path)`` in the first block of a file whose first sample is ``mark``.

    Rendering gives a stream no name: inputs with a trick begin with a sample of their own.
    """

    def __init__(self, tricks: dict[float, Any]) -> None:
        super().__init__(NOW, BEFORE)
        self.tricks = tricks

    def stream(self, channels: int = 1) -> FakeStream:
        return _TrickyStream(self, channels)


class _TrickyStream(FakeStream):
    _first = True

    def process(self, block: np.ndarray) -> np.ndarray:
        if self._first and block.size:
            self._first = False
            mark = float(block.reshape(-1)[0])
            for sample, trick in self._player.tricks.items():  # type: ignore[attr-defined]
                if abs(mark - sample) < 1e-6:
                    trick()
        return super().process(block)


def sound(
    path: Path, frames: int = 3000, *, channels: int = 1, first: float | None = None, seed: int = 0
) -> Path:
    """A file of noise; ``first`` is its first sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x_tc = np.random.default_rng(frames + seed).uniform(-0.4, 0.4, (frames, channels))
    if first is not None:
        x_tc[0] = first
    subtype = "PCM_16" if path.suffix == ".flac" else "FLOAT"
    soundfile.write(path, x_tc, MODEL_RATE, subtype)
    return path


def three_files(folder: Path) -> Path:
    """The three-file library of the fault sweep: two containers, two folders."""
    sound(folder / "a.wav", 3000)
    sound(folder / "b.flac", 2500, channels=2)
    sound(folder / "sub" / "c.wav", 2000)
    return folder


def render(inputs: Sequence[Any], out: Path, player: Any = None, **settings: Any) -> LibraryReport:
    options = RunOptions(**{"jobs": 2, **settings})
    return render_library(player or FakePlayer(NOW, BEFORE), inputs, out, options=options)


def fork_run(
    inputs: Sequence[Any], out: Path, *, seconds_per_block: float = 0.0, **settings: Any
) -> int:
    """The pid of a child that renders and exits with the run's exit code."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        player = FakePlayer(NOW, BEFORE, seconds_per_block=seconds_per_block)
        code = render(inputs, out, player, **settings).exit_code
    finally:
        os._exit(code)


def without_privileges(work: Callable[[], object]) -> bool:
    """Do ``work`` in a child that may do what permissions say, also where the tests run as root:
    whether it raised nothing."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            # Version 3 of the call's header, and no capability of any of the three sets.
            header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            if ctypes.CDLL(None, use_errno=True).capset(header, none):
                raise OSError(ctypes.get_errno(), "capset")
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def visible(folder: Path) -> dict[str, bytes]:
    """The outputs below a folder: everything but the journal."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if name != JOURNAL_NAME:
                with contextlib.suppress(FileNotFoundError):  # a run may be going
                    found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file() and not p.is_symlink()
    }


def codes(report: Iterable[Any]) -> dict[str, str | None]:
    """The code of each input by its name; None for one that was rendered or done."""
    return {Path(file.input).name: file.code for file in report}


def check_outputs(out: Path, whole: dict[str, bytes], *, temps: bool = False) -> None:
    """C1 and C2: what is visible is right to the bit; nothing unfinished unless ``temps``."""
    for name, data in visible(out).items():
        if name.endswith(".part"):
            assert temps, f"left behind: {name}"
        else:
            assert data == whole[name], f"differs from the reference: {name}"


def environment(**values: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **values}


def start_command(*arguments: object, seconds: float = 0.0, **settings: Any) -> Any:
    """The render command in a process of its own, with the fake model."""
    script = SCRIPT.format(tests=str(ROOT / "tests"), root=str(ROOT), now=NOW, before=BEFORE)
    return subprocess.Popen(
        [sys.executable, "-c", script, "render", *map(str, arguments)],
        env=environment(SECONDS=str(seconds)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **settings,
    )


def report_lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes().decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def children_of(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]
