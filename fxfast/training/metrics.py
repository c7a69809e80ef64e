"""Figures of merit on whole signals, in float64.

``score`` gives all of them. None alone says whether a model is good (a gate that does nothing has
a tiny ESR), so they stand beside those of the dry signal and of the best gain: ``Comparison``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fxfast.errors import InputError
from fxfast.training.losses import STFT_RESOLUTIONS

PRE_EMPHASIS = 0.95
LSD_FRAME, LSD_HOP = 2048, 512
# Magnitudes of spectra are not followed below this, for a full-scale sine about -100 dB.
_MAGNITUDE_FLOOR = 1e-5
QUIET_DBFS = -66.0
_QUIET_FRAMES_PER_SECOND = 100
_CHUNK = 4096  # frames of a spectrum at a time


def esr(predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """Error-to-signal ratio sum((y - p)^2) / sum(y^2) over all signals together.

    Each prediction has the shape of its target. Raises ``InputError`` when shapes differ
    or the targets are silent.
    """
    error_energy = target_energy = 0.0
    for prediction, target in zip(predictions, targets, strict=True):
        if prediction.shape != target.shape:
            raise InputError(
                f"prediction: expected the target's shape {target.shape}, got {prediction.shape}"
            )
        wanted = target.astype(np.float64)
        error_energy += float(np.sum((prediction - wanted) ** 2))
        target_energy += float(np.sum(wanted**2))
    if target_energy == 0.0:
        raise InputError("target: expected a signal, got silence")
    return error_energy / target_energy


def best_gain(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """The factor that brings the inputs nearest to the targets in least squares."""
    cross = sum(
        float(np.dot(x.astype(np.float64), y.astype(np.float64)))
        for x, y in zip(inputs, targets, strict=True)
    )
    energy = sum(float(np.sum(x.astype(np.float64) ** 2)) for x in inputs)
    return cross / energy if energy else 0.0


def esr_of_best_gain(inputs: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> float:
    """ESR of the best plain gain: what a model has to beat to have learnt anything."""
    gain = best_gain(inputs, targets)
    return esr([gain * x.astype(np.float64) for x in inputs], targets)


@dataclass(frozen=True)
class Scores:
    """How far predictions are from targets; lower is better in each. A level of no error at all
    is -400 dBFS.

    - ``esr``: error-to-signal ratio, ``esr_pre_emphasis`` the same behind a first-order high-pass
      (0.95), ``dc``: energy of the mean of the error over that of the target: Wright and Valimaki,
      Perceptual loss function for neural modelling of audio systems, 2020, eq. 2 to 5.
    - ``stft``: spectral convergence plus mean distance of log magnitudes (natural), mean of three
      resolutions: Yamamoto, Song and Kim, Parallel WaveGAN, 2020, eq. 3 to 6.
    - ``log_spectral_distance_db``: root mean square over bins of the difference of log power
      spectra, mean over frames: Gray and Markel, Distance measures for speech processing, 1976.
    - ``error_dbfs``: level of the error; ``quiet_error_dbfs`` that in frames of 10 ms where the
      target is below -66 dBFS, ``loud_esr`` the ESR of the other frames: a gate is judged by
      both. None where there is no such frame.
    """

    esr: float | None
    esr_pre_emphasis: float | None
    dc: float | None
    stft: float
    log_spectral_distance_db: float
    error_dbfs: float
    quiet_error_dbfs: float | None
    loud_esr: float | None


@dataclass(frozen=True)
class Comparison:
    """The scores of a model, of the dry signal taken for wet, and of the best plain gain."""

    model: Scores
    dry_as_wet: Scores
    best_gain: Scores

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    predictions: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    sample_rate: int,
) -> Comparison:
    """All figures of predictions for these inputs, float32 (T) each, over all signals together."""
    gain = np.float32(best_gain(inputs, targets))
    return Comparison(
        score(predictions, targets, sample_rate),
        score(inputs, targets, sample_rate),
        score([gain * x for x in inputs], targets, sample_rate),
    )


def score(
    predictions: Sequence[np.ndarray], targets: Sequence[np.ndarray], sample_rate: int
) -> Scores:
    """All figures over all signals together, (T) each. A ratio to a silent target is None.

    Raises ``InputError`` when shapes differ."""
    pairs = []
    for prediction, target in zip(predictions, targets, strict=True):
        if prediction.shape != target.shape or target.ndim != 1:
            raise InputError(
                f"prediction: expected the target's shape {target.shape}, (T,), "
                f"got {prediction.shape}"
            )
        pairs.append((prediction, target))
    plain = _energies(pairs, 0.0)
    quiet, loud = _by_loudness(pairs, max(1, sample_rate // _QUIET_FRAMES_PER_SECOND))
    return Scores(
        esr=_ratio(plain[0], plain[1]),
        esr_pre_emphasis=_ratio(*_energies(pairs, PRE_EMPHASIS)[:2]),
        dc=_dc(pairs),
        stft=sum(_stft_distance(pairs, *size) for size in STFT_RESOLUTIONS) / len(STFT_RESOLUTIONS),
        log_spectral_distance_db=_log_spectral_distance(pairs),
        error_dbfs=_dbfs(plain[0], plain[2]),
        quiet_error_dbfs=_dbfs(quiet[0], quiet[2]) if quiet[2] else None,
        loud_esr=_ratio(loud[0], loud[1]),
    )


_Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


def _energies(pairs: _Pairs, emphasis: float) -> np.ndarray:
    """Energy of the errors and of the targets, and the number of samples."""
    total = np.zeros(3)
    for prediction, target in pairs:
        wanted = target.astype(np.float64)
        error = prediction - wanted
        if emphasis:
            error = error[1:] - emphasis * error[:-1]
            wanted = wanted[1:] - emphasis * wanted[:-1]
        total += [np.dot(error, error), np.dot(wanted, wanted), len(wanted)]
    return total


def _ratio(error: float, target: float) -> float | None:
    return float(error / target) if target > 0 else None


def _dbfs(energy: float, samples: float) -> float:
    return 10.0 * math.log10(max(energy / max(samples, 1.0), 1e-40))


def _dc(pairs: _Pairs) -> float | None:
    error = sum(float(np.sum(p - y.astype(np.float64))) for p, y in pairs)
    samples, energy = sum(len(y) for _, y in pairs), _energies(pairs, 0.0)[1]
    return _ratio((error / max(samples, 1)) ** 2, energy / max(samples, 1))


def _by_loudness(pairs: _Pairs, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """As ``_energies``, of the frames where the target is quiet and of the others."""
    bound = frame * 10.0 ** (QUIET_DBFS / 10.0)
    quiet, loud = np.zeros(3), np.zeros(3)
    for prediction, target in pairs:
        whole = len(target) // frame * frame
        wanted = target[:whole].astype(np.float64).reshape(-1, frame)
        errors = np.square(prediction[:whole].reshape(-1, frame) - wanted).sum(axis=1)
        energies = np.square(wanted).sum(axis=1)
        is_quiet = energies < bound
        for chosen, total in ((is_quiet, quiet), (~is_quiet, loud)):
            total += [errors[chosen].sum(), energies[chosen].sum(), frame * chosen.sum()]
    return quiet, loud


def _magnitudes(
    pairs: _Pairs, size: int, hop: int, length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Magnitude spectra (frames, bins) of predictions and targets, some frames at a time; the
    last frame is filled up with silence."""
    taper = np.hanning(length + 1)[:-1]
    for pair in pairs:
        padded = []
        for x in pair:
            frames = max(0, math.ceil((len(x) - length) / hop)) + 1
            padded.append(np.pad(x.astype(np.float64), (0, (frames - 1) * hop + length - len(x))))
        views = [np.lib.stride_tricks.sliding_window_view(x, length)[::hop] for x in padded]
        for start in range(0, len(views[0]), _CHUNK):
            chosen = slice(start, start + _CHUNK)
            one, other = (np.abs(np.fft.rfft(view[chosen] * taper, size)) for view in views)
            yield one, other


def _stft_distance(pairs: _Pairs, size: int, hop: int, length: int) -> float:
    apart = whole = logs = values = 0.0
    for got, wanted in _magnitudes(pairs, size, hop, length):
        apart += float(np.square(wanted - got).sum())
        whole += float(np.square(wanted).sum())
        logs += float(np.abs(_log(wanted) - _log(got)).sum())
        values += got.size
    convergence = math.sqrt(apart / whole) if whole > 0 else float(apart > 0)
    return convergence + logs / max(values, 1.0)


def _log_spectral_distance(pairs: _Pairs) -> float:
    total = frames = 0.0
    for got, wanted in _magnitudes(pairs, LSD_FRAME, LSD_HOP, LSD_FRAME):
        decibels = 20.0 / math.log(10.0) * (_log(wanted) - _log(got))
        total += float(np.sqrt(np.square(decibels).mean(axis=1)).sum())
        frames += len(got)
    return total / max(frames, 1.0)


def _log(magnitudes: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(magnitudes, _MAGNITUDE_FLOOR)))
