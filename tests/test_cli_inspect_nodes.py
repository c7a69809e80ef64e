"""The command inspect on models of every kind of node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_exchange_native_nodes import make_net, make_recurrent
from wavenets import PRESETS, random_stack

from fxfast import exchange
from fxfast.cli import main
from fxfast.graph import Linear, ModelGraph, Node, Sequential


def inspect(root: Node, folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    exchange.save(ModelGraph(root, 48_000, metadata={"name": "x"}), folder / "m.safetensors")
    assert main(["inspect", str(folder / "m.safetensors"), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


ROOTS = {
    "wavenet": make_net,
    "linear": lambda: Linear(np.ones(5, np.float32)),
    "sequential": lambda: Sequential((Linear(np.ones(3, np.float32)), random_stack(1, [1, 2, 1]))),
    "conv_stack": lambda: random_stack(1, [1, 3, 1], "prelu"),
}


@pytest.mark.parametrize("kind", list(ROOTS))
def test_the_layers_add_up(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = ROOTS[kind]()
    found = inspect(root, tmp_path, capsys)
    assert found["kind"] == kind
    assert found["metadata"] == {"name": "x"}
    for total in ("parameters", "macs_per_sample"):
        assert sum(row[total] for row in found["layers"]) == found[total] == getattr(root, total)
    assert ("skip" in found) == (kind == "conv_stack")
    assert found["receptive_field_samples"] == root.history_samples + 1


def test_recurrent_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_recurrent("gru", "lstm")
    found = inspect(root, tmp_path, capsys)
    assert [row["kind"] for row in found["layers"]] == ["gru", "lstm", "conv1d"]
    assert [row["in_channels"] for row in found["layers"]] == [1, 3, 3]
    assert sum(row["parameters"] for row in found["layers"]) == root.parameters
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    assert "receptive field   all samples before\n" in capsys.readouterr().out


def test_the_table_of_a_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect(PRESETS["nano"](), tmp_path, capsys)
    assert main(["inspect", str(tmp_path / "m.safetensors")]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "layer kind channels taps dilation activation parameters MACs"
    assert lines[1] == "arrays[0].rechannel conv1x1 1 -> 4 1 1 none 4 4"
    assert lines[3] == "arrays[0].layers[1] layer 4 -> 4 3 2 tanh 76 68"
    assert lines[9] == "arrays[0].head conv1d 4 -> 2 1 1 none 8 8"
    assert lines[25:] == [
        "head_scale scale 1 -> 1 1 1 none 1 0",
        "",
        "parameters 842",
        "multiply-adds 732 per sample, 0.0351 G per second of audio",
        "receptive field 4,093 samples, 85.27 ms",
        "sample rate 48000 Hz",
        "latency 0 samples, 0.00 ms",
        "kind wavenet",
    ]


def test_what_a_wavenet_layer_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["name"]: row for row in inspect(make_net(), tmp_path, capsys)["layers"]}
    layer = rows["arrays[0].layers[1]"]
    assert (layer["in_channels"], layer["out_channels"], layer["groups"]) == (4, 2, 2)
    assert (layer["mode"], layer["activation"]) == ("gated", "leaky_hardtanh gated leaky_relu")
    assert len(layer["films"]) == 8
    assert "condition.children[0].layers[0]" in rows
    assert rows["head[0]"]["activation"] == "prelu"
