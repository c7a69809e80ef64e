"""From an unfinished file to a visible one: on the disk first, under its name afterwards."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fxfast.audio.paths import printable, reason
from fxfast.errors import AudioFileError, OutputExistsError, SpaceError, WriteError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_failure(path: Path, error: BaseException, where: str = "") -> AudioFileError:
    """SpaceError where the disk, quota or size limit is used up, WriteError for the rest."""
    kind = SpaceError if getattr(error, "errno", None) in _NO_SPACE else WriteError
    return kind(f"{printable(path)}: cannot be written{where}: {reason(error)}")


def refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        raise OutputExistsError(
            f"{printable(path)}: expected no file there, it exists (overwrite not asked)"
        )


@dataclass
class Unpublished:
    """A complete and verified file under its temporary name, and the open descriptor of it.

    Whoever holds it calls ``commit`` or ``discard``, or does what ``commit`` does in steps.
    """

    fd: int
    temp: Path
    path: Path
    overwrite: bool

    def commit(self) -> None:
        """Onto the disk, to its name, and the name onto the disk.

        Raises SpaceError, WriteError and OutputExistsError; the temporary file is then gone. An
        fsync that failed is never tried again: the system may have dropped the data (P. Rebello
        et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020).
        """
        try:
            os.fsync(self.fd)
            refuse_existing(self.path, self.overwrite)
            os.replace(self.temp, self.path)
        except OSError as error:
            self.discard()
            raise write_failure(self.path, error) from error
        except BaseException:
            self.discard()
            raise
        self.close()
        try:
            sync_folder(self.path.parent)
        except OSError as error:
            raise write_failure(self.path, error) from error

    def close(self) -> None:
        """Close the descriptor alone: the temporary name may be somebody else's by now."""
        if self.fd >= 0:
            with suppress(OSError):
                os.close(self.fd)
            self.fd = -1

    def discard(self) -> None:
        """Remove the temporary file, which has not become the output, and close it."""
        if self.fd >= 0:
            with suppress(OSError):
                os.unlink(self.temp)
            self.close()


def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
