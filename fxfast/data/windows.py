"""Windows and blocks, and why they are equal.

A network that reads N samples and gives one, applied to n windows of stride 1, and
the same network as a valid convolution over one block of n+N-1 samples, are the same
function: same outputs, same loss, same gradients to rounding. The block costs n times
less memory and computes every hidden value once instead of up to N times, so training
uses blocks. ``windows_of_block`` and ``block_of_windows`` go from one form to the
other; ``render_by_windows`` is the slow form and ``render_by_blocks`` the dense one, both
kept as baselines.
"""

from __future__ import annotations

import torch

from fxfast.errors import InputError


def windows_of_block(block: torch.Tensor, window_length: int) -> torch.Tensor:
    """All windows of stride 1 of a block, as a view that shares the block's memory.

    ``block`` has shape (..., T); the result has shape (..., T - window_length + 1,
    window_length) and window i holds samples i to i + window_length - 1. Do not write
    into it: neighbours overlap. Raises ``InputError`` when no window fits.
    """
    length = block.shape[-1] if block.ndim else 0
    if not 1 <= window_length <= length:
        raise InputError(
            f"window_length: expected 1 to {length} samples (the block's length), "
            f"got {window_length}"
        )
    step = block.stride(-1)
    return block.as_strided(
        (*block.shape[:-1], length - window_length + 1, window_length),
        (*block.stride()[:-1], step, step),
        block.storage_offset(),
    )


def block_of_windows(windows: torch.Tensor) -> torch.Tensor:
    """The block whose windows of stride 1 are given: the inverse of ``windows_of_block``.

    ``windows`` has shape (..., n, N), the result (..., n + N - 1). Raises ``InputError``
    when neighbouring windows do not overlap in N - 1 equal samples.
    """
    if windows.ndim < 2 or windows.shape[-1] < 1 or windows.shape[-2] < 1:
        raise InputError(
            f"windows: expected shape (..., n, N) with n and N at least 1, "
            f"got {tuple(windows.shape)}"
        )
    if not torch.equal(windows[..., 1:, :-1], windows[..., :-1, 1:]):
        raise InputError(
            "windows: expected neighbours that overlap in all but one sample (stride 1), "
            "got windows that differ where they overlap"
        )
    return torch.cat([windows[..., 0, :], windows[..., 1:, -1]], dim=-1)


def render_by_windows(
    model: torch.nn.Module, x: torch.Tensor, *, batch: int = 200, window: int = 64
) -> torch.Tensor:
    """Renders (T,) samples window by window: the slow way that the engine is compared with.

    ``model`` maps (B, 1, window) to (B, 1, 1) or longer, of which the last sample counts.
    Silence stands before the first sample, so T samples come out, aligned with the input.
    Raises ``InputError`` for another shape.
    """
    if x.ndim != 1:
        raise InputError(f"x: expected shape (T,), got {tuple(x.shape)}")
    if x.numel() == 0:
        return x.clone()
    padded = torch.nn.functional.pad(x, (window - 1, 0))
    with torch.no_grad():
        outputs = [
            model(windows.unsqueeze(1))[:, 0, -1]
            for windows in torch.split(windows_of_block(padded, window), batch)
        ]
    return torch.cat(outputs)


def render_by_blocks(
    model: torch.nn.Module, x: torch.Tensor, *, receptive_field: int, block: int
) -> torch.Tensor:
    """Renders (T,) samples by valid convolutions over blocks of ``block`` samples.

    ``model`` maps (B, 1, n + receptive_field - 1) to (B, 1, n). The same samples as
    ``render_by_windows`` to rounding. Raises ``InputError`` for another shape.
    """
    if x.ndim != 1:
        raise InputError(f"x: expected shape (T,), got {tuple(x.shape)}")
    history = receptive_field - 1
    padded = torch.nn.functional.pad(x, (history, 0))
    with torch.no_grad():
        outputs = [
            model(padded[start : start + block + history][None, None])[0, 0]
            for start in range(0, x.shape[0], block)
        ]
    return torch.cat(outputs) if outputs else x.clone()
