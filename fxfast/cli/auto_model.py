"""``fxfast train --model auto``: the preset that suits the pairs, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from fxfast.cli.identify import Setting, Sounds
    from fxfast.data import Data
    from fxfast.identify import Findings

# A look takes seconds: of many settings it falls on those at the ends and some between.
MOST_SETTINGS = 5


def chosen_model(data: Data, stream: TextIO) -> str:
    """The preset for what the training part of ``data`` holds, with the reasons on ``stream``; one
    that takes knobs where they are turned.

    Raises ``PairError`` where nothing suits."""
    from fxfast.cli.identify import by_setting

    sounds = by_setting(data.train.pieces())
    turned = [knob.name for knob in data.controls]
    if turned:
        return _with_knobs(turned, sounds, data.sample_rate, stream)
    from fxfast.identify import describe, identify
    from fxfast.models.choice import preset_for

    (every_sound,) = sounds.values()
    findings = identify(every_sound, data.sample_rate)
    print(describe(findings), file=stream)
    preset = preset_for(findings)
    print(f"model: {preset}, for {findings.family}", file=stream)
    return preset


def _with_knobs(
    turned: Sequence[str], sounds: dict[Setting, Sounds], sample_rate: int, stream: TextIO
) -> str:
    from fxfast.identify import identify
    from fxfast.models import create
    from fxfast.models.choice import ROUGHLY_CONDITIONED, conditioned_preset_for, preset_for

    found: dict[str, Findings] = {}
    for setting in _spread(list(sounds)):
        name = ", ".join(f"{knob}={value:g}" for knob, value in setting)
        found[name] = identify(sounds[setting], sample_rate)
        print(f"{name}: {found[name].family}, because {'; '.join(found[name].reasons)}",
              file=stream)  # fmt: skip
    preset = conditioned_preset_for(found, create("a1-standard").receptive_field / sample_rate)
    families = {findings.family: findings for findings in found.values()}
    inputs = f"{', '.join(turned)} as input{'s' * (len(turned) > 1)}"
    print(f"model: {preset}, for {' and '.join(families)}, with {inputs}", file=stream)
    for family in ROUGHLY_CONDITIONED:
        if family in families:
            alone = preset_for(families[family])
            print(f"  note: {alone} takes no knobs, but is far closer where one setting is enough",
                  file=stream)  # fmt: skip
    return preset


def _spread(settings: list[Setting]) -> list[Setting]:
    count = min(MOST_SETTINGS, len(settings))
    last = len(settings) - 1
    return [settings[round(i * last / max(count - 1, 1))] for i in range(count)]
