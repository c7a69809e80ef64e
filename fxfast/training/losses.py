"""The training loss: error energy against target energy over a whole batch, and what is added."""

from __future__ import annotations

from collections.abc import Sequence

import torch

# FFT size, hop and window of Yamamoto, Song and Kim, Parallel WaveGAN, 2020, table 1.
STFT_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
# Power below which a spectrum is not followed, for a mean square of the target of 1.
_STFT_FLOOR = 1e-6


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


def dc_loss(
    prediction_bct: torch.Tensor,
    target_bct: torch.Tensor,
    mask_bct: torch.Tensor,
    energy_floor: float = 1e-5,
) -> torch.Tensor:
    """Squared mean of the error of each row over the mean square of the targets, its mean over
    the rows. Shapes and ``energy_floor`` as in ``esr_loss``.

    Source: Wright and Valimaki, 2020, eq. 5.
    """
    counts = mask_bct.sum(dim=2).clamp_min(1.0)
    means = ((prediction_bct - target_bct) * mask_bct).sum(dim=2) / counts
    energy = (target_bct.square() * mask_bct).sum() / mask_bct.sum().clamp_min(1.0)
    return means.square().mean() / (energy + energy_floor)


def stft_loss(
    prediction_bct: torch.Tensor,
    target_bct: torch.Tensor,
    mask_bct: torch.Tensor,
    energy_floor: float = 1e-5,
    resolutions: Sequence[tuple[int, int, int]] = STFT_RESOLUTIONS,
) -> torch.Tensor:
    """Spectral convergence plus mean distance of log magnitudes, mean over the resolutions whose
    window fits into a row (one that is as long as the row where none does).

    Both sides are scaled to the level of the targets first, so that the floor of the magnitudes
    is the same for quiet and loud material. Shapes and ``energy_floor`` as in ``esr_loss``.
    Source: Yamamoto, Song and Kim, Parallel WaveGAN, 2020, eq. 3 to 6.
    """
    samples = target_bct.shape[2]
    fitting = [size for size in resolutions if size[2] <= samples]
    if not fitting:
        fitting = [(samples, max(1, samples // 4), samples)]
    energy = (target_bct.square() * mask_bct).sum() / mask_bct.sum().clamp_min(1.0)
    scale = mask_bct * (energy + energy_floor).rsqrt()
    got, wanted = prediction_bct * scale, target_bct * scale
    parts = [_stft_distance(got[:, 0], wanted[:, 0], *size) for size in fitting]
    return torch.stack(parts).mean()


def _stft_distance(
    got_bt: torch.Tensor, wanted_bt: torch.Tensor, size: int, hop: int, length: int
) -> torch.Tensor:
    got, wanted = (_magnitudes(x, size, hop, length) for x in (got_bt, wanted_bt))
    # The gradient of a root at 0 has no value: the floor keeps away from it.
    convergence = (wanted - got).square().sum() / (wanted.square().sum() + _STFT_FLOOR)
    return (convergence + 1e-12).sqrt() + (wanted.log() - got.log()).abs().mean()


def _magnitudes(x_bt: torch.Tensor, size: int, hop: int, length: int) -> torch.Tensor:
    taper = torch.hann_window(length, device=x_bt.device, dtype=x_bt.dtype)
    # Frames inside the row alone: what lies around it is not known.
    frames = x_bt.unfold(1, length, hop) * taper
    spectra = torch.fft.rfft(frames, size)
    power = spectra.real.square() + spectra.imag.square()
    magnitudes: torch.Tensor = (power + _STFT_FLOOR).sqrt()
    return magnitudes
