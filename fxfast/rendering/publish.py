"""From complete hidden files to outputs: to the disk, into the journal, under their names.

Several threads bring files to the disk, for the disk takes many at once in little more time than
one. One thread then takes all that are ready: a line for each in the journal, brought to the
disk too, the rename, and the folders. So the samples of the next files are computed while these
are written, and an output is visible only when it would survive a loss of power.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fxfast.audio.paths import printable, reason
from fxfast.audio.publishing import Unpublished
from fxfast.errors import FxfastError, OutputExistsError, SpaceError, WriteError
from fxfast.rendering.beneath import Root, close_fd
from fxfast.rendering.journal import Journal, encode_line
from fxfast.rendering.work import COMPARE, REPLACE
from fxfast.whole_file import read_at

_SYNC_THREADS = 4
_WAITING = 8  # files on their way, each with an open descriptor and one of its folder
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_PIECE_BYTES = 1 << 20


@dataclass
class Parcel:
    """A complete file on its way; ``done`` is called once, with the error or None."""

    below: bytes
    file: Unpublished
    mode: int
    line: dict[str, Any]  # for the journal; the file's size and time are added
    done: Callable[[Exception | None], None]
    stat: os.stat_result | None = None
    folder: int = -1
    adopted: bool = False  # the file that was there is the same to the bit


def is_full(error: OSError) -> bool:
    """Whether a disk, a quota or a limit is used up."""
    return error.errno in _FULL


class Publisher:
    """Takes complete files and gives them their names, in threads of its own."""

    def __init__(
        self,
        root: Callable[[], Root],
        journal: Journal,
        broken: Callable[[BaseException], None],
        *,
        sync: bool = True,
    ) -> None:
        """``root`` opens the output's folder; ``broken`` hears what ended a thread."""
        self._root, self._journal, self._broken, self._sync = root, journal, broken, sync
        self._waiting: queue.SimpleQueue[Parcel | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(_WAITING)
        self._ready: list[Parcel] = []
        self._changed = threading.Condition()
        self._closed = False
        self._syncing = [
            threading.Thread(
                target=self._guarded, args=(self._sync_files,), name=f"fxfast-sync-{n}"
            )
            for n in range(_SYNC_THREADS)
        ]
        self._naming = threading.Thread(
            target=self._guarded, args=(self._name_files,), name="fxfast-name"
        )
        for thread in (*self._syncing, self._naming):
            thread.daemon = True
            thread.start()

    def put(self, parcel: Parcel) -> None:
        """Hand over a file; waits while many others do."""
        self._room.acquire()
        done = parcel.done

        def end(error: Exception | None) -> None:
            self._room.release()
            done(error)

        parcel.done = end
        self._waiting.put(parcel)

    def close(self) -> None:
        """Finish what was handed over, then end the threads."""
        for _ in self._syncing:
            self._waiting.put(None)
        for thread in self._syncing:
            thread.join()
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._naming.join()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self._broken(error)

    def _sync_files(self) -> None:
        while (parcel := self._waiting.get()) is not None:
            try:
                # What fsync reported once it never reports again: one error is final.
                if self._sync:
                    os.fsync(parcel.file.fd)
                parcel.stat = os.fstat(parcel.file.fd)
            except Exception as error:
                _give_up(parcel, error)
                continue
            with self._changed:
                self._ready.append(parcel)
                self._changed.notify()

    def _name_files(self) -> None:
        while True:
            with self._changed:
                while not self._ready and not self._closed:
                    self._changed.wait()
                batch, self._ready = self._ready, []
            if not batch:
                return
            self._name_batch(batch)

    def _name_batch(self, batch: list[Parcel]) -> None:
        batch = [parcel for parcel in batch if self._attempt(self._look, parcel)]
        try:
            if batch:
                lines = b"".join(_line(parcel) for parcel in batch)
                self._journal.append(lines, sync=self._sync)
        except Exception as error:
            for parcel in batch:
                _give_up(parcel, error)
            return
        batch = [parcel for parcel in batch if self._attempt(_give_name, parcel)]
        synced: dict[bytes, Exception | None] = {}
        for parcel in batch:
            folder = os.path.dirname(parcel.below)
            if folder not in synced:
                synced[folder] = _sync_folder(parcel.folder) if self._sync else None
        for parcel in batch:
            _close(parcel)
            failed = synced[os.path.dirname(parcel.below)]
            parcel.done(None if failed is None else _named(parcel, failed))

    def _attempt(self, step: Callable[[Parcel], None], parcel: Parcel) -> bool:
        try:
            step(parcel)
        except Exception as error:
            _give_up(parcel, error)
            return False
        return True

    def _look(self, parcel: Parcel) -> None:
        """Open the folder, beneath the root whatever happened meanwhile; compare if asked."""
        parcel.folder = self._root().folder(os.path.dirname(parcel.below))
        name = os.path.basename(parcel.below)
        if parcel.mode == COMPARE:
            found = _same_contents(parcel.file.fd, name, parcel.folder)
            if found is not None:
                parcel.stat, parcel.adopted = found, True


def _line(parcel: Parcel) -> bytes:
    assert parcel.stat is not None
    values = {**parcel.line, "file": [parcel.stat.st_size, parcel.stat.st_mtime_ns]}
    return encode_line(values)


def _give_name(parcel: Parcel) -> None:
    if parcel.adopted:
        parcel.file.discard()
        return
    temp, name = os.fsencode(parcel.file.temp.name), os.path.basename(parcel.below)
    if parcel.mode == REPLACE:
        os.rename(temp, name, src_dir_fd=parcel.folder, dst_dir_fd=parcel.folder)
        return
    try:
        _rename_new(temp, name, parcel.folder)
    except FileExistsError:
        raise OutputExistsError(
            f"{printable(parcel.file.path)}: expected no file there, another one is "
            "(overwrite not asked)"
        ) from None


def _rename_new(temp: bytes, name: bytes, folder: int) -> None:
    """Rename unless the name is taken, in one step where the system has it."""
    renameat2 = _renameat2()
    if renameat2 is not None:
        if renameat2(folder, temp, folder, name, _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), os.fsdecode(name))
    with suppress(FileNotFoundError):
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(temp, name, src_dir_fd=folder, dst_dir_fd=folder)


@functools.cache
def _renameat2() -> Any:
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return None


def _same_contents(fd: int, name: bytes, folder: int) -> os.stat_result | None:
    """The file under ``name`` if it holds the bytes of ``fd``; None if it does not."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        other = os.open(name, flags, dir_fd=folder)
    except OSError:
        return None
    try:
        found, mine = os.fstat(other), os.fstat(fd)
        if found.st_size != mine.st_size:
            return None
        for offset in range(0, mine.st_size, _PIECE_BYTES):
            if read_at(other, _PIECE_BYTES, offset) != read_at(fd, _PIECE_BYTES, offset):
                return None
        return found
    finally:
        close_fd(other)


def _sync_folder(folder: int) -> Exception | None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system whose folders cannot be synced
            return error
    return None


def _close(parcel: Parcel) -> None:
    parcel.file.close()
    if parcel.folder >= 0:
        close_fd(parcel.folder)
        parcel.folder = -1


def _give_up(parcel: Parcel, error: Exception) -> None:
    parcel.file.discard()
    _close(parcel)
    parcel.done(_named(parcel, error))


def _named(parcel: Parcel, error: Exception) -> Exception:
    if isinstance(error, FxfastError) or not isinstance(error, OSError):
        return error
    kind = SpaceError if is_full(error) else WriteError
    return kind(f"{printable(Path(parcel.file.path))}: cannot be written: {reason(error)}")
