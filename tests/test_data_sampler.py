"""Windows: batches, ranks, runs, blocks, memory, errors."""

from __future__ import annotations

import mmap
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_data import ISAS, RATE, ids_of, lengths_st, make, ramps
from sampler_oracle import WindowOracle

from fxfast.data import Windows, from_arrays
from fxfast.errors import InputError, PairError


@settings(max_examples=60)
@given(
    lengths=lengths_st,
    length=st.integers(1, 40),
    out_length=st.integers(0, 40),
    stride=st.integers(1, 5),
    dtype=st.sampled_from([np.float32, np.int16]),
    isa=st.sampled_from(ISAS),
)
def test_a_batch_holds_the_windows_and_never_crosses_a_file(
    lengths: list[int], length: int, out_length: int, stride: int, dtype: Any, isa: str
) -> None:
    out_length = min(out_length, length)
    data = ramps(lengths, dtype)
    scale = 1 if dtype == np.float32 else 32768
    windows = make(data, length, out_length, stride=stride, last="short", isa=isa)
    oracle = WindowOracle(lengths, length, stride)
    for x, y in windows:
        assert x.shape == (len(windows.ids), 1, length)
        assert y.shape == (len(windows.ids), 1, out_length)
        for row, window in enumerate(windows.ids.tolist()):
            file, start = oracle.locate(window)
            assert windows.locate(window) == (file, start)
            expected = 1000 * file + start + np.arange(length)
            assert start + length <= lengths[file]
            assert np.array_equal(x[row, 0].numpy() * scale, expected)
            assert np.array_equal(-y[row, 0].numpy() * scale, expected[length - out_length :])


@settings(max_examples=40)
@given(
    lengths=lengths_st,
    length=st.integers(1, 12),
    run=st.integers(1, 4),
    seed=st.integers(0, 9),
    last=st.sampled_from(["drop", "short", "wrap"]),
)
def test_global_batches_do_not_depend_on_ranks_prefetch_or_threads(
    lengths: list[int], length: int, run: int, seed: int, last: str
) -> None:
    data = ramps(lengths)
    options: dict[str, Any] = {"batch_size": 24, "run": run, "seed": seed, "last": last}
    whole = make(data, length, **options)
    batches = ids_of(whole)
    for ranks in (2, 3, 4, 8):
        shares = [
            ids_of(
                make(
                    data,
                    length,
                    rank=rank,
                    world_size=ranks,
                    threads=rank % 3,
                    prefetch=1 + rank % 4,
                    **options,
                )
            )
            for rank in range(ranks)
        ]
        together = [list(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)]
        assert together == batches


def test_a_last_batch_is_dropped_or_short_or_wrapped() -> None:
    data = ramps([20])  # 18 windows of 3
    every = {last: make(data, 3, last=last) for last in ("drop", "short", "wrap")}
    ids = {last: ids_of(windows) for last, windows in every.items()}
    assert [len(batch) for batch in ids["drop"]] == [4] * 4
    assert [len(batch) for batch in ids["short"]] == [4] * 4 + [2]
    assert ids["short"][:4] == ids["drop"] == ids["wrap"][:4]
    assert ids["wrap"][4] == ids["short"][4] + ids["short"][0][:2]
    masks = [mask.tolist() for _, _, mask in make(data, 3, last="wrap")]
    assert masks == [[1.0] * 4] * 4 + [[1.0, 1.0, 0.0, 0.0]]


def test_a_terabyte_needs_no_list_of_its_windows() -> None:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    memory = mmap.mmap(-1, 2**41, flags=flags, prot=mmap.PROT_READ)
    audio = np.frombuffer(memory, np.int16)
    windows = Windows(from_arrays([(audio, audio)], RATE), 64, batch_size=200)
    x, _ = next(iter(windows))
    assert windows.windows == 2**40 - 63
    assert x.shape == (200, 1, 64)
    assert not x.any()


def test_memory_is_that_of_the_files() -> None:
    sides = [np.zeros(3, np.float32)] * 20_000
    data = from_arrays([(side, side) for side in sides], RATE)
    for windows in (make(data, 3), make(data, 3, run=4).blocks()):
        assert windows.memory_bytes < 100 * len(sides)


