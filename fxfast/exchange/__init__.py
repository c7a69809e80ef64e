"""Model files: one module per format, and the native one behind ``load`` and ``save``."""

from __future__ import annotations

import os
from pathlib import Path

from fxfast.errors import ModelError
from fxfast.exchange import safetensors
from fxfast.graph import ModelGraph

MODEL_FILE = "model.safetensors"

__all__ = ["MODEL_FILE", "load", "save"]


def load(path: str | os.PathLike[str]) -> ModelGraph:
    """Read a native model file, or the one that a run directory holds.

    Raises ``ModelError`` that names the path and the field when there is no such file,
    or when it is damaged, hostile or newer than this version knows.
    """
    path = Path(path)
    if "\0" not in str(path) and path.is_dir():
        inside = path / MODEL_FILE
        if not inside.exists():
            raise ModelError(
                f"{path}: expected a model file or a run directory with {MODEL_FILE}, "
                f"got a directory without it"
            )
        path = inside
    return safetensors.load(path)


def save(graph: ModelGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to the native model file ``path``, replacing it in one step.

    Raises ``ModelError`` that names the path when it cannot be written there.
    """
    safetensors.save(graph, path)
