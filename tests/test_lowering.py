"""Programs compute what the nodes mean, in float64, for every option."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from activations import activate
from hypothesis import given
from nets import random_graph, reference_render, rms
from programs import check_program, program_receptive_field, run_program
from tolerances import TOLERANCES
from wavenet_reference import reference_graph
from wavenet_strategies import wavenets
from wavenets import PRESETS, WEIGHT_KINDS, Noise, Options, random_stack, random_wavenet

from fxfast import Player, models
from fxfast.audio.signals import guitar_like
from fxfast.graph import (
    FILM_PLACES,
    Activation,
    ConvLayer,
    ConvStack,
    Linear,
    ModelGraph,
    Node,
    Sequential,
    WaveNet,
)
from fxfast.lowering import lower
from fxfast.native import engine
from fxfast.program import ActivateOp, AddOp, ConvOp, FilmOp, GateOp

RATE = 48_000
TOLERANCE = TOLERANCES["lowered_float64"].value


def noise(samples: int = 150, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, samples)


def assert_lowers(root: Node, samples: int = 150, sounds: bool = True) -> None:
    graph = ModelGraph(root, RATE)
    program = lower(graph)
    check_program(program)
    assert program_receptive_field(program) == graph.receptive_field
    x = noise(samples)
    expected = reference_graph(graph, x)
    got = run_program(program, x, np.float64, graph.receptive_field)
    assert np.abs(got - expected).max() <= TOLERANCE * max(1.0, np.abs(expected).max())
    # The first samples already depend on the biases of all layers.
    assert np.ptp(expected) > 0 or not sounds


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "gated": {"modes": ["gated"]},
    "blended": {"modes": ["blended"]},
    "mixed modes": {"modes": ["none", "gated", "blended"], "taps": [2, 3, 1], "dilations": [1, 2]},
    "bottleneck": {"channels": 5, "bottleneck": 2},
    "wide bottleneck": {"channels": 2, "bottleneck": 7, "modes": ["gated"]},
    "groups": {"channels": 6, "groups": 3, "groups_1x1": 2},
    "depthwise": {"channels": 4, "groups": 4, "groups_1x1": 4},
    "grouped gate": {"channels": 4, "groups": 2, "modes": ["gated"]},
    "head1x1": {"head1x1": 4},
    "no layer1x1": {"layer1x1": False},
    "no layer1x1 with head1x1": {"layer1x1": False, "head1x1": 2},
    "multi-tap head": {"head_taps": 5},
    "dilated head": {"head_taps": 4, "head_dilation": 7},
    "multi-tap head of one layer": {"head_taps": 5, "taps": [3], "films": ["activation_post_film"]},
    "one tap": {"taps": [1, 1]},
    "all films": {"films": FILM_PLACES, "head1x1": 2},
    "all films, gated": {"films": FILM_PLACES, "head1x1": 5, "modes": ["gated"], "head_taps": 2},
    "all films, blended, scale only": {
        "films": FILM_PLACES, "head1x1": 3, "modes": ["blended"], "shift": False, "bottleneck": 2,
    },
    **{place: {"films": [place], "head1x1": 2} for place in FILM_PLACES},
    **{f"{place}, scale": {"films": [place], "head1x1": 2, "shift": False}
       for place in FILM_PLACES},
}  # fmt: skip


@pytest.mark.parametrize("name", list(OPTIONS))
def test_every_option(name: str) -> None:
    options = Options(**OPTIONS[name])
    assert_lowers(random_wavenet(1, [options]))
    sum_channels = options.head1x1 or options.bottleneck or options.channels
    assert_lowers(random_wavenet(2, [replace(options, head_out=sum_channels), options]))


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 7, 12])
def test_odd_channel_counts(channels: int) -> None:
    first = Options(channels, modes=["gated", "none"], head_out=3)
    assert_lowers(random_wavenet(channels, [first, Options(head_taps=channels)]))


@pytest.mark.parametrize("mode", ["none", "gated", "blended"])
@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_every_activation(kind: str, mode: str) -> None:
    options = Options(modes=[mode], kinds=[kind], secondary_kinds=[kind], films=[FILM_PLACES[4]])
    assert_lowers(random_wavenet(5, [options], head=[(kind, 2, 3), ("none", 1, 1)]))


@pytest.mark.parametrize("head_scale", [0.3, 0.5, -2.0, 0.0])
@pytest.mark.parametrize("head", [[], [("relu", 4, 8), ("relu", 1, 1)], [("prelu", 1, 2)]])
def test_post_stack_head_and_scale(head: list[tuple[str, int, int]], head_scale: float) -> None:
    out = 3 if head else 1
    net = random_wavenet(6, [Options(head_out=out)], head=head, head_scale=head_scale)
    if head_scale:
        assert_lowers(net)
    program = lower(ModelGraph(net, RATE))
    scales = [op for op in program.ops if isinstance(op, ConvOp) and op.weight.shape[2] == 1]
    folded = not any(np.float32(0.3) in op.weight for op in scales)
    assert folded == (head_scale != 0.3)


@pytest.mark.parametrize("channels", [[1, 1], [1, 4, 3]])
def test_condition_models(channels: list[int]) -> None:
    options = Options(films=FILM_PLACES, head1x1=2, groups_mixin=channels[-1])
    options = replace(options, bottleneck=3, film_groups=1)
    assert_lowers(random_wavenet(7, [options], condition=random_stack(1, channels)))
    inner = random_wavenet(8, [Options(head_out=2, head_taps=9)], condition=random_stack(2, [1, 2]))
    options = replace(options, groups_mixin=1, film_groups=2)
    assert_lowers(random_wavenet(9, [options], condition=inner))


def test_a_condition_with_more_history_than_the_layers() -> None:
    """The condition reaches back further: the receptive field is the longest path, not a sum."""
    condition = random_stack(3, [1, 2, 2, 2, 2, 1])
    for films in ((), ("conv_pre_film",)):
        net = random_wavenet(1, [Options(films=films)], condition=condition)
        assert net.history_samples == 15 + 4 + (2 if films else 0)
        assert_lowers(net)


def test_chains_filters_and_stacks() -> None:
    taps = np.random.default_rng(1).standard_normal(9).astype(np.float32)
    linear = Linear(taps, 0.25)
    net = random_wavenet(4, [Options()])
    stack = random_stack(4, [1, 3, 1])
    assert_lowers(linear)
    assert_lowers(Sequential((linear, net, Sequential((stack, Linear(taps[:1]))))))
    impulse = np.zeros(12)
    impulse[2] = 1
    got = run_program(lower(ModelGraph(linear, RATE)), impulse, np.float64)
    assert np.allclose(got[2:11], taps.astype(np.float64) + 0.25, atol=1e-15)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("last", ["none", "tanh"])
def test_a_stack_equals_the_reference_of_stacks(skip: bool, last: str) -> None:
    graph = random_graph([(4, 3, 2, "tanh"), (3, 1, 1, "prelu"), (1, 5, 1, last)], skip=skip)
    program = lower(graph)
    check_program(program)
    got = run_program(program, noise(), np.float64)
    assert np.abs(got - reference_render(graph, noise(), np.float64)).max() <= TOLERANCE
    assert len(program.ops) == 3 + skip


def test_a_skip_around_one_tap_inside_a_chain() -> None:
    stack = random_graph([(1, 1, 1, "none")], skip=True).root
    assert_lowers(Sequential((stack, stack, stack)))


@given(net=wavenets())
def test_any_wavenet(net: WaveNet) -> None:
    assert_lowers(net, samples=60, sounds=False)  # a ReLU may shut everything out


@pytest.mark.parametrize("name", ["nano", "a2-lite"])
def test_presets(name: str) -> None:
    assert_lowers(PRESETS[name](), samples=40)


def test_the_operations_of_one_plain_layer() -> None:
    """The engine's speed rests on this: four operations a layer, and nothing for the last h."""
    program = lower(ModelGraph(PRESETS["standard"](), RATE))
    kinds = [type(op) for op in program.ops]
    assert kinds.count(ConvOp) == 2 * (1 + 10 * 3) - 1 + 2 + 1
    assert kinds.count(AddOp) == 10 - 1 + 10
    assert len(kinds) == kinds.count(ConvOp) + kinds.count(AddOp)
    # One line with a past for each layer; scratch is shared.
    assert len(program.lines) <= 1 + 20 + 10


