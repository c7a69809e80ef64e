"""Lanes: every sample once, contiguous between resets, the same for any number of ranks."""

from __future__ import annotations

import pickle
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_data import ISAS, ramps
from sampler_oracle import LaneChunk, LaneOracle
from torch.utils.data import DataLoader

from fxfast.data import LaneBatch, Lanes, Split, from_arrays
from fxfast.errors import InputError
from fxfast.native import engine

lengths_st = st.lists(st.integers(0, 90), min_size=1, max_size=5)
shapes_st = st.fixed_dictionaries(
    {
        "lanes": st.integers(1, 6),
        "chunk": st.integers(1, 9),
        "chunks": st.integers(0, 4),
        "warmup": st.integers(0, 12),
        "seed": st.integers(0, 2**64 - 1),
        "stagger": st.booleans(),
    }
)


def chunks_of(batch: LaneBatch) -> list[LaneChunk]:
    columns = (batch.lane, batch.file, batch.start, batch.valid, batch.reset > 0, batch.warm)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def split_shape(shape: dict[str, Any]) -> dict[str, Any]:
    """Lanes and oracle take the same arguments but for segments without an end."""
    segment = shape["chunk"] * shape["chunks"]
    rest = {name: value for name, value in shape.items() if name != "chunks"}
    return {**rest, "segment": segment, "stagger": shape["stagger"] and segment > 0}


@settings(max_examples=80)
@given(lengths=lengths_st, shape=shapes_st, epoch=st.integers(0, 3))
def test_chunks_are_those_of_the_oracle(
    lengths: list[int], shape: dict[str, Any], epoch: int
) -> None:
    arguments = split_shape(shape)
    oracle = LaneOracle(lengths, **arguments)
    order = engine().LaneOrder(lengths, {**arguments, "rank": 0, "world_size": 1})
    order.set_epoch(epoch)
    expected = oracle.epoch(epoch)
    assert order.steps == len(expected)
    for k, row in enumerate(expected):
        assert [order.chunk(k, lane) for lane in range(arguments["lanes"])] == row


@settings(max_examples=80)
@given(
    lengths=lengths_st,
    shape=shapes_st,
    dtype=st.sampled_from([np.float32, np.int16]),
    isa=st.sampled_from(ISAS),
    threads=st.sampled_from([0, 2]),
)
def test_batches_hold_the_audio_and_cover_it_once(
    lengths: list[int], shape: dict[str, Any], dtype: Any, isa: str, threads: int
) -> None:
    arguments = split_shape(shape)
    scale = 1 if dtype == np.float32 else 32768
    lanes = Lanes(
        ramps(lengths, dtype),
        **{**arguments, "segment": arguments["segment"] or None},
        isa=isa,
        threads=threads,
    )
    oracle = LaneOracle(lengths, **arguments)
    for epoch in range(2):
        seen = [np.zeros(length, int) for length in lengths]
        after: dict[int, tuple[int, int]] = {}
        expected = oracle.epoch(epoch)
        assert len(lanes) == len(expected)
        count = 0
        for batch, row in zip(lanes, expected, strict=True):
            count += 1
            chunks = chunks_of(batch)
            assert chunks == row
            for r, (lane, file, start, valid, reset, warm) in enumerate(chunks):
                x, y = batch.x[r, 0].numpy() * scale, batch.y[r, 0].numpy() * scale
                assert not x[valid:].any()
                assert not y[valid:].any()
                if file < 0 or valid == 0:
                    continue
                ramp = 1000 * file + start + np.arange(-warm, valid)
                warm_x = batch.warm_x[r, 0].numpy() * scale
                assert np.array_equal(x[:valid], ramp[warm:])
                assert np.array_equal(-y[:valid], ramp[warm:])
                assert np.array_equal(warm_x[len(warm_x) - warm :], ramp[:warm])
                assert not warm_x[: len(warm_x) - warm].any()
                seen[file][start : start + valid] += 1
                if not reset:
                    assert after[lane] == (file, start)
                after[lane] = (file, start + valid)
        assert count == len(expected)
        assert all((samples == 1).all() for samples in seen)
        assert lanes.epoch == epoch + 1


@settings(max_examples=30)
@given(lengths=lengths_st, shape=shapes_st)
def test_ranks_share_the_lanes(lengths: list[int], shape: dict[str, Any]) -> None:
    arguments = split_shape({**shape, "lanes": 8})
    arguments["segment"] = arguments["segment"] or None
    data = ramps(lengths)
    whole = [(chunks_of(b), b.x.clone()) for b in Lanes(data, **arguments)]
    for ranks in (2, 4, 8):
        parts = [
            [
                (chunks_of(b), b.x.clone())
                for b in Lanes(data, **arguments, rank=r, world_size=ranks, threads=r % 2)
            ]
            for r in range(ranks)
        ]
        for k, (chunks, x) in enumerate(whole):
            assert list(chain.from_iterable(part[k][0] for part in parts)) == chunks
            assert torch.equal(torch.cat([part[k][1] for part in parts]), x)


