"""Finding the files of a run: folders, globs, single files and lists of files.

Nothing is opened here. Links are followed only when asked, and then never out of the folder
that was given; a folder is entered once, however many ways lead to it. What cannot be read has
its row too, so that every name has its line in the report.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from fxfast.audio.paths import AUDIO_SUFFIXES, AnyPath, printable, reason
from fxfast.errors import InputError, OutsideError
from fxfast.rendering.beneath import Root, below_root
from fxfast.rendering.file_table import (
    LINK,
    NOT_FILE,
    OUTSIDE,
    REGULAR,
    UNREADABLE,
    FileTable,
)
from fxfast.rendering.folder_listing import FolderNames, list_files

_SUFFIXES = tuple(suffix.encode() for suffix in AUDIO_SUFFIXES)
_BAD_LINK = {
    UNREADABLE: "a link that leads nowhere",
    OUTSIDE: "a link that leads out of the input folder",
}


def scan_inputs(
    inputs: Sequence[AnyPath], out_dir: AnyPath | None = None, *, follow: bool = False
) -> FileTable:
    """A table of the audio files that ``inputs`` name, each once, in a settled order.

    An input is a file, a folder (all below it, by suffix, hidden names left out) or a glob. An
    ``out_dir`` inside an input folder is not searched. Raises ``InputError`` for an input that
    does not exist, and where a folder or a pattern holds no audio.
    """
    if not inputs:
        raise InputError("inputs: expected at least one file, folder or glob, got none")
    scan = _Scan(out_dir, follow)
    for given in inputs:
        scan.add_input(os.fspath(given))
    # One folder names each of its files once.
    scan.table.distinct = len(inputs) == 1 and os.path.isdir(inputs[0])
    return scan.table


def scan_list(list_path: AnyPath, root: AnyPath | None = None) -> FileTable:
    """A table of the files that a text file names, one path on each line, below ``root``.

    ``root`` is the folder of the list unless given. A line that leads out of it, by ``..``, as an
    absolute path or through links, or that holds a zero byte, a drive or a network name, is not
    followed: its row says so. Raises ``InputError`` where the list cannot be read or names
    nothing.
    """
    root = Path(list_path).parent if root is None else Path(root)
    table = FileTable()
    table.tops.append(os.fsencode(root))
    folders: dict[bytes, int] = {}
    try:
        with open(list_path, "rb") as lines, Root(root) as opened:
            for line in lines:
                row = line.rstrip(b"\r\n")
                if row:
                    _add_listed(table, folders, opened, row)
    except OSError as error:
        raise InputError(f"{printable(list_path)}: cannot be read: {reason(error)}") from error
    if not len(table):
        raise InputError(f"{printable(list_path)}: expected a path on each line, found none")
    return table


def _add_listed(table: FileTable, folders: dict[bytes, int], root: Root, row: bytes) -> None:
    kind, why, found = REGULAR, "", None
    try:
        row = below_root(row, root.path)
        found = root.stat(row)
        kind = REGULAR if stat.S_ISREG(found.st_mode) else NOT_FILE
    except OutsideError as error:
        kind, why = OUTSIDE, str(error)
    except (OSError, ValueError) as error:
        kind, why = UNREADABLE, reason(error)
    folder, name = os.path.split(row)
    if folder not in folders:
        folders[folder] = table.add_folder(0, folder)
    number = table.add(folders[folder], name, kind, found)
    if why:
        table.reasons[number] = why


class _Scan:
    def __init__(self, out_dir: AnyPath | None, follow: bool) -> None:
        self.table = FileTable()
        self._follow = follow
        self._entered: set[tuple[int, int]] = set()
        self._real_tops: list[str] = []
        self._out = _identity(os.fspath(out_dir)) if out_dir is not None else None

    def add_input(self, given: str) -> None:
        before = len(self.table)
        if os.path.isdir(given):
            wanted = "a folder with audio files"
            found = _identity(given)
            if found is not None and found == self._out:
                self._out = None  # the output is not inside this input: it is the input
            self._walk(self._top(given), b"")
        elif os.path.lexists(given):
            wanted = "an audio file"
            self._add_one(Path(given).parent, Path(given).name)
        elif glob.has_magic(given):
            wanted = "a pattern that matches audio files"
            self._add_matches(given)
        else:
            raise InputError(
                f"{printable(given)}: expected a file, a folder or a glob, found nothing"
            )
        if len(self.table) == before:
            suffixes = ", ".join(AUDIO_SUFFIXES)
            raise InputError(f"{printable(given)}: expected {wanted} ({suffixes}), found none")

    def _top(self, folder: AnyPath) -> int:
        self.table.tops.append(os.fsencode(folder))
        self._real_tops.append(os.path.realpath(folder))
        return len(self.table.tops) - 1

    def _add_one(self, folder: Path, name: str) -> None:
        """A file that was named itself: its links are followed, they were asked for."""
        row_folder = self.table.add_folder(self._top(folder), b"")
        self._add_row(row_folder, os.fsencode(name), follow=True)

    def _add_row(self, folder: int, name: bytes, *, follow: bool) -> None:
        table = self.table
        top = table.tops[table.folder_top[folder]]
        path = os.path.join(top, table.folders[folder], name)
        try:
            found = os.stat(path, follow_symlinks=follow)
        except (OSError, ValueError) as error:
            row = table.add(folder, name, UNREADABLE, None)
            table.reasons[row] = reason(error)
            return
        table.add(folder, name, REGULAR if stat.S_ISREG(found.st_mode) else NOT_FILE, found)

    def _add_matches(self, pattern: str) -> None:
        fixed = _fixed_part(Path(pattern))
        top = self._top(fixed)
        folders: dict[bytes, int] = {}
        real = os.path.realpath(fixed)
        for match in sorted(glob.glob(pattern, recursive=True)):
            below = os.path.normpath(os.path.relpath(match, fixed))
            if below.split(os.sep)[0] == ".." or _leads_out(Path(match), fixed, real):
                raise InputError(
                    f"{printable(match)}: expected a file below {printable(fixed)}, got one outside"
                )
            if os.path.isdir(match):
                self._walk(top, b"" if below == "." else os.fsencode(below))
            elif os.path.splitext(match)[1].lower() in AUDIO_SUFFIXES:
                folder, name = os.path.split(os.fsencode(below))
                if self._is_output(os.path.dirname(match) or "."):
                    continue
                if folder not in folders:
                    folders[folder] = self.table.add_folder(top, folder)
                self._add_row(folders[folder], name, follow=True)

    def _is_output(self, folder: str) -> bool:
        """Whether a folder is the output's, or is inside it."""
        while self._out is not None:
            if _identity(folder) == self._out:
                return True
            parent = os.path.dirname(folder)
            if parent == folder or not parent:
                return False
            folder = parent
        return False

    def _walk(self, top: int, start: bytes) -> None:
        """Every audio file below a folder; a stack of folders, for trees of any depth."""
        waiting = [start]
        while waiting:
            below = waiting.pop()
            path = os.path.join(self.table.tops[top], below)
            identity = _identity(path)
            if identity is not None and (identity in self._entered or identity == self._out):
                continue
            if identity is not None:
                self._entered.add(identity)
            waiting += reversed(self._list(top, below, path))

    def _list(self, top: int, below: bytes, path: bytes) -> list[bytes]:
        """Add the files of one folder; returns the folders in it, sorted."""
        table = self.table
        try:
            listing = list_files(path, _SUFFIXES)
            others = _entries(path, listing.others)
        except OSError as error:
            folder, name = os.path.split(below)
            row = table.add(table.add_folder(top, folder), name or b".", UNREADABLE, None)
            table.reasons[row] = f"cannot list the folder: {reason(error)}"
            return []
        folders: list[bytes] = []
        rows = _FolderRows(table, top, below, listing)
        for entry in others:
            name = entry.name
            is_audio = _has_audio_suffix(name)
            if entry.is_dir(follow_symlinks=False) and not is_audio:
                folders.append(os.path.join(below, name))
                continue
            kind = self._kind_of_link(entry, top) if entry.is_symlink() else REGULAR
            if kind is None:
                folders.append(os.path.join(below, name))
            elif is_audio:
                self._add_other(rows.before(name), entry, kind)
        rows.end()
        return folders

    def _add_other(self, folder: int, entry: os.DirEntry[bytes], kind: int) -> None:
        """Add an entry that is no plain file; ``kind`` is REGULAR where it has to be looked at."""
        if kind == REGULAR:
            self._add_entry(folder, entry)
            return
        row = self.table.add(folder, entry.name, kind, None)
        if kind != LINK:
            self.table.reasons[row] = _BAD_LINK[kind]

    def _add_entry(self, folder: int, entry: os.DirEntry[bytes]) -> None:
        try:
            found = entry.stat()
        except OSError as error:
            row = self.table.add(folder, entry.name, UNREADABLE, None)
            self.table.reasons[row] = reason(error)
            return
        kind = REGULAR if stat.S_ISREG(found.st_mode) else NOT_FILE
        self.table.add(folder, entry.name, kind, found)

    def _kind_of_link(self, entry: os.DirEntry[bytes], top: int) -> int | None:
        """What a link is to the run; None for a folder to enter."""
        if not self._follow:
            return LINK
        try:
            target = os.path.realpath(os.fsdecode(entry.path), strict=True)
        except OSError:
            return UNREADABLE
        real_top = self._real_tops[top]
        if target != real_top and not target.startswith(real_top.rstrip(os.sep) + os.sep):
            return OUTSIDE
        return None if os.path.isdir(target) else REGULAR


