"""The promises of the engine, for every family of models and every instruction set."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, draws, family
from nets import rms
from tolerances import TOLERANCES
from wavenet_reference import reference_graph

from fxfast.audio.signals import guitar_like
from fxfast.graph import ModelGraph
from fxfast.native import engine
from fxfast.player import Player

ISAS = [name for name, supported in engine().isas() if supported]
RAGGED = (1, 7, 64, 333, 2, 500, 63, 1024, 129, 8)
every_isa = pytest.mark.parametrize("isa", ISAS)
every_family = pytest.mark.parametrize("name", list(FAMILIES))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).uniform(-0.8, 0.8, shape).astype(np.float32)


@functools.cache
def sound() -> np.ndarray:
    found: np.ndarray = guitar_like(0.3, 48_000, seed=6)[6000:6700]
    return found


@functools.cache
def truths(name: str, factor: float) -> tuple[tuple[ModelGraph, np.ndarray, float], ...]:
    """Each net of a family with its output in float64 and the error of numpy float32."""
    found = []
    for graph in draws(name, factor):
        truth = reference_graph(graph, sound())
        plain = rms(reference_graph(graph, sound(), dtype=np.float32) - truth)
        # A net of few operations may have no error at all but that of its last rounding.
        found.append((graph, truth, max(plain, np.finfo(np.float32).eps / 4 * rms(truth))))
    return tuple(found)


def float32_ratio(name: str, factor: float, **options: Any) -> float:
    """The error of a player beside that of numpy float32: the median over the nets of a family."""
    ratios = []
    for graph, truth, plain in truths(name, factor):
        assert np.isfinite(truth).all()
        ratios.append(rms(Player(graph, **options).render(sound()) - truth) / plain)
    return float(np.median(ratios))


@every_isa
@every_family
def test_any_split_batch_and_thread_count_give_the_same_bits(name: str, isa: str) -> None:
    x_ct = noise(3, sum(RAGGED))
    player = Player(family(name), isa=isa, threads=2)
    whole = player.render(x_ct)
    np.testing.assert_array_equal(Player(family(name), isa=isa, threads=1).render(x_ct), whole)
    np.testing.assert_array_equal(player.render(x_ct[1]), whole[1])
    stream, blocks, start = player.stream(3), [], 0
    for samples in RAGGED:
        blocks.append(stream.process(x_ct[:, start : start + samples]))
        start += samples
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


@every_isa
@pytest.mark.parametrize("factor", [1.0, 3.0])
@every_family
def test_as_accurate_as_plain_float32(name: str, factor: float, isa: str) -> None:
    limit = "float32_ratio_without_fma" if isa == "portable" else "float32_ratio"
    assert float32_ratio(name, factor, isa=isa) <= TOLERANCES[limit].value


@every_isa
@every_family
def test_starts_as_if_silence_had_played_for_ever(name: str, isa: str) -> None:
    rest = float(reference_graph(family(name), np.zeros(1))[0])
    y = Player(family(name), isa=isa).render(np.zeros(1500, np.float32))
    assert np.abs(y - rest).max() <= TOLERANCES["random_graph"].value * max(1.0, abs(rest))


@every_isa
@every_family
def test_exact_length_without_delay(name: str, isa: str) -> None:
    player = Player(family(name), isa=isa)
    x = noise(1000)
    y = player.render(x)
    for samples in (0, 1, 7, 8, 9, 63, 64, 65, 1000):
        np.testing.assert_array_equal(player.render(x[:samples]), y[:samples])
    for place in (0, 511, 999):
        changed = x.copy()
        changed[place] += np.float32(0.5)
        different = player.render(changed) != y
        assert not different[:place].any()
        assert different[place]
