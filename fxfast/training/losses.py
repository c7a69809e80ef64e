"""The training loss: error energy against target energy, over a whole batch."""

from __future__ import annotations

import torch


def pre_emphasize(x_bct: torch.Tensor, coefficient: float) -> torch.Tensor:
    """First-order high-pass y[t] = x[t] - coefficient * x[t - 1], (B, 1, n) to (B, 1, n - 1).

    Source: Wright and Valimaki, Perceptual loss function for neural modelling of audio
    systems, 2020 (coefficient 0.95).
    """
    return x_bct[..., 1:] - coefficient * x_bct[..., :-1]


def esr_loss(
    prediction_bct: torch.Tensor,
    target_bct: torch.Tensor,
    mask_bct: torch.Tensor | None = None,
    *,
    pre_emphasis: float = 0.0,
    energy_floor: float = 1e-5,
) -> torch.Tensor:
    """Error-to-signal ratio of a batch: one scalar, 0 for a perfect prediction.

    All inputs have shape (B, 1, n); samples where ``mask_bct`` is 0 do not count. The
    energies are summed over the batch before the division, and ``energy_floor`` (mean
    square per sample) is added to the target's, so a silent batch gives a small finite
    loss. ``pre_emphasis`` other than 0 filters error and target first.
    """
    error, target = prediction_bct - target_bct, target_bct
    mask = torch.ones_like(target) if mask_bct is None else mask_bct
    if pre_emphasis:
        error = pre_emphasize(error, pre_emphasis)
        target = pre_emphasize(target, pre_emphasis)
        mask = mask[..., 1:]
    error_energy = (error.square() * mask).sum()
    target_energy = (target.square() * mask).sum() + energy_floor * mask.sum().clamp_min(1.0)
    return error_energy / target_energy
