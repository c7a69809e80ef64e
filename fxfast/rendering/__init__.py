"""Rendering: one audio file or a whole library through a player, block by block."""

from __future__ import annotations

from fxfast.rendering.processing import Processing
from fxfast.rendering.render_file import RenderedFile, render_file
from fxfast.rendering.render_library import FileReport, LibraryReport, render_library

__all__ = [
    "FileReport",
    "LibraryReport",
    "Processing",
    "RenderedFile",
    "render_file",
    "render_library",
]
