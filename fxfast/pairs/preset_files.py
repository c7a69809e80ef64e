"""Presets of plug-ins and commands, in JSON files: those shipped in ``presets/`` and your own.

``{"format": "fxfast-presets", "format_version": 1, "host": "command", "command": "... {preset}",
"presets": {name: text}}``, or ``"host": "pedalboard"`` with ``{name: [[plug-in, settings]]}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from fxfast.audio.files import AnyPath, printable
from fxfast.audio.paths import reason
from fxfast.errors import InputError
from fxfast.pairs.command_host import DEFAULT_TIMEOUT_SECONDS, CommandHost
from fxfast.pairs.effects import PRESETS
from fxfast.pairs.hosts import Host, built_in_preset

FORMAT_NAME = "fxfast-presets"
SHIPPED = {"ffmpeg": "ffmpeg-guitarix.json", "pedalboard": "pedalboard.json"}
HOSTS = ("builtin", *SHIPPED)

_MAX_BYTES = 1 << 22


@dataclass(frozen=True)
class PresetFile:
    """The presets of one host. ``command`` is the template of a command host, "" otherwise."""

    name: str
    host: str
    command: str
    presets: Mapping[str, Any]

    def names(self) -> tuple[str, ...]:
        return tuple(self.presets)

    def make(
        self,
        preset: str,
        parameters: Mapping[str, float] | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> Host:
        """The host of one preset. Raises InputError for an unknown one."""
        if preset not in self.presets:
            known = ", ".join(self.presets)
            raise InputError(f"preset of {self.name}: expected one of {known}, got {preset!r}")
        if self.host == "command":
            return CommandHost(
                self.command,
                preset=self.presets[preset],
                preset_name=preset,
                parameters=parameters,
                timeout_seconds=timeout_seconds,
            )
        from fxfast.pairs.plugin_host import PluginHost

        if parameters:
            raise InputError(f"preset {preset}: expected no parameters for a chain of plug-ins")
        return PluginHost(self.presets[preset], preset)


def preset_names(host: str) -> tuple[str, ...]:
    """The presets of a host: "builtin", a shipped one, or the path of a preset file."""
    return tuple(PRESETS) if host == "builtin" else load_presets(host).names()


def preset_host(
    host: str,
    preset: str,
    parameters: Mapping[str, float] | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Host:
    """A preset of "builtin", of a shipped host, or of the preset file at a path."""
    if host == "builtin":
        return built_in_preset(preset, parameters)
    return load_presets(host).make(preset, parameters, timeout_seconds)


def load_presets(name: AnyPath) -> PresetFile:
    """A shipped preset file by its host's name, or one of your own by its path.

    Raises InputError when it is not one.
    """
    shown = printable(name)
    if str(name) in SHIPPED:
        text = (resources.files("fxfast.pairs") / "presets" / SHIPPED[str(name)]).read_text("utf-8")
    else:
        try:
            with Path(name).open("rb") as file:
                text = file.read(_MAX_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{shown}: expected a preset file in UTF-8") from error
        except OSError as error:
            known = ", ".join(HOSTS)
            raise InputError(
                f"host: expected one of {known} or a preset file, got {shown!r}: {reason(error)}"
            ) from error
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown}: expected JSON: {reason(error)}") from error
    return _checked(values, shown)


def _checked(values: Any, shown: str) -> PresetFile:
    if not isinstance(values, dict) or values.get("format") != FORMAT_NAME:
        raise InputError(f"{shown}: expected a file of format {FORMAT_NAME!r}")
    host, presets = values.get("host"), values.get("presets")
    command = values.get("command", "")
    if host not in ("command", "pedalboard"):
        raise InputError(f"{shown}: host: expected command or pedalboard, got {host!r}")
    if not isinstance(presets, dict) or not presets:
        raise InputError(f"{shown}: presets: expected names and presets, got {presets!r}")
    if host == "command":
        if not isinstance(command, str) or "{preset}" not in command:
            raise InputError(f"{shown}: command: expected a template with {{preset}}")
        wrong = [name for name, text in presets.items() if not isinstance(text, str)]
    else:
        wrong = [name for name, chain in presets.items() if not _is_chain(chain)]
    if wrong:
        expected = "a text" if host == "command" else "a list of [plug-in, settings]"
        raise InputError(f"{shown}: preset {wrong[0]!r}: expected {expected}")
    return PresetFile(Path(shown).name, host, command, presets)


def _is_chain(chain: Any) -> bool:
    return isinstance(chain, list) and all(
        isinstance(link, list)
        and len(link) == 2
        and isinstance(link[0], str)
        and isinstance(link[1], dict)
        for link in chain
    )
