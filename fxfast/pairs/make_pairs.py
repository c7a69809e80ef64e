"""Make a folder of dry/wet pairs by playing dry recordings through a built-in effect.

Two seconds of silence are put in front of the dry signal and cut from the wet one: effects settle
their state at the start, and a target with that transient cannot be learnt. Everything is written
into a hidden folder beside the output and renamed when the last pair is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.audio.files import AnyPath, find_audio, printable, probe, read_audio, write_audio
from fxfast.audio.paths import TEMP_PREFIX, TEMP_SUFFIX, reason
from fxfast.errors import AudioFileError, InputError, OutputExistsError, PairError
from fxfast.pairs.effects import EFFECTS, Effect

MANIFEST_NAME = "pairs.json"
FORMAT_NAME = "fxfast-pairs"
FORMAT_VERSION = 1
PREROLL_SECONDS = 2.0


@dataclass(frozen=True)
class DrySource:
    """A dry recording and the name of the pair made from it."""

    name: str
    path: Path


def make_pairs(
    dry_paths: Sequence[AnyPath],
    out_dir: AnyPath,
    effect: str = "overdrive",
    parameters: Mapping[str, float] | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write ``dry/NAME.wav``, ``wet/NAME.wav`` (mono float WAV) and ``pairs.json``.

    ``dry_paths`` are files, or folders whose audio is taken with its tree. Returns the manifest:
    effect, all its parameters, sample rate in Hz, pre-roll, and per pair its name, source and
    length in frames. ``overwrite`` replaces a folder that this function made and that holds
    nothing else.

    Raises PairError when there is nothing to do, two sources have one name, a source is not mono
    or the rates differ; InputError for an unknown effect or parameter; AudioFileError for an
    unreadable source; OutputExistsError when the output is there.
    """
    chosen = _find_effect(effect)
    settings = chosen.settings(parameters or {})
    sources = plan_sources(dry_paths)
    out = Path(out_dir)
    _refuse_output_over_input(out, sources)
    _refuse_existing(out, overwrite)
    sample_rate = _common_rate(sources)
    stage = _create_stage(out)
    try:
        frames = [_make_one(source, stage, chosen, settings) for source in sources]
        manifest = {
            "format": FORMAT_NAME,
            "format_version": FORMAT_VERSION,
            "effect": chosen.name,
            "parameters": settings,
            "sample_rate": sample_rate,
            "preroll_seconds": PREROLL_SECONDS,
            "pairs": [
                {"name": source.name, "source": printable(source.path), "frames": length}
                for source, length in zip(sources, frames, strict=True)
            ],
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (stage / MANIFEST_NAME).write_text(text, encoding="utf-8")
        _publish(stage, out, overwrite)
    except OSError as error:
        raise AudioFileError(f"{printable(out)}: cannot be written: {reason(error)}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return manifest


def apply_with_preroll(
    effect: Effect, x: np.ndarray, sample_rate: int, settings: Mapping[str, float]
) -> np.ndarray:
    """The effect on float32 (T) after two seconds of silence, which are cut again: float32 (T).

    Raises PairError when the effect changes the length or gives NaN or infinity.
    """
    preroll = round(PREROLL_SECONDS * sample_rate)
    padded = np.concatenate([np.zeros(preroll, np.float32), x])
    wet = effect(padded, sample_rate, **settings)
    if wet.shape != padded.shape:
        raise PairError(
            f"effect {effect.name}: expected {padded.shape} samples back, got {wet.shape}"
        )
    if not np.isfinite(wet).all():
        raise PairError(f"effect {effect.name}: expected finite samples, got NaN or infinity")
    return wet[preroll:]


def plan_sources(dry_paths: Sequence[AnyPath]) -> list[DrySource]:
    """The recordings behind files and folders, sorted by pair name. Errors as ``make_pairs``."""
    if not dry_paths:
        raise PairError("dry recordings: expected at least one file or folder, got none")
    sources: dict[str, DrySource] = {}
    for given in map(Path, dry_paths):
        found = find_audio(given)
        if not found:
            raise PairError(f"{printable(given)}: expected audio files in the folder, found none")
        for path in found:
            inner = Path(path.name) if path == given else path.relative_to(given)
            name = inner.with_suffix("").as_posix()
            if name in sources:
                raise PairError(
                    f"{printable(path)}: expected one recording named {printable(name)}, "
                    f"{printable(sources[name].path)} has that name too"
                )
            sources[name] = DrySource(name, path)
    return [sources[name] for name in sorted(sources)]


def _find_effect(name: str) -> Effect:
    if name not in EFFECTS:
        raise InputError(f"effect: expected one of {', '.join(EFFECTS)}, got {name!r}")
    return EFFECTS[name]


def _refuse_output_over_input(out: Path, sources: Sequence[DrySource]) -> None:
    for source in sources:
        if source.path.resolve().is_relative_to(out.resolve()):
            raise OutputExistsError(
                f"{printable(out)}: expected an output apart from the recordings, "
                f"{printable(source.path)} lies in it"
            )


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out) or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise OutputExistsError(
            f"{printable(out)}: expected no output there, it exists (overwrite not asked)"
        )
    own = _own_files(out)
    for path in sorted(out.rglob("*")) if out.is_dir() else [out]:
        if not path.is_dir() and path not in own:
            raise OutputExistsError(
                f"{printable(out)}: expected only pairs made by fxfast to overwrite, "
                f"found {printable(path.name)}"
            )


def _own_files(out: Path) -> set[Path]:
    """The files that the manifest of an earlier output lists; none when there is no manifest."""
    try:
        manifest = json.loads((out / MANIFEST_NAME).read_text(encoding="utf-8"))
        names = [str(pair["name"]) for pair in manifest["pairs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    files = {out / side / f"{name}.wav" for side in ("dry", "wet") for name in names}
    return files | {out / MANIFEST_NAME}


def _common_rate(sources: Sequence[DrySource]) -> int:
    first = probe(sources[0].path)
    for source in sources:
        info = probe(source.path)
        if info.channels != 1:
            raise PairError(
                f"{printable(source.path)}: expected 1 channel (mono), got {info.channels}"
            )
        if info.sample_rate != first.sample_rate:
            raise PairError(
                f"{printable(source.path)}: expected {first.sample_rate} Hz as "
                f"{printable(first.path)}, got {info.sample_rate} Hz"
            )
    return first.sample_rate


def _create_stage(out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return _new_hidden_folder(out.parent)
    except OSError as error:
        raise AudioFileError(f"{printable(out)}: cannot be written: {reason(error)}") from error


def _new_hidden_folder(parent: Path) -> Path:
    for number in count():
        folder = parent / f"{TEMP_PREFIX}{os.getpid()}-{number}{TEMP_SUFFIX}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError("count() ended")


def _make_one(source: DrySource, stage: Path, effect: Effect, settings: Mapping[str, float]) -> int:
    x_ct, sample_rate = read_audio(source.path)
    wet = apply_with_preroll(effect, x_ct[0], sample_rate, settings)
    for side, sound in (("dry", x_ct[0]), ("wet", wet)):
        path = stage / side / f"{source.name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_audio(path, sound, sample_rate, "FLOAT")
    return int(x_ct.shape[1])


def _publish(stage: Path, out: Path, overwrite: bool) -> None:
    """Put the finished folder in place; an earlier one leaves in the same step."""
    _refuse_existing(out, overwrite)
    if not os.path.lexists(out) or not any(out.iterdir()):
        os.rename(stage, out)
        return
    earlier = _new_hidden_folder(out.parent)
    os.rename(out, earlier)
    try:
        os.rename(stage, out)
    except OSError:
        os.rename(earlier, out)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
