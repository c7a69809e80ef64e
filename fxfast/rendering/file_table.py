"""Many files in little memory: names in one string of bytes, numbers in packed columns.

A row takes its name and about 50 bytes, so that a library of a million files is planned in the
memory that a few thousand ``Path`` objects would take. Names are bytes, as the system has them.
"""

from __future__ import annotations

import os
from array import array
from itertools import repeat
from typing import Any

from fxfast.native import engine_if_built
from fxfast.rendering.folder_listing import NO_FILE, FolderNames, rows_of

REGULAR = 0
LINK = 1  # a link that is not followed
NOT_FILE = 2  # a folder, a pipe, a socket, a device
UNREADABLE = 3  # it cannot be looked at, or a folder cannot be listed
OUTSIDE = 4  # it leads out of the folder that it was looked for in


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

    def add_files(self, folder: int, listing: FolderNames, begin: int, end: int) -> None:
        """Append some plain files of one folder."""
        first = len(self)
        states = self.size, self.mtime_ns, self.inode, self.device
        # Every column grows once: each step would leave a hole in memory behind it.
        for column in (self._ends, *states):
            column.frombytes(bytes(8 * (end - begin)))
        self.folder.extend(repeat(folder, end - begin))
        self.kind.frombytes(bytes([REGULAR]) * (end - begin))
        for rows in rows_of(listing, begin, end, len(self._names)):
            part = slice(first, first + len(rows.size) // 8)
            self._names += rows.names
            self._ends[part.start + 1 : part.stop + 1] = array("q", rows.ends)
            for column, packed in zip(states, rows[2:6], strict=True):
                column[part] = array(column.typecode, packed)
            for place, error in rows.bad:
                self.kind[first + place] = NOT_FILE if error == NO_FILE else UNREADABLE
                if error != NO_FILE:
                    self.reasons[first + place] = os.strerror(error)
            first = part.stop

    def paths(self, heads: list[bytes]) -> Any:
        """The engine's view of the names, each below the head of its folder; None without it.

        No row can be added while it is there.
        """
        native = engine_if_built()
        return None if native is None else native.Paths(self._names, self._ends, self.folder, heads)

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