def test_what_nobody_reads_is_left_out() -> None:
    options = Options(taps=[2], dilations=[1], films=["layer1x1_post_film"])
    program = lower(ModelGraph(random_wavenet(1, [options]), RATE))
    assert not any(isinstance(op, FilmOp | AddOp) for op in program.ops)
    gated = random_wavenet(1, [Options(taps=[2], modes=["gated"], kinds=["none"])])
    found = [type(op) for op in lower(ModelGraph(gated, RATE)).ops]
    assert GateOp in found
    assert ActivateOp not in found


def test_groups_are_written_out() -> None:
    net = random_wavenet(1, [Options(4, groups=2)])
    program = lower(ModelGraph(net, RATE))
    conv = next(op for op in program.ops if isinstance(op, ConvOp) and op.weight.shape[2] == 3)
    weight = net.arrays[0].layers[0].conv_weight
    assert np.array_equal(conv.weight[:2, :2], weight[:2])
    assert np.array_equal(conv.weight[2:, 2:], weight[2:])
    assert not conv.weight[:2, 2:].any()
    assert not conv.weight[2:, :2].any()


def test_a_first_layer_is_merged_with_its_rechannel() -> None:
    graph = ModelGraph(random_wavenet(1, [Options(4)]), RATE)
    exact, merged = lower(graph), lower(graph, merge=True)
    check_program(merged)
    assert program_receptive_field(merged) == graph.receptive_field
    widths = [
        [op.weight.shape[1] for op in program.ops if isinstance(op, ConvOp) and op.history_samples]
        for program in (exact, merged)
    ]
    assert widths[0][0] == 4
    assert widths[1] == [1, *widths[0][1:]]
    x = noise()
    expected, got = (run_program(program, x, np.float64) for program in (exact, merged))
    assert 0.0 < rms(got - expected) < TOLERANCES["merged_weights"].value * rms(expected)


