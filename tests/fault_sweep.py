"""Fails the Nth call of the system in a three-file run, for every N, and checks what is left.

    LD_PRELOAD=fail_calls.so python tests/fault_sweep.py FOLDER [--step S] [KIND ...]

One process that has everything loaded forks a child for each point, so a point takes a few
hundredths of a second. Prints a line of JSON for each kind of fault: points, what became of the
runs, and the violations of the common checks. ``--step`` takes every Sth N.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_player import FakePlayer, one_layer_graph
from library_faults import hashes, render, three_files, visible

import fxfast.rendering.supervise  # noqa: F401  (loaded before any call fails)
from fxfast.errors import FxfastError

WALL_S = 60.0  # a hang alone takes so long
# A worker without memory for a thread says nothing: it is waited for three times, 5 s each.
MEMORY_WALL_S = 120.0
TOP_N = 200_000


@dataclass(frozen=True)
class Fault:
    """``number`` is that of fail_calls.c; ``isolate`` runs the worker as a process."""

    number: int
    error: int
    lasting: bool = False
    isolate: bool = False


def _faults() -> dict[str, Fault]:
    kinds = {
        "open-eio": (1, errno.EIO),
        "open-emfile": (1, errno.EMFILE),
        "read-short": (2, 0),
        "read-eio": (3, errno.EIO),
        "write-short": (4, 0),
        "write-eio": (5, errno.EIO),
        "write-eintr": (6, errno.EINTR),
        "write-enospc": (7, errno.ENOSPC),
        "write-edquot": (7, errno.EDQUOT),
        "fsync-eio": (8, errno.EIO),
        "close-eio": (9, errno.EIO),
        "rename-exdev": (10, errno.EXDEV),
        "rename-eacces": (10, errno.EACCES),
        "mmap-enomem": (11, errno.ENOMEM),
        "malloc-enomem": (12, errno.ENOMEM),
    }
    found = {}
    for name, (number, error) in kinds.items():
        is_memory = number in (11, 12)
        found[name] = Fault(number, error, isolate=is_memory)
        found[name + "-lasting"] = Fault(number, error, lasting=True, isolate=is_memory)
    # An interrupted or a shortened call for ever is no fault but a system that does not work.
    del found["write-eintr-lasting"]
    return found


FAULTS = _faults()


def _player() -> Any:
    try:
        from fxfast.player import Player

        return Player(one_layer_graph(0.25, 0.5), threads=1)
    except FxfastError:
        return FakePlayer(0.5, 0.25)


class Sweep:
    """Points of one kind of fault, each a run of its own into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inputs = three_files(folder / "in")
        self.before = hashes(self.inputs)
        self.player = _player()
        self.library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self.out = folder / "out"
        assert not render([self.inputs], folder / "whole", self.player, jobs=1).failed
        self.whole = visible(folder / "whole")

    def run(self, name: str, step: int) -> dict[str, Any]:
        fault = FAULTS[name]
        ends: Counter[str] = Counter()
        violations: list[str] = []
        points = 0
        started = time.monotonic()
        for n in range(1, TOP_N, step):
            end, fired = self.point(fault, n, violations)
            ends[end] += 1
            points += 1
            if not fired:
                break
        return {
            "fault": name,
            "points": points,
            "last_n": n,
            "ends": dict(ends),
            "seconds": round(time.monotonic() - started, 2),
            "violations": violations[:20],
            "violation_count": len(violations),
        }

    def point(self, fault: Fault, n: int, violations: list[str]) -> tuple[str, bool]:
        shutil.rmtree(self.out, ignore_errors=True)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._child(fault, n, write)
        os.close(write)
        wall_s = MEMORY_WALL_S if fault.isolate else WALL_S
        result, how = _result(read, pid, wall_s)
        where = f"n={n}: "
        fired = True
        if result is None:
            end = how
            if how == "hang" or fault.number != 12:
                violations.append(where + how)
        else:
            fired = bool(result["fired"])
            end = self._check(fault, result, violations, where)
        # Where no memory comes back, nothing can be removed either: that end is like a kill, and
        # what it left the next run removes.
        starved = fault.number == 12 and fault.lasting and "lines" not in (result or {})
        self._check_outputs(violations, where, normal_end=result is not None and not starved)
        # Without the fault the same command ends the work.
        left = any(name.endswith(".part") for name in visible(self.out))
        if n % 7 == 1 or left:
            self._check_resume(violations, where)
        return end, fired

    def _child(self, fault: Fault, n: int, write: int) -> None:
        result: dict[str, Any] = {}
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 2)
        try:
            self.library.fail_calls_arm(fault.number, n, int(fault.lasting), fault.error)
            try:
                report = render([self.inputs], self.out, self.player, jobs=1, isolate=fault.isolate)
                result["lines"] = [[f.input, f.status, f.code] for f in report.files]
            except FxfastError as error:
                result["error"] = error.code
            except (MemoryError, OSError) as error:
                result["error"] = type(error).__name__
            finally:
                self.library.fail_calls_arm(0, 0, 0, 0)
            result["fired"] = bool(self.library.fail_calls_fired())
            os.write(write, json.dumps(result).encode())
        except BaseException as error:
            with contextlib.suppress(BaseException):
                os.write(write, json.dumps({"unforeseen": repr(error), "fired": True}).encode())
        finally:
            os._exit(0)

    def _check(
        self, fault: Fault, result: dict[str, Any], violations: list[str], where: str
    ) -> str:
        if "unforeseen" in result:
            # Without memory Python, numpy and OpenSSL raise what they have; the run has ended.
            if not fault.isolate:
                violations.append(f"{where}{result['unforeseen']}")
            return "unforeseen"
        if "error" in result:
            return f"refused {result['error']}"
        lines = result["lines"]
        # A folder that cannot be listed has the line of all that is in it, and it is a failure.
        shut = [path for path, status, _ in lines if status == "failed" and os.path.isdir(path)]
        unseen = [name for name in self.before if self._is_below(name, shut)]
        if len(lines) - len(shut) != 3 - len(unseen):
            violations.append(f"{where}C3: {len(lines)} lines for 3 inputs")
        names = {os.path.relpath(path, self.inputs): status for path, status, _ in lines}
        for name, status in names.items():
            there = (self.out / name).exists()
            if there != (status == "rendered") and status != "failed":
                violations.append(f"{where}C3: {name} is {status}, there: {there}")
            if status not in ("rendered", "failed"):
                violations.append(f"{where}C3: {name} is {status}")
        codes = sorted({code for _, _, code in lines if code})
        if fault.number == 7 and not set(codes) <= {"E_NOSPACE", "E_STOPPED"}:
            violations.append(f"{where}{codes} where no room is left")
        # Libraries tell a refused memory in words of their own.
        if "E_INTERNAL" in codes and not fault.isolate:
            violations.append(f"{where}E_INTERNAL")
        return "ok" if not codes else " ".join(codes)

    def _is_below(self, name: str, folders: list[str]) -> bool:
        path = self.inputs / name
        return any(path.is_relative_to(Path(folder)) for folder in folders)

    def _check_outputs(self, violations: list[str], where: str, *, normal_end: bool) -> None:
        for name, data in visible(self.out).items():
            if name.endswith(".part"):
                if normal_end:
                    violations.append(f"{where}C2: {name} is left")
            elif data != self.whole[name]:
                violations.append(f"{where}C1: {name} is wrong")
        if hashes(self.inputs) != self.before:
            violations.append(f"{where}C4: an input was changed")

    def _check_resume(self, violations: list[str], where: str) -> None:
        pid = os.fork()
        if pid == 0:
            code = 9
            with contextlib.suppress(BaseException):
                code = render([self.inputs], self.out, self.player, jobs=1).exit_code
            os._exit(code)
        if os.waitpid(pid, 0)[1] != 0 or visible(self.out) != self.whole:
            violations.append(f"{where}the next run does not end the work")


def _result(read: int, pid: int, wall_s: float) -> tuple[dict[str, Any] | None, str]:
    """What the child says, or None and how it ended."""
    deadline = time.monotonic() + wall_s
    data = b""
    os.set_blocking(read, False)
    hung = False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        with contextlib.suppress(BlockingIOError):
            data += os.read(read, 1 << 16)
        if done:
            break
        if time.monotonic() > deadline:
            hung = True
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.0005)
    os.close(read)
    if data and not hung:
        return json.loads(data), "said"
    return None, "hang" if hung else f"died {os.waitstatus_to_exitcode(status)}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs="*", default=list(FAULTS))
    parser.add_argument("--step", type=int, default=1)
    args = parser.parse_intermixed_args()
    # Libraries complain on the standard output, their own way: it is for the results alone.
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sweep = Sweep(args.folder)
    bad = 0
    for name in args.kinds:
        result = sweep.run(name, args.step)
        bad += result["violation_count"]
        print(json.dumps(result), file=results, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
