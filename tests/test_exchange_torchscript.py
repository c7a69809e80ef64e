"""The scripted export: plays without this package, to the bit as the player does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import random_graph

from fxfast import exchange, native
from fxfast.cli import main
from fxfast.errors import ModelError
from fxfast.exchange import torchscript
from fxfast.exchange.torchscript import export_torchscript
from fxfast.player import Player

GRAPH = random_graph([(9, 5, 3, "tanh"), (4, 8, 1, "prelu"), (1, 3, 2, "none")], sample_rate=44_100)
BLOCKS = (1, 7, 48, 64, 1000)
FRESH_PROCESS = """
import sys, warnings
warnings.filterwarnings("ignore", category=DeprecationWarning)
import torch
library, model_path, folder = sys.argv[1:]
torch.ops.load_library(library)
model = torch.jit.load(model_path)
x = torch.load(folder + "/x.pt")
for size in map(int, "1 7 48 64 1000".split()):
    state = model.initial_state(x.shape[0], x.shape[1])
    blocks = []
    for part in x.split(size, dim=2):
        y, state = model(part.contiguous(), state)
        blocks.append(y)
    torch.save(torch.cat(blocks, dim=2), f"{folder}/y{size}.pt")
assert (model.sample_rate, model.receptive_field) == (44100, 24)
assert not [name for name in sys.modules if name.split(".")[0] == "fxfast"]
"""


@pytest.mark.slow
def test_a_fresh_process_without_the_package_plays_the_same(tmp_path: Path) -> None:
    assert GRAPH.receptive_field == 24
    export_torchscript(GRAPH, tmp_path / "model.ts")
    x = 0.3 * torch.randn(2, 2, 1500, generator=torch.Generator().manual_seed(0))
    torch.save(x, tmp_path / "x.pt")
    arguments = (native.torch_library(), tmp_path / "model.ts", tmp_path)
    command = [sys.executable, "-I", "-c", FRESH_PROCESS, *map(str, arguments)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=120)
    expected = Player(GRAPH, threads=1).render(x)
    for size in BLOCKS:
        assert torch.equal(torch.load(tmp_path / f"y{size}.pt"), expected), f"blocks of {size}"


def test_the_module_changes_the_state_it_is_given(tmp_path: Path) -> None:
    export_torchscript(GRAPH, tmp_path / "model.ts")
    model = torch.jit.load(tmp_path / "model.ts")
    state = model.initial_state(1, 1)
    before = state.clone()
    y, after = model(torch.ones(1, 1, 10), state)
    assert y.shape == (1, 1, 10)
    assert after.data_ptr() == state.data_ptr()
    assert not torch.equal(state, before)
    assert torch.equal(model.initial_state(1, 1), before)
    with pytest.raises(torch.jit.Error, match="x: expected a tensor without gradient"):
        model(torch.ones(1, 1, 10, requires_grad=True), state)
    with pytest.raises(RuntimeError, match="state: expected the state of this plan"):
        model(torch.ones(1, 1, 10), torch.zeros_like(state))


def test_a_file_that_plays_otherwise_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.ts"
    target.write_bytes(b"before")
    other = random_graph([(1, 5, 1, "none")])
    monkeypatch.setattr(
        torchscript, "Player", lambda graph, threads, mode: Player(other, threads=1)
    )
    with pytest.raises(ModelError, match=r"model.ts: expected the samples of Player"):
        export_torchscript(GRAPH, target)
    assert [path.name for path in tmp_path.iterdir()] == ["model.ts"]
    assert target.read_bytes() == b"before"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere/model.ts: No such file or directory"):
        export_torchscript(GRAPH, tmp_path / "nowhere/model.ts")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange.save(GRAPH, tmp_path / "model.safetensors")
    scripted, copy = tmp_path / "model.ts", tmp_path / "copy.safetensors"
    command = ["export", str(tmp_path), "--format", "torchscript", "-o", str(scripted)]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(scripted)
    assert torch.jit.load(scripted).sample_rate == 44_100
    assert main(command) == 1
    assert "expected a new file, got one that exists" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main(["export", str(tmp_path), "--format", "safetensors", "-o", str(copy)]) == 0
    loaded = exchange.load(copy)
    assert np.array_equal(loaded.layers[0].weight, GRAPH.layers[0].weight)
    capsys.readouterr()
    assert main(["export", str(tmp_path / "no"), "--format", "safetensors", "-o", "x"]) == 1
    assert "fxfast: error: " in capsys.readouterr().err
