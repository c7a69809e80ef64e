"""The order of an epoch: a keyed permutation that never changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_data import ISAS, ids_of, lengths_st, make, ramps
from sampler_oracle import WindowOracle, permutation, random_word

from fxfast.native import engine

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
