"""Unfinished outputs of runs that were killed: found by name, removed when the run is gone."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fxfast.audio.paths import TEMP_PREFIX, TEMP_SUFFIX

_TEMP_NAME = re.compile(re.escape(TEMP_PREFIX) + r"(\d{1,10})-\w+" + re.escape(TEMP_SUFFIX))


def remove_leftovers(folders: Iterable[Path]) -> int:
    """Remove the temporary files of dead processes directly in ``folders``; return how many.

    Only names that the block writer makes are looked at. A file stays while the process in its
    name runs, unless that process started after the last write to the file.
    """
    removed = 0
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if is_leftover(entry):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)
                        removed += 1
    return removed


def is_unfinished(name: bytes) -> bool:
    """Whether a name is one that outputs have until they are complete."""
    return _TEMP_NAME.fullmatch(os.fsdecode(name)) is not None


def is_leftover(entry: os.DirEntry[str] | os.DirEntry[bytes]) -> bool:
    """Whether an entry of a folder is the unfinished output of a process that is gone."""
    match = _TEMP_NAME.fullmatch(os.fsdecode(entry.name))
    return (
        match is not None
        and entry.is_file(follow_symlinks=False)
        and _is_dead(int(match[1]), entry)
    )


def _is_dead(pid: int, entry: os.DirEntry[str] | os.DirEntry[bytes]) -> bool:
    try:
        written = entry.stat(follow_symlinks=False).st_mtime
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OverflowError:
        return True
    except PermissionError:
        pass  # it runs, as somebody else
    except OSError:
        return False
    state, started = _look_at(pid)
    # A process that nobody has asked for its end yet has a number, but writes no more.
    return state in ("Z", "X") or (started is not None and started > written + 1.0)


def _look_at(pid: int) -> tuple[str, float | None]:
    """The state of a process and when it started, in seconds since 1970; from Linux's /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        # The name in field 2 may hold spaces and brackets; field 22 is the start.
        fields = stat.rpartition(")")[2].split()
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
        if boot is None:
            return fields[0], None
        return fields[0], int(boot[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return "", None
