"""Many files in little memory: names in one string of bytes, numbers in packed columns.

A row takes its name and about 50 bytes, so that a library of a million files is planned in the
memory that a few thousand ``Path`` objects would take. Names are bytes, as the system has them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from itertools import accumulate

REGULAR = 0
LINK = 1  # a link that is not followed
NOT_FILE = 2  # a folder, a pipe, a socket, a device
UNREADABLE = 3  # it cannot be looked at, or a folder cannot be listed
OUTSIDE = 4  # it leads out of the folder that it was looked for in


class FileStates:
    """What the system says of files, packed: its own objects take ten times the memory."""

    def __init__(self) -> None:
        self.size = array("q")
        self.mtime_ns = array("q")
        self.inode = array("Q")
        self.device = array("Q")

    def add(self, found: os.stat_result) -> None:
        self.size.append(found.st_size)
        self.mtime_ns.append(found.st_mtime_ns)
        self.inode.append(found.st_ino)
        self.device.append(found.st_dev)

    def part(self, rows: slice) -> FileStates:
        return self._from(lambda column: column[rows])

    def in_order(self, order: list[int]) -> FileStates:
        return self._from(lambda column: array(column.typecode, [column[at] for at in order]))

    def _from(self, taken: Callable[[array[int]], array[int]]) -> FileStates:
        part = FileStates()
        part.size, part.mtime_ns = taken(self.size), taken(self.mtime_ns)
        part.inode, part.device = taken(self.inode), taken(self.device)
        return part


class FileTable:
    """Rows of files: folder, name, size, time and identity; ``kind`` is one of the above."""

    def __init__(self) -> None:
        self.tops: list[bytes] = []  # what the tree is kept below, as the caller named it
        self.folders: list[bytes] = []  # below the top, b"" for the top itself
        self.folder_top = array("i")
        self._names = bytearray()
        self._ends = array("q", [0])
        self.folder = array("i")
        self.kind = array("B")
        self.size = array("q")
        self.mtime_ns = array("q")
        self.inode = array("Q")
        self.device = array("Q")
        self.distinct = False  # whether it is known that no file is named twice
        self.reasons: dict[int, str] = {}  # why a row is UNREADABLE or OUTSIDE

    def __len__(self) -> int:
        return len(self.folder)

    def add_folder(self, top: int, below: bytes) -> int:
        self.folders.append(below)
        self.folder_top.append(top)
        return len(self.folders) - 1

    def add(self, folder: int, name: bytes, kind: int, found: os.stat_result | None) -> int:
        """Append a row and return its number."""
        self._names += name
        self._ends.append(len(self._names))
        self.folder.append(folder)
        self.kind.append(kind)
        self.size.append(found.st_size if found else 0)
        self.mtime_ns.append(found.st_mtime_ns if found else 0)
        self.inode.append(found.st_ino if found else 0)
        self.device.append(found.st_dev if found else 0)
        return len(self.folder) - 1

    def add_many(self, folder: int, names: list[bytes], states: FileStates) -> None:
        """Append a row for each regular file of one folder."""
        count, end = len(names), len(self._names)
        self._names += b"".join(names)
        self._ends.extend(list(accumulate(map(len, names), initial=end))[1:])
        self.folder.extend([folder] * count)
        self.kind.extend([REGULAR] * count)
        self.size.extend(states.size)
        self.mtime_ns.extend(states.mtime_ns)
        self.inode.extend(states.inode)
        self.device.extend(states.device)

    def name(self, row: int) -> bytes:
        return bytes(self._names[self._ends[row] : self._ends[row + 1]])

    def below(self, row: int) -> bytes:
        """The path of a row below its top."""
        folder = self.folders[self.folder[row]]
        name = self.name(row)
        return folder + b"/" + name if folder else name

    def path(self, row: int) -> bytes:
        """The path of a row as the system is asked for it."""
        return os.path.join(self.tops[self.folder_top[self.folder[row]]], self.below(row))

    def shown(self, row: int) -> str:
        """The path as text; bytes that are no text stay as ``os.fsdecode`` has them."""
        return os.fsdecode(self.path(row))
