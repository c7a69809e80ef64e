"""WaveNetModel: presets, the engine, the graph round trip, gains, training."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from tolerances import TOLERANCES
from wavenet_configs import random_activation, random_config
from wavenet_reference import reference_graph

from fxfast import exchange, models
from fxfast.cli import train as train_command
from fxfast.errors import InputError, ModelError
from fxfast.graph import (
    ALL_ACTIVATION_KINDS,
    FILM_PLACES,
    MODES,
    ConvLayer,
    Linear,
    ModelGraph,
    WaveNet,
)
from fxfast.models.wavenet import WaveNetModel
from fxfast.models.wavenet_config import (
    ActivationConfig,
    Conv1x1Config,
    FilmConfig,
    WaveNetConfig,
    plain_array,
)
from fxfast.models.wavenet_graph import named_arrays
from fxfast.models.wavenet_layers import FastTanh
from fxfast.player import Player

# Weights of a .nam file, head_scale included, and the receptive field.
PRESETS = {
    "a1-standard": (13802, 4093),
    "a1-lite": (6554, 4093),
    "a1-feather": (3026, 4093),
    "a1-nano": (842, 4093),
    "a2-full": (12146, 6347),
    "a2-lite": (1871, 6347),
}
SEEDS = range(24)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def random_model(seed: int, **kwargs: Any) -> WaveNetModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return WaveNetModel(random_config(np.random.default_rng(seed), **kwargs))


def noise(model: models.AudioModel, samples: int, batch: int = 2, level: float = 1.0) -> Any:
    generator = torch.Generator().manual_seed(3)
    length = model.receptive_field + samples - 1
    return level * torch.randn(batch, 1, length, generator=generator)


def assert_same_graph(one: ModelGraph, other: ModelGraph) -> None:
    assert (one.sample_rate, one.metadata) == (other.sample_rate, other.metadata)
    assert isinstance(one.root, WaveNet)
    assert isinstance(other.root, WaveNet)
    assert one.root.head_scale == other.root.head_scale
    first, second = named_arrays(one.root), named_arrays(other.root)
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.tobytes() == second[name].tobytes(), name
        assert array.shape == second[name].shape


def assert_engine_agrees(model: models.AudioModel, x_bct: torch.Tensor) -> None:
    graph = model.to_graph(48000)
    rendered = Player(graph).render(x_bct.numpy())[..., graph.receptive_field - 1 :]
    scale = max(float(np.abs(rendered).max()), 1.0)
    for module in (model, model.as_torch()):
        y_bct = module(x_bct).detach().numpy()
        assert y_bct.shape == rendered.shape
        assert np.abs(y_bct - rendered).max() <= TOLERANCES["windows_and_engine"].value * scale


# --- presets ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_weights_and_the_field_of_their_files(name: str) -> None:
    model = models.create(name)
    graph = model.to_graph(48000)
    trained = sum(p.numel() for p in model.parameters())
    assert (graph.parameters, graph.receptive_field) == PRESETS[name]
    assert (trained + 1, model.receptive_field) == PRESETS[name]
    assert model.architecture == "wavenet"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_equal_the_engine_and_go_through_a_graph_and_back(name: str) -> None:
    model = models.create(name, seed=2)
    model.calibrate(0.03, 0.2)
    x = noise(model, 300, level=0.03)
    assert_engine_agrees(model, x)
    graph = model.to_graph(48000)
    again = models.from_graph(graph, architecture="wavenet")
    assert_same_graph(again.to_graph(48000), graph)
    assert torch.equal(again(x), model(x))  # the gains are powers of two
    assert model(x[:, :, -model.receptive_field :]).shape == (2, 1, 1)


# --- all options --------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_random_nets_equal_the_engine_and_the_reference(seed: int) -> None:
    model = random_model(seed)
    assert model.receptive_field == model.to_graph(1).receptive_field
    x = noise(model, 200)
    assert_engine_agrees(model, x)
    expected = reference_graph(model.to_graph(1), x[0, 0].double().numpy(), silence=0)
    y = model(x)[0, 0].detach().numpy()
    expected = expected[-len(y) :]
    scale = max(float(np.abs(expected).max()), 1.0)
    assert np.abs(y - expected).max() <= TOLERANCES["windows_and_engine"].value * scale


@pytest.mark.parametrize("seed", SEEDS)
def test_random_nets_go_through_a_graph_and_back(seed: int) -> None:
    model = random_model(seed)
    model.calibrate(0.05, 3.0)
    assert (float(model.input_gain), float(model.output_gain)) != (1.0, 1.0)
    graph = model.to_graph(44100)
    again = WaveNetModel.from_graph(graph)
    assert_same_graph(again.to_graph(44100), graph)
    assert (float(again.input_gain), float(again.output_gain)) == (1.0, 1.0)
    x = noise(model, 50, level=0.05)
    assert torch.equal(again(x), model(x))  # the gains are powers of two
    again.calibrate(0.001, 50.0)
    assert float(again.output_gain) == 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_random_configs_go_through_json(seed: int) -> None:
    model = random_model(seed)
    description = json.loads(json.dumps(models.describe(model)))
    again = models.from_description(description, seed=seed)
    assert again.config == model.config


def test_the_random_nets_cover_every_option() -> None:
    configs = [random_config(np.random.default_rng(seed)) for seed in SEEDS]
    configs += [c.condition for c in configs if c.condition is not None]
    layers = [la for config in configs for array in config.arrays for la in array.layers]
    kinds = {la.activation.kind for la in layers}
    assert kinds == set(ALL_ACTIVATION_KINDS)
    assert {la.mode for la in layers} == set(MODES)
    assert {film.place for la in layers for film in la.films} == set(FILM_PLACES)
    for flags in (
        [la.groups > 1 for la in layers],
        [la.groups_mixin > 1 for la in layers],
        [la.layer1x1 is None for la in layers],
        [la.head1x1 is None for la in layers],
        [film.shift for la in layers for film in la.films],
        [bool(config.head) for config in configs],
        [config.condition is None for config in configs],
    ):
        assert set(flags) == {True, False}


@pytest.mark.parametrize("kind", ALL_ACTIVATION_KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_finite_and_right(kind: str, mode: str) -> None:
    rng = np.random.default_rng(1)
    array = plain_array(2, (2, 3), (1, 2), random_activation(rng, 2, kind))
    secondary = None if mode == "none" else random_activation(rng, 2, kind)
    layers = tuple(replace(la, mode=mode, secondary=secondary) for la in array.layers)
    torch.manual_seed(0)
    model = WaveNetModel(WaveNetConfig((replace(array, layers=layers),)))
    loud = noise(model, 20, level=100.0)
    model(loud).square().mean().backward()
    used = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(used) >= 8
    assert all(bool(torch.isfinite(grad).all()) for grad in used)
    twin = model.as_torch().double()
    x = noise(model, 4, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(twin, (x,))


def test_fasttanh_has_no_nan_at_any_level() -> None:
    x = torch.tensor([-3e38, -1e9, -1e5, 0.0, 1e5, 1e9, 3e38], requires_grad=True)
    y = FastTanh()(x)
    y.sum().backward()
    assert x.grad is not None
    assert bool(torch.isfinite(x.grad).all())
    assert bool((y.detach().abs() < 1.01).all())


@pytest.mark.parametrize("seed", SEEDS[:8])
def test_native_and_torch_gradients_agree(seed: int) -> None:
    model = random_model(seed)
    twin = model.as_torch()
    x = noise(model, 40)
    for module in (model.net, twin):
        module(x).square().sum().backward()
    other = dict(twin.named_parameters())
    for name, parameter in model.net.named_parameters():
        one, two = parameter.grad, other[name].grad
        assert (one is None) == (two is None), name
        if one is not None and two is not None:
            scale = max(float(two.abs().max()), 1.0)
            worst = float((one - two).abs().max())
            assert worst <= TOLERANCES["windows_and_blocks_float32"].value * scale, name


def test_one_output_reads_its_receptive_field_and_no_more() -> None:
    model = random_model(5)
    x = noise(model, 9, 1).requires_grad_()
    model(x)[0, 0, 5].backward()
    assert x.grad is not None
    touched = torch.nonzero(x.grad[0, 0]).flatten()
    assert touched.min() >= 5
    assert touched.max() == 5 + model.receptive_field - 1


# --- gains --------------------------------------------------------------------------


def wavenet(name: str) -> WaveNetModel:
    model = models.create(name)
    assert isinstance(model, WaveNetModel)
    return model


def test_calibrate_brings_levels_to_the_net_once() -> None:
    model = wavenet("a1-nano")
    model.calibrate(0.03, 0.13)
    assert (float(model.input_gain), float(model.output_gain)) == (32.0, 0.5)
    model.calibrate(0.5, 0.5)
    assert (float(model.input_gain), float(model.output_gain)) == (32.0, 0.5)
    silent = wavenet("a1-nano")
    silent.calibrate(0.0, 0.0)
    assert float(silent.input_gain) == float(silent.output_gain) == 1.0


# --- errors -------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5000,), (1, 5000), (1, 2, 5000), (1, 1, 4092)])
def test_forward_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"x: expected shape \(B, 1, T\) with T of at least 4093"):
        models.create("a1-nano")(torch.zeros(shape))


ARRAY = plain_array(4, (3, 2), (1, 2), ActivationConfig("tanh"))
LAYER = ARRAY.layers[0]


def with_layer(**changes: Any) -> WaveNetConfig:
    return WaveNetConfig((replace(ARRAY, layers=(replace(LAYER, **changes),)),))


BAD_CONFIGS: dict[str, WaveNetConfig] = {
    r"root.arrays: expected 1 to 1024, got 0": WaveNetConfig(()),
    r"root.arrays\[0\].layers: expected 1 to 1024, got 0": WaveNetConfig(
        (replace(ARRAY, layers=()),)
    ),
    r"root: expected 1 output channel": WaveNetConfig((replace(ARRAY, head_channels=2),)),
    r"root.arrays\[0\].layers\[0\].conv_weight groups: expected a divisor": with_layer(groups=3),
    r"root.arrays\[0\].layers\[0\].conv_weight groups: expected an integer": with_layer(groups=0),
    r"root.arrays\[0\].layers\[0\].mode: expected one of none": with_layer(mode="open"),
    r"root.arrays\[0\].layers\[0\].secondary: expected an Activation": with_layer(mode="gated"),
    r"root.arrays\[0\].layers\[0\].activation: expected one of .* got 'gelu'": with_layer(
        activation=ActivationConfig("gelu")
    ),
    r"root.arrays\[0\].layers\[0\].dilation: expected an integer": with_layer(dilation=0),
    r"arrays.0.layers.0.conv.weight: expected sizes of at least 1": with_layer(kernel_size=0),
    r"root.arrays\[0\].layers\[0\].films: expected keys": with_layer(
        films=(FilmConfig("head1x1_post_film"),)
    ),
    r"root.arrays\[0\].layers\[0\].films: expected keys .* got 'x'": with_layer(
        films=(FilmConfig("x"),)
    ),
    r"root.arrays\[0\].layers\[0\].layer1x1.weight: expected 4 output": with_layer(
        layer1x1=Conv1x1Config(3)
    ),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_impossible_configs_are_errors(message: str) -> None:
    with pytest.raises(ModelError, match=message):
        WaveNetModel(BAD_CONFIGS[message])


def test_descriptions_that_do_not_fit_are_errors() -> None:
    whole = json.loads(json.dumps(asdict(WaveNetConfig((ARRAY,)))))
    assert WaveNetModel.config_from_dict(whole) == WaveNetConfig((ARRAY,))
    layer = whole["arrays"][0]["layers"][0]
    cases: list[dict[str, Any]] = [
        {},
        {**whole, "arrays": [{}]},
        {**whole, "extra": 1},
        {**whole, "arrays": 3},
        {**whole, "arrays": [{**whole["arrays"][0], "layers": [{**layer, "kernel_size": "3"}]}]},
        {**whole, "arrays": [{**whole["arrays"][0], "layers": [{**layer, "bottleneck": -1}]}]},
        {**whole, "head_scale": "loud"},
    ]
    for values in cases:
        with pytest.raises(ModelError):
            WaveNetModel.config_from_dict(values)


def test_graphs_that_are_no_wavenets_are_refused() -> None:
    stack = ModelGraph((ConvLayer(np.ones((1, 1, 2), np.float32), None),), 48000)
    with pytest.raises(ModelError, match=r"root: expected wavenet .* got conv_stack"):
        models.from_graph(stack, architecture="wavenet")
    root = WaveNetModel(WaveNetConfig((ARRAY,))).to_graph(1).root
    assert isinstance(root, WaveNet)
    linear = replace(root, condition=Linear(np.ones(3, np.float32), 0.0))
    with pytest.raises(ModelError, match=r"root.condition: expected wavenet .* got linear"):
        models.from_graph(ModelGraph(linear, 1), architecture="wavenet")


# --- training -----------------------------------------------------------------------


def test_training_steps_reduce_the_loss() -> None:
    array = plain_array(6, (3,) * 5, (1, 2, 4, 8, 16), ActivationConfig("tanh"))
    torch.manual_seed(0)
    model = WaveNetModel(WaveNetConfig((array,)))
    dry = 0.05 * noise(model, 400, 8)
    wet = 0.4 * torch.tanh(30 * (dry - 0.5 * dry.roll(1, 2)))[:, :, model.receptive_field - 1 :]
    model.calibrate(float(dry.std()), float(wet.std()))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (model(dry) - wet).square().mean() / wet.square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert losses[-1] < 0.1


def test_command_trains_a_wavenet_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = 0.05 * np.random.default_rng(0).normal(size=60000).astype(np.float32)
    for side, audio in (("dry", dry), ("wet", np.tanh(20 * dry))):
        (tmp_path / side).mkdir()
        sf.write(tmp_path / side / "a.wav", audio, 48000, subtype="FLOAT")
    parser = argparse.ArgumentParser()
    train_command.add_parser(parser.add_subparsers(required=True))
    words = f"train {tmp_path} --model a1-nano --out {tmp_path}/run --epochs 2 --block 2048"
    args = parser.parse_args([*words.split(), "--batch", "1", "--device", "cpu", "--json"])
    assert args.run(args) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["epochs"] == 2
    assert result["test_esr"] < 1.0
    trained = exchange.load(tmp_path / "run")
    again = models.from_graph(trained, architecture="wavenet").to_graph(48000)
    assert_same_graph(again, trained)
