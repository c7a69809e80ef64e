"""Pairs from recordings that exist: found, checked, put right, and added to a folder of pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fxfast.audio.files import AUDIO_SUFFIXES, AnyPath, find_audio, printable, read_audio
from fxfast.errors import FxfastError, PairError
from fxfast.pairs.check_pairs import (
    FILTER_TOLERATED_SAMPLES,
    CheckedPair,
    CheckRules,
    Finding,
    check_pair,
    refused,
)
from fxfast.pairs.jobs import ordered_map
from fxfast.pairs.manifest import PairRecord, file_sha256, read_manifest
from fxfast.pairs.pair_folder import PairFolder, refuse_output_over_input, safe_name

OnPair = Callable[[CheckedPair], None]


@dataclass(frozen=True)
class TwoFiles:
    """The dry and the wet recording of one pair, None where one is missing."""

    name: str
    dry: Path | None
    wet: Path | None


def add_pairs(
    dry: AnyPath,
    wet: AnyPath,
    out_dir: AnyPath,
    *,
    name: str | None = None,
    rules: CheckRules | None = None,
    knobs: dict[str, float] | None = None,
    split: str = "",
    jobs: int = 1,
    on_pair: OnPair | None = None,
) -> list[CheckedPair]:
    """Check two recordings, or two folders of recordings with the same names, and add them.

    What can be put right is put right; a refused pair is left out and the others are added. The
    folder is made when it is not there. ``name`` names a single pair. Returns the findings of all
    pairs in the order of their names.

    Raises PairError when there is nothing to do or the pairs differ in rate from those in the
    folder; OutputExistsError when a pair of that name is there.
    """
    found = two_sided(dry, wet)
    if name is not None:
        if len(found) != 1:
            raise PairError(f"name: expected one pair to name {name!r}, got {len(found)}")
        found = [TwoFiles(name, found[0].dry, found[0].wet)]
    out = Path(out_dir)
    sources = [path for two in found for path in (two.dry, two.wet) if path is not None]
    refuse_output_over_input(out, sources)
    with PairFolder(out, extend=True) as folder:
        for two in found:
            folder.refuse_taken(two.name)
        rate = folder.earlier[0].sample_rate if folder.earlier else 0
        checked = []
        pairs = ordered_map(lambda two: check_files(two, rules), found, jobs)
        for two, pair in zip(found, pairs, strict=True):
            if pair.status != "refused" and rate not in (0, pair.sample_rate):
                wrong = f"{pair.sample_rate} Hz: expected {rate} Hz as the others of the folder"
                pair = refused(pair.name, "sample_rate", wrong, pair.sample_rate)
            if pair.status != "refused":
                rate = pair.sample_rate
                about = PairRecord(two.name, "", "", "", "", 0, 0, source=printable(two.wet or ""),
                                   knobs=dict(knobs or {}), split=split)  # fmt: skip
                folder.add(pair, about)
            checked.append(pair)
            if on_pair is not None:
                on_pair(pair)
        if folder.records:
            folder.publish()
    return checked


def check_folder(
    pairs_dir: AnyPath,
    *,
    rules: CheckRules | None = None,
    jobs: int = 1,
    on_pair: OnPair | None = None,
) -> list[CheckedPair]:
    """The findings of every pair of a folder, which is left as it is.

    Files are compared with the hashes of the manifest where there is one. The polarity of pairs
    that an effect made is its own, and so is an offset of a few samples that its filters make.
    Raises PairError when the folder holds no pairs or a wrong manifest.
    """
    root = Path(pairs_dir)
    for side in ("dry", "wet"):
        if not (root / side).is_dir():
            raise PairError(f"{printable(root)}: expected a folder {side}/ in it, found none")
    records = {record.name: record for record in read_manifest(root)}
    found = two_sided(root / "dry", root / "wet")

    def check(two: TwoFiles) -> CheckedPair:
        record = records.get(two.name)
        own = rules or CheckRules()
        if record is not None and record.host:
            own = replace(own, fix_polarity=False, tolerated_samples=FILTER_TOLERATED_SAMPLES)
        pair = check_files(two, own)
        if record is not None:
            pair = replace(pair, findings=(*pair.findings, _hash_finding(root, record)))
        return pair

    checked = []
    for pair in ordered_map(check, found, jobs):
        checked.append(pair)
        if on_pair is not None:
            on_pair(pair)
    return checked


def _hash_finding(root: Path, record: PairRecord) -> Finding:
    """Whether the files are those that the manifest tells of."""
    changed = []
    for relative, known in ((record.dry, record.dry_sha256), (record.wet, record.wet_sha256)):
        path = root / relative
        if known and path.is_file() and file_sha256(path) != known:
            changed.append(relative)
    reason = f"changed since the manifest was written: {', '.join(changed)}"
    return Finding("hash", len(changed), "files", 1.0, "warned" if changed else "ok", reason)


def two_sided(dry: AnyPath, wet: AnyPath) -> list[TwoFiles]:
    """The pairs of two files or two folders, by name; raises PairError when there are none."""
    sides = [Path(dry), Path(wet)]
    folders = [path.is_dir() for path in sides]
    if folders[0] != folders[1]:
        raise PairError(
            f"{printable(sides[0])} and {printable(sides[1])}: expected two files or two folders, "
            "got one of each"
        )
    if not folders[0]:
        return [TwoFiles(sides[1].stem, sides[0], sides[1])]
    by_name = [_by_name(side) for side in sides]
    names = sorted(by_name[0].keys() | by_name[1].keys())
    if not names:
        raise PairError(f"{printable(sides[0])}: expected audio files, found none")
    return [TwoFiles(name, by_name[0].get(name), by_name[1].get(name)) for name in names]


def check_files(two: TwoFiles, rules: CheckRules | None = None) -> CheckedPair:
    """The findings of two files; one that cannot be read makes a refused pair."""
    try:
        safe_name(two.name)
        if two.dry is None or two.wet is None:
            here, there = ("wet", "dry") if two.dry is None else ("dry", "wet")
            raise PairError(f"expected a {there} file beside the {here} one, found none")
        dry_ct, dry_rate = read_audio(two.dry)
        wet_ct, wet_rate = read_audio(two.wet)
        return check_pair(two.name, dry_ct, dry_rate, wet_ct, wet_rate, rules)
    except FxfastError as error:
        return refused(two.name, "readable", str(error))


def _by_name(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in find_audio(folder):
        relative = path.relative_to(folder)
        known = relative.suffix.lower() in AUDIO_SUFFIXES
        name = (relative.with_suffix("") if known else relative).as_posix()
        if name in found:
            raise PairError(
                f"{printable(path)}: expected one file named {printable(name)}, "
                f"{printable(found[name].name)} has that name too"
            )
        found[name] = path
    return found
