"""Plug-ins through Spotify's pedalboard: its own effects and VST3 files.

pedalboard is under the GPL and an optional extra: it is imported here, when it is used, and
nowhere else. It takes the latency of plug-ins out of the result.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fxfast.errors import BuildError, InputError, PairError
from fxfast.pairs.hosts import HostInfo

Chain = Sequence[tuple[str, Mapping[str, Any]]]

_BUFFER_SAMPLES = 8192


class PluginHost:
    """A chain of plug-ins: names of pedalboard's effects or paths of VST3 files, with settings.

    Raises BuildError when pedalboard is not installed, InputError for an unknown plug-in or
    parameter or a bad value.
    """

    def __init__(self, chain: Chain, preset: str = "") -> None:
        self._pedalboard = _load()
        self.chain = [(name, dict(settings)) for name, settings in chain]
        if not self.chain:
            raise InputError("plug-ins: expected at least one, got none")
        self._board()  # a wrong name or value is found before any file is rendered
        self.about = HostInfo(
            host="pedalboard",
            version=str(self._pedalboard.__version__),
            effect="+".join(os.path.basename(name) for name, _ in self.chain),
            preset=preset,
            parameters={"chain": [[name, settings] for name, settings in self.chain]},
            worth_caching=True,
        )

    def render(self, x: np.ndarray, sample_rate: int) -> np.ndarray:
        # A chain of its own per call: plug-ins have state and calls come from several threads.
        try:
            y_ct = self._board()(x[np.newaxis], sample_rate, buffer_size=_BUFFER_SAMPLES)
        except (RuntimeError, ValueError) as error:
            raise PairError(f"pedalboard {self.about.effect}: {_one_line(error)}") from error
        return np.asarray(y_ct[0], np.float32)

    def _board(self) -> Any:
        return self._pedalboard.Pedalboard([self._plugin(*link) for link in self.chain])

    def _plugin(self, name: str, settings: Mapping[str, Any]) -> Any:
        if name.lower().endswith((".vst3", ".component")):
            return self._external(name, settings)
        kind = getattr(self._pedalboard, name, None)
        if not isinstance(kind, type) or not issubclass(kind, self._pedalboard.Plugin):
            raise InputError(
                f"plug-in: expected an effect of pedalboard or a VST3 file, got {name!r}"
            )
        try:
            return kind(**settings)
        except (TypeError, ValueError) as error:
            given = ", ".join(settings) or "no parameters"
            raise InputError(
                f"plug-in {name}: expected its parameters, got {given}: {_one_line(error)}"
            ) from error

    def _external(self, path: str, settings: Mapping[str, Any]) -> Any:
        if not os.path.exists(path):
            raise InputError(f"plug-in: expected a VST3 file, found none at {path!r}")
        try:
            plugin = self._pedalboard.load_plugin(path)
        except (ImportError, RuntimeError, ValueError) as error:
            raise InputError(f"plug-in {path}: cannot be loaded: {_one_line(error)}") from error
        for name, value in settings.items():
            if name not in plugin.parameters:
                known = ", ".join(sorted(plugin.parameters))
                raise InputError(f"plug-in {path}: expected parameters of {known}, got {name!r}")
            try:
                setattr(plugin, name, value)
            except (TypeError, ValueError) as error:
                raise InputError(f"plug-in {path}: {name}: {_one_line(error)}") from error
        return plugin


def is_available() -> bool:
    """Whether pedalboard is installed, without importing it."""
    return importlib.util.find_spec("pedalboard") is not None


def _load() -> Any:
    try:
        return importlib.import_module("pedalboard")
    except ImportError as error:
        raise BuildError(
            "pedalboard: expected it installed for plug-ins, it is not: "
            "pip install 'fxfast[plugins]'"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
