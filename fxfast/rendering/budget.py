"""How many files may be in work at once: by cores, by memory, by open files."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from fxfast.errors import InputError

# What a file in work may take beside the model: buffers of the decoder, the encoder, the stream.
FILE_MIB = 8.0
_FILES_PER_JOB = 4  # its input, its output, a spool, a pipe
_FILES_OF_THE_RUN = 24  # the journal, pipes, what waits to be published with its folder


@dataclass(frozen=True)
class Budget:
    """``jobs`` threads that work, on at most ``open_jobs`` files that are open."""

    jobs: int
    open_jobs: int


def budget(jobs: int | None, memory_mib: float | None, group_files: int = 1) -> Budget:
    """What fits. ``group_files`` files are open for each job where they share the engine.

    Raises ``InputError`` for a memory in which not even one file can be rendered.
    """
    jobs = jobs or cpu_cores()
    open_jobs = jobs * group_files
    if memory_mib is not None:
        base_mib = resident_mib()
        room = int((memory_mib - base_mib) // FILE_MIB)
        if room < 1:
            raise InputError(
                f"memory: expected at least {base_mib + FILE_MIB:.0f} MiB for this run, "
                f"got {memory_mib:g}"
            )
        open_jobs = min(open_jobs, room)
    open_jobs = max(1, min(open_jobs, (_open_files_limit() - _FILES_OF_THE_RUN) // _FILES_PER_JOB))
    return Budget(min(jobs, open_jobs), open_jobs)


def cpu_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resident_mib() -> float:
    """Memory that this process holds now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _open_files_limit() -> int:
    """Descriptors that this process may still open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    try:
        return soft - len(os.listdir("/proc/self/fd"))
    except OSError:
        return soft
