"""A picture of a finished run: its losses, and the test audio beside what the model makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fxfast import exchange
from fxfast.data import Data
from fxfast.errors import BuildError
from fxfast.training.evaluation import Played, played
from fxfast.training.run_folder import RunFolder, read_log
from fxfast.whole_file import whole_file

PICTURE = "training.png"
_ZOOM_SECONDS = 0.02
_POINTS = 4000
_FRAME_SECONDS = 0.05
_FLOOR_DB = -120.0
_WET, _MODEL, _RESIDUAL = "#1f77b4", "#d62728", "#7f7f7f"


def write_picture(run_dir: Path, data: Data) -> Path:
    """RUN/training.png of a finished run on these data; the path of it.

    Raises ``BuildError`` that says what to install when matplotlib is not there.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BuildError(
            "matplotlib: expected the package, got none: pip install 'fxfast[plots]'"
        ) from error
    folder = RunFolder(Path(run_dir))
    graph = exchange.load(folder.model)
    pieces = list(played(graph, data, "test"))
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flat
    _losses(next(axes), read_log(folder))
    loudest = max(pieces, key=lambda each: float(np.abs(each.piece.wet).max(initial=0.0)))
    _waveforms(next(axes), loudest, graph.sample_rate)
    _spectra(next(axes), pieces, graph.sample_rate)
    _transfer(next(axes), pieces)
    _residual(next(axes), pieces, graph.sample_rate)
    _levels(next(axes), pieces, graph.sample_rate)
    path = folder.path / PICTURE
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
    return path


def _losses(axes: Any, log: Sequence[Mapping[str, Any]]) -> None:
    epochs = [epoch["epoch"] for epoch in log]
    for name, label, colour in (
        ("train_loss", "training loss", _WET),
        ("validation_esr", "validation ESR", _MODEL),
    ):
        values = [max(epoch[name], 1e-12) for epoch in log]
        axes.semilogy(epochs, values, color=colour, label=label, marker="." if len(log) < 3 else "")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(title="losses", xlabel="epoch")
    axes.legend()


def _waveforms(axes: Any, chosen: Played, sample_rate: int) -> None:
    wet, prediction = chosen.piece.wet, chosen.prediction
    half = max(8, round(_ZOOM_SECONDS * sample_rate / 2))
    centre = min(max(int(np.abs(wet).argmax()), half), max(half, len(wet) - half))
    stretch = slice(max(0, centre - half), centre + half)
    time = 1e3 * np.arange(len(wet[stretch])) / sample_rate
    axes.plot(time, wet[stretch], color=_WET, label="wet")
    axes.plot(time, prediction[stretch], color=_MODEL, label="model", linewidth=0.9)
    axes.plot(time, (wet - prediction)[stretch], color=_RESIDUAL, label="residual", linewidth=0.7)
    axes.set(
        title=f"loudest moment of {_plain(chosen.piece.name)}",
        xlabel=f"ms from {(chosen.piece.start_sample + stretch.start) / sample_rate:.3f} s",
    )
    axes.legend()


def _spectra(axes: Any, pieces: Sequence[Played], sample_rate: int) -> None:
    from scipy.signal import welch

    sides = _sides(pieces)
    size = min(4096, len(sides["wet"]))
    for name, colour in (("wet", _WET), ("model", _MODEL), ("residual", _RESIDUAL)):
        hertz, power = welch(sides[name], sample_rate, nperseg=size)
        axes.semilogx(hertz[1:], 10 * np.log10(power[1:] + 1e-20), color=colour, label=name)
    axes.set(title="spectra, dB", xlabel="Hz")
    axes.legend()


def _transfer(axes: Any, pieces: Sequence[Played]) -> None:
    """Out over in, sample by sample: a line for a gain, a curve or a cloud for the rest."""
    sides = _sides(pieces)
    places = np.linspace(0, len(sides["dry"]) - 1, min(len(sides["dry"]), _POINTS)).astype(int)
    for name, colour in (("wet", _WET), ("model", _MODEL)):
        axes.plot(sides["dry"][places], sides[name][places], ".", color=colour, ms=1.5, label=name)
    axes.set(title="transfer", xlabel="dry", ylabel="wet")
    axes.legend(markerscale=5)


def _residual(axes: Any, pieces: Sequence[Played], sample_rate: int) -> None:
    sides = _sides(pieces)
    for name, colour in (("wet", _WET), ("residual", _RESIDUAL)):
        level = _frame_levels(sides[name], sample_rate)
        axes.plot(np.arange(len(level)) * _FRAME_SECONDS, level, color=colour, label=name)
    axes.set(title="level over time, dBFS", xlabel="s of the test part")
    axes.legend()


def _levels(axes: Any, pieces: Sequence[Played], sample_rate: int) -> None:
    """Where on the scale of loudness the error is: one dot for every frame."""
    sides = _sides(pieces)
    wet, residual = (_frame_levels(sides[name], sample_rate) for name in ("wet", "residual"))
    axes.plot(wet, residual, ".", color=_RESIDUAL, ms=3)
    axes.plot([_FLOOR_DB, 0], [_FLOOR_DB, 0], color="black", linewidth=0.5)
    axes.set(title="error by level, dBFS", xlabel="wet", ylabel="residual")


def _frame_levels(x: np.ndarray, sample_rate: int) -> np.ndarray:
    frame = max(1, round(_FRAME_SECONDS * sample_rate))
    whole = len(x) // frame * frame
    power = np.square(x[:whole].astype(np.float64)).reshape(-1, frame).mean(axis=1)
    return np.asarray(np.maximum(10.0 * np.log10(power + 1e-20), _FLOOR_DB))


def _sides(pieces: Sequence[Played]) -> dict[str, np.ndarray]:
    dry = np.concatenate([each.piece.dry for each in pieces])
    wet = np.concatenate([each.piece.wet for each in pieces])
    model = np.concatenate([each.prediction for each in pieces])
    return {"dry": dry, "wet": wet, "model": model, "residual": wet - model}


def _plain(name: str) -> str:
    """A name without what matplotlib would take for mathematics, or cannot draw."""
    return "".join(c if c.isprintable() and c != "$" else "?" for c in name)
