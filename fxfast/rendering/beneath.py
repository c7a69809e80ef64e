"""Paths that stay below a folder, whatever links and dots they hold.

Linux resolves such a path itself (openat2 with RESOLVE_BENEATH, Linux 5.6), so that nobody can
change a link between the check and the use. Elsewhere a path is walked folder by folder and
no link in it is followed.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import re
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from fxfast.audio.paths import AnyPath, printable
from fxfast.errors import OutsideError

_OPENAT2 = 437
_RESOLVE_BENEATH = 0x08
_RESOLVE_NO_MAGICLINKS = 0x02
_ESCAPES = (errno.EXDEV, errno.ELOOP)
_DRIVE = re.compile(rb"[A-Za-z]:[\\/]")
_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def below_root(row: bytes, root: AnyPath) -> bytes:
    """A path as a list names it, relative to ``root``.

    Raises ``OutsideError`` for a path with ``..`` that climbs out, an absolute one that is not
    below ``root``, a drive or a network name, and a zero byte.
    """
    shown = printable(os.fsdecode(row))
    if b"\0" in row:
        raise OutsideError(f"{shown}: expected a path, got one with a zero byte")
    if _DRIVE.match(row) or row.startswith((b"\\\\", b"//")):
        raise OutsideError(f"{shown}: expected a path below {printable(root)}, got another volume")
    if os.path.isabs(row):
        row = os.path.relpath(row, os.path.abspath(os.fsencode(root)))
    depth = 0
    for part in row.split(b"/"):
        depth += -1 if part == b".." else part not in (b"", b".")
        if depth < 0:
            raise OutsideError(f"{shown}: expected a path below {printable(root)}, got one outside")
    return os.path.normpath(row)


def close_fd(fd: int) -> None:
    """Close a descriptor; what a close of a folder or of synced data reports changes nothing."""
    with suppress(OSError):
        os.close(fd)


class Root:
    """An open folder below which paths are looked up; a context manager."""

    def __init__(self, path: AnyPath) -> None:
        self.path = Path(path)
        self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Root:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            close_fd(self._fd)
            self._fd = -1

    def stat(self, below: bytes) -> os.stat_result:
        """What is at a path; ``OutsideError`` where it leads out, ``OSError`` where nothing is."""
        fd = self._open(below, _O_PATH)
        try:
            return os.fstat(fd)
        finally:
            close_fd(fd)

    def folder(self, below: bytes, *, make: bool = False) -> int:
        """A descriptor of a folder, made with the folders on the way to it if ``make``."""
        flags = os.O_RDONLY | os.O_DIRECTORY
        try:
            return self._open(below, flags)
        except FileNotFoundError:
            if not make:
                raise
        parent = self.folder(os.path.dirname(below), make=True)
        try:
            os.mkdir(os.path.basename(below), 0o777, dir_fd=parent)
        except FileExistsError:
            pass  # another thread was quicker
        finally:
            close_fd(parent)
        return self._open(below, flags)

    def _open(self, below: bytes, flags: int) -> int:
        if not below:
            return os.dup(self._fd)
        if _has_openat2():
            fd = _openat2(self._fd, below, flags)
            if fd >= 0:
                return fd
            number = ctypes.get_errno()
            if number in _ESCAPES:
                raise OutsideError(
                    f"{printable(self.path / os.fsdecode(below))}: expected a path that stays "
                    f"below {printable(self.path)}, got one that leads out"
                )
            raise OSError(number, os.strerror(number), os.fsdecode(below))
        return self._walk(below, flags)

    def _walk(self, below: bytes, flags: int) -> int:
        fd = os.dup(self._fd)
        parts = [part for part in below.split(b"/") if part not in (b"", b".")]
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            wanted = flags if last else os.O_RDONLY | os.O_DIRECTORY
            try:
                if part == b"..":
                    raise OSError(errno.ELOOP, "a path with dots")
                inner = os.open(part, wanted | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and not last:
                    raise OutsideError(
                        f"{printable(self.path / os.fsdecode(below))}: expected a path without "
                        "links or dots in it"
                    ) from error
                raise
            finally:
                close_fd(fd)
            fd = inner
        return fd


def _openat2(folder: int, below: bytes, flags: int) -> int:
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    return int(_libc().syscall(_OPENAT2, folder, below, ctypes.byref(how), ctypes.sizeof(how)))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _has_openat2() -> bool:
    """Whether the system has the call; asked once."""
    if os.uname().sysname != "Linux":
        return False
    folder = os.open(os.sep, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _openat2(folder, b".", _O_PATH)
    finally:
        close_fd(folder)
    if fd < 0:
        return False
    close_fd(fd)
    return True
