"""Rendering: one audio file or a whole library through a player, block by block."""

from __future__ import annotations

from fxfast.rendering.library_run import Watcher
from fxfast.rendering.outcomes import FileReport
from fxfast.rendering.output_names import OutputNames
from fxfast.rendering.processing import Processing
from fxfast.rendering.render_file import RenderedFile, render_file
from fxfast.rendering.render_library import RunOptions, render_library
from fxfast.rendering.report import LibraryReport

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
