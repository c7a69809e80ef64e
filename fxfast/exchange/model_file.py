"""Model files that nobody vouches for: opened without waiting, bounded, errors with the path."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from fxfast.errors import ModelError, UnsupportedModelError


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the path in front of every ``ModelError``, which keeps its class, and ``OSError``."""
    text = os.fspath(path)
    name = text if text.isprintable() else ascii(text)
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{name}: {error}", **error.details) from None
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


# What model files of other programs begin with. None of them is ever unpickled or run.
_FOREIGN = {
    b"PK\x03\x04": "a PyTorch or TorchScript archive",
    b"PK\x05\x06": "an empty archive",
    b"\x80": "a Python pickle",
    b"\x89HDF": "an HDF5 file",
    b"\x1f\x8b": "a gzip file",
    b"\x7fELF": "a program",
    b"RIFF": "a WAV file",
}


def refuse_foreign(start: bytes) -> None:
    """Raise ``UnsupportedModelError`` for the first bytes of what other programs write.

    A native file may begin with the same bytes, for they are a length; its ninth is ``{``.
    """
    for magic, kind in _FOREIGN.items():
        if start.startswith(magic) and start[8:9] != b"{":
            raise UnsupportedModelError(f"file: expected a .safetensors or .nam model, got {kind}")


def read_start(path: str | os.PathLike[str], count: int) -> bytes:
    """The first ``count`` bytes of a regular file, or fewer when it is shorter."""
    with open_regular(path) as file:
        return file.read(count)
