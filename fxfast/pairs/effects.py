"""The built-in effects, found by name in ``EFFECTS``, and their presets in ``PRESETS``.

An effect keeps the length, adds no delay, gives silence for silence and has no memory of earlier
calls, so a wet file made by it is aligned with its dry file sample by sample. The presets follow
those of the plug-ins in ``presets/``, name by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fxfast.pairs.distortion import FUZZ, OVERDRIVE
from fxfast.pairs.dynamics import COMPRESSOR, GATE
from fxfast.pairs.echoes import CHORUS, DELAY, REVERB
from fxfast.pairs.effect_base import OVERSAMPLING, Effect, Parameter

__all__ = ["EFFECTS", "OVERSAMPLING", "PRESETS", "Effect", "Parameter", "Preset", "overdrive"]

overdrive = OVERDRIVE


@dataclass(frozen=True)
class Preset:
    """Settings of an effect under a name."""

    name: str
    effect: str
    parameters: Mapping[str, float]


EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {effect.name: effect for effect in (GATE, OVERDRIVE, FUZZ, COMPRESSOR, REVERB, CHORUS, DELAY)}
)

_SETTINGS: Mapping[str, tuple[str, tuple[str, ...], tuple[tuple[float, ...], ...]]] = {
    "gate": (
        "gate",
        ("threshold_db", "attack_ms", "hold_ms", "decay_ms"),
        ((-45, 1, 50, 100), (-35, 1, 30, 50), (-25, 0.5, 10, 25)),
    ),
    "ts": (
        "overdrive",
        ("drive", "tone_hz", "level_db"),
        ((0.25, 2000, -8), (0.5, 3000, -8), (0.9, 5000, -8)),
    ),
    "fuzz": ("fuzz", ("fuzz", "level_db"), ((0.4, 0), (0.7, 0), (1.0, 2))),
    "comp": (
        "compressor",
        ("threshold_db", "ratio", "knee_db", "attack_ms", "release_ms"),
        ((-24, 2, 3, 20, 300), (-30, 4, 3, 5, 100), (-36, 10, 3, 1, 50)),
    ),
    "reverb": (
        "reverb",
        ("decay_seconds", "high_decay", "predelay_ms", "mix"),
        ((1, 0.4, 20, 0.3), (2, 0.3, 40, 0.5), (4, 0.25, 60, 0.6)),
    ),
    "chorus": (
        "chorus",
        ("rate_hz", "depth", "delay_ms", "level"),
        (
            (0.3, 0.1, 20, 0.5),
            (0.8, 0.1, 20, 0.5),
            (1.5, 0.05, 15, 0.5),
            (3.0, 0.02, 10, 0.5),
            (0.5, 0.2, 30, 0.8),
            (5.0, 0.02, 8, 1.0),
        ),
    ),
    "delay": (
        "delay",
        ("time_ms", "feedback", "level", "low_cut_hz", "high_cut_hz"),
        (
            (120, 0.3, 0.3, 0, 20000),
            (250, 0.45, 0.45, 0, 20000),
            (400, 0.6, 0.6, 0, 20000),
            (500, 0.2, 0.3, 120, 8000),
            (333, 0.4, 0.5, 200, 4000),
            (667, 0.6, 0.7, 300, 3000),
        ),
    ),
}

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        f"{family}-{number}": Preset(
            f"{family}-{number}",
            effect,
            EFFECTS[effect].settings(dict(zip(names, map(float, values), strict=True))),
        )
        for family, (effect, names, rows) in _SETTINGS.items()
        for number, values in enumerate(rows, 1)
    }
)
