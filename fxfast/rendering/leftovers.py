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
    started = _start_time(pid)
    return started is not None and started > written + 1.0


def _start_time(pid: int) -> float | None:
    """When a process started, in seconds since 1970; None where Linux's /proc does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)
        if boot is None:
            return None
        # Field 22 of the line; the name in field 2 may hold spaces and brackets.
        ticks = int(stat.rpartition(")")[2].split()[19])
        return int(boot[1]) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
