"""Windows and lanes that a CUDA kernel gathers: by the stand-in on the CPU, and on a GPU."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cuda_stand_in import built_stand_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sampler_data import RATE, ids_of, lengths_st, make, ramps
from test_cuda import gpu_library

from fxfast.cuda_library import LIBRARY_VARIABLE
from fxfast.data import Lanes, Windows, from_arrays
from fxfast.errors import BuildError, InputError


@pytest.fixture(params=["stand-in", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    library = built_stand_in() if request.param == "stand-in" else gpu_library()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    return "cuda"


def same_batches(ours: Windows, cpu: Windows) -> None:
    batches = 0
    for got, expected in zip(ours, cpu, strict=True):
        assert torch.equal(ours.ids.cpu(), cpu.ids)
        assert len(got) == len(expected)
        for a, b in zip(got, expected, strict=True):
            assert torch.equal(a.cpu(), b)
        batches += 1
    assert batches == len(cpu)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=lengths_st,
    options=st.fixed_dictionaries(
        {
            "run": st.integers(1, 7),
            "stride": st.integers(1, 3),
            "seed": st.integers(0, 2**64 - 1),
            "replacement": st.booleans(),
            "last": st.sampled_from(["drop", "short", "wrap"]),
            "batch_size": st.sampled_from([2, 6, 70]),
        }
    ),
    rank=st.integers(0, 1),
    is_int16=st.booleans(),
    out_length=st.integers(0, 3),
)
def test_any_epoch_is_that_of_the_cpu(
    device: str,
    lengths: list[int],
    options: dict[str, Any],
    rank: int,
    is_int16: bool,
    out_length: int,
) -> None:
    data = ramps(lengths, np.int16 if is_int16 else np.float32)
    both = [
        make(data, 3, out_length, rank=rank, world_size=2, device=where, **options)
        for where in (device, "cpu")
    ]
    for epoch in (0, 3):
        for windows in both:
            windows.set_epoch(epoch)
        same_batches(*both)
        assert both[0].epoch == both[1].epoch == epoch + 1


@pytest.mark.parametrize("length", [64, 512, 513, 5000])
def test_long_windows_and_many(length: int, device: str) -> None:
    random = np.random.default_rng(1)
    sides = [random.normal(size=(2, n)).astype(np.float32) for n in (9000, 4000, 20_000)]
    knobs = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
    data = from_arrays([(dry, wet) for dry, wet in sides], RATE, knobs=knobs)
    options: dict[str, Any] = {"batch_size": 130, "stride": 3, "run": 2, "seed": 5}
    same_batches(
        make(data, length, length // 2, device=device, **options),
        make(data, length, length // 2, **options),
    )


def test_a_state_goes_from_one_device_to_the_other(device: str) -> None:
    data = ramps([500, 600])
    ours, cpu = (make(data, 5, seed=3, device=where) for where in (device, "cpu"))
    for _ in range(7):
        next(iter(cpu))
    ours.load_state_dict(cpu.state_dict())
    assert ids_of(ours) == ids_of(cpu)
    ours.set_epoch(4)
    next(iter(ours))
    again = pickle.loads(pickle.dumps(ours))
    assert (again.epoch, again.position) == (4, 1)
    assert ids_of(again) == ids_of(ours)


def test_batches_stay_until_two_more_were_taken(device: str) -> None:
    windows = iter(make(ramps([500]), 5, device=device))
    first, kept = next(windows), []
    kept = [side.clone() for side in first]
    next(windows)
    assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_drawing_goes_on_from_epoch_to_epoch(device: str) -> None:
    data = ramps([300, 200])
    ours, cpu = (make(data, 9, batch_size=60, run=4, device=where) for where in (device, "cpu"))
    expected = [ids for epoch in range(3) for ids in ids_of(cpu)]
    batch = ours.draw()
    found = [ours.ids.tolist()]
    for _ in expected[1:]:
        again = ours.draw()
        assert [t.data_ptr() for t in again] == [t.data_ptr() for t in batch]
        found.append(ours.ids.tolist())
    assert found == expected
    assert (ours.epoch, ours.position) == (3, 0)
    ours.draw()
    assert (ours.epoch, ours.position) == (3, 1)
    assert ids_of(ours) == ids_of(cpu)[1:]


def test_a_cuda_graph_on_a_gpu_draws_another_batch_at_every_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(gpu_library()))
    data = ramps([300, 200])
    ours, cpu = (make(data, 9, batch_size=60, device=where) for where in ("cuda", "cpu"))
    expected = [ids for epoch in range(3) for ids in ids_of(cpu)]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        ours.draw()
    found = []
    for _ in expected:
        graph.replay()
        found.append(ours.ids.tolist())
    assert found == expected


def same_lanes(ours: Lanes, cpu: Lanes) -> None:
    assert len(ours) == len(cpu)
    for got, expected in zip(ours, cpu, strict=True):
        for name, side in expected._asdict().items():
            assert torch.equal(getattr(got, name).cpu(), side), name


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=lengths_st,
    options=st.fixed_dictionaries(
        {
            "lanes": st.sampled_from([2, 6, 10]),
            "chunk": st.integers(1, 9),
            "warmup": st.integers(0, 12),
            "seed": st.integers(0, 2**64 - 1),
            "stagger": st.booleans(),
        }
    ),
    chunks=st.integers(0, 4),
    rank=st.integers(0, 1),
    is_int16=st.booleans(),
)
def test_any_epoch_of_lanes_is_that_of_the_cpu(
    device: str, lengths: list[int], options: dict[str, Any], chunks: int, rank: int, is_int16: bool
) -> None:
    data = ramps(lengths, np.int16 if is_int16 else np.float32)
    options["segment"] = chunks * options["chunk"] or None
    options["stagger"] = options["stagger"] and chunks > 0
    ours, cpu = (
        Lanes(data, rank=rank, world_size=2, device=where, **options) for where in (device, "cpu")
    )
    for epoch in (0, 3):
        for lanes in (ours, cpu):
            lanes.set_epoch(epoch)
        same_lanes(ours, cpu)
        assert ours.epoch == cpu.epoch == epoch + 1


@pytest.mark.parametrize("segment", [2000, 6000, None])
def test_long_lanes_and_many(segment: int | None, device: str) -> None:
    random = np.random.default_rng(1)
    sides = [random.normal(size=(2, n)).astype(np.float32) for n in (90_000, 4000, 200_000)]
    knobs = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]], np.float32)
    data = from_arrays([(dry, wet) for dry, wet in sides], RATE, knobs=knobs)
    same_lanes(*(Lanes(data, 18, segment, 1000, 1500, 5, device=d) for d in (device, "cpu")))


def test_more_segments_than_a_table_holds(device: str) -> None:
    data = ramps([9000, 11, 5000])
    same_lanes(*(Lanes(data, 500, 2, 1, 3, 5, device=d) for d in (device, "cpu")))


def test_a_state_of_lanes_goes_from_one_device_to_the_other(device: str) -> None:
    data = ramps([500, 600])
    ours, cpu = (Lanes(data, 3, 60, 20, 10, 3, device=where) for where in (device, "cpu"))
    for _ in range(7):
        next(iter(cpu))
    ours.load_state_dict(cpu.state_dict())
    for side, expected in zip(ours.replay(40), cpu.replay(40), strict=True):
        assert torch.equal(side.cpu(), expected)
    again = pickle.loads(pickle.dumps(ours))
    assert (again.epoch, again.position) == (0, 7)
    same_lanes(again, cpu)


@pytest.mark.parametrize("segment", [30, None])
def test_drawing_lanes_goes_on_from_epoch_to_epoch(segment: int | None, device: str) -> None:
    data = ramps([300, 200, 77])
    ours, cpu = (Lanes(data, 4, segment, 10, 5, device=where) for where in (device, "cpu"))
    expected = [(batch.x.clone(), batch.start.clone()) for _ in range(3) for batch in cpu]
    found = []
    for _ in expected:
        batch = ours.draw()
        found.append((batch.x.cpu().clone(), batch.start.cpu().clone()))
    for ours_now, cpu_now in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours_now, cpu_now, strict=True))
    assert (ours.epoch, ours.position) == (3, 0)
    assert len(ours) == len(cpu)
    ours.draw()
    assert (ours.epoch, ours.position) == (3, 1)


def test_a_cuda_graph_on_a_gpu_draws_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(gpu_library()))
    data = ramps([300, 200])
    ours, cpu = (Lanes(data, 4, 30, 10, 5, device=where) for where in ("cuda", "cpu"))
    expected = [batch.start.tolist() for _ in range(3) for batch in cpu]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        batch = ours.draw()
    found = []
    for _ in expected:
        graph.replay()
        found.append(batch.start.tolist())
    assert found == expected


def test_what_cannot_be_is_an_error(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ramps([100])
    with pytest.raises(InputError, match="device: expected cpu, cuda or cuda:0"):
        make(data, 5, device="tpu")
    with pytest.raises(InputError, match="CUDA devices, got cuda:99"):
        make(data, 5, device="cuda:99")
    with pytest.raises(InputError, match="draw: expected a sampler on a CUDA device"):
        Lanes(data, 1, 10, 5, 0).draw()
    with pytest.raises(InputError, match="draw: expected batches that are all full"):
        Lanes(ramps([0]), 1, 10, 5, 0, device=device).draw()
    with pytest.raises(InputError, match="segment: expected a multiple of chunk"):
        Lanes(data, 1, 11, 5, 0, device=device)
    with pytest.raises(InputError, match="device: expected cpu for Blocks, got 'cuda'"):
        make(data, 5, device=device).blocks()
    with pytest.raises(InputError, match="draw: expected a sampler on a CUDA device"):
        make(data, 5).draw()
    with pytest.raises(InputError, match="draw: expected batches that are all full"):
        make(data, 5, last="short", device=device).draw()
    with pytest.raises(InputError, match="draw: expected batches that are all full"):
        make(data, 500, device=device).draw()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(Path(__file__).with_name("absent.so")))
    with pytest.raises(BuildError, match=r"absent\.so, found none"):
        make(data, 5, device=device)
