"""A model on pairs: every figure for every file and for all together, and what is left over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fxfast.audio.writer import write_audio
from fxfast.data import Data, Piece
from fxfast.errors import PairError
from fxfast.graph import ModelGraph
from fxfast.player import Player
from fxfast.training.held_out import render_piece
from fxfast.training.metrics import Comparison, compare

ALL = "all"


class Played(NamedTuple):
    """A piece and what the model makes of it, both float32 (T)."""

    piece: Piece
    prediction: np.ndarray


@dataclass(frozen=True)
class FileScores:
    """The figures of one stretch of a file."""

    name: str
    start_seconds: float
    seconds: float
    scores: Comparison


@dataclass(frozen=True)
class Evaluation:
    """The figures of every stretch of a part of the data ("all": of everything), and in total."""

    part: str
    sample_rate: int
    seconds: float
    files: tuple[FileScores, ...]
    total: Comparison

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def played(graph: ModelGraph, data: Data, part: str = ALL) -> Iterator[Played]:
    """Every piece of a part, rendered by the engine from the start of its file, as ``fxfast
    render`` would. Raises ``PairError`` for another rate than the model's and for no pieces."""
    chosen = data if part == ALL else data.part(part)
    if not chosen.samples:
        raise PairError(f"pairs: expected audio in the part {part}, got none")
    if chosen.sample_rate != graph.sample_rate:
        raise PairError(
            f"pairs: expected {graph.sample_rate} Hz as the model has, got {chosen.sample_rate} Hz"
        )
    missing = [knob.name for knob in graph.knobs if knob.name not in chosen.knob_names]
    if missing:
        raise PairError(f"pairs: expected where the knob {missing[0]} stood, got nothing")
    player = Player(graph, mode="stream")
    for piece in chosen.pieces(from_start=True):
        yield Played(piece, render_piece(player, piece))


def evaluate_model(
    graph: ModelGraph, data: Data, part: str = ALL, residuals: Path | None = None
) -> Evaluation:
    """All figures of a model on a part of the data.

    With ``residuals`` the wet sound less the model's goes into that folder, a float WAV for every
    piece. Errors as ``played``, and ``AudioFileError`` for files that cannot be written.
    """
    files, every = [], []
    for piece, prediction in played(graph, data, part):
        rate = graph.sample_rate
        every.append((prediction, piece.dry, piece.wet))
        files.append(
            FileScores(
                name=piece.name,
                start_seconds=piece.start_sample / rate,
                seconds=len(piece.wet) / rate,
                scores=compare([prediction], [piece.dry], [piece.wet], rate),
            )
        )
        if residuals is not None:
            path = residual_path(residuals, piece, data if part == ALL else data.part(part))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, piece.wet - prediction, rate, overwrite=True)
    predictions, inputs, targets = (list(side) for side in zip(*every, strict=True))
    return Evaluation(
        part=part,
        sample_rate=graph.sample_rate,
        seconds=sum(file.seconds for file in files),
        files=tuple(files),
        total=compare(predictions, inputs, targets, graph.sample_rate),
    )


def residual_path(folder: Path, piece: Piece, data: Data) -> Path:
    """Where the residual of a piece of the data goes; a file in several names their starts."""
    pieces = sum(data.names[int(file)] == piece.name for file in data.spans[:, 0])
    start = f"-{piece.start_sample}" if pieces > 1 else ""
    safe = [part for part in piece.name.split("/") if part not in ("", ".", "..")]
    return folder.joinpath(*safe[:-1], f"{safe[-1] if safe else 'pair'}{start}.wav")


def total_line(total: Comparison) -> str:
    """The ESR beside those of doing nothing and of the best gain, in words."""
    words = [
        f"{name} {_number(scores.esr)}"
        for name, scores in (
            ("ESR", total.model),
            ("dry as wet", total.dry_as_wet),
            ("best gain", total.best_gain),
        )
    ]
    return f"{words[0]}  ({words[1]}, {words[2]})"


def table(evaluation: Evaluation) -> Iterator[Sequence[str]]:
    """Rows of text, a header first: every file, the total, and beside it dry and best gain."""
    yield ("file", "seconds", "ESR", "pre-emph.", "DC", "STFT", "LSD dB", "error", "quiet", "loud")
    for file in evaluation.files:
        yield _row(file.name, file.seconds, file.scores.model)
    total = evaluation.total
    yield _row("all", evaluation.seconds, total.model)
    yield _row("dry as wet", evaluation.seconds, total.dry_as_wet)
    yield _row("best gain", evaluation.seconds, total.best_gain)


def _row(name: str, seconds: float, scores: Any) -> tuple[str, ...]:
    quiet = "-" if scores.quiet_error_dbfs is None else f"{scores.quiet_error_dbfs:.1f} dBFS"
    return (
        name,
        f"{seconds:.1f}",
        *(_number(value) for value in (scores.esr, scores.esr_pre_emphasis, scores.dc)),
        f"{scores.stft:.4f}",
        f"{scores.log_spectral_distance_db:.2f}",
        f"{scores.error_dbfs:.1f} dBFS",
        quiet,
        _number(scores.loud_esr),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1e-4 else f"{value:.5f}"
