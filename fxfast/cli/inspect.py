"""fxfast inspect: what a model consists of and what it costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fxfast.cli.model_options import add_model, load_model

if TYPE_CHECKING:
    import numpy as np

    from fxfast.graph import Activation, Delay, ModelGraph, Node, WaveNet, WaveNetLayer

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
    """The model in figures, as JSON values; MACs are multiply-adds for one sample.

    The parameters and MACs of all layers add up to those of the model.
    """
    from fxfast.graph import ConvStack

    root = graph.root
    return {
        "kind": graph.kind,
        "layers": list(_rows(root, "")),
        **({"skip": root.skip} if isinstance(root, ConvStack) else {}),
        "parameters": graph.parameters,
        "macs_per_sample": graph.macs_per_sample,
        "receptive_field_samples": graph.receptive_field,
        "receptive_field_ms": 1000.0 * graph.receptive_field / graph.sample_rate,
        "is_recurrent": graph.is_recurrent,
        "sample_rate_hz": graph.sample_rate,
        "latency_samples": graph.latency_samples,
        "latency_ms": 1000.0 * graph.latency_samples / graph.sample_rate,
        "metadata": graph.metadata,
    }


def _rows(node: Node, prefix: str) -> Iterator[dict[str, Any]]:
    """The layers of a node in the order of the signal; those inside a tree have a name."""
    from fxfast.graph import (
        Compressor,
        ConvStack,
        Delay,
        Gate,
        Linear,
        Recurrent,
        Residual,
        Sequential,
        WaveNet,
    )

    if isinstance(node, ConvStack):
        for index, layer in enumerate(node.layers):
            name = f"{prefix}layers[{index}]" if prefix else None
            yield _conv_row(
                name, "conv1d", layer.weight, layer.bias, layer.activation, layer.dilation
            )
    elif isinstance(node, WaveNet):
        yield from _wavenet_rows(node, prefix)
    elif isinstance(node, Sequential):
        for index, child in enumerate(node.children):
            yield from _rows(child, f"{prefix}children[{index}].")
    elif isinstance(node, Residual):
        yield from _rows(node.child, f"{prefix}child.")
    elif isinstance(node, Linear):
        yield _row(f"{prefix}taps", "fir", (1, 1), node.taps.size, node.taps.size + 1,
                   node.taps.size, bias=node.bias != 0)  # fmt: skip
    elif isinstance(node, Delay):
        yield from _delay_rows(node, prefix)
    elif isinstance(node, Compressor | Gate):
        yield _row(prefix.rstrip(".") or "root", node.kind, (1, 1), 1, node.parameters, 0,
                   bias=False)  # fmt: skip
    elif isinstance(node, Recurrent):
        for index, cell in enumerate(node.layers):
            weights = cell.weight_ih.size + cell.weight_hh.size
            yield _row(f"{prefix}layers[{index}]", cell.cell, (cell.in_channels, cell.units), 1,
                       weights + cell.bias_ih.size + cell.bias_hh.size, weights)  # fmt: skip


def _delay_rows(node: Delay, prefix: str) -> Iterator[dict[str, Any]]:
    """A row for each voice, whose parameters are its gain, delay, and cycle; then the rest."""
    macs = node.macs_per_sample
    parameters = node.other_parameters
    for index, voice in enumerate(node.voices):
        own = voice.table.size + (4 if voice.table.size > 1 else 2)
        kind = "modulated voice" if voice.table.size > 1 else "voice"
        yield _row(f"{prefix}voices[{index}]", kind, (1, 1), 1, own, 0,
                   dilation=voice.longest_samples, bias=False)  # fmt: skip
        parameters -= own
    kind = "feedback" if node.feedback else "mix"
    yield _row(f"{prefix}mix", kind, (1, 1), 1, parameters, macs, bias=False)


def _wavenet_rows(net: WaveNet, prefix: str) -> Iterator[dict[str, Any]]:
    if net.condition is not None:
        yield from _rows(net.condition, f"{prefix}condition.")
    for index, array in enumerate(net.arrays):
        name = f"{prefix}arrays[{index}]"
        yield _conv_row(f"{name}.rechannel", "conv1x1", array.rechannel)
        for number, layer in enumerate(array.layers):
            yield _wavenet_layer_row(f"{name}.layers[{number}]", layer, array.channels)
        yield _conv_row(f"{name}.head", "conv1d", array.head_weight, array.head_bias,
                        dilation=array.head_dilation)  # fmt: skip
    channels = net.arrays[-1].out_channels
    yield _row(f"{prefix}head_scale", "scale", (channels, channels), 1, 1, 0, bias=False)
    for index, conv in enumerate(net.head):
        name, before = f"{prefix}head[{index}]", conv.activation
        row = _conv_row(name, "conv1d", conv.weight, conv.bias)
        row["parameters"] += before.parameters
        # In a head the activation comes before the convolution.
        yield row | {"kind": "act, conv1d", "activation": before.kind}


def _wavenet_layer_row(name: str, layer: WaveNetLayer, channels: int) -> dict[str, Any]:
    convs = list(layer.convolutions())
    macs = sum(conv.weight.size for conv in convs)
    biases = sum(conv.bias.size for conv in convs if conv.bias is not None)
    activation = layer.activation.kind
    if layer.secondary is not None:
        activation = f"{activation} {layer.mode} {layer.secondary.kind}"
    row = _row(name, "layer", (channels, layer.bottleneck), layer.taps,
               macs + biases + layer.slopes, macs, dilation=layer.dilation,
               activation=activation, bias=layer.conv_bias is not None)  # fmt: skip
    return row | {
        "mode": layer.mode,
        "groups": layer.groups,
        "layer1x1": layer.layer1x1 is not None,
        "head1x1": layer.head1x1 is not None,
        "films": list(layer.films),
    }


def _conv_row(
    name: str | None,
    kind: str,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    activation: Activation | None = None,
    dilation: int = 1,
) -> dict[str, Any]:
    parameters = weight.size + (0 if bias is None else bias.size)
    return _row(
        name,
        kind,
        (weight.shape[1], weight.shape[0]),
        weight.shape[2] if weight.ndim == 3 else 1,
        parameters + (0 if activation is None else activation.parameters),
        weight.size,
        dilation=dilation,
        activation="none" if activation is None else activation.kind,
        bias=bias is not None,
    )


def _row(
    name: str | None,
    kind: str,
    channels: tuple[int, int],
    taps: int,
    parameters: int,
    macs: int,
    *,
    dilation: int = 1,
    activation: str = "none",
    bias: bool = True,
) -> dict[str, Any]:
    return {
        **({} if name is None else {"name": name}),
        "kind": kind,
        "in_channels": int(channels[0]),
        "out_channels": int(channels[1]),
        "taps": int(taps),
        "dilation": dilation,
        "activation": activation,
        "bias": bias,
        "parameters": int(parameters),
        "macs_per_sample": int(macs),
    }


def _table(summary: dict[str, Any]) -> list[str]:
    rows = [_COLUMNS] + [
        (
            layer.get("name", str(index)),
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
    field = f"{samples:,} samples, {summary['receptive_field_ms']:.2f} ms"
    return [
        *lines,
        "",
        f"parameters        {summary['parameters']:,}",
        f"multiply-adds     {summary['macs_per_sample']:,} per sample, "
        f"{summary['macs_per_sample'] * rate / 1e9:.3g} G per second of audio",
        f"receptive field   {'all samples before' if summary['is_recurrent'] else field}",
        f"sample rate       {rate} Hz",
        f"latency           {summary['latency_samples']} samples, {summary['latency_ms']:.2f} ms",
        _last_line(summary),
    ]


def _last_line(summary: dict[str, Any]) -> str:
    if "skip" not in summary:
        return f"kind              {summary['kind']}"
    return f"skip              {'the input is added to the output' if summary['skip'] else 'none'}"
