"""Where the output of a file goes: its path below the folder of the output."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from fxfast.audio.paths import printable
from fxfast.errors import InputError
from fxfast.rendering.output_format import FORMATS, output_suffix

FIELDS = ("{model}", "{path}", "{folder}", "{stem}")


@dataclass(frozen=True)
class OutputNames:
    """How outputs are named.

    ``pattern`` is a path of the fields ``{model}`` (the model's name), ``{path}`` (the input below
    its folder, without the suffix), or ``{folder}`` and ``{stem}``, its parts. Empty means the
    tree as it is, in a folder for each model where there are several. ``keep_suffix`` keeps the
    input's suffix in front of another one: ``a.aiff.wav``. ``allow_similar`` lets two outputs
    differ by nothing but case or the normal form of Unicode.
    """

    format: str = "keep"
    pattern: str = ""
    keep_suffix: bool = False
    allow_similar: bool = False

    def check(self, models: Sequence[str]) -> None:
        """Raise ``InputError`` unless the pattern gives each file and model a name of its own."""
        if self.format not in FORMATS:
            raise InputError(f"format: expected one of {', '.join(FORMATS)}, got {self.format!r}")
        if self.pattern:
            self._check_pattern(len(models))
        for name in models:
            if len(models) > 1 and (name in ("", ".", "..") or "/" in name or "\0" in name):
                raise InputError(f"model name: expected a plain name, got {name!r}")
        folded = {name.casefold() for name in models}
        if len(folded) < len(models):
            raise InputError(
                f"models: expected names that differ, got {', '.join(map(printable, models))}"
            )

    def _check_pattern(self, models: int) -> None:
        pattern = self.pattern
        shown = f"name pattern {printable(pattern)!r}"
        unknown = [f for f in re.findall(r"\{[^{}]*\}", pattern) if f not in FIELDS]
        if unknown:
            raise InputError(f"{shown}: expected fields of {', '.join(FIELDS)}, got {unknown[0]}")
        if "{path}" not in pattern and "{stem}" not in pattern:
            raise InputError(f"{shown}: expected {{path}} or {{stem}} in it, got neither")
        if models > 1 and "{model}" not in pattern:
            raise InputError(f"{shown}: expected {{model}} in it for {models} models, got none")
        parts = pattern.split("/")
        if pattern.startswith("/") or ".." in parts or "\0" in pattern:
            raise InputError(f"{shown}: expected a path below the output folder, got one outside")

    def of(self, below: bytes, model: str = "", models: int = 1) -> bytes:
        """The output's path below the folder of the output."""
        stem, dot, suffix = below.rpartition(b".")
        if not dot or b"/" in suffix:
            stem, suffix = below, b""
        else:
            suffix = dot + suffix
        wanted = _suffix_for(suffix, self.format)
        if self.keep_suffix and wanted != suffix:
            stem += suffix
        if self.pattern or models > 1:
            stem = self._placed(stem, model)
        return stem + wanted

    def _placed(self, stem: bytes, model: str) -> bytes:
        folder, name = os.path.split(stem)
        values = {
            b"{model}": os.fsencode(model),
            b"{path}": stem,
            b"{folder}": folder,
            b"{stem}": name,
        }
        pattern = os.fsencode(self.pattern or "{model}/{path}")
        placed = re.sub(rb"\{[a-z]+\}", lambda match: values[match[0]], pattern)
        return os.path.normpath(placed.lstrip(b"/"))


@functools.lru_cache(maxsize=64)
def _suffix_for(suffix: bytes, format: str) -> bytes:
    return output_suffix(os.fsdecode(suffix), format).encode()


def folded(output: bytes) -> bytes:
    """What outputs that differ by case or normal form only have in common."""
    if output.isascii():
        return output.lower()
    text = unicodedata.normalize("NFC", os.fsdecode(output)).casefold()
    return os.fsencode(unicodedata.normalize("NFC", text))
