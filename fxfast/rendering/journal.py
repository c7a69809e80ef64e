"""The journal of an output folder: what is done, one line of JSON each, only ever appended.

Every line carries a checksum (CRC-32 of what follows it); a line that is torn, damaged or of
another version counts as not written. A line is appended after its output is on the disk and
before the output gets its name, and holds the output's size and time: a line is believed only
while a file of that size and time is there. So the journal can never say more than the disk.

``{"crc":"..","run":"..","version":1,"model":..,"settings":..,"engine":..}`` starts the lines
of one kind of work; ``{"crc":"..","out":..,"in":..,"id":[bytes, ns],"run":"..","file":[bytes,
ns]}`` is a file, ``sha256`` in the place of the time where inputs are told by their contents.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fxfast.audio.paths import AnyPath, printable, reason
from fxfast.errors import LockedError, OutputFolderError
from fxfast.native import engine_if_built
from fxfast.rendering.beneath import close_fd

JOURNAL_NAME = ".fxfast-journal.jsonl"
VERSION = 1
_PREFIX = b'{"crc":"'
_BODY = 18  # where what the checksum covers begins
_PIECE_BYTES = 1 << 18
_MAX_LINE_BYTES = 1 << 16
# A file's line as ``encode_line`` writes it, of names without a backslash.
_FILE_LINE = re.compile(
    rb'\{"crc":"([0-9a-f]{8})",("out":"([ !#-\[\]-~]*)","in":"([ !#-\[\]-~]*)",'
    rb'"id":\[(\d{1,18}),(-?\d{1,19})\],"run":"([ !#-\[\]-~]*)",'
    rb'"file":\[(\d{1,18}),(-?\d{1,19})\]\}\n)'
)
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


def encode_line(values: dict[str, Any]) -> bytes:
    """A journal line; text that is no Unicode is escaped, so every line is ASCII."""
    body = json.dumps(values, separators=(",", ":"))[1:].encode("ascii") + b"\n"
    return b'%b%08x",%b' % (_PREFIX, zlib.crc32(body), body)


def decode_line(line: bytes) -> dict[str, Any] | None:
    """The values of a line with its newline; None unless it is whole."""
    if line[:8] != _PREFIX or line[16:18] != b'",':
        return None
    try:
        if int(line[8:16], 16) != zlib.crc32(line[_BODY:]):
            return None
        values: dict[str, Any] = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values


class Entries:
    """The believed lines, packed: the last one of each output counts."""

    def __init__(self) -> None:
        self.out_key = array("q")  # hash of the output's path below the folder
        self.work_key = array("q")  # hash of input, its identity and the run
        self.run_key = array("q")  # hash of model and settings
        self.size = array("q")
        self.mtime_ns = array("q")
        self.bad_lines = 0
        self._last_run = b"", "", 0  # its bytes, text and key: most lines have that of the last

    def __len__(self) -> int:
        return len(self.out_key)

    def add_lines(self, lines: bytes) -> None:
        """Whole lines, or the torn last one."""
        native = engine_if_built()
        if native is None:
            for line in re.findall(rb"[^\n]*\n|[^\n]+$", lines):
                self.add(line)
            return
        columns = self.out_key, self.work_key, self.run_key, self.size, self.mtime_ns
        for column, values in zip(columns, native.journal_lines(lines, self._read), strict=True):
            column.frombytes(values)

    def add(self, line: bytes) -> None:
        """One line; the plain twin of what the engine does."""
        plain = _FILE_LINE.fullmatch(line)
        if plain is None or not self._add_plain(plain):
            self._add_any(line)

    def _add_plain(self, line: re.Match[bytes]) -> bool:
        """A line whose parts are known without a reader of JSON, in a fifth of its time."""
        crc, body, out, given, size, identity, run, out_size, out_mtime_ns = line.groups()
        if int(crc, 16) != zlib.crc32(body) or abs(time_ns := int(out_mtime_ns)) >= 1 << 63:
            return False
        if run != self._last_run[0]:
            text = run.decode()
            self._last_run = run, text, hash(text.partition("-")[0])
        self.out_key.append(hash(out))
        self.work_key.append(work_key(given, (int(size), int(identity)), self._last_run[1]))
        self.run_key.append(self._last_run[2])
        self.size.append(int(out_size))
        self.mtime_ns.append(time_ns)
        return True

    def _add_any(self, line: bytes) -> None:
        numbers = self._read(line)
        if numbers is not None:
            columns = self.out_key, self.work_key, self.run_key, self.size, self.mtime_ns
            for column, number in zip(columns, numbers, strict=True):
                column.append(number)

    def _read(self, line: bytes) -> tuple[int, ...] | None:
        """The keys, size and time of any line of a file; None of others, counted where bad."""
        values = decode_line(line)
        if values is None:
            self.bad_lines += 1
            return None
        try:
            if "out" not in values:
                self.bad_lines += values["version"] != VERSION
                return None
            size, mtime_ns = values["file"]
            work = work_key(os.fsencode(values["in"]), tuple(values["id"]), values["run"])
            numbers = array("q", (size, mtime_ns))
            run = hash(values["run"].partition("-")[0])
            out_key = hash(os.fsencode(values["out"]))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            self.bad_lines += 1
            return None
        return out_key, work, run, *numbers


def work_key(input: bytes, identity: tuple[Any, ...], run: str) -> int:
    """What has to be equal for a file to need no work."""
    return hash((input, identity, run))


class Journal:
    """The open, locked journal of one output folder; threads and forked processes share it."""

    def __init__(self, out_dir: AnyPath) -> None:
        """Open or begin the journal, and lock it until the last process that has it ends.

        Raises ``OutputFolderError`` where it cannot be written, ``LockedError`` while another
        run has it.
        """
        self.path = Path(out_dir) / JOURNAL_NAME
        self._fd = self._opened()
        self._ends_with_newline = False
        try:
            size = os.fstat(self._fd).st_size
            self._ends_with_newline = not size or os.pread(self._fd, 1, size - 1) == b"\n"
        except OSError:
            pass  # a newline too many does no harm

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        while True:
            try:
                fd = os.open(self.path, flags, 0o666)
            except OSError as error:
                raise OutputFolderError(
                    f"{printable(self.path)}: the journal cannot be written: {reason(error)}"
                ) from error
            try:
                self._lock(fd)
                # A journal that was deleted while we waited is nobody's: begin again.
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                close_fd(fd)
                raise
            close_fd(fd)

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"{printable(self.path.parent)}: expected no other run with this output folder, "
                "one is going"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def read(self, take: Callable[[Entries], None]) -> int:
        """As :func:`read_entries`; ``OutputFolderError`` where it cannot be read."""
        try:
            return read_entries(self._fd, take)
        except OSError as error:
            raise OutputFolderError(
                f"{printable(self.path)}: the journal cannot be read: {reason(error)}"
            ) from error

    def append(self, lines: bytes, *, sync: bool = True) -> None:
        """Add whole lines in one write and bring them to the disk; ``OSError`` if that fails."""
        if not self._ends_with_newline:
            lines = b"\n" + lines
        written = 0
        try:
            while written < len(lines):
                self._ends_with_newline = False
                written += os.write(self._fd, lines[written:])
            self._ends_with_newline = True
        finally:
            if written and not self._ends_with_newline:
                self._ends_with_newline = lines[written - 1 : written] == b"\n"
        if sync:
            os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            close_fd(self._fd)
            self._fd = -1


def read_entries(fd: int, take: Callable[[Entries], None]) -> int:
    """Give ``take`` all believed lines of an open journal, many at once; returns how many lines
    are not believed."""
    bad_lines = 0
    for lines in _pieces(fd):
        entries = Entries()
        entries.add_lines(lines)
        bad_lines += entries.bad_lines
        take(entries)
    return bad_lines


def read_journal(out_dir: AnyPath, take: Callable[[Entries], None]) -> int:
    """As :func:`read_entries` for the journal of a folder, without locking it; as if there were no
    line where it cannot be read."""
    try:
        fd = os.open(
            Path(out_dir) / JOURNAL_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return 0
    try:
        return read_entries(fd, take)
    except OSError:
        return 1  # whose outputs these are nobody knows
    finally:
        close_fd(fd)


def journal_size(out_dir: AnyPath) -> int:
    """Bytes of the journal of a folder; 0 where there is none."""
    try:
        return os.stat(Path(out_dir) / JOURNAL_NAME, follow_symlinks=False).st_size
    except OSError:
        return 0


def _pieces(fd: int) -> Iterator[bytes]:
    """Whole lines, many at once; of garbage without a newline, no more than a piece is kept."""
    rest = b""
    offset = 0
    while piece := os.pread(fd, _PIECE_BYTES, offset):
        offset += len(piece)
        lines, newline, rest = (rest + piece).rpartition(b"\n")
        rest = rest[:_MAX_LINE_BYTES]
        if newline:
            yield lines + newline
    if rest:
        yield rest
