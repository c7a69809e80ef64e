"""Rendering: one audio file or a whole library through a player, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fxfast.rendering.library_run import Watcher
from fxfast.rendering.outcomes import FileReport
from fxfast.rendering.output_names import OutputNames
from fxfast.rendering.processing import Processing
from fxfast.rendering.render_library import RunOptions, render_library
from fxfast.rendering.report import LibraryReport

if TYPE_CHECKING:
    from fxfast.rendering.rendered_file import RenderedFile, render_file

__all__ = [
    "FileReport",
    "LibraryReport",
    "OutputNames",
    "Processing",
    "RenderedFile",
    "RunOptions",
    "Watcher",
    "render_file",
    "render_library",
]


def __getattr__(name: str) -> Any:
    """What reads and writes audio is imported where it is used."""
    if name not in ("RenderedFile", "render_file"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fxfast.rendering import rendered_file

    return getattr(rendered_file, name)
