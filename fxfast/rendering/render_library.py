"""Many audio files through one model: planned first, then rendered by a pool of threads.

Each file is one stream in one thread; the engine, the decoders and the encoders release the
GIL. Files of a recurrent model go through it in groups. One bad file never stops the run: every
file of the plan has its line in the report.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeGuard

from fxfast.audio.paths import AnyPath, printable
from fxfast.errors import AudioFileError, FxfastError, InputError, OutputExistsError
from fxfast.graph import ModelGraph
from fxfast.rendering.group import GROUP_FILES, Group, GroupPlayer
from fxfast.rendering.leftovers import remove_leftovers
from fxfast.rendering.output_format import check_choice
from fxfast.rendering.plan import PlannedFile, plan_library
from fxfast.rendering.processing import Processing
from fxfast.rendering.render_file import BLOCK_FRAMES, StreamPlayer, check_input, render_file


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    ``status`` is "rendered", "skipped" (a dry run found nothing wrong) or "failed"; ``code`` and
    ``message`` say why it failed. ``audio_seconds`` is the file's length, 0 where unknown.
    ``clipped`` counts the samples cut at full scale.
    """

    input: str
    output: str
    status: str
    code: str | None = None
    message: str | None = None
    audio_seconds: float = 0.0
    wall_seconds: float = 0.0
    clipped: int = 0


