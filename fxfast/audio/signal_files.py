"""A folder of dry signals: generated ones and recordings, with a manifest of all of it.

``signals.jsonl`` has one line per file: its name, split, seed, rate, length, and every event with
its start, level and all that was drawn for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.audio.files import AnyPath, find_audio, printable, read_audio, write_audio
from fxfast.audio.paths import AUDIO_SUFFIXES, reason
from fxfast.audio.resample import resample
from fxfast.audio.signal_phrases import INSTRUMENTS, PHRASES
from fxfast.audio.signals import PEAK
from fxfast.errors import AudioFileError, FxfastError, InputError, OutputExistsError
from fxfast.whole_file import whole_file

MANIFEST_NAME = "signals.jsonl"
RECORDING_SUFFIXES = (*AUDIO_SUFFIXES, ".mp3", ".opus", ".caf", ".w64", ".au", ".rf64")
LEVEL_RANGE_DB = 36.0

_SILENCE_SECONDS = (0.1, 0.8)
_LONG_SILENCE_SECONDS = (1.5, 3.0)
_LONG_SILENCE_SHARE = 0.15


@dataclass(frozen=True)
class SignalRequest:
    """What to write: ``count`` generated files of ``seconds`` each, file i with seed + i, and the
    recordings of two folders, for training and held out, at ``sample_rate``.
    """

    seconds: float = 60.0
    count: int = 1
    seed: int = 0
    sample_rate: int = 48000
    instrument: str = "guitar"
    include: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()
    normalise: bool = False


@dataclass
class SignalReport:
    """The manifest's rows and one line for every recording that could not be used."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def varied_signal(
    seconds: float, sample_rate: int, seed: int, instrument: str = "guitar"
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Varied phrases with silence between: float32 (T) with a peak below 0.9, and its events.

    Kinds come in shuffled rounds, so each occurs before one occurs twice more. Levels are drawn
    per phrase. A longer signal of the same seed starts with the shorter one. Raises InputError
    for a length that is not positive, a rate below 8000 Hz, a negative seed or another instrument.
    """
    _check(seconds, sample_rate, seed, instrument)
    rng = np.random.Generator(np.random.PCG64(seed))
    y = np.zeros(round(seconds * sample_rate), np.float32)
    events: list[dict[str, Any]] = []
    kinds: list[str] = []
    position = round(rng.uniform(0.05, 0.3) * sample_rate)
    while position < len(y):
        kinds = kinds or [str(kind) for kind in rng.permutation(list(PHRASES))]
        kind = kinds.pop()
        sound, record = PHRASES[kind](rng, sample_rate, INSTRUMENTS[instrument])
        level_db = -LEVEL_RANGE_DB * float(rng.random()) ** 1.5
        part = (PEAK * 10.0 ** (level_db / 20.0) * sound).astype(np.float32)[: len(y) - position]
        y[position : position + len(part)] = part
        start_seconds = position / sample_rate
        span = _LONG_SILENCE_SECONDS if rng.random() < _LONG_SILENCE_SHARE else _SILENCE_SECONDS
        silence = float(rng.uniform(*span))
        events.append(
            {
                "kind": kind,
                "start_seconds": start_seconds,
                "level_db": level_db,
                "silence_after_seconds": silence,
                **record,
            }
        )
        position += len(sound) + round(silence * sample_rate)
    return y, events


def write_signals(
    out_dir: AnyPath,
    request: SignalRequest,
    *,
    overwrite: bool = False,
    on_file: Callable[[str, int], None] | None = None,
) -> SignalReport:
    """Write INSTRUMENT-000.wav and so on, recordings/NAME.wav, test/NAME.wav and the manifest.

    A recording that cannot be used is told in the report and the others are done. ``on_file`` is
    told each name and length in frames. Raises OutputExistsError for a file that is there, unless
    ``overwrite``.
    """
    if request.count < 0 or (request.count < 1 and not (request.include or request.held_out)):
        raise InputError(f"count: expected at least 1, got {request.count}")
    _check(request.seconds, request.sample_rate, request.seed, request.instrument)
    out = Path(out_dir)
    if os.path.lexists(out / MANIFEST_NAME) and not overwrite:
        raise OutputExistsError(
            f"{printable(out / MANIFEST_NAME)}: expected no file there, it exists "
            "(overwrite not asked)"
        )
    report = SignalReport()
    recordings = _recordings(request, out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for index in range(request.count):
            seed = request.seed + index
            x, events = varied_signal(
                request.seconds, request.sample_rate, seed, request.instrument
            )
            name = f"{request.instrument}-{index:03d}.wav"
            about = {"split": "train", "seed": seed, "instrument": request.instrument}
            _write(out, name, x, request.sample_rate, overwrite)
            report.rows.append(_row(name, x, request, {**about, "events": events}))
            if on_file is not None:
                on_file(name, len(x))
        for name, path, split in recordings:
            try:
                x, about = _recorded(path, request)
            except FxfastError as error:
                report.failures.append(str(error))
                continue
            _write(out, name, x, request.sample_rate, overwrite)
            report.rows.append(_row(name, x, request, {"split": split, **about}))
            if on_file is not None:
                on_file(name, len(x))
        with whole_file(out / MANIFEST_NAME) as temporary:
            text = "".join(json.dumps(row) + "\n" for row in report.rows)
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AudioFileError(f"{printable(out)}: cannot be written: {reason(error)}") from error
    return report


def _check(seconds: float, sample_rate: int, seed: int, instrument: str) -> None:
    if not seconds > 0 or not np.isfinite(seconds):
        raise InputError(f"seconds: expected more than 0, got {seconds}")
    if sample_rate < 8000:
        raise InputError(f"sample_rate: expected at least 8000 Hz, got {sample_rate}")
    if seed < 0:
        raise InputError(f"seed: expected 0 or more, got {seed}")
    if instrument not in INSTRUMENTS:
        known = ", ".join(INSTRUMENTS)
        raise InputError(f"instrument: expected one of {known}, got {instrument!r}")


def _recordings(request: SignalRequest, out: Path) -> list[tuple[str, Path, str]]:
    """Output name, source and split of every recording. Raises InputError for a name twice."""
    found: list[tuple[str, Path, str]] = []
    taken: dict[str, Path] = {}
    for split, folder, given in (
        *(("train", "recordings", path) for path in request.include),
        *(("test", "test", path) for path in request.held_out),
    ):
        for path in find_audio(given, RECORDING_SUFFIXES):
            if path.resolve().is_relative_to(out.resolve()):
                raise InputError(f"{printable(path)}: expected recordings outside the output")
            inner = Path(path.name) if path == given else path.relative_to(given)
            name = f"{folder}/{inner.with_suffix('').as_posix()}.wav"
            if name in taken:
                raise InputError(
                    f"{printable(path)}: expected one recording for {printable(name)}, "
                    f"{printable(taken[name])} has that name too"
                )
            taken[name] = path
            found.append((name, path, split))
    return found


def _recorded(path: Path, request: SignalRequest) -> tuple[np.ndarray, dict[str, Any]]:
    """A recording as mono at the rate asked for, and what was done to it."""
    try:
        path.name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise AudioFileError(
            f"{printable(path)}: expected a file name in UTF-8, got other bytes"
        ) from error
    x_ct, rate = read_audio(path)
    x = resample(x_ct.mean(axis=0, dtype=np.float32), rate, request.sample_rate)
    peak = float(np.max(np.abs(x), initial=0.0))
    gain = PEAK / peak if request.normalise and peak > 0.0 else 1.0
    about = {
        "source": printable(path),
        "source_rate": rate,
        "source_channels": len(x_ct),
        "gain": gain,
    }
    return np.asarray(gain * x, np.float32), about


def _write(out: Path, name: str, x: np.ndarray, sample_rate: int, overwrite: bool) -> None:
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, x, sample_rate, overwrite=overwrite)


def _row(name: str, x: np.ndarray, request: SignalRequest, about: dict[str, Any]) -> dict[str, Any]:
    return {"file": name, "sample_rate": request.sample_rate, "frames": len(x), **about}
