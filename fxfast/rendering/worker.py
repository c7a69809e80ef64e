"""One process's share of a run: threads that take jobs, render them and say what became of them.

Each file is one stream in one thread; the engine, the decoders and the encoders release the GIL.
Files of a recurrent model go through it in groups; one of any other model may use cores that no
file holds. A thread that has rendered a file hands it to
the publisher and takes the next one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeGuard

from fxfast.audio.files import AudioInfo
from fxfast.audio.paths import printable, reason
from fxfast.audio.publishing import Unpublished
from fxfast.errors import (
    ChangedError,
    FxfastError,
    OutOfMemoryError,
    ReadError,
    RenderTimeoutError,
    RunError,
    SpaceError,
    WriteError,
)
from fxfast.rendering.beneath import Root, close_fd
from fxfast.rendering.device import DeskPlayer, DevicePlayer
from fxfast.rendering.group import GROUP_BLOCK_FRAMES, Group, GroupPlayer, MemberPlayer
from fxfast.rendering.processing import BLOCK_FRAMES
from fxfast.rendering.publish import Parcel, Publisher, is_full
from fxfast.rendering.rendered_file import (
    RenderedFile,
    StreamPlayer,
    check_input,
    check_output_format,
    render_file,
)
from fxfast.rendering.resume import content_hash
from fxfast.rendering.split import SPLIT_BLOCK_FRAMES, Cores, SplitPlayer, can_split
from fxfast.rendering.work import PROBE, REFUSE, Command, Work

Emit = Callable[[dict[str, Any]], None]


def can_group(player: StreamPlayer) -> TypeGuard[GroupPlayer]:
    return player.graph.is_recurrent and hasattr(player, "process_together")


class Worker:
    """Threads of this process that do the commands of ``take`` until it gives None.

    ``emit`` gets ``{"state": "work", "of": job}``, where a file is handed to the publisher
    ``{"state": "publish", "of": job}``, and at the end ``{"job": job, ...}`` with an ``error`` or
    the figures of the file; any thread calls it. ``broken`` gets what ended a thread that should
    have gone on: the files it had in hand will never be heard of again.
    """

    def __init__(
        self,
        work: Work,
        take: Callable[[], Command | None],
        emit: Emit,
        broken: Callable[[BaseException], None],
    ) -> None:
        self._work, self._take, self._emit, self._broken = work, take, emit, broken
        self.stop = threading.Event()
        self._root: Root | None = None
        self._publisher: Publisher | None = None
        self._open_lock = threading.Lock()
        self._join_lock = threading.Lock()
        self._groups = [
            Group(player, work.jobs) if can_group(player) else None for player in work.players
        ]
        self._started = threading.Event()
        self._cores = Cores(work.jobs)
        self._players = [_sharing(player, self._cores, work.open_jobs) for player in work.players]
        self._threads = [
            threading.Thread(target=self._guarded_run, name=f"fxfast-render-{n}", daemon=True)
            for n in range(work.open_jobs)
        ]

    def start(self) -> None:
        # Every thread starts before the first file: one that cannot start shows here, and the first
        # that has a block does not take itself for the only one of its group.
        if self._work.journal is not None:
            self._publisher = Publisher(
                self._open_root, self._work.journal, self._broken, sync=self._work.sync
            )
        try:
            for thread in self._threads:
                thread.start()
        finally:
            self._started.set()

    def join(self) -> None:
        """Wait for the threads, and for the files that they handed over."""
        for thread in self._threads:
            thread.join()
        with self._join_lock:
            if self._publisher is not None:
                self._publisher.close()
            if self._root is not None:
                self._root.close()
            self._publisher = self._root = None
            self._cores.close()

    def _guarded_run(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._broken(error)

    def _run(self) -> None:
        self._started.wait()
        while (command := self._take()) is not None:
            kind, job = command
            self._emit({"state": "work", "of": job})
            started = time.perf_counter()
            try:
                if kind == PROBE:
                    info = self._probe(job)
                    figures = {"seconds": info.seconds, "bytes": info.frames * info.channels * 4}
                    self._emit({"job": job, **figures})
                else:
                    self._render(job, started)
            except BaseException as error:  # one bad file never stops the run
                self._emit(self._failure(job, error, started))

    def _probe(self, job: int) -> AudioInfo:
        work, plan = self._work, self._work.plan
        player = work.players[plan.model(job)]
        info = check_input(plan.input(job), player.graph.sample_rate, work.processing)
        check_output_format(info, plan.output(job), work.subtype, work.processing)
        return info

    def _open_root(self) -> Root:
        with self._open_lock:
            if self._root is None:
                self._root = Root(self._work.plan.out_dir)
            return self._root

    def _render(self, job: int, started: float) -> None:
        model = self._work.plan.model(job)
        group = self._groups[model]
        if group is None:
            with self._cores.one():
                parcel = self._rendered(self._players[model], job, started)
            self._hand_over(parcel, job)
            return
        with group.file() as member:
            parcel = self._rendered(member, job, started)
        self._hand_over(parcel, job)

    def _hand_over(self, parcel: Parcel, job: int) -> None:
        assert self._publisher is not None, "files are rendered only with a journal"
        self._emit({"state": "publish", "of": job})
        self._publisher.put(parcel)

    def _rendered(self, player: StreamPlayer, job: int, started: float) -> Parcel:
        """Render a job to a complete hidden file."""
        work, plan = self._work, self._work.plan
        below = plan.below(job)
        in_path = plan.input(job)
        self._make_folder(below)
        before = _look(in_path)
        identity: list[Any] = [before.st_size, before.st_mtime_ns]
        if work.by_hash:
            identity[1] = content_hash(os.fsencode(in_path))
        files: list[Unpublished] = []
        done = render_file(
            player,
            in_path,
            plan.output(job),
            processing=work.processing,
            subtype=work.subtype,
            overwrite=work.mode(job) != REFUSE,
            block_frames=_block_frames(work, player),
            stopped=partial(self._stopped, job, started),
            publish=files.append,
        )
        (file,) = files
        try:
            _refuse_changed(in_path, before)
        except BaseException:
            file.discard()
            raise
        line = {
            "out": os.fsdecode(below),
            "in": os.path.abspath(in_path),
            "id": identity,
            "run": work.runs[plan.model(job)],
        }
        figures = {
            "job": job,
            "seconds": done.seconds,
            "clipped": done.clipped,
            "details": _details(done),
        }

        def published(error: Exception | None) -> None:
            if error is not None:
                self._emit(self._failure(job, error, started))
            else:
                self._emit({**figures, "wall": time.perf_counter() - started})

        return Parcel(below, file, work.mode(job), line, published)

    def _make_folder(self, below: bytes) -> None:
        folder = os.path.dirname(below)
        try:
            close_fd(self._open_root().folder(folder, make=True))
        except OSError as error:
            shown = printable(os.path.join(self._work.plan.out_dir, os.fsdecode(folder)))
            kind = SpaceError if is_full(error) else WriteError
            raise kind(f"{shown}: cannot be made as a folder: {reason(error)}") from error

    def _stopped(self, job: int, started: float) -> bool:
        limit = self._work.timeout_s
        if limit is not None and time.perf_counter() - started > limit:
            raise timeout_error(self._work.plan.input(job), limit)
        return self.stop.is_set()

    def _failure(self, job: int, error: BaseException, started: float) -> dict[str, Any]:
        known = as_known(error, self._work.plan.input(job))
        failed = {"code": known.code, "message": " ".join(str(known).split())}
        details = {"details": known.details} if known.details else {}
        return {"job": job, "error": {**failed, **details}, "wall": time.perf_counter() - started}


def _sharing(player: StreamPlayer, cores: Cores, files: int) -> StreamPlayer:
    """A player that uses the cores of the run as well as it can."""
    if isinstance(player, DevicePlayer):
        return DeskPlayer(player, cores, files)
    return SplitPlayer(player, cores) if can_split(player) else player


def _block_frames(work: Work, player: StreamPlayer) -> int:
    """What was asked for; nobody asked for the default."""
    if work.block_frames != BLOCK_FRAMES:
        return work.block_frames
    if isinstance(player, SplitPlayer):
        return SPLIT_BLOCK_FRAMES
    if isinstance(player, DeskPlayer):
        return player.block_samples
    return GROUP_BLOCK_FRAMES if isinstance(player, MemberPlayer) else BLOCK_FRAMES


def _details(done: RenderedFile) -> dict[str, Any]:
    """What else a report says of an output: whatever a render tells that is not plain."""
    told = asdict(done)
    for name in ("input", "output", "sample_rate", "channels", "frames", "subtype", "clipped"):
        told.pop(name)
    return {name: value for name, value in told.items() if value not in (None, 0, False, (), "")}


def timeout_error(in_path: str, limit_s: float) -> RenderTimeoutError:
    return RenderTimeoutError(f"{printable(in_path)}: expected at most {limit_s:g} s, took longer")


def as_known(error: BaseException, in_path: str) -> FxfastError:
    """Any error as one of ours, on one line that begins with the name of the file."""
    if isinstance(error, FxfastError):
        return error
    name = printable(in_path)
    if isinstance(error, MemoryError):
        return OutOfMemoryError(f"{name}: not enough memory: {reason(error)}")
    if isinstance(error, OSError) and is_full(error):
        return SpaceError(f"{name}: {reason(error)}")
    if isinstance(error, OSError):
        return ReadError(f"{name}: {reason(error)}")  # writing names its own
    return UnforeseenError(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}")


class UnforeseenError(RunError):
    """An error that nobody thought of: a mistake of ours, or of the machine."""

    code = "E_INTERNAL"


def _look(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        # The reader names what is wrong with it.
        return os.stat_result((0,) * 10)


def _refuse_changed(path: str, before: os.stat_result) -> None:
    after = _look(path)

    def identity(s: os.stat_result) -> tuple[int, int, int, int]:
        return s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns

    if identity(before) != identity(after):
        raise ChangedError(
            f"{printable(path)}: changed or replaced while it was read: expected "
            f"{before.st_size} bytes, found {after.st_size}"
        )
