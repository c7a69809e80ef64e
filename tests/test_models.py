"""The registry of models and ConvStack: shapes, graph round trip, gains."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES

from fxfast import models
from fxfast.errors import InputError, ModelError
from fxfast.graph import Activation, ConvLayer, ModelGraph
from fxfast.models import base
from fxfast.models.conv_stack import ConvLayerConfig, ConvStack, ConvStackConfig
from fxfast.player import Player

PRESETS = ("conv-64-32", "dense-64", "tcn-16")


def varied_graph() -> ModelGraph:
    """Every activation, with and without bias, one slope and one per channel."""
    rng = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    layers = (
        ConvLayer(array(4, 1, 3), array(4), 1, Activation("prelu", array(4))),
        ConvLayer(array(3, 4, 1), None, 1, Activation("prelu", array(1))),
        ConvLayer(array(2, 3, 2), array(2), 7, Activation("leaky_relu", array(1))),
        ConvLayer(array(2, 2, 2), array(2), 2, Activation("tanh")),
        ConvLayer(array(2, 2, 2), None, 1, Activation("sigmoid")),
        ConvLayer(array(2, 2, 2), array(2), 1, Activation("relu")),
        ConvLayer(array(1, 2, 5), array(1), 3),
    )
    return ModelGraph(layers, 44100, skip=True)


def assert_same_layers(one: ModelGraph, other: ModelGraph) -> None:
    assert (one.sample_rate, one.skip) == (other.sample_rate, other.skip)
    assert len(one.layers) == len(other.layers)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert (a.dilation, a.activation.kind) == (b.dilation, b.activation.kind)
        for x, y in (
            (a.weight, b.weight),
            (a.bias, b.bias),
            (a.activation.slopes, b.activation.slopes),
        ):
            assert (x is None) == (y is None)
            assert x is None or np.array_equal(x, y)


def test_presets_are_there_by_name() -> None:
    assert set(PRESETS) <= set(models.presets())
    kernels = [layer.kernel_size for layer in models.create("conv-64-32").config.layers]
    assert kernels == [33, 17, 16]
    assert models.create("conv-64-32").receptive_field == 64
    assert [x.kernel_size for x in models.create("dense-64").config.layers] == [64, 1, 1]


@pytest.mark.parametrize("name", PRESETS)
def test_forward_is_a_valid_convolution(name: str) -> None:
    model = models.create(name)
    field = model.receptive_field
    assert model(torch.zeros(3, 1, field)).shape == (3, 1, 1)
    assert model(torch.zeros(2, 1, field + 40)).shape == (2, 1, 41)
    assert model.to_graph(48000).receptive_field == field


@pytest.mark.parametrize("name", PRESETS)
def test_one_output_reads_its_receptive_field_and_no_more(name: str) -> None:
    model = models.create(name)
    x = torch.randn(1, 1, model.receptive_field + 8, requires_grad=True)
    model(x)[0, 0, 5].backward()
    touched = torch.nonzero(x.grad[0, 0]).flatten()
    assert touched.min() >= 5
    assert touched.max() == 5 + model.receptive_field - 1


@pytest.mark.parametrize("shape", [(100,), (1, 100), (1, 2, 100), (1, 1, 63)])
def test_forward_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"x: expected shape \(B, 1, T\) with T of at least 64"):
        models.create("conv-64-32")(torch.zeros(shape))


def test_create_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    one = models.create("dense-64", seed=1).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)  # the caller's generator is left alone
    again = models.create("dense-64", seed=1).state_dict()
    other = models.create("dense-64", seed=2).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["convolutions.0.weight"], other["convolutions.0.weight"])


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ModelError, match=r"model: expected one of .*conv-64-32, .* got 'wavelet'"):
        models.create("wavelet")
    with pytest.raises(ModelError, match=r"architecture: expected one of .*conv-stack.* got 'x'"):
        models.from_graph(varied_graph(), architecture="x")


@pytest.fixture
def registry() -> Iterator[None]:
    before = dict(base._architectures)
    yield
    base._architectures.clear()
    base._architectures.update(before)


@pytest.mark.usefixtures("registry")
def test_one_class_adds_an_architecture() -> None:
    @models.register("tiny")
    class Tiny(ConvStack):
        presets = {"tiny-2": ConvStackConfig((ConvLayerConfig(1, 2),))}  # noqa: RUF012

    model = models.create("tiny-2")
    assert isinstance(model, Tiny)
    assert model.receptive_field == 2
    assert models.describe(model)["architecture"] == "tiny"
    with pytest.raises(ModelError, match="register: expected a new name, got 'tiny-2' again"):
        models.register("tiny-again")(Tiny)


def test_graph_round_trip_is_exact() -> None:
    graph = varied_graph()
    assert_same_layers(models.from_graph(graph).to_graph(44100), graph)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_round_trip_is_exact(name: str) -> None:
    model = models.create(name, seed=4)
    model.calibrate(0.03, 0.2)
    graph = model.to_graph(48000)
    again = models.from_graph(graph)
    assert_same_layers(again.to_graph(48000), graph)
    x = torch.randn(1, 1, 700)
    assert torch.equal(again(x), model(x))  # the gains are powers of two


def test_graph_holds_a_copy_of_the_weights() -> None:
    model = models.create("dense-64")
    graph = model.to_graph(48000)
    before = graph.layers[0].weight.copy()
    with torch.no_grad():
        model.convolutions[0].weight.add_(1.0)
    assert np.array_equal(graph.layers[0].weight, before)


@pytest.mark.parametrize("name", PRESETS)
def test_description_builds_the_same_model(name: str) -> None:
    model = models.create(name, seed=6)
    again = models.from_description(models.describe(model), seed=6)
    assert again.config == model.config
    x = torch.randn(1, 1, 600)
    assert torch.equal(again(x), model(x))


def test_description_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ModelError, match="config: expected the fields of ConvStackConfig"):
        models.from_description({"architecture": "conv-stack", "config": {"layers": [{}]}})


def test_forward_and_the_engine_give_the_same_samples() -> None:
    graph = varied_graph()
    model = models.from_graph(graph)
    x = torch.randn(2, 1, 300)
    rendered = Player(graph).render(x.numpy())[..., graph.receptive_field - 1 :]
    scale = float(np.abs(rendered).max())
    for module in (model, model.as_torch()):
        worst = np.abs(module(x).detach().numpy() - rendered).max()
        assert worst <= TOLERANCES["windows_and_engine"].value * max(scale, 1.0)


def test_calibrate_brings_levels_to_the_layers_once() -> None:
    model = models.create("conv-64-32")
    model.calibrate(0.03, 0.2)
    assert float(model.input_gain) == 32.0
    assert float(model.output_gain) == 0.25
    model.calibrate(0.5, 0.5)
    assert float(model.input_gain) == 32.0
    silent = models.create("conv-64-32")
    silent.calibrate(0.0, 0.0)
    assert float(silent.input_gain) == float(silent.output_gain) == 1.0
    fitted = models.from_graph(model.to_graph(48000))
    fitted.calibrate(0.5, 0.5)
    assert float(fitted.input_gain) == 1.0
    saturating = ConvStack(ConvStackConfig((ConvLayerConfig(1, 3, 1, "tanh"),)))
    saturating.calibrate(0.03, 0.2)
    assert float(saturating.output_gain) == 1.0


BAD_CONFIGS = {
    r"layers: expected a last layer of 1 channel, got 2": (ConvLayerConfig(2, 3),),
    r"layers: expected a last layer of 1 channel, got no layer": (),
    r"layers\[0\]: expected channels, kernel_size and dilation": (ConvLayerConfig(1, 0),),
    r"layers\[0\].activation: expected one of none, .* got 'gelu'": (
        ConvLayerConfig(1, 1, 1, "gelu"),
    ),
    r"layers\[0\].slopes: expected 1 or 4 values for prelu, got 3": (
        ConvLayerConfig(4, 1, 1, "prelu", slopes=(0.1, 0.1, 0.1)),
        ConvLayerConfig(1, 1),
    ),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_impossible_configs_are_errors(message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ConvStack(ConvStackConfig(BAD_CONFIGS[message]))
