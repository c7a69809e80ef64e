"""What makes two renders the same work: model, settings, engine. Hashes that name them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Protocol

import numpy as np

from fxfast import __version__
from fxfast.graph import ModelGraph


class _Sink(Protocol):
    def update(self, data: bytes, /) -> None: ...


def sha256(data: bytes = b"") -> Any:
    """As that of ``hashlib``, which loads all of OpenSSL, four megabytes: where nothing has asked
    for that yet, the interpreter's own, which ``random`` takes for the same reason."""
    if "hashlib" not in sys.modules:
        for name in ("_sha2", "_sha256"):
            try:
                return importlib.import_module(name).sha256(data)
            except (ImportError, AttributeError):
                continue
    import hashlib

    return hashlib.sha256(data)


def model_digest(graph: ModelGraph) -> str:
    """SHA-256 over everything of a graph but its free metadata, as hex."""
    digest = sha256()
    for part in fields(graph):
        if part.name != "metadata":
            _feed(digest, part.name)
            _feed(digest, getattr(graph, part.name))
    return str(digest.hexdigest())


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 over JSON values, as hex."""
    return str(sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest())


def run_line(graph: ModelGraph, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The journal's line about one kind of work; its ``run`` names it in the lines of files.

    Model and settings are in front of the dash, the version of the engine after it.
    """
    model = model_digest(graph)
    work = sha256(f"{model} {settings_digest(settings)}".encode()).hexdigest()[:16]
    return {
        "run": f"{work}-{__version__}",
        "version": 1,
        "model": model,
        "settings": dict(settings),
        "engine": __version__,
    }


def _feed(digest: _Sink, value: Any) -> None:
    """Every value with its type and its length in front: no two values are fed alike."""
    if isinstance(value, np.ndarray):
        digest.update(f"array {value.dtype.str} {value.shape} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        digest.update(f"{type(value).__qualname__} ".encode())
        for part in fields(value):
            _feed(digest, part.name)
            _feed(digest, getattr(value, part.name))
    elif isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        for key in sorted(value):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, tuple | list):
        digest.update(f"sequence {len(value)} ".encode())
        for item in value:
            _feed(digest, item)
    elif value is None or isinstance(value, bool | int | float | str | np.generic):
        text = repr(value)
        digest.update(f"{type(value).__name__} {len(text)} {text} ".encode())
    else:
        raise TypeError(f"a graph holds a {type(value).__name__}, which has no digest")
