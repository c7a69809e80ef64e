"""The CUDA engine: its device code on the CPU by the stand-in, and on a GPU where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cuda_stand_in import built_stand_in, set_memory
from families import FAMILIES, compressor, dense, echo, family, recurrent
from nets import rms
from test_families import RAGGED, float32_ratio, noise
from tolerances import TOLERANCES

from fxfast import cuda_engine
from fxfast.cuda_library import LIBRARY, LIBRARY_VARIABLE, CudaLibrary, device_index
from fxfast.errors import BuildError, InputError, ModelError
from fxfast.graph import (
    Activation,
    ConvLayer,
    ConvStack,
    Linear,
    ModelGraph,
    Node,
    Sequential,
)
from fxfast.lowering import lower_for_device
from fxfast.native import engine
from fxfast.native_ops import native_ops
from fxfast.player import Player
from fxfast.report.suite import graph_of

every_family = pytest.mark.parametrize("name", FAMILIES)


def gpu_library() -> Path:
    if not LIBRARY.exists():
        pytest.skip("the CUDA kernels are not built (make gpu)")
    if CudaLibrary(LIBRARY).device_count() == 0:
        pytest.skip("no CUDA device")
    return LIBRARY


@pytest.fixture(params=["stand-in", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a device, whose kernels are the stand-in's or a GPU's."""
    library = built_stand_in() if request.param == "stand-in" else gpu_library()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    return "cuda"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    library = built_stand_in()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    before = set_memory(library, 1 << 40)
    yield library
    set_memory(library, before)


@every_family
def test_any_split_and_batch_give_the_same_bits(name: str, device: str) -> None:
    x_ct = noise(3, sum(RAGGED))
    player = Player(family(name), device=device)
    whole = player.render(x_ct)
    np.testing.assert_array_equal(player.render(x_ct[1]), whole[1])
    stream, blocks, start = player.stream(3), [], 0
    for samples in RAGGED:
        blocks.append(stream.process(x_ct[:, start : start + samples]))
        start += samples
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


@pytest.mark.parametrize("factor", [1.0, 3.0])
@every_family
def test_as_accurate_as_plain_float32(name: str, factor: float, device: str) -> None:
    assert float32_ratio(name, factor, device=device) <= TOLERANCES["float32_ratio"].value


@every_family
def test_starts_as_if_silence_had_played_for_ever(name: str, device: str) -> None:
    y = Player(family(name), device=device).render(np.zeros(600, np.float32))
    rest = Player(family(name)).render(np.zeros(1, np.float32))
    assert np.abs(y - rest[0]).max() <= TOLERANCES["random_graph"].value * max(1.0, abs(rest[0]))


def test_segments_of_long_audio_give_the_bits_of_one(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = noise(2, 9000)
    graph = family("wavenet")
    whole = Player(graph, device=device).render(x)
    monkeypatch.setattr(cuda_engine, "_LEAST_SEGMENT", 300)
    monkeypatch.setattr(cuda_engine, "_LEAST_REACHES", 1)
    monkeypatch.setattr(cuda_engine, "LAUNCH_SAMPLES", 2500)
    np.testing.assert_array_equal(Player(graph, device=device).render(x), whole)


@pytest.mark.parametrize("units", [15, 17, 33, 45, 300])
def test_layers_of_any_width(units: int, device: str) -> None:
    graph = ModelGraph(Sequential((recurrent("lstm", units, 1), dense(units, 1))), 48_000)
    x = noise(3, 130)
    expected = Player(graph).render(x)
    y = Player(graph, device=device).render(x)
    assert rms(y - expected) <= TOLERANCES["between_isas"].value * rms(expected)


def long_filter(taps: int) -> Linear:
    random = np.random.default_rng(taps)
    decay = np.exp(-np.arange(taps) / 3000) / 30
    return Linear((random.standard_normal(taps) * decay).astype(np.float32), 0.25)


@pytest.mark.parametrize("taps", [8192, 8193, 8704, 9001])
def test_long_filters_by_transforms(taps: int, device: str) -> None:
    filtered = long_filter(taps)
    player = Player(ModelGraph(filtered, 48_000), device=device)
    x = noise(2, 10_700)
    y = player.render(x)
    truth = np.convolve(x[1].astype(np.float64), filtered.taps.astype(np.float64))[: x.shape[1]]
    assert rms(y[1] - truth - 0.25) <= TOLERANCES["between_isas"].value * rms(truth)
    stream, start, parts = player.stream(2), 0, []
    for samples in (1, 511, 0, 700, 512, 6000, 2976):
        parts.append(stream.process(x[:, start : start + samples]))
        start += samples
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), y)


def test_a_long_filter_in_a_chain_starts_settled(device: str) -> None:
    nodes = (family("conv stack").root, long_filter(8300), compressor())
    graph = ModelGraph(Sequential(nodes), 48_000)
    x = np.concatenate([np.zeros(600, np.float32), noise(1, 9000)[0]])
    y, expected = Player(graph, device=device).render(x), Player(graph).render(x)
    assert rms(y - expected) <= TOLERANCES["between_isas"].value * rms(expected)
    assert np.abs(y[:600] - expected[0]).max() <= TOLERANCES["random_graph"].value


