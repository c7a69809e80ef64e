"""Many audio files through models: planned first, then rendered, each file right or not there.

The order of things: the files are found and each gets its output; what an earlier run has done
is left out; headers are read; the longest files go first. One bad file never stops the run, and
every file has its line in the report. The samples depend on nothing but file, model and settings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fxfast.audio.paths import AnyPath, printable, reason
from fxfast.errors import InputError, OutputFolderError
from fxfast.graph import ModelGraph
from fxfast.rendering.budget import Budget, budget, cpu_cores
from fxfast.rendering.journal import Journal, encode_line, journal_size, read_journal
from fxfast.rendering.library_run import LibraryRun, Watcher
from fxfast.rendering.output_format import check_choice
from fxfast.rendering.output_names import OutputNames
from fxfast.rendering.plan import Plan, plan_table, refuse_out_file
from fxfast.rendering.processing import BLOCK_FRAMES, Processing
from fxfast.rendering.report import LibraryReport
from fxfast.rendering.resume import (
    JobIndex,
    Todo,
    all_there,
    find_present,
    refuse_outputs_that_are_inputs,
)
from fxfast.rendering.scan import scan_inputs, scan_list
from fxfast.rendering.work import CPU, Placement, Work
from fxfast.rendering.work_key import run_line

if TYPE_CHECKING:
    from fxfast.rendering.pipeline import StreamPlayer

    Model = ModelGraph | StreamPlayer


@dataclass(frozen=True)
class RunOptions:
    """How a run goes, besides what is rendered.

    ``jobs``        threads that work at once (default: one for each CPU core)
    ``overwrite``   render everything, also over outputs that are there
    ``by_hash``     tell inputs by their contents, not by size and time
    ``follow``      follow links inside the input folders
    ``isolate``     work in a child process, which survives crashes of decoders
    ``timeout_s``   the most seconds for a file
    ``memory_mib``  the most memory of the run
    ``grace_s``     how long files in hand may go on after a first signal
    ``sync``        bring every output to the disk before it gets its name
    """

    jobs: int | None = None
    overwrite: bool = False
    by_hash: bool = False
    follow: bool = False
    isolate: bool = False
    timeout_s: float | None = None
    memory_mib: float | None = None
    grace_s: float = 2.0
    sync: bool = True

    def check(self) -> None:
        """Raise ``InputError`` for a number without a meaning."""
        if self.jobs is not None and (type(self.jobs) is not int or self.jobs < 1):
            raise InputError(f"jobs: expected an integer of at least 1, got {self.jobs!r}")
        for name in ("timeout_s", "memory_mib"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name}: expected a number above 0, got {value!r}")
        if not self.grace_s >= 0:
            raise InputError(f"grace_s: expected a number of at least 0, got {self.grace_s!r}")


def render_library(
    model: Model | Mapping[str, Model],
    inputs: Sequence[AnyPath],
    out_dir: AnyPath,
    *,
    listed: AnyPath | None = None,
    list_root: AnyPath | None = None,
    options: RunOptions | None = None,
    names: OutputNames | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    processing: Processing | None = None,
    format: str = "keep",
    subtype: str = "keep",
    isa: str | None = None,
    device: str = CPU,
    block_frames: int = BLOCK_FRAMES,
    watcher: Watcher | None = None,
) -> LibraryReport:
    """Render files, folders (recursive, tree kept) and globs into ``out_dir``.

    ``model`` is a graph, a ready player, or several of them by name: then every file goes through
    each. ``listed`` is a text file of more inputs below ``list_root``. A ``dry_run`` opens and
    checks the files and writes nothing. ``isa`` names the instruction set for graphs. ``device``
    is where graphs play: "cpu", "cuda" (the CPU, with a note in the report, where there is no GPU),
    "auto" (the CPU also where a model cannot be played on a GPU, or is recurrent and has too few
    files for one to be faster), or "cuda:0" and so on.
    ``jobs`` and ``overwrite`` are those of ``options``, ``format`` that of ``names``, for short.
    ``watcher`` hears of the run as it goes, in the calling thread.

    Raises ``InputError`` for wrong arguments and for what ``plan_library`` finds,
    ``ModelError`` for a model that the device cannot play,
    ``OutputFolderError`` for an output that cannot be written, ``LockedError`` while another run
    has it, before any work is done. What is wrong with one file is in its report.
    """
    started = time.perf_counter()
    options = options or RunOptions(jobs=jobs, overwrite=overwrite)
    names = names or OutputNames(format)
    processing = processing or Processing()
    _check(options, processing, names, subtype, block_frames)
    models = dict(model) if isinstance(model, Mapping) else {"": model}
    graphs = [_graph_of(m) for m in models.values()]
    for graph in graphs:
        processing.check_knobs(graph.knobs)
    plan = _plan(inputs, out_dir, listed, list_root, names, tuple(models), options.follow)
    files, cores = len(plan) // max(1, len(models)), options.jobs or cpu_cores()
    placed = _placed(device, graphs, options.isolate, files, cores)
    settings = {**processing.key(), "subtype": subtype}
    if placed.key is not None:
        settings["device"] = placed.key
    lines = [run_line(graph, settings) for graph in graphs]
    size = journal_size(plan.out_dir)
    jobs_of = JobIndex(plan)
    present = find_present(plan, jobs_of)
    refuse_outputs_that_are_inputs(plan, present)

    def made() -> _Made:
        return _make(models, isa, placed.device, options)

    # Where nothing seems to be missing, players wait: there may be nothing for them to do.
    can_wait = isa is None and device == CPU and not options.overwrite and size > 0
    ready = None if can_wait and all_there(plan, present) else made()
    journal = None if dry_run else _open_journal(plan.out_dir)
    try:
        if journal is not None:
            if journal_size(plan.out_dir) != size:
                present = find_present(plan, jobs_of)  # another run has worked here meanwhile
            _remove(present.leftovers)
        runs = [line["run"] for line in lines]
        noted = Todo(plan, present, jobs_of, runs, by_hash=options.by_hash)
        if journal is None:
            todo = noted.result(read_journal(out_dir, noted.take))
        else:
            todo = noted.result(journal.read(noted.take))
        run = LibraryRun(
            plan,
            todo,
            watcher or Watcher(),
            overwrite=options.overwrite,
            grace_s=options.grace_s,
        )
        if run.has_work:
            ready = ready or made()
            work = Work(
                plan=plan,
                players=ready.players,
                runs=tuple(runs),
                todo=todo,
                journal=journal,
                jobs=ready.fits.jobs,
                open_jobs=ready.fits.open_jobs,
                processing=processing,
                subtype=subtype,
                overwrite=options.overwrite,
                by_hash=options.by_hash,
                sync=options.sync,
                timeout_s=options.timeout_s,
                block_frames=block_frames,
            )
            if journal is not None:
                _begin(journal, lines, options.sync)
            done = (run.dry if dry_run else run.render)(work, isolate=options.isolate)
        else:
            done = run.nothing()
    finally:
        if journal is not None:
            journal.close()
    digests = {name: str(line["model"]) for name, line in zip(models, lines, strict=True)}
    wall = time.perf_counter() - started
    notes = done.notes if placed.note is None else (placed.note, *done.notes)
    return LibraryReport(done.outcomes, wall, digests, dry_run, done.interrupted, notes)


class _Made(NamedTuple):
    """What renders, and how many files it may have at once."""

    players: tuple[StreamPlayer, ...]
    fits: Budget


def _make(models: Mapping[str, Model], isa: str | None, device: str, options: RunOptions) -> _Made:
    from fxfast.rendering.group import GROUP_FILES
    from fxfast.rendering.worker import can_group

    players = tuple(_player_of(model, isa, device) for model in models.values())
    files_per_job = GROUP_FILES if any(can_group(player) for player in players) else 1
    if device != CPU:
        from fxfast.rendering.device import OPEN_FILES

        files_per_job = OPEN_FILES
    return _Made(players, budget(options.jobs, options.memory_mib, files_per_job))


def _placed(
    device: str, graphs: Sequence[ModelGraph], isolate: bool, files: int, cores: int
) -> Placement:
    if device == CPU:
        return Placement(CPU)
    from fxfast.rendering.device import place

    return place(device, graphs, isolate, files, cores)


def _check(
    options: RunOptions,
    processing: Processing,
    names: OutputNames,
    subtype: str,
    block_frames: int,
) -> None:
    check_choice(names.format, subtype)
    processing.check()
    options.check()
    if type(block_frames) is not int or block_frames < 1:
        raise InputError(f"block_frames: expected an integer of at least 1, got {block_frames!r}")


def _plan(
    inputs: Sequence[AnyPath],
    out_dir: AnyPath,
    listed: AnyPath | None,
    list_root: AnyPath | None,
    names: OutputNames,
    models: tuple[str, ...],
    follow: bool,
) -> Plan:
    names.check(models)
    refuse_out_file(Path(out_dir))
    if listed is None:
        table = scan_inputs(inputs, out_dir, follow=follow)
    elif inputs:
        raise InputError("inputs: expected none beside a list of files")
    else:
        table = scan_list(listed, list_root)
    return plan_table(table, out_dir, names, models)


def _open_journal(out_dir: Path) -> Journal:
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFolderError(
            f"{printable(out_dir)}: cannot be made as a folder: {reason(error)}"
        ) from error
    if not os.access(out_dir, os.W_OK | os.X_OK):
        raise OutputFolderError(f"{printable(out_dir)}: expected a folder that can be written to")
    return Journal(out_dir)


def _remove(paths: Sequence[bytes]) -> None:
    for path in paths:
        with suppress(OSError):
            os.unlink(path)


def _begin(journal: Journal, lines: Sequence[dict[str, object]], sync: bool) -> None:
    """Say what the coming lines of files are about."""
    try:
        journal.append(b"".join(map(encode_line, lines)), sync=sync)
    except OSError as error:
        raise OutputFolderError(
            f"{printable(journal.path)}: the journal cannot be written: {reason(error)}"
        ) from error


def _graph_of(model: Model) -> ModelGraph:
    return model if isinstance(model, ModelGraph) else model.graph


def _player_of(model: Model, isa: str | None, device: str) -> StreamPlayer:
    if not isinstance(model, ModelGraph):
        if device != CPU:
            raise InputError(f"device: expected {CPU} for a ready player, got {device!r}")
        if isa is not None:
            raise InputError(f"isa: expected none for a ready player, got {isa!r}")
        return model
    if device != CPU:
        from fxfast.rendering.device import DevicePlayer

        return DevicePlayer(model, device)
    from fxfast.player import Player  # a missing native build is an error here, not at import

    return Player(model, threads=1, mode="offline", isa=isa)
