"""A folder of dry/wet pairs: ``dry/NAME.wav`` beside ``wet/NAME.wav``, found and checked.

A name is the path under dry/ or wet/ without its suffix, so the two files of a pair may be of
different formats. Pairs are mono, of equal length and of one sample rate in the whole folder.
``pairs.jsonl`` adds knobs and splits where it is there; a folder without it is as good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fxfast.audio.files import AnyPath, AudioInfo, find_audio, printable, probe, read_audio
from fxfast.errors import PairError
from fxfast.pairs.manifest import MANIFEST_NAME, PairRecord, read_manifest


@dataclass(frozen=True, eq=False)
class Pair:
    """The same moment before and after the effect: float32 (T) each, ``sample_rate`` in Hz.

    ``knobs`` are the settings it was rendered at, ``split`` is "train", "validation", "test" or
    "" when that is open.
    """

    name: str
    dry: np.ndarray
    wet: np.ndarray
    sample_rate: int
    knobs: Mapping[str, float] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class PairFiles:
    """The two files of a pair, probed and found to agree."""

    name: str
    dry: AudioInfo
    wet: AudioInfo
    record: PairRecord | None = None


def find_pairs(pairs_dir: AnyPath) -> list[PairFiles]:
    """The pairs of a folder, sorted by name, checked without decoding.

    Raises PairError when the folder is not there, holds no pairs, or a file lacks its other half,
    is not mono, or differs from it in length or rate, or the pairs differ in rate; AudioFileError
    for an unreadable file.
    """
    root = Path(pairs_dir)
    if not root.is_dir():
        raise PairError(f"{printable(root)}: expected a folder with dry/ and wet/, found none")
    dry, wet = _by_name(root, "dry"), _by_name(root, "wet")
    if not dry and not wet:
        raise PairError(
            f"{printable(root)}: no pairs: expected audio files in dry/ and wet/, found none"
        )
    for name in sorted(dry.keys() ^ wet.keys()):
        here, there = ("dry", "wet") if name in dry else ("wet", "dry")
        raise PairError(
            f"{printable(dry.get(name) or wet[name])}: expected a {there} file named "
            f"{printable(name)} beside the {here} one, found none"
        )
    records = _records(root, dry)
    pairs = [
        PairFiles(name, probe(dry[name]), probe(wet[name]), records.get(name))
        for name in sorted(dry)
    ]
    for pair in pairs:
        _check_pair(pair)
        _check_rate(pairs[0], pair)
    return pairs


def load_pairs(pairs_dir: AnyPath) -> list[Pair]:
    """All pairs of a folder in memory, sorted by name. Errors as ``find_pairs``, and
    AudioFileError for a file that is damaged or contains NaN or infinity.
    """
    return list(read_pairs(find_pairs(pairs_dir)))


def read_pairs(pairs: Iterable[PairFiles]) -> Iterator[Pair]:
    """The audio of pairs that were found, one pair at a time."""
    for files in pairs:
        yield Pair(
            files.name,
            read_audio(files.dry.path)[0][0],
            read_audio(files.wet.path)[0][0],
            files.dry.sample_rate,
            dict(files.record.knobs) if files.record else {},
            files.record.split if files.record else "",
        )


def _records(root: Path, found: Mapping[str, Path]) -> dict[str, PairRecord]:
    records = {record.name: record for record in read_manifest(root)}
    for name in records:
        if name not in found:
            raise PairError(
                f"{printable(root / MANIFEST_NAME)}: expected the files of pair "
                f"{printable(name)} in dry/ and wet/, found none"
            )
    return records


def _by_name(root: Path, side: str) -> dict[str, Path]:
    folder = root / side
    if not folder.is_dir():
        raise PairError(f"{printable(root)}: no pairs: expected a folder {side}/ in it, found none")
    found: dict[str, Path] = {}
    for path in find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise PairError(
                f"{printable(path)}: expected one {side} file named {printable(name)}, "
                f"{printable(found[name].name)} has that name too"
            )
        found[name] = path
    return found


def _check_pair(pair: PairFiles) -> None:
    for info in (pair.dry, pair.wet):
        if info.channels != 1:
            raise PairError(
                f"{printable(info.path)}: expected 1 channel (mono), got {info.channels}"
            )
    if pair.dry.sample_rate != pair.wet.sample_rate:
        raise PairError(
            f"pair {printable(pair.name)}: expected one sample rate, got dry "
            f"{pair.dry.sample_rate} Hz and wet {pair.wet.sample_rate} Hz"
        )
    if pair.dry.frames != pair.wet.frames:
        raise PairError(
            f"pair {printable(pair.name)}: expected equal lengths, got dry {pair.dry.frames} "
            f"and wet {pair.wet.frames} frames"
        )


def _check_rate(first: PairFiles, pair: PairFiles) -> None:
    if pair.dry.sample_rate != first.dry.sample_rate:
        raise PairError(
            f"pair {printable(pair.name)}: expected {first.dry.sample_rate} Hz as pair "
            f"{printable(first.name)}, got {pair.dry.sample_rate} Hz"
        )
