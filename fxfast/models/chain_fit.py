"""A good start for a net in front of linear parts: what it would have to give, and some steps.

A step through an echo or a room costs its whole memory. So before them the linear parts are taken
back from wet (regularised division of spectra; N. Wiener, Extrapolation, Interpolation, and
Smoothing of Stationary Time Series, 1949), the net alone learns what is left, and the linear parts
are found again from what the net gives (alternating least squares, as for Hammerstein systems:
K. Narendra, P. Gallman, IEEE Trans. Automatic Control 11, 1966).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.fft
import torch

from fxfast.graph import ModelGraph
from fxfast.models.base import AudioModel
from fxfast.player import Player

# Of the largest power of the response: what is weaker is not brought back.
_REGULARISATION = 1e-3
_RESPONSE_SECONDS = 12.0
# The response is looked at until it has fallen by so much.
_NEGLIGIBLE = 1e-5
_STEPS, _BLOCKS, _LEARNING_RATE = 300, 4, 5e-3
_BLOCK_SAMPLES = (1024, 4096)

Sound = tuple[np.ndarray, np.ndarray]


def response_of(parts: Sequence[AudioModel], rate: int) -> np.ndarray:
    """The impulse response of linear parts in a row, as the engine plays them."""
    click = np.zeros(round(_RESPONSE_SECONDS * rate), np.float32)
    click[0] = 1.0
    for part in parts:
        click = Player(ModelGraph(part.to_graph(rate).root, rate), threads=1).render(click)
    loud = np.flatnonzero(np.abs(click) > _NEGLIGIBLE * np.abs(click).max())
    return click[: loud[-1] + 1] if len(loud) else click[:1]


def taken_back(wet: np.ndarray, response: np.ndarray) -> np.ndarray:
    """What the response makes wet of, near enough: float32 of the length of wet."""
    size = scipy.fft.next_fast_len(len(wet) + len(response), real=True)
    of_response = scipy.fft.rfft(response.astype(np.float64), size)
    power = np.square(np.abs(of_response))
    floor = _REGULARISATION * float(power.max()) + 1e-30
    spectrum = scipy.fft.rfft(wet.astype(np.float64), size) * np.conj(of_response)
    found: np.ndarray = scipy.fft.irfft(spectrum / (power + floor), size)[: len(wet)]
    return found.astype(np.float32)


def teach(net: AudioModel, sounds: Sequence[Sound], progress: Callable[[float, str], None]) -> None:
    """Steps by which a net learns to make the second of each pair of sounds of the first.

    The same sounds and weights give the same weights."""
    field = net.receptive_field
    block = min(max(field, _BLOCK_SAMPLES[0]), _BLOCK_SAMPLES[1])
    long_enough = [(x, y) for x, y in sounds if len(x) >= field + block - 1]
    if not long_enough:
        return
    floor = float(np.mean([np.mean(np.square(y, dtype=np.float64)) for _, y in long_enough]))
    parameters = [parameter for parameter, _ in net.parameter_step_sizes()]
    optimizer = torch.optim.Adam(parameters, lr=_LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    random = np.random.default_rng(0)
    ends = np.cumsum([len(x) - field - block + 2 for x, _ in long_enough])
    for step in range(_STEPS):
        x_bct, y_bct = _batch(long_enough, ends, random.integers(ends[-1], size=_BLOCKS),
                              field, block)  # fmt: skip
        error = (net(x_bct) - y_bct).square().mean((1, 2))
        loss = (error / (y_bct.square().mean((1, 2)) + 0.1 * floor + 1e-20)).mean()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 10 == 0:
            progress(step / _STEPS, f"net alone, loss {float(loss.detach()):.2g}")


def _batch(
    sounds: Sequence[Sound], ends: np.ndarray, places: np.ndarray, field: int, block: int
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = []
    for place in places:
        index = int(np.searchsorted(ends, place, "right"))
        start = int(place - (ends[index - 1] if index else 0))
        stop = start + field + block - 1
        x, y = sounds[index]
        rows.append((x[start:stop], y[start + field - 1 : stop]))
    x_bt, y_bt = (np.stack(each) for each in zip(*rows, strict=True))
    return torch.from_numpy(x_bt)[:, None], torch.from_numpy(y_bt)[:, None]
