"""Random models of every family on every instruction set, against plain numpy in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import RATE, convnet_document, dense, recurrent
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nam_documents import parse
from nets import rms
from tolerances import TOLERANCES
from wavenet_reference import reference_graph
from wavenet_strategies import CHANNELS, wavenets
from wavenets import Options, random_stack, random_wavenet

from fxfast.graph import CELL_GATES, Linear, ModelGraph, Node, Residual, Sequential, WaveNet
from fxfast.native import engine
from fxfast.player import Player

ISAS = [name for name, supported in engine().isas() if supported]
UNITS = (1, 2, 3, 5, 7, 12, 16, 17, 40)
SAMPLES = 150


def noise(samples: int = SAMPLES) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.9, 0.9, samples).astype(np.float32)


def assert_plays(root: Node, expected: np.ndarray | None = None) -> None:
    """On every instruction set as in float64, from the first sample on."""
    graph, x = ModelGraph(root, RATE), noise()
    if expected is None:
        expected = reference_graph(graph, x)
    # FiLM multiplies signals: what grows so has the rounding of what it grew from.
    assume(np.abs(expected).max() < 100)
    tolerance = 5 * TOLERANCES["random_graph"].value * max(1.0, float(np.abs(expected).max()))
    errors = [rms(Player(graph, isa=isa).render(x) - expected) for isa in ISAS]
    if max(errors) > tolerance:
        # A net that multiplies its signals may lose more, and then numpy float32 does so too.
        plain = rms(reference_graph(graph, x, dtype=np.float32) - expected)
        assert max(errors) <= TOLERANCES["amplified_rounding"].value * plain


@settings(max_examples=80)
@given(net=wavenets())
def test_any_wavenet(net: WaveNet) -> None:
    assert_plays(net)


@st.composite
def recurrent_nets(draw: st.DrawFn) -> Node:
    """One to three layers, a head of any depth, perhaps convolutions in front and a skip."""
    seed, units = draw(st.integers(0, 999)), draw(st.sampled_from(UNITS))
    front = draw(st.sampled_from([None, 1, 3]))
    cells = recurrent(
        draw(st.sampled_from(list(CELL_GATES))), units, draw(st.integers(1, 3)), front or 1, seed
    )
    head = dense(units, *draw(st.lists(st.sampled_from(CHANNELS), max_size=3)), 1, seed=seed)
    chain = Sequential((cells, head))
    if front is not None:
        chain = Sequential((random_stack(seed, [1, 2, front]), *chain.children))
    return Residual(chain) if draw(st.booleans()) else chain


@settings(max_examples=15)
@given(net=recurrent_nets())
def test_any_recurrent_net(net: Node) -> None:
    assert_plays(net)


@pytest.mark.parametrize("cell", list(CELL_GATES))
@pytest.mark.parametrize("units", UNITS)
def test_every_number_of_units(cell: str, units: int) -> None:
    assert_plays(Sequential((recurrent(cell, units, 1, seed=units), dense(units, 1))))


@settings(max_examples=40)
@given(
    channels=st.sampled_from(CHANNELS),
    dilations=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    batchnorm=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_convnet(channels: int, dilations: list[int], batchnorm: bool, seed: int) -> None:
    found = convnet_document(channels, dilations, batchnorm, seed)
    assert_plays(parse(found).root, convnet(found, channels, dilations, batchnorm))


def convnet(found: Any, channels: int, dilations: list[int], batchnorm: bool) -> np.ndarray:
    """From the flat weights, with the equation of batch norm."""
    numbers = iter(np.float32(found["weights"]).astype(np.float64))

    def take(*shape: int) -> np.ndarray:
        return np.array([next(numbers) for _ in range(int(np.prod(shape)))]).reshape(shape)

    silence = 1 + sum(dilations)
    h = np.concatenate([np.zeros(silence), noise()])[None]
    for dilation in dilations:
        weight = take(channels, len(h), 2)
        before = np.pad(h, ((0, 0), (dilation, 0)))[:, : h.shape[1]]
        z = weight[:, :, 0] @ before + weight[:, :, 1] @ h
        if batchnorm:
            mean, variance, scale, shift = (take(channels, 1) for _ in range(4))
            z = (z - mean) / np.sqrt(variance + next(numbers)) * scale + shift
        else:
            z = z + take(channels, 1)
        h = np.tanh(z)
    y: np.ndarray = (take(1, channels) @ h + next(numbers))[0, silence:]
    assert next(numbers, None) is None
    return y


@pytest.mark.parametrize("taps", [1, 2, 15, 16, 17, 64, 255, 256, 257, 1000, 5000])
def test_any_filter(taps: int) -> None:
    response = np.random.default_rng(taps).standard_normal(taps) / np.sqrt(taps)
    assert_plays(Linear(response.astype(np.float32), 0.5))


def test_a_layer_of_one_channel_from_many_by_many_taps() -> None:
    assert_plays(random_wavenet(3, [Options(11, 1, (2, 4, 1), (3, 2, 2))]))


@settings(max_examples=40)
@given(data=st.data(), depth=st.integers(1, 3))
def test_any_chain(data: st.DataObject, depth: int) -> None:
    """Of filters, stacks, WaveNets and chains, each perhaps beside its input."""
    children: list[Node] = []
    for _ in range(depth):
        seed = data.draw(st.integers(0, 99))
        taps = np.random.default_rng(seed).uniform(-0.3, 0.3, 9).astype(np.float32)
        stack = random_stack(seed, [1, data.draw(st.sampled_from(CHANNELS)), 1])
        child = data.draw(st.sampled_from([Linear(taps, 0.1), stack, Sequential((stack, stack))]))
        children.append(Residual(child) if data.draw(st.booleans()) else child)
    children.insert(data.draw(st.integers(0, depth)), data.draw(wavenets()))
    assert_plays(Sequential(tuple(children)))