def test_lines_that_do_not_fit_shared_memory_are_read_from_their_rings(device: str) -> None:
    graph = ModelGraph(_wide_history(), 48_000)
    player = Player(graph, device=device)
    x = noise(1, 3000)
    y = player.render(x)
    expected = Player(graph).render(x)
    assert rms(y - expected) <= TOLERANCES["between_isas"].value * rms(expected)
    stream = player.stream(1)
    parts = [stream.process(x[:, :700]), stream.process(x[:, 700:])]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), y)


def _wide_history() -> Node:
    random = np.random.default_rng(0)

    def layer(outs: int, ins: int, taps: int, dilation: int) -> ConvLayer:
        weight = random.uniform(-1, 1, (outs, ins, taps)) / np.sqrt(ins * taps)
        return ConvLayer(
            weight.astype(np.float32), np.zeros(outs, np.float32), dilation, Activation("tanh")
        )

    # 64 channels of 2,000 samples are 500 KiB.
    return ConvStack((layer(64, 1, 2, 1), layer(8, 64, 3, 1000), layer(1, 8, 2, 1)))


@pytest.mark.parametrize("name", ["conv and lstm", "net into echo", "gate"])
def test_a_stream_is_saved_restored_and_reset(name: str, device: str) -> None:
    player = Player(family(name), device=device)
    x = noise(2, 300)
    whole = player.render(x)
    stream = player.stream(2)
    stream.process(x[:, :111])
    saved = stream.save()
    rest = stream.process(x[:, 111:])
    np.testing.assert_array_equal(rest, whole[:, 111:])
    stream.restore(saved)
    np.testing.assert_array_equal(stream.process(x[:, 111:]), rest)
    stream.reset()
    np.testing.assert_array_equal(stream.process(x), whole)
    with pytest.raises(InputError, match=r"state: expected .* bytes for 2 channels, got 3"):
        stream.restore(b"abc")


@pytest.mark.parametrize(("major", "kernel", "block"), [(9, -7, 1152), (10, -3, 1024)])
def test_stacks_have_a_kernel_on_every_device(major: int, kernel: int, block: int) -> None:
    program = lower_for_device(graph_of("a1-standard"))
    lines, ops = list(program.lines), native_ops(program)
    plan = engine().cuda_plan(lines, ops, program.output_line, 227 * 1024, major)
    header = plan[: cuda_engine._HEADER.itemsize].view(cuda_engine._HEADER)[0]
    assert (header["register_rows"], header["block_samples"]) == (kernel, block)


@pytest.mark.parametrize("name", ["a1-lite", "a1-nano", "a2-full", "conv-64-32", "lstm-40"])
def test_presets_play_as_on_the_cpu(name: str, device: str) -> None:
    graph, x = graph_of(name), noise(1, 2500)
    expected = Player(graph).render(x)
    y = Player(graph, device=device).render(x)
    assert rms(y - expected) <= TOLERANCES["between_isas"].value * rms(expected)


def test_out_of_memory_splits_the_work(stand_in: Path) -> None:
    player = Player(family("wavenet"), device="cuda")
    x = noise(1, 60_000)
    whole = player.render(x)
    fresh = Player(family("wavenet"), device="cuda")
    set_memory(stand_in, 300_000)
    np.testing.assert_array_equal(fresh.render(x), whole)
    starved = Player(family("wavenet"), device="cuda")
    set_memory(stand_in, 100)
    with pytest.raises(BuildError, match=r"CUDA: allocate.* failed: out of memory"):
        starved.render(x)


def test_memory_is_given_back(stand_in: Path) -> None:
    player = Player(family("lstm"), device="cuda")
    player.render(noise(1, 500))
    del player
    assert set_memory(stand_in, 1 << 40) == 1 << 40


def test_errors_name_the_device_and_the_model(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = family("conv stack")
    for text in ("gpu", "cuda:", "cuda:x", "cuda:-1"):
        with pytest.raises(InputError, match="device: expected cpu, cuda or cuda:0"):
            Player(graph, device=text)
    with pytest.raises(InputError, match="expected one of 1 CUDA devices, got cuda:1"):
        Player(graph, device="cuda:1")
    assert Player(graph, device="cuda").device == "cuda:0"
    assert device_index("cuda:3") == 3
    wide = Sequential((recurrent("lstm", 300, 1), dense(300, 1), echo()))
    with pytest.raises(ModelError, match="units: expected at most 256 beside delays and gains"):
        Player(ModelGraph(wide, 48_000), device="cuda")
    with pytest.raises(InputError, match="expected finite samples, got NaN"):
        Player(graph, device="cuda").render(np.array([0.0, np.nan], np.float32))
    monkeypatch.setenv(LIBRARY_VARIABLE, str(stand_in.with_name("absent.so")))
    with pytest.raises(BuildError, match=r"expected .*absent\.so, found none; `make gpu`"):
        Player(graph, device="cuda")
