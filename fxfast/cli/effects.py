"""``fxfast effects``: the built-in effects, their parameters and presets, and the hosts."""

from __future__ import annotations

import argparse
import json


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "effects",
        help="list effects and presets",
        description="The built-in effects with their parameters, presets and sources, and the "
        "presets of plug-ins and commands.",
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from fxfast.pairs.effects import EFFECTS, PRESETS
    from fxfast.pairs.preset_files import SHIPPED, preset_names

    hosts = {name: list(preset_names(name)) for name in SHIPPED}
    if args.json:
        effects = [
            {
                "name": effect.name,
                "summary": effect.summary,
                "source": effect.source,
                "parameters": [knob.__dict__ for knob in effect.parameters],
                "presets": {
                    preset.name: dict(preset.parameters)
                    for preset in PRESETS.values()
                    if preset.effect == effect.name
                },
            }
            for effect in EFFECTS.values()
        ]
        print(json.dumps({"effects": effects, "hosts": hosts}, indent=1))
        return 0
    for effect in EFFECTS.values():
        print(f"{effect.name}: {effect.summary} ({effect.source})")
        for knob in effect.parameters:
            span = f"{knob.minimum:g} to {knob.maximum:g} {knob.unit}".rstrip()
            print(f"  {knob.name}={knob.default:g}  {span}: {knob.meaning}")
        for preset in PRESETS.values():
            if preset.effect == effect.name:
                settings = ", ".join(f"{k}={v:g}" for k, v in preset.parameters.items())
                print(f"  preset {preset.name}: {settings}")
    print(f"presets: {len(PRESETS)} built in")
    for name, presets in hosts.items():
        print(f"host {name}: {len(presets)} presets: {', '.join(presets)}")
    return 0
