"""Bytes at the end of an open file, held against what the file gives back.

They are read back block by block, while they are in the processor's cache: the whole file at its
end would come from memory, or from the disk, and cost a multiple.
"""

from __future__ import annotations

import os

from fxfast.errors import WriteError
from fxfast.native import engine


def append(fd: int, name: str, data: bytes | memoryview, offset: int) -> None:
    """Write ``data`` at the end of ``fd``, ``offset`` bytes from its beginning, and read it back.

    Raises OSError where the system refuses, WriteError where other bytes come back.
    """
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]
    hold_against(fd, name, data, offset)


def hold_against(fd: int, name: str, data: bytes | memoryview, offset: int) -> None:
    """Raises WriteError unless the file holds ``data`` from ``offset``, OSError where it cannot be
    read."""
    if not engine().reads_back(fd, data, offset):
        raise WriteError(
            f"{name}: incomplete on the disk: expected at byte {offset} the {len(data)} bytes that "
            "were written, found others"
        )
