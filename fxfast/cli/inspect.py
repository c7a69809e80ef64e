"""fxfast inspect: what a model consists of and what it costs."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from fxfast.cli.model_options import add_model, load_model

if TYPE_CHECKING:
    from fxfast.graph import ModelGraph

_COLUMNS = ("layer", "kind", "channels", "taps", "dilation", "activation", "parameters", "MACs")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand ``inspect``."""
    parser = subparsers.add_parser(
        "inspect",
        help="show a model's layers and cost",
        description="Show the layers of a model, its parameters, multiply-adds (MACs) per sample, "
        "receptive field, sample rate and latency.",
    )
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the table or the JSON document."""
    summary = describe(load_model(args))
    if args.json:
        print(json.dumps({"model": args.model, **summary}, indent=1))
    else:
        print("\n".join(_table(summary)))
    return 0


def describe(graph: ModelGraph) -> dict[str, Any]:
    """The model in figures, as JSON values; MACs are multiply-adds for one sample."""
    layers = [
        {
            "kind": "conv1d",
            "in_channels": layer.in_channels,
            "out_channels": layer.out_channels,
            "taps": layer.taps,
            "dilation": layer.dilation,
            "activation": layer.activation.kind,
            "bias": layer.bias is not None,
            "parameters": layer.parameters,
            "macs_per_sample": int(layer.weight.size),
        }
        for layer in graph.layers
    ]
    return {
        "layers": layers,
        "skip": graph.skip,
        "parameters": graph.parameters,
        "macs_per_sample": graph.macs_per_sample,
        "receptive_field_samples": graph.receptive_field,
        "receptive_field_ms": 1000.0 * graph.receptive_field / graph.sample_rate,
        "sample_rate_hz": graph.sample_rate,
        "latency_samples": graph.latency_samples,
        "latency_ms": 1000.0 * graph.latency_samples / graph.sample_rate,
        "metadata": graph.metadata,
    }


def _table(summary: dict[str, Any]) -> list[str]:
    rows = [_COLUMNS] + [
        (
            str(index),
            layer["kind"],
            f"{layer['in_channels']} -> {layer['out_channels']}",
            str(layer["taps"]),
            str(layer["dilation"]),
            layer["activation"],
            f"{layer['parameters']:,}",
            f"{layer['macs_per_sample']:,}",
        )
        for index, layer in enumerate(summary["layers"])
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    samples, rate = summary["receptive_field_samples"], summary["sample_rate_hz"]
    return [
        *lines,
        "",
        f"parameters        {summary['parameters']:,}",
        f"multiply-adds     {summary['macs_per_sample']:,} per sample, "
        f"{summary['macs_per_sample'] * rate / 1e9:.3g} G per second of audio",
        f"receptive field   {samples:,} samples, {summary['receptive_field_ms']:.2f} ms",
        f"sample rate       {rate} Hz",
        f"latency           {summary['latency_samples']} samples, {summary['latency_ms']:.2f} ms",
        f"skip              {'the input is added to the output' if summary['skip'] else 'none'}",
    ]