def test_resuming_at_any_step_gives_the_same_chunks() -> None:
    data = ramps([500, 90, 310])
    options: dict[str, Any] = {"lanes": 4, "segment": 40, "chunk": 8, "warmup": 5, "seed": 2}
    lanes = Lanes(data, **options)
    states, expected = [lanes.state_dict()], []
    for _ in range(2):
        for batch in lanes:
            expected.append(chunks_of(batch))
            states.append(lanes.state_dict())
    other = Lanes(data, **options, threads=0, prefetch=3)
    for stop in range(len(expected)):
        other.load_state_dict(states[stop])
        batch = next(iter(other), None)
        assert chunks_of(next(iter(other)) if batch is None else batch) == expected[stop]
    with pytest.raises(InputError, match="expected lanes 5 as this sampler has, got 4"):
        Lanes(data, **{**options, "lanes": 5}).load_state_dict(states[3])
    with pytest.raises(InputError, match="expected options 1 as this sampler has, got 0"):
        Lanes(data, **options, stagger=True).load_state_dict(states[3])
    again = pickle.loads(pickle.dumps(lanes))
    assert (again.epoch, again.position) == (2, 0)


def test_hidden_states_follow_their_lanes_to_other_ranks() -> None:
    data = ramps([500, 90, 310])
    options: dict[str, Any] = {"lanes": 8, "segment": 40, "chunk": 8, "warmup": 5}
    pairs = [Lanes(data, **options, rank=rank, world_size=2) for rank in range(2)]
    states = []
    for rank, lanes in enumerate(pairs):
        for _ in range(3):
            next(iter(lanes))
        own = torch.arange(4.0)[:, None] + 4 * rank
        states.append(lanes.state_dict((own.repeat(1, 3), -own)))
    following = torch.cat([next(iter(lanes)).x.clone() for lanes in pairs])
    for rank in range(4):
        lanes = Lanes(data, **options, rank=rank, world_size=4)
        lanes.load_state_dict(states[rank // 2])
        cells, output = lanes.hidden(states)
        assert cells.tolist() == [[2.0 * rank + i] * 3 for i in range(2)]
        assert output.flatten().tolist() == [-2.0 * rank, -2.0 * rank - 1]
        assert torch.equal(next(iter(lanes)).x, following[2 * rank : 2 * rank + 2])
    with pytest.raises(InputError, match="states: expected those of lanes 0 to 7, got lanes"):
        Lanes(data, **options).hidden(states[:1])
    assert Lanes(data, **options).hidden([Lanes(data, **options).state_dict()]) == ()


@settings(max_examples=60)
@given(
    lengths=lengths_st, shape=shapes_st, most=st.integers(0, 60), ranks=st.sampled_from([1, 2, 4])
)
def test_a_replay_is_what_each_lane_heard_since_its_reset(
    lengths: list[int], shape: dict[str, Any], most: int, ranks: int
) -> None:
    arguments = split_shape({**shape, "lanes": 4})
    arguments["segment"] = arguments["segment"] or None
    data = ramps(lengths)
    for rank in range(ranks):
        lanes = Lanes(data, **arguments, rank=rank, world_size=ranks)
        heard: list[list[float]] = [[] for _ in range(4 // ranks)]
        resets = [chunks_of(batch) for batch in lanes]
        lanes.set_epoch(0)
        for k, batch in enumerate(lanes):
            for row, (_, file, _, valid, reset, warm) in enumerate(chunks_of(batch)):
                if reset:
                    heard[row] = batch.warm_x[row, 0].tolist()[arguments["warmup"] - warm :]
                heard[row] += batch.x[row, 0, :valid].tolist() if file >= 0 else []
            replay = lanes.replay(most)
            for row, past in enumerate(heard):
                _, _, _, valid, reset, _ = (*resets, resets[k])[k + 1][row]
                goes_on = k + 1 < len(resets) and valid > 0 and not reset
                count = min(most, len(past)) if goes_on else 0
                assert int(replay.length[row]) == count
                assert bool(replay.exact[row]) == (not goes_on or len(past) <= most)
                expected = [0.0] * (most - count) + past[len(past) - count :]
                assert replay.x[row, 0].tolist() == expected


def test_file_and_start_are_those_of_the_whole_file() -> None:
    split = Split(0.5, 0.25, 0.25)
    data = ramps([40, 80], split=split, knobs=[[0.1], [0.9]]).validation
    seen = []
    for batch in DataLoader(Lanes(data, 2, 10, 5, 3), batch_size=None):
        assert isinstance(batch, LaneBatch)
        for file, start, valid, knob in zip(
            batch.file.tolist(),
            batch.start.tolist(),
            batch.valid.tolist(),
            batch.knobs,
            strict=True,
        ):
            seen += [(file, start + i) for i in range(valid)]
            assert file < 0 or float(knob[0]) == pytest.approx(0.1 if file == 0 else 0.9)
    assert sorted(seen) == [(0, t) for t in range(20, 30)] + [(1, t) for t in range(40, 60)]


def test_many_files_take_little_memory_and_bad_settings_are_errors() -> None:
    side = np.zeros(3, np.float32)
    data = from_arrays([(side, side)] * 20_000, 48_000)
    assert Lanes(data, 4, 8, 4, 2).memory_bytes < 100 * 20_000
    cases: list[tuple[str, dict[str, Any]]] = [
        (r"segment: expected a multiple of chunk \(4\), got 9", {"segment": 9}),
        ("lanes: expected a positive multiple of world_size", {"world_size": 3}),
        ("stagger: expected segments of some length", {"segment": None, "stagger": True}),
        ("chunk: expected 1 to", {"chunk": 0}),
        ("warmup: expected 0 to", {"warmup": -1}),
    ]
    for message, changes in cases:
        with pytest.raises(InputError, match=message):
            Lanes(data, **{"lanes": 4, "segment": 8, "chunk": 4, "warmup": 2, **changes})
