"""The plan of a run: which files, and where each output goes, before any work is done.

A file goes to ``out_dir`` under its own name. A folder's files (by suffix, recursive) keep
their tree below the folder; the matches of a glob keep theirs below the part of the pattern
in front of the first wildcard. A file that several inputs name is rendered once, where the
first of them puts it. An ``out_dir`` inside an input folder is not an input itself.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fxfast.audio.paths import AUDIO_SUFFIXES, AnyPath, find_audio, printable
from fxfast.errors import InputError
from fxfast.rendering.output_format import output_suffix


@dataclass(frozen=True)
class PlannedFile:
    """One input file and the output that it becomes."""

    input: Path
    output: Path


def plan_library(
    inputs: Sequence[AnyPath], out_dir: AnyPath, format: str = "keep"
) -> list[PlannedFile]:
    """Find the input files and give each an output, in the order of ``inputs``.

    Raises ``InputError`` for an input that does not exist or matches nothing, a folder without
    audio, an ``out_dir`` that is not a folder, two inputs with one output, and an output that
    is an input.
    """
    out_dir = Path(out_dir)
    if not inputs:
        raise InputError("inputs: expected at least one file, folder or glob, got none")
    if os.path.lexists(out_dir) and not out_dir.is_dir():
        raise InputError(f"{printable(out_dir)}: expected a folder for the output, got a file")
    planned: dict[str, PlannedFile] = {}
    for given in inputs:
        for root, path in _expand(os.fspath(given), out_dir):
            below = os.path.normpath(path.relative_to(root))
            if below.split(os.sep)[0] == "..":
                raise InputError(
                    f"{printable(path)}: expected a file below {printable(root)}, got one outside"
                )
            output = out_dir / below
            output = output.with_suffix(output_suffix(output.suffix, format))
            planned.setdefault(os.path.abspath(path), PlannedFile(path, output))
    plan = list(planned.values())
    _refuse_shared_outputs(plan)
    _refuse_outputs_that_are_inputs(plan)
    return plan


def _expand(given: str, out_dir: Path) -> Iterator[tuple[Path, Path]]:
    """Pairs of a root, below which the tree is kept, and an audio file."""
    path = Path(given)
    if path.is_dir():
        root, files = path, _outside(path, find_audio(path), out_dir)
        wanted = "a folder with audio files"
    elif os.path.lexists(path):
        root, files = path.parent, [path]
        wanted = "an audio file"
    elif glob.has_magic(given):
        root = _fixed_part(path)
        matches = [Path(m) for m in sorted(glob.glob(given, recursive=True))]
        files = _outside(root, _audio_of(matches), out_dir)
        wanted = "a pattern that matches audio files"
    else:
        raise InputError(f"{printable(given)}: expected a file, a folder or a glob, found nothing")
    if not files:
        suffixes = ", ".join(AUDIO_SUFFIXES)
        raise InputError(f"{printable(given)}: expected {wanted} ({suffixes}), found none")
    for file in files:
        yield root, file


def _audio_of(matches: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for match in matches:
        if match.is_dir():
            found += find_audio(match)
        elif match.suffix.lower() in AUDIO_SUFFIXES:
            found.append(match)
    return found


def _fixed_part(pattern: Path) -> Path:
    """The folders of a pattern before the first part with a wildcard."""
    parts = []
    for part in pattern.parts:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _outside(root: Path, files: list[Path], out_dir: Path) -> list[Path]:
    """Without the files of an output folder that lies inside the input folder."""
    inside, top = out_dir.resolve(), root.resolve()
    if inside == top or not inside.is_relative_to(top):
        return files
    below = inside.relative_to(top)
    return [file for file in files if not file.relative_to(root).is_relative_to(below)]


def _refuse_shared_outputs(plan: list[PlannedFile]) -> None:
    first: dict[Path, PlannedFile] = {}
    shared = []
    for file in plan:
        other = first.setdefault(file.output, file)
        if other is not file:
            shared.append((other, file))
    if shared:
        one, other = shared[0]
        more = f" ({len(shared) - 1} more such outputs)" if len(shared) > 1 else ""
        raise InputError(
            f"{printable(one.output)}: expected one input for each output, "
            f"got {printable(one.input)} and {printable(other.input)}{more}"
        )


def _refuse_outputs_that_are_inputs(plan: list[PlannedFile]) -> None:
    inputs = {identity for file in plan if (identity := _identity(file.input)) is not None}
    for file in plan:
        if _identity(file.output) in inputs:
            raise InputError(
                f"{printable(file.output)}: expected an output that is not an input of the run"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    """The file behind a name, however many names it has; None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
