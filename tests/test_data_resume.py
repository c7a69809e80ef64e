"""States of windows: what comes next, for any ranks and threads."""

from __future__ import annotations

import io
import time
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from sampler_data import RATE, ids_of, make, ramps, step

from fxfast.data import from_arrays
from fxfast.errors import InputError


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
