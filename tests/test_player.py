"""The player: the promises of the engine, for every instruction set of this machine."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import random_graph, reference_render, rms
from tolerances import TOLERANCES

from fxfast import Activation, ConvLayer, ModelGraph, Player
from fxfast.errors import BuildError, InputError
from fxfast.graph import ACTIVATION_KINDS
from fxfast.native import engine
from fxfast.player import MODES

ISAS = [name for name, supported in engine().isas() if supported]
FUSED = [name for name in ISAS if name != "reference"]


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def preset_graph(scale: float = 1.0) -> ModelGraph:
    return random_graph([(64, 33, 1, "relu"), (32, 17, 1, "relu"), (1, 16, 1, "none")], scale=scale)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", ACTIVATION_KINDS)
def test_as_accurate_as_plain_float32(isa: str, kind: str, scale: float) -> None:
    graph = random_graph(
        [(16, 9, 1, kind), (24, 5, 4, kind), (8, 3, 9, kind), (1, 16, 1, "none")], scale=scale
    )
    x = noise(6000)
    truth = reference_render(graph, x, np.float64)
    plain = rms(reference_render(graph, x, np.float32) - truth)
    ours = rms(Player(graph, isa=isa).render(x) - truth)
    assert ours <= TOLERANCES["float32_ratio"].value * plain


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_preset_is_as_accurate_as_plain_float32(isa: str, scale: float, mode: str) -> None:
    graph = preset_graph(scale)
    x = noise(4000)
    truth = reference_render(graph, x, np.float64)
    plain = rms(reference_render(graph, x, np.float32) - truth)
    ours = rms(Player(graph, isa=isa, mode=mode).render(x) - truth)
    assert ours <= TOLERANCES["float32_ratio"].value * plain


@settings(max_examples=25, deadline=None)
@given(
    channels=st.lists(st.integers(1, 19), min_size=0, max_size=4),
    taps=st.lists(st.integers(1, 9), min_size=5, max_size=5),
    dilations=st.lists(st.integers(1, 40), min_size=5, max_size=5),
    kinds=st.lists(st.sampled_from(ACTIVATION_KINDS), min_size=5, max_size=5),
    skip=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_graph_equals_the_reference(
    channels: list[int],
    taps: list[int],
    dilations: list[int],
    kinds: list[str],
    skip: bool,
    seed: int,
) -> None:
    sizes = [*channels, 1]
    shape = list(zip(sizes, taps, dilations, kinds, strict=False))
    graph = random_graph(shape, seed=seed, skip=skip)
    x = noise(700, seed=seed)
    truth = reference_render(graph, x, np.float64)
    for isa in ISAS:
        got = Player(graph, isa=isa, threads=1).render(x)
        assert rms(got - truth) <= TOLERANCES["random_graph"].value * max(1.0, rms(truth))


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 900), max_size=12), seed=st.integers(0, 99))
def test_any_split_gives_the_same_bits(cuts: list[int], seed: int) -> None:
    graph = random_graph([(9, 5, 7, "tanh"), (8, 9, 13, "prelu"), (1, 3, 2, "none")], skip=True)
    x = noise(900, seed=seed)
    for isa in ISAS:
        player = Player(graph, isa=isa)
        stream = player.stream()
        edges = [0, *sorted(cuts), 900]
        pieces = [stream.process(x[a:b]) for a, b in pairwise(edges)]
        np.testing.assert_array_equal(np.concatenate(pieces), player.render(x))


@pytest.mark.parametrize("mode", MODES)
def test_threads_and_batch_change_no_bit(isa: str, mode: str) -> None:
    graph = preset_graph()
    samples = 4000 if isa == "reference" else 40_000
    x = noise(2, 2, samples)
    expected = np.stack(
        [[Player(graph, isa=isa, threads=1, mode=mode).render(row) for row in pair] for pair in x]
    )
    for threads in (1, 2, 3):
        player = Player(graph, isa=isa, threads=threads, mode=mode)
        np.testing.assert_array_equal(player.render(x), expected)
        np.testing.assert_array_equal(player.render(x[0, 0]), expected[0, 0])


def test_a_shared_player_gives_the_same_bits_in_many_threads() -> None:
    player = Player(preset_graph(), threads=2)
    x = noise(30_000)
    expected = player.render(x)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(player.render(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, expected)


def test_instruction_sets_agree() -> None:
    graph = preset_graph()
    x = noise(5000)
    outputs = [Player(graph, isa=isa).render(x) for isa in ISAS]
    for other in outputs[1:]:
        assert rms(other - outputs[0]) <= TOLERANCES["between_isas"].value * rms(outputs[0])


def test_starts_settled(isa: str) -> None:
    graph = random_graph([(7, 5, 3, "tanh"), (5, 4, 9, "sigmoid"), (1, 6, 1, "none")])
    player = Player(graph, isa=isa)
    sound = noise(500)
    silence = np.zeros(graph.receptive_field + 5, np.float32)
    whole = player.render(np.concatenate([silence, sound]))
    np.testing.assert_array_equal(whole[silence.size :], player.render(sound))
    assert np.all(whole[: silence.size] == whole[0])
    assert whole[0] != 0


def test_exact_length_and_zero_delay(isa: str) -> None:
    weight = np.zeros((1, 1, 5), np.float32)
    weight[0, 0, -1] = 1.0
    player = Player(ModelGraph((ConvLayer(weight),), 48_000), isa=isa)
    for length in (1, 7, 8, 9, 63, 64, 65, 1000):
        x = noise(length)
        np.testing.assert_array_equal(player.render(x), x)


def test_skip_adds_the_input(isa: str) -> None:
    layers = preset_graph().layers
    plain = Player(ModelGraph(layers, 48_000), isa=isa)
    skipping = Player(ModelGraph(layers, 48_000, skip=True), isa=isa)
    x = noise(300)
    np.testing.assert_array_equal(skipping.render(x), plain.render(x) + x)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    player = Player(preset_graph())
    x = noise(2, 400)
    y = player.render(torch.from_numpy(x))
    assert isinstance(y, torch.Tensor)
    np.testing.assert_array_equal(y.numpy(), player.render(x))


def test_empty_audio() -> None:
    player = Player(preset_graph())
    assert player.render(np.zeros((2, 0), np.float32)).shape == (2, 0)
    assert player.render(np.zeros(0, np.float32)).shape == (0,)
    stream = player.stream(2)
    assert stream.process(np.zeros((2, 0), np.float32)).shape == (2, 0)
    assert stream.flush().shape == (2, 0)


def test_strided_audio_is_read_right() -> None:
    player = Player(preset_graph())
    x = noise(400, 2)
    np.testing.assert_array_equal(player.render(x.T), player.render(np.ascontiguousarray(x.T)))


def test_stream_saves_restores_and_resets() -> None:
    player = Player(preset_graph(), mode="stream")
    x = noise(2, 600)
    stream = player.stream(2)
    first = stream.process(x[:, :300])
    saved = stream.save()
    second = stream.process(x[:, 300:])
    other = player.stream(2)
    other.restore(saved)
    np.testing.assert_array_equal(other.process(x[:, 300:]), second)
    stream.reset()
    np.testing.assert_array_equal(stream.process(x[:, :300]), first)


def test_saturating_and_loud_input_stays_finite(isa: str) -> None:
    graph = random_graph([(16, 5, 1, "tanh"), (16, 5, 3, "sigmoid"), (1, 5, 1, "none")], scale=300)
    assert np.isfinite(Player(graph, isa=isa).render(noise(500) * np.float32(1e6))).all()


def test_denormal_input_is_silence(isa: str) -> None:
    if isa == "reference":
        pytest.skip("the reference sums in double, where these are normal numbers")
    graph = ModelGraph((ConvLayer(np.full((1, 1, 3), 1.0, np.float32)),), 48_000)
    assert not Player(graph, isa=isa).render(np.full(64, 1e-40, np.float32)).any()


@pytest.mark.parametrize("shape", [(), (1, 1, 1, 8)])
def test_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected shape \(T\), \(C, T\) or \(B, C, T\), got \("):
        Player(preset_graph()).render(np.zeros(shape, np.float32))


def test_wrong_stream_shape_is_refused() -> None:
    stream = Player(preset_graph()).stream(2)
    for shape in [(8,), (3, 8), (1, 2, 8)]:
        with pytest.raises(InputError, match=r"expected shape \(2, T\) in a stream, got \("):
            stream.process(np.zeros(shape, np.float32))


def test_wrong_dtype_is_refused() -> None:
    player = Player(preset_graph())
    with pytest.raises(InputError, match="expected dtype float32, got float64"):
        player.render(np.zeros(8))
    with pytest.raises(InputError, match="expected dtype float32, got int16"):
        player.stream().process(np.zeros(8, np.int16))
    with pytest.raises(InputError, match="expected a numpy array or a torch tensor, got list"):
        player.render([0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_input_is_refused_by_place(bad: float) -> None:
    player = Player(preset_graph())
    x = noise(2, 3000)
    x[1, 2345] = bad
    with pytest.raises(InputError, match="NaN or infinity in row 1 at sample 2345"):
        player.render(x)
    stream = player.stream(2)
    with pytest.raises(InputError, match="row 1 at sample 2345"):
        stream.process(x)
    x[1, 2345] = 0
    np.testing.assert_array_equal(stream.process(x), player.render(x))  # the stream is unchanged


def test_wrong_arguments_are_refused() -> None:
    graph = preset_graph()
    with pytest.raises(InputError, match="mode: expected one of offline, stream, got 'fast'"):
        Player(graph, mode="fast")
    with pytest.raises(InputError, match="threads: expected an integer from 1 to 1024, got 0"):
        Player(graph, threads=0)
    with pytest.raises(InputError, match="channels: expected an integer from 1"):
        Player(graph).stream(0)
    with pytest.raises(InputError, match="state: expected bytes, got list"):
        Player(graph).stream().restore([])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"state: expected \d+ bytes for 1 channels, got 3"):
        Player(graph).stream().restore(b"abc")


def test_a_state_of_another_model_is_refused() -> None:
    saved = Player(preset_graph()).stream().save()
    with pytest.raises(InputError, match="this plan"):
        Player(preset_graph(2.0)).stream().restore(saved)


def test_forced_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = preset_graph()
    for name in ISAS:
        monkeypatch.setenv("FXFAST_ISA", name)
        assert Player(graph).isa == name
    monkeypatch.setenv("FXFAST_ISA", "mmx")
    with pytest.raises(BuildError, match=r"FXFAST_ISA: expected one of .*, got 'mmx'"):
        Player(graph)
    with pytest.raises(BuildError, match="isa: expected one of"):
        Player(graph, isa="AVX2")


def test_import_is_light() -> None:
    code = (
        "import sys, fxfast; fxfast.Player; fxfast.ModelGraph; "
        "bad = {'torch', 'soundfile', 'scipy', 'rich'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_leaky_relu_takes_one_slope() -> None:
    activation = Activation("leaky_relu", np.array([0.25], np.float32))
    graph = ModelGraph((ConvLayer(np.ones((1, 1, 1), np.float32), None, 1, activation),), 48_000)
    y = Player(graph).render(np.array([-1.0, 2.0], np.float32))
    np.testing.assert_array_equal(y, [-0.25, 2.0])