class _FolderRows:
    """The rows of one folder in the order of names: plain files in long stretches."""

    def __init__(self, table: FileTable, top: int, below: bytes, listing: FolderNames) -> None:
        self._table, self._top, self._below = table, top, below
        self._listing = listing
        self._folder, self._added = -1, 0

    def before(self, name: bytes) -> int:
        """Add the plain files whose names are smaller; gives the folder's number in the table."""
        return self._add_to(self._listing.before(name))

    def end(self) -> None:
        if self._added < len(self._listing):
            self._add_to(len(self._listing))

    def _add_to(self, end: int) -> int:
        if self._folder < 0:
            self._folder = self._table.add_folder(self._top, self._below)
        self._table.add_files(self._folder, self._listing, self._added, end)
        self._added = end
        return self._folder


def _entries(path: bytes, names: list[bytes]) -> list[os.DirEntry[bytes]]:
    """What the system says of some names of a folder: most folders have nothing but files."""
    if not names:
        return []
    wanted = set(names)
    with os.scandir(path) as entries:
        return sorted((entry for entry in entries if entry.name in wanted), key=_name_of)


def _name_of(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name


def _has_audio_suffix(name: bytes) -> bool:
    return name[name.rfind(b".") :].lower() in _SUFFIXES


def _identity(path: str | bytes) -> tuple[int, int] | None:
    """The folder behind a name; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before the first part with a wildcard."""
    parts = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _leads_out(match: Path, fixed: Path, real_fixed: str) -> bool:
    """Whether a match, once its ``..`` are resolved, is not below the fixed part."""
    if ".." not in match.relative_to(fixed).parts:
        return False
    real = os.path.realpath(match)
    return real != real_fixed and not real.startswith(real_fixed.rstrip(os.sep) + os.sep)
