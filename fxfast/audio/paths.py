"""Names of audio files: finding them, printing them, and the hidden names of unfinished ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from fxfast.errors import AudioFileError

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".aif", ".aiff")
TEMP_PREFIX = ".fxfast-"
TEMP_SUFFIX = ".part"

AnyPath = str | os.PathLike[str]


def printable(path: AnyPath) -> str:
    """The path on one line of valid Unicode, whatever bytes the file name holds."""
    text = os.fspath(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def find_audio(root: AnyPath, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> list[Path]:
    """All audio files (by suffix, any case) under a folder, sorted; a file stands for itself.

    Hidden names are left out and links to folders are not followed. Raises AudioFileError when
    ``root`` does not exist or a folder cannot be read.
    """
    top = Path(root)
    if not top.exists():
        raise AudioFileError(f"{printable(top)}: expected a file or a folder, found nothing")
    if not top.is_dir():
        return [top]

    def refuse(error: OSError) -> None:
        raise AudioFileError(
            f"{printable(error.filename)}: cannot list the folder: {reason(error)}"
        )

    found: list[Path] = []
    for folder, folders, names in os.walk(top, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
        ]
    return sorted(found)


def create_temp(path: Path) -> tuple[int, Path]:
    """A new hidden file in the folder of ``path``; the name is short whatever the target's is."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    for number in count():
        temp = path.parent / f"{TEMP_PREFIX}{os.getpid()}-{number}{TEMP_SUFFIX}"
        try:
            return os.open(temp, flags, 0o666), temp
        except FileExistsError:
            continue
        except OSError as error:
            raise AudioFileError(
                f"{printable(path)}: cannot be written in its folder: {reason(error)}"
            ) from error
    raise AssertionError("count() ended")


def reason(error: BaseException) -> str:
    """The reason on one line, without the path or the descriptor number."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
