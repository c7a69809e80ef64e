"""What plays a dry sound through an effect: built-in effects here, plug-ins and commands beside.

Two seconds of silence are put in front of the dry sound and cut from the wet one: effects settle
their state at the start, and a target with that transient cannot be learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from fxfast import __version__
from fxfast.errors import InputError, PairError
from fxfast.pairs.effects import EFFECTS, PRESETS, Effect

PREROLL_SECONDS = 2.0


class Host(Protocol):
    """Plays float32 (T) through one effect with fixed settings; may be called from any thread."""

    @property
    def about(self) -> HostInfo: ...

    def render(self, x: np.ndarray, sample_rate: int) -> np.ndarray:
        """The wet sound as float32 (T); raises an FxfastError when there is none."""
        ...


@dataclass(frozen=True)
class HostInfo:
    """What is written down about a host and its effect.

    ``keeps_time`` is False when a delay of the host itself may be in the result.
    """

    host: str
    version: str
    effect: str
    preset: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    keeps_time: bool = True
    worth_caching: bool = False


class BuiltInHost:
    """A built-in effect with its settings."""

    def __init__(
        self, effect: Effect, parameters: Mapping[str, float] | None = None, preset: str = ""
    ) -> None:
        self.effect = effect
        self.settings = effect.settings(parameters or {})
        self.about = HostInfo("fxfast", __version__, effect.name, preset, self.settings)

    def render(self, x: np.ndarray, sample_rate: int) -> np.ndarray:
        return self.effect(x, sample_rate, **self.settings)


def built_in_effect(name: str, parameters: Mapping[str, float] | None = None) -> BuiltInHost:
    """A built-in effect by name; raises InputError for an unknown name or parameter."""
    if name not in EFFECTS:
        raise InputError(f"effect: expected one of {', '.join(EFFECTS)}, got {name!r}")
    return BuiltInHost(EFFECTS[name], parameters)


def built_in_preset(name: str, parameters: Mapping[str, float] | None = None) -> BuiltInHost:
    """A built-in preset by name, with some parameters changed."""
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    preset = PRESETS[name]
    settings = {**preset.parameters, **(parameters or {})}
    return BuiltInHost(EFFECTS[preset.effect], settings, name)


def render_with_preroll(host: Host, x: np.ndarray, sample_rate: int) -> np.ndarray:
    """The effect on float32 (T) after two seconds of silence, which are cut again: float32 (T).

    Raises PairError when the host changes the length or gives NaN or infinity.
    """
    preroll = round(PREROLL_SECONDS * sample_rate)
    padded = np.concatenate([np.zeros(preroll, np.float32), x])
    wet = host.render(padded, sample_rate)
    name = f"{host.about.host} {host.about.preset or host.about.effect}".strip()
    if wet.shape != padded.shape:
        raise PairError(f"{name}: expected {padded.shape} samples back, got {wet.shape}")
    if not np.isfinite(wet).all():
        raise PairError(f"{name}: expected finite samples, got NaN or infinity")
    return np.ascontiguousarray(wet[preroll:], np.float32)
