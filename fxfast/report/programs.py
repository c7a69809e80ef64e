"""Other engines, as programs and libraries that their own repositories build.

A render program, ``PROGRAM model.nam in.wav out.wav``, as ``tools/render`` of NeuralAmpModelerCore
is: it renders two lengths of the same audio, and the difference of its CPU times is that of the
difference in audio; loading, warming up and starting are in both.

A bench program times itself and prints it: ``tools/benchmodel`` of NeuralAmpModelerCore (two
seconds of silence, then ``12.3ms``) and ``ModelTest`` of NeuralAudio (``Internal: 0.05 (99xRT)``).
Its audio is its own and its error is not known.

A library with NeuralAudio's C interface (``libNeuralAudioCAPI``) plays the audio in a process of
its own: see ``library_host``.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fxfast.audio.files import read_audio, write_audio
from fxfast.errors import FxfastError, InputError
from fxfast.report.ways import Budget, PeerError, Way

NAM_CORE = "NeuralAmpModelerCore"
NEURALAUDIO = "NeuralAudio"
_TIMEOUT_SECONDS = 120.0
# The shorter render: what it takes is mostly loading and warming up.
_SHORT_SECONDS = 0.5
# Differences of processes are noisier than times inside one.
_TIMES_TARGET = 4
_BENCH_SAMPLES = {NAM_CORE: 96_000, NEURALAUDIO: 4096 * 64}


@dataclass(frozen=True)
class Program:
    """A program or library of another engine, and the name of its rows."""

    engine: str
    label: str
    path: Path

    @classmethod
    def of(cls, engine: str, text: str) -> Program:
        """From ``PATH`` or ``LABEL=PATH``. Raises ``InputError`` when there is no such file."""
        label, equals, path = text.partition("=")
        if not equals:
            label, path = "", text
        found = Path(path)
        if not found.is_file():
            raise InputError(f"{engine}: expected the path of a program or library, got {path!r}")
        return cls(engine, label or f"{engine} {found.stem.removeprefix('lib')}", found.resolve())

    @property
    def is_library(self) -> bool:
        return self.path.suffix in (".so", ".dylib", ".dll")

    @property
    def times_itself(self) -> bool:
        return re.match(r"(bench|modeltest)", self.path.name, re.IGNORECASE) is not None


def programs_of(nam_core: Sequence[str], neuralaudio: Sequence[str]) -> tuple[Program, ...]:
    """From what a command line says of both engines."""
    return (
        *(Program.of(NAM_CORE, text) for text in nam_core),
        *(Program.of(NEURALAUDIO, text) for text in neuralaudio),
    )


@dataclass(frozen=True)
class Job:
    """What a program is given: a model file and audio."""

    model: Path
    audio: np.ndarray
    sample_rate: int
    truth_samples: int
    budget: Budget
    folder: Path


def program_way(program: Program, job: Job) -> Way:
    """Raises ``PeerError`` with the reason when the program fails or returns something else."""
    return _bench_way(program, job) if program.times_itself else _render_way(program, job)


# --- programs that render -----------------------------------------------------------


def _render_way(program: Program, job: Job) -> Way:
    short = round(_SHORT_SECONDS * job.sample_rate)
    seconds_of_short, rendered = _render(program, job, short)

    def run(more: int) -> float:
        long, _ = _render(program, job, short + more)
        return max(long - _render(program, job, short)[0], 1e-6)

    budget = replace(job.budget, target_seconds=_TIMES_TARGET * job.budget.target_seconds)
    return Way(
        program.label,
        program.engine,
        run,
        budget.samples(lambda n: _render(program, job, short + n)[0] - seconds_of_short),
        first=rendered[: job.truth_samples],
        note="its own program, the difference of two lengths",
    )


def _render(program: Program, job: Job, samples: int) -> tuple[float, np.ndarray]:
    """CPU seconds, and the output."""
    source, target = job.folder / f"in-{samples}.wav", job.folder / "out.wav"
    if not source.exists():
        write_audio(source, np.resize(job.audio, samples), job.sample_rate, "FLOAT")
    target.unlink(missing_ok=True)
    seconds, _ = _run(program, [job.model, source, target])
    try:
        rendered = read_audio(target)[0]
    except FxfastError as error:
        raise PeerError(f"its output cannot be read: {error}") from None
    if rendered.shape != (1, samples):
        raise PeerError(f"expected {samples} samples of one channel, got shape {rendered.shape}")
    return seconds, rendered[0]


def _run(program: Program, arguments: list[Path]) -> tuple[float, str]:
    """CPU seconds of all its threads, and what it printed."""
    command = [str(program.path), *map(str, arguments)]
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            raise PeerError(f"it does not start: {error.strerror}") from None
        timer = threading.Timer(_TIMEOUT_SECONDS, process.kill)
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    if process.returncode != 0:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        last = lines[-1][:200] if lines else "nothing printed"
        raise PeerError(f"exit code {process.returncode}: {last}")
    return usage.ru_utime + usage.ru_stime, text


# --- programs that time themselves ---------------------------------------------------


def _bench_way(program: Program, job: Job) -> Way:
    def run(_: int) -> float:
        return _seconds_printed(_run(program, [job.model])[1])

    run(0)
    return Way(
        program.label,
        program.engine,
        run,
        _BENCH_SAMPLES[program.engine],
        note="its own benchmark: silence, its own clock",
    )


def _seconds_printed(text: str) -> float:
    """The last time in ms, or that of the line ``Internal``."""
    own = re.search(r"^Internal: ([0-9.e+-]+) \(", text, re.MULTILINE)
    if own:
        return float(own[1])
    times = re.findall(r"^([0-9.e+-]+)\s*ms\s*$", text, re.MULTILINE)
    if not times:
        raise PeerError("it printed no time")
    return float(times[-1]) / 1000.0


# --- libraries with NeuralAudio's C interface ----------------------------------------


def library_ways(program: Program, job: Job, blocks: tuple[int, ...]) -> Iterator[Way]:
    """One way for each block length: the first as whole audio, the others as a stream.

    Raises ``PeerError`` with the reason when the library fails.
    """
    from fxfast.report.library_host import LibraryHost

    for index, block in enumerate(blocks):
        host = LibraryHost(program.path, job.model, block, job.audio)
        kind = "" if host.is_static else ", not one of its static architectures"
        yield Way(
            program.label if index == 0 else f"{program.label}, blocks of {block}",
            program.engine,
            host.seconds,
            job.budget.samples(host.seconds),
            first=host.first(job.truth_samples),
            mode="stream" if index else "offline",
            block=block if index else None,
            memory={"process_bytes": host.peak_bytes()},
            note=f"its own library in blocks of {block}{kind}",
        )


def ways_of(program: Program, job: Job, blocks: tuple[int, ...]) -> Iterator[Way]:
    """All ways of a program or library. Raises ``PeerError`` with the reason."""
    if program.is_library:
        yield from library_ways(program, job, blocks)
    else:
        yield program_way(program, job)
