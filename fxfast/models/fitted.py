"""What models that are fitted at once have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fxfast.data import Piece
from fxfast.errors import InputError, PairError
from fxfast.models.base import AudioModel


class FittedModel(AudioModel):
    """A model that ``fit`` finds; its tensors may have other sizes after it than before."""

    hears_from_start = True

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As ``torch.nn.Module`` does, with the sizes that the tensors of the state have."""
        for name, own in (*self.named_parameters(), *self.named_buffers()):
            found = state_dict.get(name)
            if isinstance(found, torch.Tensor) and found.shape != own.shape:
                own.data = torch.empty_like(found)
        return super().load_state_dict(state_dict, strict, assign)


def check_audio(x_bct: torch.Tensor, least: int) -> None:
    """Raises ``InputError`` unless x is (B, 1, T) with T of at least ``least``."""
    if x_bct.ndim != 3 or x_bct.shape[1] != 1 or x_bct.shape[2] < least:
        raise InputError(
            f"x: expected shape (B, 1, T) with T of at least {least} (the receptive "
            f"field), got {tuple(x_bct.shape)}"
        )


def require_seconds(training: Sequence[Piece], sample_rate: int, least: float, what: str) -> None:
    """Raises ``PairError`` when there is too little audio to find ``what`` from."""
    seconds = max((len(piece.wet) for piece in training), default=0) / sample_rate
    if seconds < least:
        raise PairError(
            f"pairs: expected at least {least:g} s in a row in the training part to find {what}, "
            f"got {seconds:.2g} s"
        )
