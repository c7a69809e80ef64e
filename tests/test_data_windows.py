"""Splits without leakage, batches that cover everything once, windows equal to blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES

from fxfast import models
from fxfast.data import (
    Piece,
    WindowSet,
    block_of_windows,
    render_by_windows,
    split_by_time,
    windows_of_block,
)
from fxfast.errors import InputError, PairError
from fxfast.models.conv_stack import ConvLayerConfig, ConvStack, ConvStackConfig
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import esr_loss


def counting_pair(name: str, length: int, start: int = 0) -> Pair:
    """Samples that tell where they come from: dry[t] = t, wet[t] = -t."""
    ramp = np.arange(start, start + length, dtype=np.float32)
    return Pair(name, ramp, -ramp, 48000)


def window_set(lengths: list[int], **changes: int) -> WindowSet:
    pieces, start = [], 1
    for index, length in enumerate(lengths):
        ramp = np.arange(start, start + length, dtype=np.float32)
        pieces.append(Piece(f"p{index}", 0, ramp, ramp))
        start += length
    settings = {"receptive_field": 5, "block_samples": 16, "batch_blocks": 3, "seed": 7}
    return WindowSet(pieces, **{**settings, **changes})


def test_windows_of_block_is_a_view_of_every_window() -> None:
    block = torch.arange(24.0).reshape(2, 12)[:, ::2]
    windows = windows_of_block(block, 4)
    assert windows.shape == (2, 3, 4)
    assert windows.data_ptr() == block.data_ptr()
    for i in range(3):
        assert torch.equal(windows[:, i], block[:, i : i + 4])


def test_block_of_windows_inverts_windows_of_block() -> None:
    block = torch.randn(3, 1, 20)
    for length in (1, 2, 7, 20):
        assert torch.equal(block_of_windows(windows_of_block(block, length)), block)


@pytest.mark.parametrize("length", [0, 7])
def test_window_that_does_not_fit_is_an_error(length: int) -> None:
    with pytest.raises(InputError, match=rf"window_length: expected 1 to 6 .* got {length}"):
        windows_of_block(torch.zeros(6), length)


def test_windows_of_another_stride_are_an_error() -> None:
    with pytest.raises(InputError, match="stride 1"):
        block_of_windows(torch.arange(12.0).reshape(3, 4))
    with pytest.raises(InputError, match=r"windows: expected shape \(\.\.\., n, N\)"):
        block_of_windows(torch.zeros(4))


EQUIVALENT = {
    "conv-64-32": None,
    "dense-64": None,
    "tcn-16": None,
    "mixed": ConvStackConfig(
        (
            ConvLayerConfig(5, 3, 2, "prelu", slopes=(0.1, 0.2, 0.3, 0.4, 0.5)),
            ConvLayerConfig(4, 2, 5, "leaky_relu", bias=False, slopes=(0.2,)),
            ConvLayerConfig(3, 4, 1, "sigmoid"),
            ConvLayerConfig(1, 2, 3, "tanh"),
        ),
        skip=True,
    ),
}


def equivalent_model(name: str) -> models.AudioModel:
    config = EQUIVALENT[name]
    return models.create(name, seed=3) if config is None else ConvStack(config)


def loss_and_gradients(
    model: torch.nn.Module, x_bct: torch.Tensor, y_bct: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    model.zero_grad()
    loss = esr_loss(model(x_bct), y_bct)
    loss.backward()
    return loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EQUIVALENT)
def test_training_on_windows_and_on_a_block_is_the_same(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = equivalent_model(name).to(dtype)
    n, length = 50, model.receptive_field
    block = torch.randn(n + length - 1, dtype=dtype)
    target = torch.randn(n, dtype=dtype)
    windows = windows_of_block(block, length)
    on_windows = loss_and_gradients(model, windows[:, None], target[:, None, None])
    on_block = loss_and_gradients(model, block[None, None], target[None, None])
    tolerance = TOLERANCES[f"windows_and_blocks_{str(dtype).removeprefix('torch.')}"].value
    assert abs(on_windows[0] - on_block[0]) <= tolerance * on_block[0]
    assert len(on_windows[1]) == len(list(model.parameters()))
    for by_window, by_block in zip(on_windows[1], on_block[1], strict=True):
        assert (by_window - by_block).abs().max() <= tolerance * by_block.abs().max()


@pytest.mark.parametrize("name", EQUIVALENT)
def test_rendering_by_windows_and_by_the_engine_is_the_same(name: str) -> None:
    torch.manual_seed(0)
    model = equivalent_model(name)
    x = torch.randn(450)
    expected = Player(model.to_graph(48000)).render(x.numpy())
    window = max(64, model.receptive_field)
    for module in (model, model.as_torch()):
        by_windows = render_by_windows(module, x, batch=200, window=window)
        assert by_windows.shape == x.shape
        worst = np.abs(by_windows.numpy() - expected).max()
        assert worst <= TOLERANCES["windows_and_engine"].value


def test_rendering_by_windows_refuses_other_shapes_and_takes_no_samples() -> None:
    model = models.create("dense-64")
    assert render_by_windows(model, torch.zeros(0)).shape == (0,)
    with pytest.raises(InputError, match=r"x: expected shape \(T,\), got \(1, 9\)"):
        render_by_windows(model, torch.zeros(1, 9))


@pytest.mark.parametrize("guard", [0, 40])
def test_no_sample_of_a_window_is_in_two_parts(guard: int) -> None:
    field = 5
    pairs = [counting_pair("a", 1000), counting_pair("b", 803, 1000), counting_pair("c", 6, 1803)]
    split = split_by_time(pairs, receptive_field=field, guard_samples=guard)
    seen: dict[str, set[int]] = {}
    for part in ("train", "validation", "test"):
        windows = WindowSet(
            getattr(split, part),
            receptive_field=field,
            block_samples=16,
            batch_blocks=4,
            seed=0,
        )
        seen[part] = set()
        for batch in windows.epoch(0):
            for x, mask in zip(batch.x_bct[:, 0], batch.mask_bct[:, 0], strict=True):
                used = x[: int(mask.sum()) + field - 1]  # history and every unmasked target
                seen[part].update(int(sample) for sample in used)
    for one, other in (("train", "validation"), ("validation", "test"), ("train", "test")):
        assert not seen[one] & seen[other]
    for start, stop in ((0, 1000), (1000, 1803)):  # in each file: later parts are later in time
        spans = [
            [s for s in seen[part] if start <= s < stop] for part in ("train", "validation", "test")
        ]
        assert max(spans[0]) + guard < min(spans[1])
        assert max(spans[1]) + guard < min(spans[2])


def test_split_has_the_asked_lengths_and_is_aligned() -> None:
    split = split_by_time([counting_pair("a", 1000)], receptive_field=5)
    (train,), (validation,), (test,) = split.train, split.validation, split.test
    assert (train.start_sample, train.stop_sample) == (0, 750)
    assert (validation.start_sample, validation.stop_sample) == (750, 875)
    assert (test.start_sample, test.stop_sample) == (875, 1000)
    assert np.array_equal(test.dry, -test.wet)


def test_split_without_room_for_a_window_is_an_error() -> None:
    with pytest.raises(PairError, match=r"at least one of 512 samples .* 1 pairs of at most 100"):
        split_by_time([counting_pair("a", 100)], receptive_field=64)
    with pytest.raises(InputError, match="split: expected positive fractions"):
        split_by_time([counting_pair("a", 100)], receptive_field=4, train=0.9)
    with pytest.raises(InputError, match="guard_samples: expected 0 or more, got -1"):
        split_by_time([counting_pair("a", 100)], receptive_field=4, guard_samples=-1)


@pytest.mark.parametrize("lengths", [[200], [5], [6, 21, 200, 20]])
@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_target_comes_exactly_once_per_epoch(lengths: list[int], epoch: int) -> None:
    windows = window_set(lengths)
    batches = list(windows.epoch(epoch))
    got = torch.cat([b.y_bct[b.mask_bct > 0] for b in batches]).long().tolist()
    expected, start = [], 1
    for length in lengths:
        expected += range(start + 4, start + length)
        start += length
    assert sorted(got) == expected
    assert sum(b.target_samples for b in batches) == windows.target_samples == len(expected)
    assert len(batches) == windows.steps(epoch)
    assert [len(b.x_bct) for b in batches[:-1]] == [3] * (len(batches) - 1)
    assert 1 <= len(batches[-1].x_bct) <= 3


def test_input_and_target_of_a_block_are_aligned() -> None:
    for batch in window_set([40, 7, 90]).epoch(2):
        assert batch.x_bct.shape[1:] == (1, 16 + 4)
        assert batch.y_bct.shape == batch.mask_bct.shape
        kept = batch.mask_bct > 0
        assert torch.equal(batch.x_bct[..., 4:][kept], batch.y_bct[kept])
        history = batch.x_bct[..., :4] + torch.arange(4.0, 0.0, -1.0)
        assert torch.equal(history, batch.y_bct[..., :1].expand_as(history))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def targets(windows: WindowSet, epoch: int) -> list[list[float]]:
        return [batch.y_bct.flatten().tolist() for batch in windows.epoch(epoch)]

    fresh, used = window_set([300, 90]), window_set([300, 90])
    list(used.epoch(0))
    assert targets(fresh, 3) == targets(used, 3)  # resuming at an epoch needs no earlier one
    assert targets(fresh, 3) != targets(fresh, 4)
    assert targets(fresh, 3) != targets(window_set([300, 90], seed=8), 3)


def test_impossible_batches_are_errors() -> None:
    with pytest.raises(InputError, match=r"batches: expected .* got block 0 and batch 3"):
        window_set([50], block_samples=0)
    with pytest.raises(InputError, match="pieces: expected at least one, each of 5 samples"):
        window_set([4])
    with pytest.raises(InputError, match="seed: expected 0 or more, got -1"):
        window_set([50], seed=-1)
