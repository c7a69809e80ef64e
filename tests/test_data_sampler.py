"""Windows: the order, ranks, resuming, memory, processes, PyTorch's ways of use."""

from __future__ import annotations

import copy
import io
import mmap
import pickle
import time
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_oracle import WindowOracle, permutation, random_word
from torch.utils.data import DataLoader

from fxfast.data import Data, Windows, from_arrays
from fxfast.errors import InputError, PairError
from fxfast.native import engine

RATE = 48_000
ISAS = [name for name, supported in engine().isas() if supported]
# Frozen: the order of an epoch is a promise and never changes.
GOLDEN: dict[tuple[int, int, int], list[int]] = {
    (10, 0, 0): [9, 0, 1, 4, 8, 2, 3, 7],
    (4095, 1, 2): [3717, 329, 3735, 3307, 2083, 1402, 2666, 49],
    (4096, 1, 2): [2394, 428, 849, 1475, 1133, 845, 1132, 2608],
    (100003, 7, 1): [49073, 52866, 46847, 90032, 33657, 14147, 88861, 83951],
    (28799937, 0, 5): [
        18573859,
        11314732,
        15553317,
        24133968,
        20959496,
        6240326,
        21184150,
        26029949,
    ],
    (1099511627776, 3, 9): [
        841198014899,
        855520867524,
        228130208288,
        250116465779,
        369149672872,
        713216698774,
        303220095067,
        1035443977884,
    ],
}


def ramps(lengths: list[int], dtype: Any = np.float32, **options: Any) -> Data:
    """dry[t] tells file and time, wet is its negative."""
    pairs = []
    for file, length in enumerate(lengths):
        ramp = (1000 * file + np.arange(length)).astype(dtype)
        pairs.append((ramp, -ramp))
    return from_arrays(pairs, RATE, **options)


def make(data: Data, length: int, out_length: int = 1, **options: Any) -> Windows:
    return Windows(data, length, out_length, **{"batch_size": 4, "prefetch": 3, **options})


def step(windows: Windows) -> tuple[torch.Tensor, ...]:
    """The next batch, of the next epoch if this one is over."""
    batch = next(iter(windows), None)
    return next(iter(windows)) if batch is None else batch


def ids_of(windows: Windows) -> list[list[int]]:
    return [windows.ids.tolist() for _ in windows]