def test_arrays_are_merged_where_they_narrow() -> None:
    net = random_wavenet(1, [Options(8, head_out=3), Options(3)])
    exact, merged = (lower(ModelGraph(net, RATE), merge=merge) for merge in (False, True))
    check_program(merged)
    assert program_receptive_field(merged) == program_receptive_field(exact)
    shapes = [op.weight.shape for op in merged.ops if isinstance(op, ConvOp)]
    # The last 1x1 of the first array has the outputs of the rechannel, its head has one.
    assert shapes.count((8, 8, 1)) == 1
    assert shapes.count((3, 8, 1)) == 2
    assert shapes.count((1, 8, 1)) == 1
    x = noise()
    expected, got = (run_program(program, x, np.float64) for program in (exact, merged))
    assert 0.0 < rms(got - expected) < TOLERANCES["merged_weights"].value * rms(expected)


@pytest.mark.parametrize("options", [{"head_taps": 2}, {"films": ["layer1x1_post_film"]}])
def test_merging_leaves_what_is_not_plain(options: dict[str, Any]) -> None:
    net = random_wavenet(1, [Options(8, head_out=3, **options), Options(3)])
    exact, merged = (lower(ModelGraph(net, RATE), merge=merge) for merge in (False, True))
    check_program(merged)
    x = noise()
    expected, got = (run_program(program, x, np.float64) for program in (exact, merged))
    assert rms(got - expected) < TOLERANCES["merged_weights"].value * rms(expected)


@pytest.mark.parametrize("convolution", [{"bias": True}, {"activation": Activation("relu")}])
def test_only_plain_convolutions_are_merged(convolution: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)

    def conv(outs: int, ins: int, taps: int, bias: bool = False, **options: Any) -> ConvLayer:
        weight = rng.normal(size=(outs, ins, taps)).astype(np.float32)
        values = rng.normal(size=outs).astype(np.float32) if bias else None
        return ConvLayer(weight, values, **options)

    stack = ConvStack((conv(5, 1, 1, **convolution), conv(1, 5, 3, bias=True)))
    graph = ModelGraph(stack, RATE)
    exact, merged = lower(graph), lower(graph, merge=True)
    assert len(merged.ops) == (1 if "bias" in convolution else 2)
    x = noise()
    expected, got = (run_program(program, x, np.float64) for program in (exact, merged))
    assert rms(got - expected) <= TOLERANCES["merged_weights"].value * rms(expected)


@pytest.mark.parametrize("kind", WEIGHT_KINDS)
def test_the_activations_of_these_tests_are_those_of_torch(kind: str) -> None:
    import torch
    from torch.nn import functional

    activation = Noise(1).activation(kind, 3)
    h = 3 * np.random.default_rng(1).standard_normal((3, 200))
    x = torch.from_numpy(h)[None]
    names = {"prelu": lambda x: functional.prelu(x, _tensor(activation.slopes)),
             "leaky_relu": lambda x: functional.prelu(x, _tensor(activation.slopes)),
             "leaky_hardtanh": lambda x: _leaky_hardtanh(x, activation),
             "fasttanh": torch.tanh, "tanh": torch.tanh, "sigmoid": torch.sigmoid}  # fmt: skip
    expected = names.get(kind, getattr(functional, kind, None))(x)[0].numpy()
    # The fast tanh is an approximation; NAM Core states its largest error as 4.4e-4.
    tolerance = 4.5e-4 if kind == "fasttanh" else 1e-12
    assert np.abs(activate(activation, h) - expected).max() <= tolerance


def _tensor(array: np.ndarray | None) -> Any:
    import torch

    assert array is not None
    return torch.from_numpy(array.astype(np.float64))


def _leaky_hardtanh(x: Any, activation: Activation) -> Any:
    low, high, low_slope, high_slope = _tensor(activation.limits)
    inside = x.clamp(low, high)
    return inside + (x - inside) * (x < low) * low_slope + (x - inside) * (x > high) * high_slope


def test_a_wavenet_of_two_input_channels_inside_a_chain() -> None:
    inner = random_wavenet(3, [Options(groups_mixin=1)], in_channels=2)
    assert isinstance(inner, WaveNet)
    assert_lowers(Sequential((random_stack(1, [1, 2]), inner)))


@pytest.mark.parametrize("preset", ["a1-standard", "a1-nano", "a2-full"])
def test_wavenets_on_the_engine_are_as_accurate_as_plain_float32(preset: str) -> None:
    graph = models.create(preset).to_graph(48_000)
    program, x = lower(graph), guitar_like(0.3, 48_000, seed=6)[6000:]
    field = graph.receptive_field
    truth = run_program(program, x, np.float64, receptive_field=field)
    plain = rms(run_program(program, x, np.float32, receptive_field=field) - truth)
    for isa in (name for name, supported in engine().isas() if supported):
        ours = rms(Player(graph, isa=isa).render(x) - truth)
        assert ours <= TOLERANCES["float32_ratio"].value * plain
