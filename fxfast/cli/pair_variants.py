"""From the options of ``fxfast pairs make`` to hosts: which folder holds which settings."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxfast.pairs.hosts import Host
    from fxfast.pairs.make_pairs import Variant

    MakeHost = Callable[[Mapping[str, float]], Host]

_PLUGIN = "pedalboard:"


def folders(
    args: argparse.Namespace,
) -> Iterator[tuple[Path, Callable[[], list[Variant]]]]:
    """Every folder of pairs to make and what makes its variants.

    One preset goes into the output itself, several into a folder each. A host that cannot be
    made fails when its variants are asked for, so the other folders are done.
    """
    from fxfast.errors import InputError

    chosen = [name for name in ("effect", "command") if getattr(args, name)]
    if len(chosen) == 2 or (args.effect and args.preset):
        raise InputError("expected one of --effect, --preset and --command, got two")
    out = Path(args.out)
    if args.command:
        yield out, _variants(args, _command(args))
    elif args.preset:
        names = _preset_names(args)
        for name in names:
            yield (out / name if len(names) > 1 else out), _variants(args, _preset(args, name))
    else:
        yield out, _variants(args, _effect(args.effect or "overdrive"))


def _variants(args: argparse.Namespace, make: MakeHost) -> Callable[[], list[Variant]]:
    def made() -> list[Variant]:
        from fxfast.pairs.make_pairs import Variant, knob_grid

        fixed = dict(args.settings)
        grid = knob_grid(dict(args.knobs))
        return [Variant(make({**fixed, **knobs}), knobs) for knobs in grid]

    return made


def _preset_names(args: argparse.Namespace) -> Sequence[str]:
    from fxfast.errors import InputError
    from fxfast.pairs.preset_files import preset_names

    known = preset_names(args.host)
    names = known if args.preset == "all" else tuple(args.preset.split(","))
    for name in names:
        if name not in known:
            raise InputError(
                f"preset of {args.host}: expected one of {', '.join(known)}, got {name!r}"
            )
    if len(set(names)) != len(names):
        raise InputError(f"preset: expected each name once, got {args.preset}")
    return names


def _effect(name: str) -> MakeHost:
    def make(settings: Mapping[str, float]) -> Host:
        if name.startswith(_PLUGIN):
            from fxfast.pairs.plugin_host import PluginHost

            return PluginHost([(name.removeprefix(_PLUGIN), settings)])
        from fxfast.pairs.hosts import built_in_effect

        return built_in_effect(name, settings)

    return make


def _preset(args: argparse.Namespace, name: str) -> MakeHost:
    def make(settings: Mapping[str, float]) -> Host:
        from fxfast.pairs.preset_files import preset_host

        return preset_host(args.host, name, settings, args.timeout)

    return make


def _command(args: argparse.Namespace) -> MakeHost:
    """A command of one's own; a preset is its text, or a name in a preset file."""

    def make(settings: Mapping[str, float]) -> Host:
        from fxfast.pairs.command_host import CommandHost
        from fxfast.pairs.preset_files import load_presets

        name, text = "", args.preset or ""
        if args.preset and args.host != "builtin":
            presets = load_presets(args.host)
            presets.make(args.preset, None, args.timeout)
            name, text = args.preset, str(presets.presets[args.preset])
        return CommandHost(
            args.command,
            preset=text,
            preset_name=name,
            parameters=settings,
            timeout_seconds=args.timeout,
        )

    return make