lengths_st = st.lists(st.integers(0, 60), min_size=1, max_size=5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("n", [1, 2, 3, 17, 199, 4095, 4096, 4097, 65537])
def test_the_permutation_is_one_and_equals_the_oracle(n: int, isa: str) -> None:
    for seed, epoch in ((0, 0), (7, 3), (2**64 - 1, 2**32 - 1)):
        values = engine().permutation(n, seed, epoch, np.arange(n), isa)
        assert np.array_equal(np.sort(values), np.arange(n))
        some = list(range(0, n, max(1, n // 50)))
        assert values[some].tolist() == permutation(n, seed, epoch, some)


@settings(max_examples=40)
@given(st.integers(1, 2**60), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.data())
def test_the_permutation_of_any_size_equals_the_oracle(
    n: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=40))
    for isa in ISAS:
        values = engine().permutation(n, seed, epoch, np.array(positions), isa)
        assert values.tolist() == permutation(n, seed, epoch, positions)
    assert 0 <= values.min() <= values.max() < n


@pytest.mark.parametrize("key", list(GOLDEN), ids=str)
def test_golden_vectors_never_change(key: tuple[int, int, int]) -> None:
    n, seed, epoch = key
    count = len(GOLDEN[key])
    assert engine().permutation(n, seed, epoch, np.arange(count)).tolist() == GOLDEN[key]
    assert permutation(n, seed, epoch, range(count)) == GOLDEN[key]


def test_golden_random_words_never_change() -> None:
    # Philox4x32-10 with key 0 and counter 0, from the vectors of Random123.
    assert engine().random_word(0, 0, 0) == random_word(0, 0, 0) == 0xE169C58D6627E8D5
    assert engine().random_word(5, 6, 7) == random_word(5, 6, 7)


def test_epochs_are_not_correlated_and_positions_are_even() -> None:
    n = 100_003
    epochs = [engine().permutation(n, 5, e, np.arange(n)).astype(float) for e in range(6)]
    bound = 4 / np.sqrt(n)
    for a in range(6):
        for lag in (1, 2, 4, 64, 1024):
            assert abs(np.corrcoef(epochs[a][:-lag], epochs[a][lag:])[0, 1]) < bound
        for b in range(a):
            assert abs(np.corrcoef(epochs[a], epochs[b])[0, 1]) < bound
    for n in (10, 64, 1000, 5000):
        first = [int(engine().permutation(n, seed, 0, np.arange(1))[0]) for seed in range(4000)]
        cells = min(n, 100)
        counts = np.bincount(np.array(first) * cells // n, minlength=cells)
        widths = np.bincount(np.arange(n) * cells // n, minlength=cells)
        expected = 4000 * widths / n
        freedom = cells - 1
        chi2 = float(((counts - expected) ** 2 / expected).sum())
        assert abs(chi2 - freedom) < 4 * np.sqrt(2 * freedom)


@settings(max_examples=60)
@given(
    lengths=lengths_st,
    length=st.integers(1, 20),
    stride=st.integers(1, 5),
    run=st.integers(1, 9),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 3),
    replacement=st.booleans(),
    isa=st.sampled_from(ISAS),
)
def test_ids_are_those_of_the_oracle(
    lengths: list[int],
    length: int,
    stride: int,
    run: int,
    seed: int,
    epoch: int,
    replacement: bool,
    isa: str,
) -> None:
    oracle = WindowOracle(lengths, length, stride, run, seed, replacement)
    windows = make(
        ramps(lengths),
        length,
        stride=stride,
        run=run,
        seed=seed,
        replacement=replacement,
        last="short",
        isa=isa,
    )
    windows.set_epoch(epoch)
    assert windows.windows == oracle.windows
    assert len(windows) == -(-oracle.windows // 4)
    got = [i for batch in ids_of(windows) for i in batch]
    assert got == (oracle.ids(epoch) if oracle.windows else [])
    if not replacement:
        assert sorted(got) == list(range(oracle.windows))  # T3: each exactly once
    assert windows.epoch == epoch + 1


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


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_resuming_at_any_batch_gives_the_same_batches(threads: int) -> None:
    data = ramps([700, 90, 1500])
    windows = make(data, 9, run=3, seed=11, threads=threads)
    epochs = [ids_of(windows) for _ in range(2)]
    following = list(chain.from_iterable(epochs))
    rng = np.random.default_rng(0)
    windows.set_epoch(0)
    states = []
    for _ in range(2 * len(epochs[0]) - 4):
        states.append(windows.state_dict())
        step(windows)
    other = make(data, 9, run=3, seed=11, threads=threads, prefetch=7)
    for stop in rng.integers(0, len(states), 10_000 if threads == 0 else 300):
        state = states[stop]
        other.load_state_dict(state)
        batch = step(other)
        assert other.ids.tolist() == following[stop]
        assert batch[0].shape == (4, 1, 9)
    assert all(len(state["state"]) == 64 for state in states)


def test_the_state_counts_what_was_handed_out_and_not_what_is_ready() -> None:
    windows = make(ramps([400]), 5, threads=2, prefetch=16)
    batches = iter(windows)
    for _ in range(3):
        next(batches)
    time.sleep(0.02)
    assert (windows.epoch, windows.position) == (0, 3)
    buffer = io.BytesIO()
    torch.save(windows.state_dict(), buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    other = make(ramps([400]), 5, threads=0)
    other.load_state_dict(saved)
    next(batches), next(iter(other))
    assert windows.ids.tolist() == other.ids.tolist()


def test_a_run_goes_on_with_other_ranks_and_batches_are_the_same_objects() -> None:
    data = ramps([700])
    windows = make(data, 9, batch_size=8)
    seen = {id(next(iter(windows))[0]) for _ in range(40)}
    assert len(seen) == 3 + 2  # one for each batch of the ring: nothing is made anew
    state = windows.state_dict()
    next(iter(windows))
    shares = []
    for rank in range(4):
        share = make(data, 9, batch_size=8, rank=rank, world_size=4)
        share.load_state_dict(state)
        next(iter(share))
        shares += share.ids.tolist()
    assert shares == windows.ids.tolist()


def test_a_state_of_other_data_or_settings_is_refused_by_name() -> None:
    base = ramps([50, 60])
    state = make(base, 5).state_dict()
    cases = {
        "other lengths": ramps([50, 61]),
        "other names or rates": ramps([50, 60], names=["a", "b"]),
        "other audio or knobs": from_arrays(
            [(np.zeros(n, np.float32), np.zeros(n, np.float32)) for n in (50, 60)], RATE
        ),
    }
    for message, data in cases.items():
        with pytest.raises(InputError, match=message):
            make(data, 5).load_state_dict(state)
    changes: dict[str, Any] = {"seed": 1, "run": 2, "stride": 3, "batch_size": 8}
    for name, value in changes.items():
        with pytest.raises(InputError, match=f"expected {name} {value} as this sampler has"):
            make(base, 5, **{name: value}).load_state_dict(state)
    with pytest.raises(InputError, match="expected length 6 as this sampler has, got 5"):
        make(base, 6).load_state_dict(state)
    with pytest.raises(InputError, match="expected options 1 as this sampler has, got 0"):
        make(base, 5, replacement=True).load_state_dict(state)
    with pytest.raises(InputError, match="state: expected 64 bytes, got 63"):
        make(base, 5).load_state_dict({"state": state["state"][:63]})
    for at in range(64):
        damaged = bytearray(state["state"])
        damaged[at] ^= 0x10
        with pytest.raises(InputError):
            make(base, 5).load_state_dict({"state": bytes(damaged)})
    with pytest.raises(InputError, match="state: expected the entry 'state', got"):
        make(base, 5).load_state_dict({})


def test_two_to_the_forty_windows_take_no_memory() -> None:
    lengths = [2**39 + 63] * 2
    fields = {"length": 64, "stride": 1, "seed": 3, "replacement": False}
    for run in (1, 64):
        order = engine().WindowOrder(lengths, {**fields, "run": run})
        for first in (0, 2**40 - 200, 123_456_789_012):
            ids = order.ids(5, first, 200)
            assert 0 <= ids.min() <= ids.max() < 2**40
        assert order.windows == 2**40
        assert order.memory_bytes < 1000
        assert order.locate(2**40 - 1) == (1, 2**39 - 1)


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


@pytest.mark.parametrize("threads", [0, 2])
def test_works_as_the_dataset_of_a_data_loader(threads: int) -> None:
    data = ramps([300, 40], knobs=[[0.25, 1.0], [0.5, 0.0]])
    expected = ids_of(make(data, 7))
    windows = make(data, 7, threads=threads)
    loader = DataLoader(windows, batch_size=None)
    assert len(loader) == len(windows) == len(expected)
    got = []
    for x, y, knobs in loader:
        got.append(windows.ids.tolist())
        assert (x.shape, y.shape, knobs.shape) == ((4, 1, 7), (4, 1, 1), (4, 2))
        files = x[:, 0, 0] >= 1000
        assert torch.equal(knobs[:, 0], torch.where(files, 0.5, 0.25))
    assert got == expected
    assert windows.epoch == 1


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.slow
def test_workers_of_a_data_loader_give_the_same_batches(context: str) -> None:
    data = ramps([300, 40])
    expected = [x.clone() for x, _ in make(data, 7)]
    windows = make(data, 7, threads=1, prefetch=2)
    next(iter(windows))  # threads run while the workers are made
    windows.set_epoch(0)
    loader = DataLoader(windows, batch_size=None, num_workers=2, multiprocessing_context=context)
    got = [x for x, _ in loader]
    assert len(got) == len(expected)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_pickled_and_copied_samplers_go_on_where_they_were() -> None:
    windows = make(ramps([200]), 5)
    next(iter(windows))
    copies = [pickle.loads(pickle.dumps(windows)), copy.deepcopy(windows)]
    rest = ids_of(windows)
    assert all(ids_of(each) == rest for each in copies)


def test_samplers_of_pytorch_choose_the_same_windows() -> None:
    data = ramps([60, 8, 30])
    windows = make(data, 7, 2, run=3)
    batches = [(x.clone(), y.clone()) for x, y in windows]
    windows.set_epoch(0)
    for loader in (
        DataLoader(windows.items(), batch_sampler=windows.batch_sampler()),
        DataLoader(windows.items(), sampler=windows.sampler(), batch_size=4, drop_last=True),
    ):
        got = list(loader)
        assert len(got) == len(batches) == len(loader)
        for (x, y), (ours_x, ours_y) in zip(got, batches, strict=True):
            assert torch.equal(x, ours_x)
            assert torch.equal(y, ours_y)
    for sampler in (windows.sampler(), windows.batch_sampler()):
        begun = iter(sampler)
        taken = [next(begun) for _ in range(3)]
        state = sampler.state_dict()
        rest = list(begun)
        sampler.load_state_dict(state)
        assert list(sampler) == rest
        sampler.set_epoch(0)
        assert list(sampler) == taken + rest
        assert sampler.epoch == 1


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
