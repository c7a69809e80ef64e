"""The input of a model: the audio, then a channel for each knob."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fxfast.errors import InputError
from fxfast.graph import Knob


def check_input(x_bct: torch.Tensor, receptive_field: int, knobs: Sequence[Knob] = ()) -> None:
    """Raise ``InputError`` unless a window of a net is of shape (B, 1 + knobs, T) and long
    enough."""
    channels = 1 + len(knobs)
    if x_bct.ndim != 3 or x_bct.shape[1] != channels or x_bct.shape[2] < receptive_field:
        raise InputError(
            f"x: expected shape (B, {channels}, T) with T of at least {receptive_field} (the "
            f"receptive field), got {tuple(x_bct.shape)}"
        )


def with_gain(x_bct: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """The audio, the first channel, times ``gain``; knobs as they are."""
    if x_bct.shape[1] == 1:
        return x_bct * gain
    return torch.cat([x_bct[:, :1] * gain, x_bct[:, 1:]], dim=1)


def with_knobs(x_bct: torch.Tensor, knobs_bk: torch.Tensor) -> torch.Tensor:
    """The input of a conditioned model: each knob is a channel after the audio."""
    return torch.cat([x_bct, knobs_bk[:, :, None].expand(-1, -1, x_bct.shape[2])], dim=1)
