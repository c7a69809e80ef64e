"""The pieces of audio that a model is scored on, and its score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fxfast.data import Data, Piece
from fxfast.errors import PairError
from fxfast.graph import ModelGraph
from fxfast.models import AudioModel
from fxfast.player import Player
from fxfast.training.metrics import esr


def unscored_samples(model: AudioModel) -> int:
    """How many samples at the start of a piece have not their whole history with them."""
    return 0 if model.hears_from_start else model.receptive_field - 1


def held_out(data: Data, receptive_field: int, from_start: bool) -> dict[str, list[Piece]]:
    """The pieces of validation and test that are long enough for a target."""
    found = {}
    for part in ("validation", "test"):
        spans = data.part(part).pieces(from_start=from_start)
        pieces = [piece for piece in spans if len(piece.dry) >= receptive_field]
        has_signal = any(np.any(wet) for wet in targets(pieces, receptive_field))
        require_part(data, part, receptive_field, bool(pieces), has_signal)
        found[part] = pieces
    return found


def require_part(
    data: Data, part: str, receptive_field: int, has_target: bool, has_signal: bool
) -> None:
    if not has_target:
        share = max(data.part(part).samples / max(data.samples, 1), 1e-9)
        raise PairError(
            f"pairs: expected at least one of {receptive_field / share:.0f} samples or more "
            f"for the {part} part, got {data.files} pairs of at most "
            f"{int(data.lengths.max(initial=0))} samples"
        )
    if not has_signal:
        name = "training" if part == "train" else part
        raise PairError(f"wet: expected a signal in the {name} part, got silence")


def targets(pieces: Sequence[Piece], receptive_field: int) -> list[np.ndarray]:
    """The samples of wet that have their whole input history inside the piece."""
    return [piece.wet[receptive_field - 1 :] for piece in pieces]


def render_piece(player: Player, piece: Piece) -> np.ndarray:
    """What a model makes of a piece (L,), with its knobs where they stood."""
    heard = {knob.name: piece.knobs[knob.name] for knob in player.graph.knobs}
    return player.render(piece.heard, heard or None)[-len(piece.wet) :]


def evaluate(graph: ModelGraph, pieces: Sequence[Piece], receptive_field: int) -> float:
    """ESR of a graph over pieces, rendered by the engine, after the first samples.

    ``receptive_field`` is the model's: that of a recurrent one includes its warm-up, and that of
    one that hears its files from the start counts as 1.
    """
    player = Player(graph, mode="stream")
    predictions = [render_piece(player, piece) for piece in pieces]
    scored = [prediction[receptive_field - 1 :] for prediction in predictions]
    return esr(scored, targets(pieces, receptive_field))
