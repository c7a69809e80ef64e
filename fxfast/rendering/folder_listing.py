"""What is in a folder, packed: the engine's listings, and their plain twins in Python."""

from __future__ import annotations

import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Any, NamedTuple, Protocol

from fxfast.native import engine_if_built

# Columns of a folder of any size take the memory of so many rows.
PIECE_ROWS = 4096
_LATEST_NS = (1 << 63) - 1  # what does not fit matches no line of a journal
NO_FILE = -1


class Rows(NamedTuple):
    """Files as columns of 64 bits: names one behind the other, where each ends, size, time, inode
    and device; ``bad`` is what cannot be looked at, the place among the rows and the system's error
    or ``NO_FILE`` where it is no plain file any more."""

    names: bytes
    ends: bytes
    size: bytes
    mtime_ns: bytes
    inode: bytes
    device: bytes
    bad: list[tuple[int, int]]


class Found(NamedTuple):
    """What is in a folder of outputs: hashes of the paths, and as in :class:`Rows`."""

    key: bytes
    size: bytes
    mtime_ns: bytes
    inode: bytes
    device: bytes


class FolderNames(Protocol):
    """The plain files of a folder with the wanted suffixes, in the order of their names.

    ``others`` is what else is there and not hidden, but for plain files of other kinds.
    """

    @property
    def others(self) -> list[bytes]: ...
    def __len__(self) -> int: ...
    def before(self, name: bytes) -> int:
        """How many names are smaller."""

    def rows(self, begin: int, end: int, names_before: int) -> Sequence[Any]:
        """Some of the files, as :class:`Rows`; names end so many bytes later than they do here."""


def list_files(path: bytes, suffixes: Sequence[bytes]) -> FolderNames:
    """List a folder; ``suffixes`` in lower case. ``OSError`` where it cannot be listed."""
    native = engine_if_built()
    if native is None:
        return PlainFolderNames(path, suffixes)
    listing: FolderNames = native.FolderNames(path, list(suffixes))
    return listing


def rows_of(names: FolderNames, begin: int, end: int, names_before: int) -> Iterator[Rows]:
    """Some rows of a listing, a few at a time."""
    for first in range(begin, end, PIECE_ROWS):
        rows = Rows(*names.rows(first, min(end, first + PIECE_ROWS), names_before))
        names_before += len(rows.names)
        yield rows


def list_outputs(path: bytes, head: bytes, hidden: list[bytes]) -> Iterator[Found]:
    """What is in a folder and not hidden, a few at a time; then the hidden names are added.

    The keys are those of ``head`` and the name. ``OSError`` where it cannot be listed.
    """
    native = engine_if_built()
    folder = (PlainOutputFolder if native is None else native.OutputFolder)(path, head)
    while (found := Found(*folder.next(PIECE_ROWS))).key:
        yield found
    hidden += folder.hidden


class PlainFolderNames:
    """The twin of the engine's ``FolderNames``."""

    def __init__(self, path: bytes, suffixes: Sequence[bytes]) -> None:
        self.others: list[bytes] = []
        self._path = path
        self._names: list[bytes] = []
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(b"."):
                    continue
                if not entry.is_file(follow_symlinks=False):
                    self.others.append(name)
                elif name[name.rfind(b".") :].lower() in suffixes:
                    self._names.append(name)
        self._names.sort()
        self.others.sort()

    def __len__(self) -> int:
        return len(self._names)

    def before(self, name: bytes) -> int:
        return bisect_left(self._names, name)

    def rows(self, begin: int, end: int, names_before: int) -> Rows:
        names = self._names[begin:end]
        ends = list(accumulate(map(len, names), initial=names_before))[1:]
        bad, states = [], []
        for place, name in enumerate(names):
            state = (0, 0, 0, 0)
            try:
                found = os.lstat(os.path.join(self._path, name))
                state = _numbers(found)
                if not stat.S_ISREG(found.st_mode):
                    bad.append((place, NO_FILE))
            except OSError as error:
                bad.append((place, error.errno or 0))
            states.append(state)
        return Rows(b"".join(names), array("q", ends).tobytes(), *_columns(states), bad)


class PlainOutputFolder:
    """The twin of the engine's ``OutputFolder``."""

    def __init__(self, path: bytes, head: bytes) -> None:
        self.hidden: list[bytes] = []
        self._head = head
        with os.scandir(path) as entries:
            self._found = iter(list(self._visible(entries)))

    def _visible(
        self, entries: Iterator[os.DirEntry[bytes]]
    ) -> Iterator[tuple[int, tuple[int, int, int, int]]]:
        for entry in entries:
            if entry.name.startswith(b"."):
                self.hidden.append(entry.name)
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # it is gone
            yield hash(self._head + entry.name), _numbers(found)

    def next(self, count: int) -> Found:
        found = list(islice(self._found, count))
        keys = array("q", [key for key, _ in found]).tobytes()
        return Found(keys, *_columns([state for _, state in found]))


def _numbers(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, min(found.st_mtime_ns, _LATEST_NS), found.st_ino, found.st_dev


def _columns(states: list[tuple[int, int, int, int]]) -> tuple[bytes, bytes, bytes, bytes]:
    size, mtime_ns, inode, device = zip(*states, strict=True) if states else ((), (), (), ())
    return (
        array("q", size).tobytes(),
        array("q", mtime_ns).tobytes(),
        array("Q", inode).tobytes(),
        array("Q", device).tobytes(),
    )
