"""The door to the native libraries: where they are, and a clear error when they are not."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from fxfast.errors import BuildError

TORCH_LIBRARY = Path(__file__).resolve().parent / "libfxfast_torch.so"


def engine() -> ModuleType:
    """The engine module ``fxfast._native``. Raises ``BuildError`` where it is not built."""
    try:
        return importlib.import_module("fxfast._native")
    except ImportError as error:
        raise BuildError(
            "fxfast._native: expected the built engine, found none that loads "
            f"({error}); run 'make build' or 'pip install .'"
        ) from error


def engine_if_built() -> ModuleType | None:
    """The engine module; None where it is not built and plain Python has to do."""
    try:
        return engine()
    except BuildError:
        return None


def torch_library() -> Path:
    """Path of the torch op library. Raises ``BuildError`` where it is not built."""
    if not TORCH_LIBRARY.is_file():
        raise BuildError(
            f"{TORCH_LIBRARY.name}: expected the built torch library in {TORCH_LIBRARY.parent}, "
            "found none; run 'make build' or 'pip install .'"
        )
    return TORCH_LIBRARY