def test_mixed_rates_and_channels_are_refused_and_rates_can_be_chosen() -> None:
    audio = np.zeros(50, np.float32)
    data = from_arrays([(audio, audio)] * 3, [48_000, 44_100, 48_000])
    with pytest.raises(PairError, match="1: expected 48000 Hz as in 0, got 44100 Hz"):
        make(data, 5)
    assert make(data.of_rate(48_000), 5).windows == 2 * 46
    with pytest.raises(
        PairError, match=r"0: expected dry of shape \(T,\) or \(1, T\), got \(2, 9\)"
    ):
        from_arrays([(np.zeros((2, 9), np.float32), audio)], RATE)
    with pytest.raises(PairError, match="1: expected float32 samples as in 0, got int16"):
        from_arrays([(audio, audio), (audio.astype(np.int16),) * 2], RATE)


def test_runs_are_views_of_their_block() -> None:
    data = ramps([60, 9, 30])
    windows = make(data, 7, 2, run=5, stride=2, seed=3)
    oracle = WindowOracle([60, 9, 30], 7, 2, 5, 3)
    got = []
    for x, y in windows.runs():
        assert x.untyped_storage().nbytes() <= 4 * 60  # the audio itself
        got += [(int(row[0, 0]), int(-target[0, 1])) for row, target in zip(x, y, strict=True)]
    places = [oracle.locate(i) for i in oracle.ids(0)]
    assert got == [(1000 * f + s, 1000 * f + s + 6) for f, s in places]
    assert windows.position == 0


@settings(max_examples=60)
@given(
    lengths=lengths_st,
    length=st.integers(1, 9),
    run=st.integers(1, 30),
    rows=st.integers(1, 4),
    seed=st.integers(0, 99),
    last=st.sampled_from(["drop", "short"]),
    threads=st.sampled_from([0, 2]),
)
def test_blocks_hold_the_same_windows(
    lengths: list[int], length: int, run: int, rows: int, seed: int, last: str, threads: int
) -> None:
    data = ramps(lengths)
    settings_: dict[str, Any] = {"run": run, "seed": seed, "last": last, "batch_size": run * rows}
    windows = make(data, length, **settings_)
    blocks = make(data, length, threads=threads, **settings_).blocks()
    expected = ids_of(windows)
    oracle = WindowOracle(lengths, length)
    assert len(blocks) == len(expected)
    for batch in expected:
        x, y, mask = next(iter(blocks))
        got = []
        for row, (first, count) in enumerate(blocks.ids.tolist()):
            got += range(first, first + count)
            file, start = oracle.locate(first)
            ramp = 1000 * file + start + np.arange(count + length - 1)
            assert np.array_equal(x[row, 0, : len(ramp)], ramp)
            assert np.array_equal(-y[row, 0, :count], ramp[length - 1 :])
            assert mask[row, 0].tolist() == [1.0] * count + [0.0] * (run - count)
            assert not x[row, 0, len(ramp) :].any()
        assert got == batch
        assert x.shape == (len(blocks.ids), 1, length + run - 1)


def test_impossible_settings_are_errors() -> None:
    data = ramps([50])
    cases: list[tuple[str, dict[str, Any]]] = [
        ("batch_size: expected a positive multiple of world_size", {"world_size": 3}),
        ("rank: expected 0 to below world_size", {"rank": 1}),
        ("stride: expected 1 to", {"stride": 0}),
        ("run: expected an integer, got 2.0", {"run": 2.0}),
        ("seed: expected 0 to", {"seed": -1}),
        ("last: expected one of drop, short, wrap, got 'x'", {"last": "x"}),
        ("out_length: expected at most the length of a window", {"out_length": 6}),
        ("expected one of avx512", {"isa": "mmx"}),
        ("prefetch: expected 1 to", {"prefetch": 0}),
        *(
            []
            if torch.cuda.is_available()
            else [("pin_memory: expected a CUDA GPU", {"pin_memory": True})]
        ),
    ]
    for message, options in cases:
        with pytest.raises((InputError, RuntimeError), match=message):
            make(data, 5, **options)
    with pytest.raises(InputError, match="ids: expected a batch to be taken before"):
        _ = make(data, 5).ids
    with pytest.raises(InputError, match="batch_size: expected a multiple of run"):
        make(data, 5, run=3).blocks()
    assert make(data, 51).skipped == 1
    assert list(make(data, 51)) == []
