"""Model files that nobody vouches for: opened without waiting, bounded, errors with the path."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from fxfast.errors import ModelError


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the path in front of every ``ModelError`` and ``OSError``, as a ``ModelError``."""
    text = os.fspath(path)
    name = text if text.isprintable() else ascii(text)
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    except OSError as error:
        raise ModelError(f"{name}: {error.strerror or error}") from error


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open without waiting (a pipe would wait for ever) and refuse all but files."""
    if "\0" in os.fspath(path):
        raise ModelError("path: expected no NUL character")
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError("file: expected a regular file, got a directory, pipe or device")
    return os.fdopen(descriptor, "rb")


def read_start(path: str | os.PathLike[str], count: int) -> bytes:
    """The first ``count`` bytes of a regular file, or fewer when it is shorter."""
    with open_regular(path) as file:
        return file.read(count)
