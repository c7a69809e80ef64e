"""fxfast bench: a model on the engine beside its peers, in one run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fxfast.cli.model_options import add_model, load_model
from fxfast.cli.progress import round_bar
from fxfast.errors import InputError

if TYPE_CHECKING:
    from fxfast.graph import ModelGraph
    from fxfast.report.compare import Options

_DESCRIPTION = (
    "Measure a model on one core: times real time, share of the multiply-add peak and of the "
    "floor, error against float64 and memory, for every instruction set, whole audio and blocks, "
    "beside PyTorch (eager, torch.compile), ONNX Runtime where it is installed, scipy for impulse "
    "responses, and other engines. MODEL is a preset, a shape of the benchmark, a model file, a "
    ".nam file or a run directory; without it, list the presets and shapes."
)
_PROGRAM = (
    "[LABEL=]PATH; may be given again. {0} A program takes `model.nam in.wav out.wav`; one whose "
    "name begins with bench or ModelTest times itself"
)


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``bench``."""
    parser = subparsers.add_parser(
        "bench", help="measure a model beside its peers", description=_DESCRIPTION
    )
    add_model(parser, nargs="?")
    add_peer_options(parser)
    parser.add_argument(
        "--isa",
        metavar="NAME",
        action="append",
        help="an instruction set; may be given again (default: all but the reference)",
    )
    parser.add_argument(
        "--blocks",
        metavar="N,...",
        help="block lengths of streams (48,512, or what the benchmark has for this model)",
    )
    parser.add_argument(
        "--streams",
        metavar="N,...",
        help="streams rendered at once (1, or what the benchmark has for this model)",
    )
    parser.add_argument("--rounds", metavar="N", type=int, default=5, help="runs of each way (5)")
    parser.add_argument("--runs", metavar="N", type=int, default=1, help="measure all so often (1)")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="write the JSON document there"
    )
    parser.set_defaults(run=run)


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """The options that name other engines."""
    parser.add_argument(
        "--nam-core",
        metavar="PATH",
        action="append",
        default=[],
        help=_PROGRAM.format("A build's tools/render or tools/benchmodel of NeuralAmpModelerCore."),
    )
    parser.add_argument(
        "--neuralaudio",
        metavar="PATH",
        action="append",
        default=[],
        help=_PROGRAM.format("A build's libNeuralAudioCAPI.so or ModelTest of NeuralAudio."),
    )


def run(args: argparse.Namespace) -> int:
    """Measures and prints, or lists the models."""
    from fxfast.report.suite import audio_of, names

    if args.model is None:
        _list_models(names(), args.json)
        return 0
    from fxfast.report.compare import compare
    from fxfast.report.results import document, with_runs, write

    options = _options(args)
    graph = _graph(args, names())
    found = []
    for _ in range(args.runs):
        with round_bar("preparing, then measuring") as on_round:
            comparison = compare(graph, audio_of(graph.sample_rate), options, on_round=on_round)
        found.append(document({args.model: comparison}, options.rounds))
    result = with_runs(found)
    if args.output is not None:
        write(result, args.output)
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        _print(args.model, result)
    return 0


def _options(args: argparse.Namespace) -> Options:
    from fxfast.report.compare import PEERS, Options
    from fxfast.report.programs import programs_of
    from fxfast.report.suite import Case, case_of, fused_isas

    for option, value in (("--rounds", args.rounds), ("--runs", args.runs)):
        if not 1 <= value <= 1000:
            raise InputError(f"{option}: expected 1 to 1000, got {value}")
    case = case_of(args.model) or Case(args.model)
    return Options(
        isas=tuple(args.isa) if args.isa else fused_isas(),
        rounds=args.rounds,
        blocks=case.blocks if args.blocks is None else _integers("--blocks", args.blocks),
        streams=case.streams if args.streams is None else _integers("--streams", args.streams),
        quiet=not case.large,
        peers=tuple(p for p in PEERS if not (args.no_compile and p == "compile")),
        programs=programs_of(args.nam_core, args.neuralaudio),
    )


def _integers(name: str, text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and 1 <= int(part) <= 65536 for part in parts):
        raise InputError(f"{name}: expected integers from 1 to 65536, got {text!r}")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _graph(args: argparse.Namespace, names: tuple[str, ...]) -> ModelGraph:
    from fxfast.report.suite import graph_of

    if args.model in names and not Path(args.model).exists():
        return graph_of(args.model)
    return load_model(args)


def _list_models(names: tuple[str, ...], as_json: bool) -> None:
    print(json.dumps({"models": list(names)}) if as_json else "\n".join(names))


def _print(name: str, result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from fxfast.report.musts import must_lines
    from fxfast.report.table import COMPARISON_HEADER, comparison_rows, peers_that_win

    model = result["models"][name]
    machine = result["machine"]
    table = Table(title=f"{name}, one core of {machine['processor']}", title_justify="left")
    for index, column in enumerate(COMPARISON_HEADER):
        table.add_column(column, justify="right" if 0 < index < 6 else "left")
    for row in comparison_rows(model):
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 150).print(table)
    for isa, peak in model["peak_flops"].items():
        floor = model["floor_realtime"][isa]
        print(f"{isa}: multiply-add peak {peak / 1e9:.0f} GFLOP/s, floor {floor:,.0f}x real time")
    print(f"error: RMS against {model['error_against']}, relative to the signal")
    for peer in model["skipped"]:
        print(f"not measured: {peer['name']}: {peer['reason']}")
    for text in peers_that_win(result["models"]):
        print(f"a peer is faster: {text}")
    for line in must_lines(result["musts"]):
        print(line)