@dataclass(frozen=True)
class LibraryReport:
    """One line for each planned file, in the order of the plan, and the time of the run."""

    files: tuple[FileReport, ...]
    wall_seconds: float
    dry_run: bool = False

    def count(self, status: str) -> int:
        return sum(file.status == status for file in self.files)

    @property
    def failed(self) -> tuple[FileReport, ...]:
        return tuple(file for file in self.files if file.status == "failed")

    @property
    def audio_seconds(self) -> float:
        """Seconds of audio that were rendered (in a dry run: that would be)."""
        return sum(file.audio_seconds for file in self.files if file.status != "failed")

    @property
    def realtime_factor(self) -> float:
        """Seconds of audio rendered in a second."""
        if self.dry_run or self.wall_seconds <= 0:
            return 0.0
        return self.audio_seconds / self.wall_seconds

    @property
    def clipped(self) -> int:
        return sum(file.clipped for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """The whole report as JSON values."""
        return {
            "dry_run": self.dry_run,
            "rendered": self.count("rendered"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
            "audio_seconds": self.audio_seconds,
            "wall_seconds": self.wall_seconds,
            "realtime_factor": self.realtime_factor,
            "clipped": self.clipped,
            "files": [asdict(file) for file in self.files],
        }


def render_library(
    model: ModelGraph | StreamPlayer,
    inputs: Sequence[AnyPath],
    out_dir: AnyPath,
    *,
    jobs: int | None = None,
    dry_run: bool = False,
    overwrite: bool = False,
    processing: Processing | None = None,
    format: str = "keep",
    subtype: str = "keep",
    isa: str | None = None,
    block_frames: int = BLOCK_FRAMES,
    on_plan: Callable[[int], None] | None = None,
    on_file: Callable[[FileReport], None] | None = None,
) -> LibraryReport:
    """Render files, folders (recursive, tree kept) and globs into ``out_dir``.

    ``jobs`` threads work at once (default: one for each CPU core). A ``dry_run`` opens and
    checks the files and writes nothing. ``isa`` names the instruction set when ``model`` is a
    graph. ``on_plan`` gets the number of files, ``on_file`` each report as it comes, both in
    the calling thread. The samples do not depend on ``jobs`` or ``block_frames``.

    Raises ``InputError`` for wrong arguments and for what ``plan_library`` finds, before any
    work is done. What is wrong with one file is in its report.
    """
    check_choice(format, subtype)
    (processing or Processing()).check()
    if jobs is not None and (type(jobs) is not int or jobs < 1):
        raise InputError(f"jobs: expected an integer of at least 1, got {jobs!r}")
    if type(block_frames) is not int or block_frames < 1:
        raise InputError(f"block_frames: expected an integer of at least 1, got {block_frames!r}")
    started = time.perf_counter()
    plan = plan_library(inputs, out_dir, format)
    if on_plan is not None:
        on_plan(len(plan))
    stop = threading.Event()
    jobs = threads = jobs or _cpu_cores()
    if dry_run:
        rate = (model if isinstance(model, ModelGraph) else model.graph).sample_rate
        work = partial(_check_one, model_rate=rate, overwrite=overwrite, processing=processing)
    else:
        remove_leftovers({file.output.parent for file in plan})
        player = _player_of(model, isa)
        group = Group(player, jobs) if _can_group(player) else None
        threads = jobs * (1 if group is None else GROUP_FILES)
        work = partial(
            _render_one,
            group or player,
            stopped=stop.is_set,
            overwrite=overwrite,
            processing=processing,
            subtype=subtype,
            block_frames=block_frames,
        )
    reports = _run_all(plan, work, threads, stop, on_file)
    return LibraryReport(tuple(reports), time.perf_counter() - started, dry_run)


def _player_of(model: ModelGraph | StreamPlayer, isa: str | None) -> StreamPlayer:
    if not isinstance(model, ModelGraph):
        if isa is not None:
            raise InputError(f"isa: expected none for a ready player, got {isa!r}")
        return model
    from fxfast.player import Player  # a missing native build is an error here, not at import

    return Player(model, threads=1, mode="offline", isa=isa)


def _run_all(
    plan: list[PlannedFile],
    work: Callable[[PlannedFile], FileReport],
    threads: int,
    stop: threading.Event,
    on_file: Callable[[FileReport], None] | None,
) -> list[FileReport]:
    """Run ``work`` on every file; an interrupt ends the files in hand without an output."""
    pool = ThreadPoolExecutor(min(threads, len(plan)), thread_name_prefix="fxfast-render")
    try:
        futures: list[Future[FileReport]] = [pool.submit(_guarded, work, file) for file in plan]
        for future in as_completed(futures):
            if on_file is not None:
                on_file(future.result())
        return [future.result() for future in futures]
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _guarded(work: Callable[[PlannedFile], FileReport], file: PlannedFile) -> FileReport:
    started = time.perf_counter()
    try:
        return work(file)
    except Exception as error:  # one bad file never stops the run
        known = isinstance(error, FxfastError)
        text = " ".join(str(error).split())
        message = text if known else f"{printable(file.input)}: {type(error).__name__}: {text}"
        return FileReport(
            printable(file.input),
            printable(file.output),
            "failed",
            error.code if isinstance(error, FxfastError) else "E_INTERNAL",
            message,
            wall_seconds=time.perf_counter() - started,
        )


def _can_group(player: StreamPlayer) -> TypeGuard[GroupPlayer]:
    return player.graph.is_recurrent and hasattr(player, "process_together")


def _render_one(player: StreamPlayer | Group, file: PlannedFile, **settings: Any) -> FileReport:
    if isinstance(player, Group):
        with player.file() as member:
            return _render_one(member, file, **settings)
    started = time.perf_counter()
    try:
        file.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioFileError(
            f"{printable(file.output.parent)}: cannot be made as a folder: {error.strerror}"
        ) from error
    done = render_file(player, file.input, file.output, **settings)
    return FileReport(
        printable(file.input),
        printable(file.output),
        "rendered",
        audio_seconds=done.seconds,
        wall_seconds=time.perf_counter() - started,
        clipped=done.clipped,
    )


def _check_one(
    file: PlannedFile, *, model_rate: int, overwrite: bool, processing: Processing | None
) -> FileReport:
    started = time.perf_counter()
    info = check_input(file.input, model_rate, processing)
    if not overwrite and os.path.lexists(file.output):
        raise OutputExistsError(
            f"{printable(file.output)}: expected no file there, it exists (overwrite not asked)"
        )
    return FileReport(
        printable(file.input),
        printable(file.output),
        "skipped",
        audio_seconds=info.seconds,
        wall_seconds=time.perf_counter() - started,
    )


def _cpu_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
