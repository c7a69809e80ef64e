"""``pairs.jsonl``: one line of JSON per pair, saying what it is and how it was made.

The reader trusts nothing: a path that leaves the folder, by ``..``, by a leading ``/`` or through
a link, is refused, and so is a line that is not what the writer writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

from fxfast.audio.files import AnyPath, printable
from fxfast.audio.paths import reason
from fxfast.errors import PairError
from fxfast.whole_file import whole_file

MANIFEST_NAME = "pairs.jsonl"
SPLITS = ("train", "validation", "test")

_MAX_LINE_BYTES = 1 << 20
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class PairRecord:
    """One pair: its files, what made them, and how they lay before they were put right.

    ``dry`` and ``wet`` are paths inside the folder, with ``/``. ``knobs`` are the settings that
    differ between the pairs of one effect, for conditioned models. ``parameters`` are all of
    them, or the text of a preset. ``split`` is "" when nothing is held out. ``preroll_seconds`` of
    silence were played before the dry sound: an LFO that starts with the effect is that old.
    """

    name: str
    dry: str
    wet: str
    dry_sha256: str
    wet_sha256: str
    sample_rate: int
    frames: int
    source: str = ""
    effect: str = ""
    preset: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    knobs: Mapping[str, float] = field(default_factory=dict)
    offset_samples: float = 0.0
    polarity: int = 1
    gain_db: float = 0.0
    drift_ppm: float = 0.0
    confidence: float = 0.0
    status: str = "ok"
    reasons: tuple[str, ...] = ()
    host: str = ""
    host_version: str = ""
    deterministic: bool | None = None
    seed: int | None = None
    split: str = ""
    preroll_seconds: float = 0.0


def write_manifest(pairs_dir: AnyPath, records: Iterable[PairRecord]) -> None:
    """Write all records, sorted by name; the file appears when it is complete."""
    path = Path(pairs_dir) / MANIFEST_NAME
    lines = [json.dumps(asdict(record)) for record in sorted(records, key=lambda r: r.name)]
    with whole_file(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def read_manifest(pairs_dir: AnyPath) -> list[PairRecord]:
    """The records of a folder, an empty list when it has no manifest.

    Raises PairError, with the line, for anything that is not a record or names a file outside
    the folder.
    """
    root = Path(pairs_dir)
    path = root / MANIFEST_NAME
    if not path.exists():
        return []
    records: list[PairRecord] = []
    try:
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                where = f"{printable(path)}: line {len(records) + 1}"
                records.append(_parse(line, where))
                for side in (records[-1].dry, records[-1].wet):
                    inside(root, side, where)
    except OSError as error:
        raise PairError(f"{printable(path)}: cannot be read: {reason(error)}") from error
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            raise PairError(
                f"{printable(path)}: expected each name once, got {record.name!r} twice"
            )
        seen.add(record.name)
    return records


def inside(root: Path, relative: str, where: str) -> Path:
    """The path of a file that a manifest names; raises PairError when it leaves the folder."""
    pure = PurePosixPath(relative)
    plain = bool(pure.parts) and "\\" not in relative and "\0" not in relative
    if not plain or pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
        raise PairError(f"{where}: expected a path inside the folder, got {relative!r}")
    path = root.joinpath(*pure.parts)
    try:
        leads_to = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, half a character
        raise PairError(f"{where}: expected a path, {relative!r} leads nowhere: {error}") from error
    if not leads_to.is_relative_to(root.resolve()):
        raise PairError(f"{where}: expected a path inside the folder, {relative!r} leads out of it")
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _parse(line: bytes, where: str) -> PairRecord:
    try:
        values = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PairError(f"{where}: expected a line of JSON, got {line[:40]!r}") from error
    if not isinstance(values, dict):
        raise PairError(f"{where}: expected a JSON object, got {type(values).__name__}")
    known = {entry.name for entry in fields(PairRecord)}
    # Fields of later versions are left alone: they may say more, not something else.
    values = {name: value for name, value in values.items() if name in known}
    for name, (kinds, expected) in _KINDS.items():
        if name in values and (not isinstance(values[name], kinds) or _is_flag(name, values[name])):
            raise PairError(f"{where}: {name}: expected {expected}, got {values[name]!r}")
    for name in ("name", "dry", "wet"):
        if not values.get(name):
            raise PairError(f"{where}: {name}: expected a text, got none")
    for name, value in values.get("knobs", {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise PairError(f"{where}: knobs: {name}: expected a number, got {value!r}")
    if values.get("split", "") not in ("", *SPLITS):
        raise PairError(f"{where}: split: expected one of {', '.join(SPLITS)}, "
                        f"got {values['split']!r}")  # fmt: skip
    values["reasons"] = tuple(str(text) for text in values.get("reasons", ()))
    defaults = {"dry_sha256": "", "wet_sha256": "", "sample_rate": 0, "frames": 0}
    return PairRecord(**{**defaults, **values})


def _is_flag(name: str, value: object) -> bool:
    return isinstance(value, bool) and name != "deterministic"


_TEXT = ((str,), "a text")
_WHOLE = ((int,), "a whole number")
_NUMBER = ((int, float), "a number")
_OBJECT = ((dict,), "an object")
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(
        ("name", "dry", "wet", "dry_sha256", "wet_sha256", "source", "effect", "preset", "status",
         "host", "host_version", "split"),
        _TEXT,
    ),
    **dict.fromkeys(("sample_rate", "frames", "polarity"), _WHOLE),
    **dict.fromkeys(
        ("offset_samples", "gain_db", "drift_ppm", "confidence", "preroll_seconds"), _NUMBER
    ),
    **dict.fromkeys(("parameters", "knobs"), _OBJECT),
    "reasons": ((list,), "a list"),
    "deterministic": ((bool, type(None)), "true, false or null"),
    "seed": ((int, type(None)), "a whole number or null"),
}  # fmt: skip
