"""Model files: one module per format, behind ``load`` and ``save``."""

from __future__ import annotations

import os
from pathlib import Path

from fxfast.errors import ModelError
from fxfast.exchange import model_file
from fxfast.graph import ModelGraph

MODEL_FILE = "model.safetensors"
NAM_SUFFIX = ".nam"
# The native file begins with its header's length in 8 bytes, the upper ones zero, and a brace.
_START_BYTES = 9

__all__ = ["MODEL_FILE", "load", "save"]


def load(
    path: str | os.PathLike[str],
    *,
    slim: float | None = None,
    linear_tap_order: str = "newest-first",
) -> ModelGraph:
    """Read a native model file, a ``.nam`` file, or the model that a run directory holds.

    ``slim`` from 0 to 1 chooses from a ``.nam`` that holds several sizes (default: the full
    one). ``linear_tap_order`` is "oldest-first" for a ``.nam`` of architecture Linear from a
    trainer before August 2026.

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
    # Each format is imported where a file has it: a command should not wait for the others.
    if _is_nam(path):
        from fxfast.exchange import nam

        return nam.load(path, slim=slim, linear_tap_order=linear_tap_order)
    if slim is not None:
        raise ModelError(f"{path}: expected a .nam file of several sizes for slim, got another")
    from fxfast.exchange import safetensors

    return safetensors.load(path)


def _is_nam(path: Path) -> bool:
    """By the name, or because the file begins as JSON does."""
    if path.suffix.lower() == NAM_SUFFIX:
        return True
    with model_file.naming(path):
        start = model_file.read_start(path, _START_BYTES)
        model_file.refuse_foreign(start)
    return start.lstrip().startswith(b"{") and b"\0" not in start


def save(graph: ModelGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to ``path``, replacing it in one step: a ``.nam`` by that name, or native.

    Raises ``ModelError`` that names the path when it cannot be written there, or when a
    ``.nam`` cannot hold the graph.
    """
    if Path(path).suffix.lower() == NAM_SUFFIX:
        from fxfast.exchange import nam_write

        nam_write.save(graph, path)
    else:
        from fxfast.exchange import safetensors

        safetensors.save(graph, path)
