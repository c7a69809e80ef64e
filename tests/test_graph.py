"""Nodes: what fits, what it costs, and how an error names what does not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from wavenet_reference import reference_graph
from wavenets import PRESETS, Noise, Options, random_stack, random_wavenet

from fxfast.errors import ModelError
from fxfast.graph import (
    FILM_PLACES,
    MAX_NODE_DEPTH,
    Activation,
    Conv1x1,
    ConvLayer,
    ConvStack,
    Film,
    HeadConv,
    Linear,
    ModelGraph,
    Node,
    Sequential,
    WaveNet,
    WaveNetLayer,
)

RATE = 48_000


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


# Parameters are the weights that a .nam file of the preset holds; 4093 and 6347 are the
# receptive fields that its trainer reports.
@pytest.mark.parametrize(
    ("name", "parameters", "receptive_field"),
    [
        ("standard", 13802, 4093),
        ("feather", 3026, 4093),
        ("nano", 842, 4093),
        ("a2-lite", 1871, 6347),
        ("a2-full", 12146, 6347),
    ],
)
def test_presets(name: str, parameters: int, receptive_field: int) -> None:
    graph = ModelGraph(PRESETS[name](), RATE)
    assert graph.kind == "wavenet"
    assert graph.parameters == parameters
    assert graph.receptive_field == receptive_field
    assert graph.latency_samples == 0
    assert 0.8 * parameters < graph.macs_per_sample < parameters


def test_groups_divide_the_cost() -> None:
    dense, grouped = (random_wavenet(1, [Options(4, groups=n)]) for n in (1, 4))
    # Two layers of 4 x 4 weights with 3 and 2 taps lose three quarters.
    assert dense.macs_per_sample - grouped.macs_per_sample == 3 * (12 + 8)
    assert dense.parameters - grouped.parameters == 3 * (12 + 8)
    assert grouped.dense_weights == dense.dense_weights


@pytest.mark.parametrize("seed", range(6))
def test_the_receptive_field_is_what_an_output_depends_on(seed: int) -> None:
    """One sample further back changes nothing, the last one inside does."""
    films = ["conv_pre_film"] if seed % 2 else []
    options = Options(films=films, layer1x1=seed % 3 > 0, head_taps=1 + seed, kinds=["none"])
    condition = random_stack(seed, [1, 2, 1], "none") if seed > 2 else None
    arrays = [replace(options, head_out=3), options]
    net = random_wavenet(seed, arrays, condition=condition, head=[("none", 1, 2)])
    graph = ModelGraph(net, RATE)
    field = graph.receptive_field
    x = np.random.default_rng(1).uniform(-1, 1, field + 1)
    before = reference_graph(graph, x)[-1]
    for index, changes in ((0, False), (1, True)):
        other = x.copy()
        other[index] += 1
        assert (reference_graph(graph, other)[-1] != before) == changes


def test_a_stack_of_layers_is_a_conv_stack() -> None:
    layers = (ConvLayer(zeros(2, 1, 3)), ConvLayer(zeros(1, 2, 1), zeros(1)))
    graph = ModelGraph(layers, RATE, True, {"name": "x"})
    assert isinstance(graph.root, ConvStack)
    assert graph.layers == layers
    assert graph.skip
    assert graph.metadata == {"name": "x"}
    same = ModelGraph(ConvStack(layers, True), RATE)
    assert same.layers == layers
    assert same.skip
    assert same.parameters == graph.parameters == 9
    assert same.macs_per_sample == 8


def test_other_graphs_have_no_layers_and_no_skip() -> None:
    graph = ModelGraph(Linear(zeros(4), 1.0), RATE, metadata={"a": 1})
    assert graph.metadata == {"a": 1}
    with pytest.raises(ModelError, match="layers: expected a graph of kind conv_stack, got linear"):
        _ = graph.layers
    with pytest.raises(ModelError, match="skip: expected a graph of kind conv_stack, got linear"):
        _ = graph.skip
    with pytest.raises(ModelError, match="skip: expected false beside a node, got True"):
        ModelGraph(Linear(zeros(4)), RATE, True)


def test_single_numbers_are_float32() -> None:
    assert Linear(zeros(1), 0.1).bias == float(np.float32(0.1))
    assert random_wavenet(1, [Options()], head_scale=0.02).head_scale == float(np.float32(0.02))


def test_plain_tuples_serve_as_1x1_convolutions() -> None:
    layer = WaveNetLayer(
        zeros(2, 2, 1),
        None,
        1,
        1,
        zeros(2, 1),
        layer1x1=(zeros(2, 2), None, 1),
    )
    assert isinstance(layer.layer1x1, Conv1x1)


def with_layer(**changes: Any) -> Callable[[WaveNet], WaveNet]:
    """Change the second layer of the first array."""

    def change(net: WaveNet) -> WaveNet:
        array = net.arrays[0]
        layers = (array.layers[0], replace(array.layers[1], **changes))
        return replace(net, arrays=(replace(array, layers=layers), *net.arrays[1:]))

    return change


def with_array(**changes: Any) -> Callable[[WaveNet], WaveNet]:
    return lambda net: replace(net, arrays=(replace(net.arrays[0], **changes), net.arrays[1]))


def with_net(**changes: Any) -> Callable[[WaveNet], WaveNet]:
    return lambda net: replace(net, **changes)


NAN = np.full((3,), np.nan, np.float32)
LAYER = "root.arrays[0].layers[1]"
# The net: two arrays of 3 channels and 2 layers, gated, with head1x1 to 3 channels.
WRONG: list[tuple[Callable[[WaveNet], Any], str]] = [
    (with_net(arrays=()), "root.arrays: expected 1 to 1024, got 0"),
    (with_net(arrays=(1,)), "root.arrays[0]: expected LayerArray, got int"),
    (with_net(head_scale=float("nan")), "root.head_scale: expected a finite float, got nan"),
    (with_net(head_scale=1), "root.head_scale: expected a finite float, got 1"),
    (with_net(head_scale=1e300), "root.head_scale: expected a finite float, got inf"),
    (with_net(head=(1,)), "root.head[0]: expected HeadConv, got int"),
    (
        with_net(head=(HeadConv(Activation(), zeros(1, 2, 1)),)),
        "root.head[0].weight: expected 1 input channels, got shape (1, 2, 1)",
    ),
    (
        with_net(head=(HeadConv(Activation("relu"), zeros(2, 1, 1)),)),
        "root: expected 1 output channel in the last layer, got 2",
    ),
    (with_net(condition=3), "root.condition: expected a node, got int"),
    (
        with_net(condition=Linear(NAN)),
        "root.condition.taps[0]: expected finite values of at most 1e+06, got nan",
    ),
    (
        with_array(rechannel=zeros(3, 2)),
        "root.arrays[0].rechannel: expected 1 input channels, got shape (3, 2)",
    ),
    (with_array(layers=()), "root.arrays[0].layers: expected 1 to 1024, got 0"),
    (with_array(layers=(None,)), "root.arrays[0].layers[0]: expected WaveNetLayer, got NoneType"),
    (
        with_array(head_weight=zeros(3, 4, 1)),
        "root.arrays[0].head_weight: expected 3 input channels, got shape (3, 4, 1)",
    ),
    (
        with_array(head_weight=zeros(2, 3, 1), head_bias=None),
        "root.arrays[1].layers[0]: expected 2 channels for the sum of the array, got 3",
    ),
    (with_array(head_bias=zeros(2)), "root.arrays[0].head_bias: expected shape (3,), got (2,)"),
    (
        with_layer(conv_weight=zeros(6, 3)),
        f"{LAYER}.conv_weight: expected 3 non-empty dimensions, got shape (6, 3)",
    ),
    (
        with_layer(conv_weight=np.zeros((6, 3, 2))),
        f"{LAYER}.conv_weight: expected a float32 array, got float64",
    ),
    (
        with_layer(conv_weight=zeros(6, 2, 2)),
        f"{LAYER}.conv_weight: expected 3 input channels, got shape (6, 2, 2)",
    ),
    (
        with_layer(conv_weight=zeros(5, 3, 2), conv_bias=None, mixin_weight=zeros(5, 1)),
        f"{LAYER}.conv_weight: expected an even number of output channels in mode gated, got 5",
    ),
    (with_layer(conv_bias=zeros(3)), f"{LAYER}.conv_bias: expected shape (6,), got (3,)"),
    (
        with_layer(groups=2),
        f"{LAYER}.conv_weight groups: expected a divisor of 3 input and 6 output channels, got 2",
    ),
    (
        with_layer(groups=3),
        f"{LAYER}.conv_weight: expected 1 input channels per group, got shape (6, 3, 2)",
    ),
    (
        with_layer(groups=True),
        f"{LAYER}.conv_weight groups: expected an integer from 1 to 4096, got True",
    ),
    (
        with_layer(dilation=0),
        f"{LAYER}.dilation: expected an integer from 1 to 16777216, got 0",
    ),
    (
        with_layer(mixin_weight=zeros(5, 1)),
        f"{LAYER}.mixin_weight: expected 6 output channels, got 5",
    ),
    (
        with_layer(mixin_weight=zeros(6, 2)),
        f"{LAYER}.mixin_weight: expected 1 input channels, got shape (6, 2)",
    ),
    (with_layer(mode="gate"), f"{LAYER}.mode: expected one of none, gated, blended, got 'gate'"),
    (
        with_layer(secondary=None),
        f"{LAYER}.secondary: expected an Activation in mode gated, got none",
    ),
    (
        with_layer(mode="none"),
        f"{LAYER}.secondary: expected none in mode none, got some",
    ),
    (
        with_layer(activation="tanh"),
        f"{LAYER}.activation: expected an Activation, got str",
    ),
    (
        with_layer(activation=Activation("gelu")),
        f"{LAYER}.activation: expected one of none, relu, leaky_relu, tanh, sigmoid, prelu, ",
    ),
    (
        with_layer(secondary=Activation("prelu", zeros(6))),
        f"{LAYER}.secondary.slopes: expected 1 or 3 values, got 6",
    ),
    (
        with_layer(activation=Activation("leaky_hardtanh")),
        f"{LAYER}.activation.limits: expected an array for leaky_hardtanh, got none",
    ),
    (
        with_layer(activation=Activation("tanh", None, zeros(4))),
        f"{LAYER}.activation.limits: expected none for tanh, got some",
    ),
    (
        with_layer(activation=Activation("leaky_hardtanh", None, -np.arange(4, dtype=np.float32))),
        f"{LAYER}.activation.limits: expected min_val <= max_val, got -0.0 > -1.0",
    ),
    (
        with_layer(layer1x1=Conv1x1(zeros(4, 3))),
        f"{LAYER}.layer1x1.weight: expected 3 output channels, got 4",
    ),
    (
        with_layer(layer1x1=Conv1x1(zeros(3, 6))),
        f"{LAYER}.layer1x1.weight: expected 3 input channels, got shape (3, 6)",
    ),
    (
        with_layer(head1x1=None),
        f"{LAYER}.films: expected keys among conv_pre_film, conv_post_film, ",
    ),
    (
        with_layer(head1x1=Conv1x1(zeros(4, 3)), films={}),
        f"{LAYER}: expected 3 channels for the sum of the array, got 4",
    ),
    (with_layer(films=[]), f"{LAYER}.films: expected a dict, got list"),
    (with_layer(films={"x": 1}), f"{LAYER}.films: expected keys among conv_pre_film, "),
    (
        with_layer(films={"conv_pre_film": 1}),
        f"{LAYER}.films.conv_pre_film: expected Film, got int",
    ),
    (
        with_layer(films={"activation_post_film": Film(zeros(4, 1))}),
        f"{LAYER}.films.activation_post_film.weight: expected 3 or 6 output channels, got 4",
    ),
    (
        with_layer(films={"activation_post_film": Film(zeros(3, 1), zeros(6))}),
        f"{LAYER}.films.activation_post_film.bias: expected shape (3,), got (6,)",
    ),
    (lambda net: Sequential(()), "root.children: expected 1 to 1024, got 0"),
    (lambda net: Sequential((net, 1)), "root.children[1]: expected a node, got int"),
    (
        lambda net: Sequential((random_stack(1, [1, 2]), net)),
        "root.children[1].arrays[0].rechannel: expected 2 input channels, got shape (3, 1)",
    ),
    (
        lambda net: Sequential((random_stack(1, [1, 2]), Linear(zeros(3)))),
        "root.children[1]: expected 1 input channel for a filter, got 2",
    ),
    (
        lambda net: Sequential((ConvStack((ConvLayer(zeros(2, 1, 1)),), True),)),
        "root.children[0].layers[0].weight: expected 1 output channels for the skip, got 2",
    ),
    (lambda net: Linear(zeros(3), 1), "root.bias: expected a finite float, got 1"),
    (lambda net: Linear(zeros(3, 1)), "root.taps: expected 1 non-empty dimensions"),
    (lambda net: Linear(zeros((1 << 24) + 1)), "receptive field: expected at most 16777216"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_does_not_fit_is_named(change: Callable[[WaveNet], Any], message: str) -> None:
    options = Options(modes=["gated"], head1x1=3, head_out=3, films=FILM_PLACES)
    net = random_wavenet(1, [options, replace(options, head_out=1)])
    ModelGraph(net, RATE)
    with pytest.raises(ModelError) as caught:
        ModelGraph(change(net), RATE)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_depth_and_size_are_bounded() -> None:
    node: Node = Linear(zeros(2))
    for _ in range(MAX_NODE_DEPTH - 1):
        node = Sequential((node,))
    ModelGraph(node, RATE)
    with pytest.raises(ModelError, match=f"expected at most {MAX_NODE_DEPTH} nested nodes"):
        ModelGraph(Sequential((node,)), RATE)
    filters = Sequential(tuple(Linear(zeros(1)) for _ in range(1024)))
    ModelGraph(filters, RATE)
    with pytest.raises(ModelError, match="layers: expected at most 1024, got 1025"):
        ModelGraph(Sequential((filters, Linear(zeros(1)))), RATE)


def test_groups_do_not_hide_more_weights_than_the_limit() -> None:
    channels, taps = 4096, 5
    layer = WaveNetLayer(
        zeros(channels, 1, taps), None, 1, channels, zeros(channels, 1), 1, "none",
        Noise(1).activation("tanh", 1),
    )  # fmt: skip
    array = replace(random_wavenet(1, [Options()]).arrays[0], rechannel=zeros(channels, 1))
    array = replace(array, layers=(layer,), head_weight=zeros(1, channels, 1))
    with pytest.raises(ModelError, match="groups: expected at most 67108864 weights when groups"):
        ModelGraph(WaveNet((array,)), RATE)
