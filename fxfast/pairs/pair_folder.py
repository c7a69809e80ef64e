"""Writing a folder of pairs: ``dry/NAME.wav``, ``wet/NAME.wav`` and ``pairs.jsonl``.

Everything is written into a hidden folder beside the output and moved into place at the end, so
a folder of pairs is never half made. Pairs can be added to a folder that is there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from fxfast.audio.files import AnyPath, find_audio, printable, write_audio
from fxfast.audio.paths import TEMP_PREFIX, TEMP_SUFFIX, reason
from fxfast.errors import AudioFileError, FxfastError, OutputExistsError, PairError
from fxfast.pairs.check_pairs import CheckedPair
from fxfast.pairs.manifest import (
    MANIFEST_NAME,
    PairRecord,
    file_sha256,
    read_manifest,
    write_manifest,
)

EARLIER_MANIFEST_NAME = "pairs.json"


class PairFolder:
    """A folder of pairs that is being made, as a context manager.

    ``extend`` adds to the pairs that are there; ``overwrite`` replaces a folder that holds only
    pairs written here. ``publish`` moves everything into place; without it nothing is left.

    Raises OutputExistsError when the output is there and neither is asked, or holds other files.
    """

    def __init__(self, out: AnyPath, *, overwrite: bool = False, extend: bool = False) -> None:
        self.out = Path(out)
        self.overwrite = overwrite
        self.earlier: list[PairRecord] = []
        if extend and _has_pairs(self.out):
            self.earlier = read_manifest(self.out)
            self._extends = True
        else:
            self._extends = False
            refuse_existing(self.out, overwrite)
        self.records: list[PairRecord] = []
        self._stage = Path()

    def __enter__(self) -> PairFolder:
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            self._stage = _new_hidden_folder(self.out.parent)
        except OSError as error:
            raise AudioFileError(
                f"{printable(self.out)}: cannot be written: {reason(error)}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._stage, ignore_errors=True)

    def refuse_taken(self, name: str) -> None:
        """Raises OutputExistsError when the output holds a pair of this name already."""
        if not self._extends:
            return
        for side in ("dry", "wet"):
            folder = self.out / side / Path(name).parent
            for path in find_audio(folder) if folder.is_dir() else []:
                if path.relative_to(self.out / side).with_suffix("").as_posix() == name:
                    raise OutputExistsError(
                        f"{printable(path)}: expected no pair of this name in the folder, it exists"
                    )

    def add(self, pair: CheckedPair, about: PairRecord | None = None) -> PairRecord:
        """Write both sides of an accepted pair as mono float WAV; returns its line. May be called
        from several threads.

        ``about`` carries what is known of how the pair was made.
        """
        assert pair.dry is not None
        assert pair.wet is not None
        paths = {}
        for side, sound in (("dry", pair.dry), ("wet", pair.wet)):
            path = self._stage / side / f"{pair.name}.wav"
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise AudioFileError(
                    f"pair {printable(pair.name)}: cannot be written: {reason(error)}"
                ) from error
            write_audio(path, sound, pair.sample_rate, "FLOAT")
            paths[side] = path
        record = _record(pair, paths, about)
        self.records.append(record)
        return record

    def publish(self) -> list[PairRecord]:
        """Put what was added in place; returns the lines of the whole folder."""
        records = sorted([*self.earlier, *self.records], key=lambda record: record.name)
        try:
            write_manifest(self._stage, records)
            if self._extends:
                self._merge()
            else:
                self._replace()
        except OSError as error:
            raise AudioFileError(
                f"{printable(self.out)}: cannot be written: {reason(error)}"
            ) from error
        return records

    def _merge(self) -> None:
        for record in self.records:
            self.refuse_taken(record.name)
        for record in self.records:
            for relative in (record.dry, record.wet):
                target = self.out / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(self._stage / relative, target)
        # The manifest last: what it names is there.
        os.replace(self._stage / MANIFEST_NAME, self.out / MANIFEST_NAME)

    def _replace(self) -> None:
        refuse_existing(self.out, self.overwrite)
        if not os.path.lexists(self.out) or not any(self.out.iterdir()):
            os.rename(self._stage, self.out)
            return
        earlier = _new_hidden_folder(self.out.parent)
        os.rename(self.out, earlier)
        try:
            os.rename(self._stage, self.out)
        except OSError:
            os.rename(earlier, self.out)
            raise
        shutil.rmtree(earlier, ignore_errors=True)


def refuse_existing(out: Path, overwrite: bool) -> None:
    """Raises OutputExistsError unless the path is free, or holds only pairs made here and
    ``overwrite`` is asked.
    """
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


def refuse_output_over_input(out: Path, sources: Iterable[Path]) -> None:
    """Raises OutputExistsError when a recording lies in the output."""
    for path in sources:
        if path.resolve().is_relative_to(out.resolve()):
            raise OutputExistsError(
                f"{printable(out)}: expected an output apart from the recordings, "
                f"{printable(path)} lies in it"
            )


def _record(pair: CheckedPair, paths: Mapping[str, Path], about: PairRecord | None) -> PairRecord:
    assert pair.dry is not None
    base = about or PairRecord(pair.name, "", "", "", "", 0, 0)
    found = pair.alignment
    if found is not None:
        base = replace(
            base,
            offset_samples=round(found.offset_samples, 3),
            polarity=found.polarity,
            gain_db=round(found.gain_db, 3),
            drift_ppm=round(found.drift_ppm, 3),
            confidence=round(found.confidence, 3),
        )
    return replace(
        base,
        name=pair.name,
        dry=f"dry/{pair.name}.wav",
        wet=f"wet/{pair.name}.wav",
        dry_sha256=file_sha256(paths["dry"]),
        wet_sha256=file_sha256(paths["wet"]),
        sample_rate=pair.sample_rate,
        frames=len(pair.dry),
        status=pair.status,
        reasons=tuple(pair.reasons),
    )


def _has_pairs(out: Path) -> bool:
    return (out / MANIFEST_NAME).is_file() or ((out / "dry").is_dir() and (out / "wet").is_dir())


def _own_files(out: Path) -> set[Path]:
    """The files that the manifest of an earlier output lists; none when there is no manifest."""
    try:
        records = read_manifest(out)
        files = {out / side for record in records for side in (record.dry, record.wet)}
        if records:
            return files | {out / MANIFEST_NAME}
        manifest: Any = json.loads((out / EARLIER_MANIFEST_NAME).read_text(encoding="utf-8"))
        names = [str(pair["name"]) for pair in manifest["pairs"]]
    except (FxfastError, OSError, ValueError, KeyError, TypeError):
        return set()
    files = {out / side / f"{name}.wav" for side in ("dry", "wet") for name in names}
    return files | {out / EARLIER_MANIFEST_NAME}


def _new_hidden_folder(parent: Path) -> Path:
    for number in count():
        folder = parent / f"{TEMP_PREFIX}{os.getpid()}-{number}{TEMP_SUFFIX}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError("count() ended")


def safe_name(name: str) -> str:
    """A pair's name from a file's: refused when it cannot be written down.

    Raises PairError for a name that is not valid Unicode.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PairError(
            f"{printable(name)}: expected a file name in UTF-8, got other bytes"
        ) from error
    return name
