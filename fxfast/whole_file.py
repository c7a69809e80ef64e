"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# What the temporary files match that a process leaves which is killed.
PARTIAL_NAMES = ".fxfast-*.part"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` to write to; it becomes ``path`` when the body ends.

    What was written is on the disk before the rename, and the rename after it. When the body
    raises, the temporary file is removed and ``path`` is as it was.
    """
    temporary = path.with_name(f".fxfast-{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    with contextlib.suppress(OSError):
        _sync(path.parent)


def is_taken(path: Path) -> bool:
    """Whether something is at ``path`` that nothing new may be in: more than an empty folder, or
    one in which a process was killed before its first file was whole."""
    if not path.is_dir():
        return path.exists()
    return any(not each.match(PARTIAL_NAMES) for each in path.iterdir())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_at(fd: int, count: int, offset: int) -> bytes:
    """``count`` bytes from ``offset``, fewer only where the file ends: the system may give fewer at
    a time, and that is no error. Raises ``OSError``."""
    data = os.pread(fd, count, offset)
    while 0 < len(data) < count and (more := os.pread(fd, count - len(data), offset + len(data))):
        data += more
    return data
