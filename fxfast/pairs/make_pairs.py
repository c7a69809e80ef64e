"""Make a folder of dry/wet pairs by playing dry recordings through an effect.

Every pair is checked as recorded ones are. A recording that cannot be used is left out with a
reason and the others are done. Everything is written into a hidden folder beside the output and
renamed when the last pair is complete.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.audio.files import AnyPath, AudioInfo, find_audio, printable, probe, read_audio
from fxfast.errors import FxfastError, PairError
from fxfast.pairs.check_pairs import (
    FILTER_TOLERATED_SAMPLES,
    TOLERATED_SAMPLES,
    CheckedPair,
    CheckRules,
    check_pair,
    refused,
)
from fxfast.pairs.hosts import PREROLL_SECONDS, Host, built_in_effect
from fxfast.pairs.jobs import ordered_map
from fxfast.pairs.manifest import PairRecord
from fxfast.pairs.pair_folder import PairFolder, refuse_output_over_input, safe_name
from fxfast.pairs.render_cache import RenderCache

SIGNALS_MANIFEST_NAME = "signals.jsonl"


@dataclass(frozen=True)
class DrySource:
    """A dry recording, the name of the pair made from it, and what made the recording."""

    name: str
    path: Path
    seed: int | None = None
    split: str = ""


@dataclass(frozen=True)
class Variant:
    """One setting of an effect; ``knobs`` are the parameters that differ between variants."""

    host: Host
    knobs: Mapping[str, float] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """The folder of its pairs, "" when nothing differs."""
        text = ",".join(f"{name}={value:g}" for name, value in self.knobs.items())
        return f"{text}/" if text else ""


@dataclass(frozen=True)
class MadePairs:
    """The pairs of a folder, those that were refused, and how long it took."""

    records: tuple[PairRecord, ...]
    refused: tuple[CheckedPair, ...]
    audio_seconds: float
    wall_seconds: float

    def to_json(self) -> dict[str, Any]:
        first = self.records[0] if self.records else None
        return {
            "pairs": len(self.records),
            "refused": [pair.to_json() for pair in self.refused],
            "sample_rate": first.sample_rate if first else None,
            "deterministic": first.deterministic if first else None,
            "audio_seconds": self.audio_seconds,
            "wall_seconds": self.wall_seconds,
            "realtime": self.audio_seconds / max(self.wall_seconds, 1e-9),
        }


def make_pairs(
    dry_paths: Sequence[AnyPath],
    out_dir: AnyPath,
    effect: str | Host | list[Variant] = "overdrive",
    parameters: Mapping[str, float] | None = None,
    *,
    overwrite: bool = False,
    jobs: int = 1,
    cache: RenderCache | None = None,
    keep_offset: bool = False,
    on_pair: Callable[[CheckedPair], None] | None = None,
) -> MadePairs:
    """Write ``dry/NAME.wav``, ``wet/NAME.wav`` (mono float WAV) and ``pairs.jsonl``.

    ``dry_paths`` are files, or folders whose audio is taken with its tree. ``effect`` is the name
    of a built-in effect (with ``parameters``), a host, or several settings of one. ``overwrite``
    replaces a folder that was made here and holds nothing else. Without a usable recording
    nothing is written.

    Raises PairError when there is nothing to do or two sources have one name; InputError for an
    unknown effect or parameter; OutputExistsError when the output is there.
    """
    begun = time.perf_counter()
    variants = _variants(effect, parameters)
    sources = plan_sources(dry_paths)
    out = Path(out_dir)
    refuse_output_over_input(out, [source.path for source in sources])
    cache = cache or RenderCache()
    left_out: list[CheckedPair] = []
    with PairFolder(out, overwrite=overwrite) as folder:
        usable, unusable = _usable(sources)
        twice = [_deterministic(variant.host, usable, cache) for variant in variants]
        tasks = [
            (source, number) for number in range(len(variants)) for source, _ in usable
        ]  # fmt: skip

        def one(task: tuple[DrySource, int]) -> CheckedPair:
            source, number = task
            pair = _make_one(source, variants[number], cache, keep_offset)
            if pair.status != "refused":
                folder.add(pair, _about(source, variants[number], twice[number]))
            return pair

        for pair in chain(unusable, ordered_map(one, tasks, jobs)):
            if pair.status == "refused":
                left_out.append(pair)
            if on_pair is not None:
                on_pair(pair)
        records = folder.publish() if folder.records else []
    seconds = sum(record.frames / record.sample_rate for record in records)
    return MadePairs(tuple(records), tuple(left_out), seconds, time.perf_counter() - begun)


def knob_grid(knobs: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of the values of some knobs; one empty one for no knobs."""
    return [dict(zip(knobs, values, strict=True)) for values in product(*knobs.values())]


