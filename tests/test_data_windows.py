"""Windows equal blocks: the views, the loss, the gradients, the rendering."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tolerances import TOLERANCES

from fxfast import models
from fxfast.data import (
    block_of_windows,
    render_by_windows,
    windows_of_block,
)
from fxfast.errors import InputError
from fxfast.models.conv_stack import ConvLayerConfig, ConvStack, ConvStackConfig
from fxfast.player import Player
from fxfast.training import esr_loss


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
