"""The samplers in the hands of PyTorch: loaders, workers, samplers, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from sampler_data import ids_of, make, ramps
from torch.utils.data import DataLoader


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


def first_of(batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return batch[0].clone()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.slow
def test_a_stateful_loader_goes_on_where_it_was(workers: int) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")
    data = ramps([90, 40])

    def loader() -> Any:
        return torchdata.StatefulDataLoader(
            make(data, 7, run=2), batch_size=None, num_workers=workers
        )

    expected = [first_of(batch) for batch in make(data, 7, run=2)]
    for stop in (0, 1, 4, len(expected) - 2, len(expected) - 1):
        stopped = loader()
        batches = iter(stopped)
        got = [first_of(next(batches)) for _ in range(stop)]
        state = stopped.state_dict()
        other = loader()
        other.load_state_dict(state)
        got += [first_of(batch) for batch in other]
        assert torch.equal(torch.stack(got), torch.stack(expected))
