"""Windows and blocks of pairs: the split by time, the batches, and why they are equal.

A network that reads N samples and gives one, applied to n windows of stride 1, and
the same network as a valid convolution over one block of n+N-1 samples, are the same
function: same outputs, same loss, same gradients to rounding. The block costs n times
less memory and computes every hidden value once instead of up to N times, so training
uses blocks. ``windows_of_block`` and ``block_of_windows`` go from one form to the
other; ``render_by_windows`` is the slow form and ``render_by_blocks`` the dense one, both
kept as baselines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from fxfast.errors import InputError, PairError
from fxfast.pairs.pair_set import Pair


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


@dataclass(frozen=True, eq=False)
class Piece:
    """A stretch of one pair: ``dry`` and ``wet`` (L,) from sample ``start_sample`` on.

    Windows are taken inside a piece only, input history included.
    """

    name: str
    start_sample: int
    dry: np.ndarray
    wet: np.ndarray

    @property
    def stop_sample(self) -> int:
        return self.start_sample + len(self.dry)


@dataclass(frozen=True, eq=False)
class TimeSplit:
    """Pieces for training, validation and test; no two share a sample."""

    train: tuple[Piece, ...]
    validation: tuple[Piece, ...]
    test: tuple[Piece, ...]


def split_by_time(
    pairs: Sequence[Pair],
    *,
    receptive_field: int,
    train: float = 0.75,
    validation: float = 0.125,
    test: float = 0.125,
    guard_samples: int = 0,
) -> TimeSplit:
    """Cuts every pair in time: first training, then validation, then test.

    The parts are fractions of each pair's length. Windows never leave a piece, so no
    sample, not even one that is only input history, belongs to two parts; on top of
    that ``guard_samples`` samples are left out at each border. A piece shorter than
    ``receptive_field`` samples gives no window and is left out. Raises ``InputError``
    for impossible fractions, ``PairError`` when a part is left without any window.
    """
    fractions = {"train": train, "validation": validation, "test": test}
    if min(fractions.values()) <= 0 or sum(fractions.values()) > 1 + 1e-9:
        raise InputError(f"split: expected positive fractions with a sum up to 1, got {fractions}")
    if guard_samples < 0:
        raise InputError(f"guard_samples: expected 0 or more, got {guard_samples}")
    parts: dict[str, list[Piece]] = {part: [] for part in fractions}
    for pair in pairs:
        end_fraction, start = 0.0, 0
        for part, fraction in fractions.items():
            end_fraction += fraction
            stop = round(len(pair.dry) * min(end_fraction, 1.0))
            if stop - start >= receptive_field:
                piece = Piece(pair.name, start, pair.dry[start:stop], pair.wet[start:stop])
                parts[part].append(piece)
            start = stop + guard_samples
    for part, pieces in parts.items():
        if not pieces:
            longest = max((len(pair.dry) for pair in pairs), default=0)
            raise PairError(
                f"pairs: expected at least one of {receptive_field / fractions[part]:.0f} "
                f"samples or more for the {part} part, got {len(pairs)} pairs of at most "
                f"{longest} samples"
            )
    return TimeSplit(tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]))


class Batch(NamedTuple):
    """Blocks for one optimiser step.

    ``x_bct`` (B, 1, n + receptive_field - 1) is the input with its history, ``y_bct``
    (B, 1, n) the target of the last n samples, ``mask_bct`` (B, 1, n) is 1 where a target
    counts: a block at the end of a piece is shorter, its rest is masked.
    """

    x_bct: torch.Tensor
    y_bct: torch.Tensor
    mask_bct: torch.Tensor

    @property
    def target_samples(self) -> int:
        return int(self.mask_bct.sum())


class WindowSet:
    """Batches of blocks over pieces, in an order that depends on seed and epoch alone.

    Each epoch cuts every piece into blocks of ``block_samples`` targets from a random
    phase on, so that borders move, and shuffles the blocks; every target sample comes
    exactly once per epoch, the last batch may hold fewer blocks. ``epoch(e)`` needs no
    earlier epoch, which makes resuming exact. Targets are the samples with their whole
    receptive field inside the piece.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        *,
        receptive_field: int,
        block_samples: int,
        batch_blocks: int,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        if block_samples < 1 or batch_blocks < 1:
            raise InputError(
                f"batches: expected block and batch of at least 1, "
                f"got block {block_samples} and batch {batch_blocks}"
            )
        if seed < 0:
            raise InputError(f"seed: expected 0 or more, got {seed}")
        self.receptive_field = receptive_field
        self.block_samples = block_samples
        self.batch_blocks = batch_blocks
        self.seed = seed
        self._targets = np.array([len(p.dry) - receptive_field + 1 for p in pieces], np.int64)
        if len(pieces) == 0 or self._targets.min() < 1:
            raise InputError(
                f"pieces: expected at least one, each of {receptive_field} samples or more, "
                f"got lengths {[len(p.dry) for p in pieces][:8]}"
            )
        # All pieces in one buffer, each followed by zeros, so that a block that starts
        # near the end of a piece reads zeros (masked) and never the next piece.
        gap = np.zeros(block_samples - 1, np.float32)
        dry = np.concatenate([part for p in pieces for part in (p.dry, gap)])
        wet = np.concatenate([part for p in pieces for part in (p.wet, gap)])
        lengths = [len(p.dry) + len(gap) for p in pieces]
        self._offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
        dry_t = torch.from_numpy(dry).to(device)
        wet_t = torch.from_numpy(wet).to(device)
        self._x_windows = windows_of_block(dry_t, block_samples + receptive_field - 1)
        self._y_windows = windows_of_block(wet_t[receptive_field - 1 :], block_samples)
        self._ramp = torch.arange(block_samples, device=device)

    @property
    def target_samples(self) -> int:
        """Target samples of one epoch."""
        return int(self._targets.sum())

    def blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Start in the buffer and number of targets of every block, in the epoch's order."""
        generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        starts, counts = [], []
        for offset, targets in zip(self._offsets, self._targets, strict=True):
            phase = int(generator.integers(self.block_samples))
            borders = np.arange(phase - self.block_samples, targets, self.block_samples)
            first = np.maximum(borders, 0)
            last = np.minimum(borders + self.block_samples, targets)
            starts.append((offset + first)[last > first])
            counts.append((last - first)[last > first])
        order = generator.permutation(sum(len(s) for s in starts))
        return np.concatenate(starts)[order], np.concatenate(counts)[order]

    def steps(self, epoch: int) -> int:
        """Batches in an epoch."""
        return -(-len(self.blocks(epoch)[0]) // self.batch_blocks)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch."""
        starts, counts = self.blocks(epoch)
        device = self._ramp.device
        for at in range(0, len(starts), self.batch_blocks):
            index = torch.from_numpy(starts[at : at + self.batch_blocks]).to(device)
            count = torch.from_numpy(counts[at : at + self.batch_blocks]).to(device)
            mask = (self._ramp < count.unsqueeze(1)).to(torch.float32)
            yield Batch(
                self._x_windows.index_select(0, index).unsqueeze(1),
                self._y_windows.index_select(0, index).unsqueeze(1),
                mask.unsqueeze(1),
            )
