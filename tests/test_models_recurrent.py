"""RecurrentModel: presets, the engine, the graph round trip, gains, training."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from test_exchange_native_nodes import assert_same, make_recurrent
from tolerances import TOLERANCES
from wavenets import random_stack

from fxfast import ModelGraph, Player, exchange, models
from fxfast.cli import main
from fxfast.errors import InputError, ModelError
from fxfast.graph import ConvLayer, ConvStack, Node, Recurrent, Residual, Sequential
from fxfast.models.recurrent import RecurrentModel
from fxfast.models.recurrent_config import FrontLayerConfig, RecurrentConfig
from fxfast.native import engine
from fxfast.report.compare import Options, compare

RATE = 48_000
PARAMETERS = {
    "lstm-16": 4 * 16 * (1 + 16 + 2) + 17,
    "lstm-2x8": 4 * 8 * (1 + 8 + 2) + 4 * 8 * (8 + 8 + 2) + 9,
    "lstm-40": 4 * 40 * (1 + 40 + 2) + 41,
    "lstm-96": 4 * 96 * (1 + 96 + 2) + 97,
    "gru-16": 3 * 16 * (1 + 16 + 2) + 17,
    "conv-lstm-24": 16 * 13 + 16 * (16 * 12 + 1) + 4 * 24 * (16 + 24 + 2) + 25,
}
FRONT = (FrontLayerConfig(3, 4, 2, "tanh"), FrontLayerConfig(2, 1, 1, "sigmoid"))
CONFIGS = {
    **{name: RecurrentModel.presets[name] for name in PARAMETERS},
    "deep head": RecurrentConfig("gru", 7, 2, (5, 3), "tanh"),
    "everything": RecurrentConfig("lstm", 6, 2, (5,), "relu", FRONT, True, 700),
}


CELLS = make_recurrent("lstm").children[0]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def build(name: str, seed: int = 0) -> RecurrentModel:
    torch.manual_seed(seed)
    model = RecurrentModel(CONFIGS[name])
    model.calibrate(0.03, 0.2)
    return model


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 0.03


@pytest.mark.parametrize("name", list(PARAMETERS))
def test_presets_have_their_weights(name: str) -> None:
    model = models.create(name)
    graph = model.to_graph(RATE)
    assert graph.parameters == PARAMETERS[name]
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[name]
    assert graph.receptive_field == model.receptive_field - 1024
    assert graph.is_recurrent


def test_the_widest_preset_is_a_config_until_it_is_made() -> None:
    config = models.presets()["lstm-6x800"].presets["lstm-6x800"]
    assert (config.layers, config.units, config.head_sizes) == (6, 800, (800, 400, 200))
    with torch.device("meta"):
        model = RecurrentModel(config)
    cells = 4 * 800 * (1 + 800 + 2) + 5 * 4 * 800 * (1600 + 2)
    head = 801 * 800 + 801 * 400 + 401 * 200 + 201
    assert sum(weight.numel() for weight in model.parameters()) == cells + head


@pytest.mark.parametrize("name", list(CONFIGS))
def test_forward_equals_the_engine_after_the_warm_up(name: str) -> None:
    model = build(name)
    x = noise(2, 1, model.receptive_field + 299)
    rendered = Player(model.to_graph(RATE)).render(x.numpy())[..., model.receptive_field - 1 :]
    bound = TOLERANCES["windows_and_engine"].value * max(1.0, float(np.abs(rendered).max()))
    for module in (model, model.as_torch()):
        y = module(x).detach().numpy()
        assert y.shape == (2, 1, 300)
        assert np.abs(y - rendered).max() <= bound


@pytest.mark.parametrize("name", list(CONFIGS))
def test_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    model = build(name)
    exchange.save(model.to_graph(RATE), tmp_path / "m.safetensors")
    graph = exchange.load(tmp_path / "m.safetensors")
    again = models.from_graph(graph)
    assert isinstance(again, RecurrentModel)
    assert_same(again.to_graph(RATE).root, model.to_graph(RATE).root)
    changed = {} if CONFIGS[name].head_sizes else {"head_activation": "relu"}
    assert again.config == replace(model.config, **changed)
    x = noise(1, 1, model.receptive_field + 9)
    assert torch.equal(again(x), model(x))  # the gains are powers of two
    again.calibrate(0.5, 0.5)
    assert float(again.input_gain) == 1.0


def test_the_initial_state_of_a_graph_is_kept() -> None:
    head = ConvStack((ConvLayer(np.ones((1, 3, 1), np.float32), np.ones(1, np.float32)),))
    graph = ModelGraph(Sequential((CELLS, head)), RATE)
    model = models.from_graph(graph)
    assert model.receptive_field == 1025
    assert_same(model.to_graph(RATE).root, graph.root)
    assert isinstance(CELLS, Recurrent)
    initial = CELLS.layers[0].initial
    assert initial.any()
    assert np.array_equal(model.state_dict()["net.initial"][:, 0].numpy(), initial)


def test_skip_adds_the_input() -> None:
    model = build("everything")
    plain = RecurrentModel(replace(model.config, skip=False))
    plain.load_state_dict(model.state_dict())
    x = noise(1, 1, model.receptive_field + 50)
    assert torch.equal(model(x), plain(x) + x[:, :, model.receptive_field - 1 :])
    assert isinstance(model.to_graph(RATE).root, Residual)
    assert isinstance(plain.to_graph(RATE).root, Sequential)


@pytest.mark.parametrize("name", ["everything", "deep head"])
def test_gradients_are_finite_and_reach_every_weight(name: str) -> None:
    model = build(name)
    model(noise(2, 1, model.receptive_field + 63)).square().mean().backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None, key
        assert torch.isfinite(weight.grad).all(), key
        assert weight.grad.any(), key


def test_shapes_are_checked() -> None:
    model = build("lstm-2x8")
    for shape in ((1, 1, 1024), (1, 2, 2000), (2000,)):
        with pytest.raises(InputError, match="T of at least 1025"):
            model(torch.zeros(shape))


def test_description_builds_the_same_model() -> None:
    for name in CONFIGS:
        model = RecurrentModel(CONFIGS[name])
        described = json.loads(json.dumps(models.describe(model)))
        assert models.from_description(described).config == model.config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn"}, "cell: expected one of lstm, gru, got 'rnn'"),
        ({"units": 0}, "units: expected an integer from 1 to 4096, got 0"),
        ({"layers": 1.0}, "layers: expected an integer from 1 to 1024, got 1.0"),
        ({"head_sizes": [3, -1]}, r"head_sizes\[1\]: expected an integer from 1"),
        ({"head_sizes": 3}, "config: expected the fields of RecurrentConfig"),
        ({"head_activation": "prelu"}, "head_activation: expected one of none, relu, tanh, "),
        ({"front": [{"channels": 1, "kernel_size": 0}]}, r"front\[0\].kernel_size: expected an"),
        ({"front": [{"channels": 1}]}, "config: expected the fields of RecurrentConfig"),
        ({"skip": 1}, "skip: expected true or false, got 1"),
        ({"warm_up_samples": -1}, "warm_up_samples: expected an integer from 0 to 16777216"),
        ({"more": 1}, "config: expected the fields of RecurrentConfig"),
    ],
)
def test_configs_that_do_not_fit_are_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        RecurrentModel.config_from_dict({**asdict(RecurrentConfig("lstm", 2)), **change})


DENSE = random_stack(1, [3, 1])


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (make_recurrent("gru", "lstm"), r"layers\[1\]: expected 3 units of gru as in layers\[0\]"),
        (Residual(random_stack(1, [1, 1])), "root.child: expected recurrent and conv_stack one"),
        (Sequential((CELLS, DENSE, random_stack(1, [1, 1]))), "root: expected recurrent and conv"),
        (Sequential((CELLS, random_stack(1, [3, 3, 1], "silu"))), "activation: expected one of"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_graphs_of_another_make_are_refused(root: Node, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        models.from_graph(ModelGraph(root, RATE))


def test_a_bare_recurrent_layer_has_no_head() -> None:
    layer = RecurrentModel(RecurrentConfig("gru", 1)).to_graph(RATE).root.children[0]
    assert isinstance(layer, Recurrent)
    with pytest.raises(ModelError, match=r"root: expected recurrent and conv_stack .* recurrent"):
        models.from_graph(ModelGraph(layer, RATE))


def test_the_report_compares_with_eager_layers() -> None:
    graph = RecurrentModel(RecurrentConfig("lstm", 3, warm_up_samples=300)).to_graph(4000)
    isa = next(name for name, supported in engine().isas() if supported)
    audio = noise(4000).numpy()
    comparison = compare(
        graph, audio, Options((isa,), rounds=1, blocks=(), peers=("eager",), windows_seconds=0.0)
    )
    assert comparison.row(f"engine {isa}").error_db < -100
    assert comparison.row("eager dense, whole file").error_db < -100


def test_commands_train_show_and_render_a_recurrent_preset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = 0.05 * np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    for side, audio in (("dry", dry), ("wet", np.tanh(20 * dry))):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", audio, RATE, subtype="FLOAT")
    words = f"train {tmp_path} --model lstm-16 --out {tmp_path}/run --epochs 2 --block 2048"
    assert main([*words.split(), "--batch", "4", "--lr", "0.01", "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["epochs"] == 2
    assert result["test_esr"] < 1.0
    assert main(["inspect", f"{tmp_path}/run", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in shown["layers"]] == ["lstm", "conv1d"]
    assert main(["render", f"{tmp_path}/run", f"{tmp_path}/dry", "--out", f"{tmp_path}/y"]) == 0
    rendered, _ = sf.read(tmp_path / "y" / "a.wav", dtype="float32")
    trained = exchange.load(tmp_path / "run")
    assert np.abs(rendered - Player(trained).render(dry)).max() <= 1e-4
    assert_same(models.from_graph(trained).to_graph(RATE).root, trained.root)