def plan_sources(dry_paths: Sequence[AnyPath]) -> list[DrySource]:
    """The recordings behind files and folders, sorted by pair name.

    What ``fxfast signals`` wrote about the files of a folder is taken over. Raises PairError when
    there is none, or two have one name.
    """
    if not dry_paths:
        raise PairError("dry recordings: expected at least one file or folder, got none")
    sources: dict[str, DrySource] = {}
    for given in map(Path, dry_paths):
        found = find_audio(given)
        if not found:
            raise PairError(f"{printable(given)}: expected audio files in the folder, found none")
        known = _signals(given)
        for path in found:
            inner = Path(path.name) if path == given else path.relative_to(given)
            name = inner.with_suffix("").as_posix()
            if name in sources:
                raise PairError(
                    f"{printable(path)}: expected one recording named {printable(name)}, "
                    f"{printable(sources[name].path)} has that name too"
                )
            seed, split = known.get(inner.as_posix(), (None, ""))
            sources[name] = DrySource(name, path, seed, split)
    return [sources[name] for name in sorted(sources)]


def _variants(
    effect: str | Host | list[Variant], parameters: Mapping[str, float] | None
) -> list[Variant]:
    if isinstance(effect, str):
        return [Variant(built_in_effect(effect, parameters))]
    if isinstance(effect, list):
        return effect
    return [Variant(effect)]


def _signals(given: Path) -> dict[str, tuple[int | None, str]]:
    """Seed and split of the files that ``fxfast signals`` made in a folder."""
    path = given / SIGNALS_MANIFEST_NAME
    known: dict[str, tuple[int | None, str]] = {}
    if not given.is_dir() or not path.is_file():
        return known
    try:
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            known[str(row["file"])] = (row.get("seed"), str(row.get("split", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PairError(f"{printable(path)}: expected a manifest of fxfast signals") from error
    return known


def _usable(
    sources: Sequence[DrySource],
) -> tuple[list[tuple[DrySource, AudioInfo]], list[CheckedPair]]:
    """The mono recordings at the rate of the first one, and the others with the reason."""
    usable: list[tuple[DrySource, AudioInfo]] = []
    unusable: list[CheckedPair] = []
    for source in sources:
        shown = printable(source.path)
        try:
            safe_name(source.name)
            info = probe(source.path)
            if info.channels != 1:
                raise PairError(f"{shown}: expected 1 channel (mono), got {info.channels}")
            if usable and info.sample_rate != usable[0][1].sample_rate:
                first = usable[0][1]
                raise PairError(
                    f"{shown}: expected {first.sample_rate} Hz as {printable(first.path)}, "
                    f"got {info.sample_rate} Hz"
                )
            usable.append((source, info))
        except FxfastError as error:
            unusable.append(refused(source.name, "readable", str(error)))
    return usable, unusable


def _deterministic(
    host: Host, usable: Sequence[tuple[DrySource, AudioInfo]], cache: RenderCache
) -> bool | None:
    """Whether the shortest recording sounds the same twice; None when it cannot be rendered."""
    for source, info in sorted(usable, key=lambda pair: pair[1].frames):
        try:
            x_ct, rate = read_audio(source.path)
            return cache.is_deterministic(host, x_ct[0], rate)
        except FxfastError:
            if info.frames > 60 * info.sample_rate:
                return None
    return None


def _make_one(
    source: DrySource, variant: Variant, cache: RenderCache, keep_offset: bool
) -> CheckedPair:
    name = variant.prefix + source.name
    try:
        x_ct, rate = read_audio(source.path)
        wet = cache.render(variant.host, x_ct[0], rate)
    except FxfastError as error:
        return refused(name, "rendered", f"{printable(source.path)}: {error}"
                       if printable(source.path) not in str(error) else str(error))  # fmt: skip
    shift = not keep_offset and not variant.host.about.keeps_time
    near = TOLERATED_SAMPLES if shift else FILTER_TOLERATED_SAMPLES
    rules = CheckRules(shift, fix_polarity=False, belongs=True, tolerated_samples=near)
    return check_pair(name, x_ct, rate, wet[np.newaxis], rate, rules)


def _about(source: DrySource, variant: Variant, deterministic: bool | None) -> PairRecord:
    host = variant.host.about
    return PairRecord(
        source.name, "", "", "", "", 0, 0,
        source=printable(source.path),
        effect=host.effect,
        preset=host.preset,
        parameters=dict(host.parameters),
        knobs=dict(variant.knobs),
        host=host.host,
        host_version=host.version,
        deterministic=deterministic,
        seed=source.seed,
        split=source.split,
        preroll_seconds=PREROLL_SECONDS,
    )  # fmt: skip
