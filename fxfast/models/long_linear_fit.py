"""Regularised least squares for a long impulse response, in the frequency domain.

Of all responses h of so many taps, the one that makes the sum over the pieces of
|wet - (heard * h)|^2 + ridge * |h|^2 smallest. Its normal equations are solved by conjugate
gradients, in which every product with the matrix is four FFTs (Chan and Ng, Conjugate gradient
methods for Toeplitz systems, SIAM Review 38, 1996). The matrix is nearly Toeplitz: the
preconditioner is the circulant of the autocorrelation of what was heard, tapered as T. Chan's
(An optimal circulant preconditioner, 1988), so that some tens of steps are enough though guitars
have 80 dB less energy at some frequencies than at others.

Conjugate gradients find the strong directions first: the steps are stopped where validation gets
no better, which regularises too (Hanke, Conjugate gradient type methods, 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

from fxfast.data import Piece

# The ridge, as a share of the mean power of what was heard: the second is tried where
# validation finds that the first one learns the noise.
RIDGES = (1e-6, 1e-3)
MAX_STEPS = 40
# Steps without a validation error this much smaller than the best one, before it stops.
PATIENCE = 6
ENOUGH = 0.9


@dataclass(frozen=True)
class Fitted:
    """The taps, the newest sample's factor first, and the validation ESR that chose them."""

    taps: np.ndarray
    validation_esr: float
    steps: int


class _Rows:
    """The equations of one piece: ``wet`` is the last of ``heard``, convolved."""

    def __init__(self, piece: Piece, taps: int) -> None:
        # What is older than the response cannot be heard in the piece.
        heard = piece.heard[max(0, len(piece.heard) - len(piece.wet) - taps + 1) :]
        self.wet, self.taps = piece.wet.astype(np.float64), taps
        self.first, self.end = len(heard) - len(piece.wet), len(heard)
        self.fft_samples = scipy.fft.next_fast_len(len(heard) + taps - 1, real=True)
        self.spectrum = scipy.fft.rfft(heard.astype(np.float64), self.fft_samples)

    def predict(self, taps: np.ndarray) -> np.ndarray:
        product = self.spectrum * scipy.fft.rfft(taps, self.fft_samples)
        made: np.ndarray = scipy.fft.irfft(product, self.fft_samples)[self.first : self.end]
        return made

    def correlate(self, residual: np.ndarray) -> np.ndarray:
        """The transpose of ``predict``."""
        placed = np.zeros(self.fft_samples)
        placed[self.first : self.end] = residual
        product = np.conj(self.spectrum) * scipy.fft.rfft(placed)
        found: np.ndarray = scipy.fft.irfft(product, self.fft_samples)[: self.taps]
        return found

    def autocorrelation(self) -> np.ndarray:
        power = np.abs(self.spectrum) ** 2
        found: np.ndarray = scipy.fft.irfft(power, self.fft_samples)[: self.taps]
        return found


class _Preconditioner:
    """Division by a circulant matrix near to the normal equations."""

    def __init__(self, rows: Sequence[_Rows], taps: int, ridge: float) -> None:
        correlation = np.sum([row.autocorrelation() for row in rows], axis=0)
        correlation *= 1.0 - np.arange(taps) / taps
        self.taps = taps
        self.fft_samples = scipy.fft.next_fast_len(2 * taps, real=True)
        around = np.zeros(self.fft_samples)
        around[:taps] = correlation
        around[self.fft_samples - taps + 1 :] += correlation[:0:-1]
        power = np.maximum(scipy.fft.rfft(around).real, 0.0)
        self.inverse = 1.0 / (power + ridge)

    def __call__(self, vector: np.ndarray) -> np.ndarray:
        spectrum = self.inverse * scipy.fft.rfft(vector, self.fft_samples)
        found: np.ndarray = scipy.fft.irfft(spectrum, self.fft_samples)[: self.taps]
        return found


def least_squares(
    training: Sequence[Piece],
    validation: Sequence[Piece],
    taps: int,
    progress: Callable[[float, str], None],
) -> Fitted:
    """The impulse response of ``taps`` samples that predicts ``validation`` best among those on
    the way to the least squares of ``training``, without a tail that validation does not miss."""
    rows = [_Rows(piece, taps) for piece in training]
    held = [_Rows(piece, taps) for piece in validation]
    power = sum(float(np.sum(np.square(p.dry, dtype=np.float64))) for p in training)
    best = Fitted(np.zeros(taps), 1.0, 0)
    for index, ridge in enumerate(RIDGES):

        def told(share: float, note: str, index: int = index) -> None:
            progress((index + share) / len(RIDGES), note)

        found, overfits = _conjugate_gradients(rows, held, taps, ridge * power, told)
        best = min(best, found, key=lambda fitted: fitted.validation_esr)
        if not overfits:
            break
    return _without_tail(best, held)


def _conjugate_gradients(
    rows: Sequence[_Rows],
    held: Sequence[_Rows],
    taps: int,
    ridge: float,
    progress: Callable[[float, str], None],
) -> tuple[Fitted, bool]:
    """The best taps on the way, and whether validation got worse again after them."""
    precondition = _Preconditioner(rows, taps, ridge)
    residual = np.sum([row.correlate(row.wet) for row in rows], axis=0)
    found, direction = np.zeros(taps), precondition(residual)
    product = float(residual @ direction)
    best, waited, last = Fitted(found.copy(), 1.0, 0), 0, 1.0
    for step in range(1, MAX_STEPS + 1):
        image = np.sum([row.correlate(row.predict(direction)) for row in rows], axis=0)
        image += ridge * direction
        curvature = float(direction @ image)
        if not (product > 0.0 and curvature > 0.0):
            break
        found += product / curvature * direction
        residual -= product / curvature * image
        last = _esr(held, found)
        waited = 0 if last < ENOUGH * best.validation_esr else waited + 1
        if last < best.validation_esr:
            best = Fitted(found.copy(), last, step)
        progress(step / MAX_STEPS, f"impulse response, validation ESR {last:.2g}")
        if waited >= PATIENCE:
            break
        towards = precondition(residual)
        before, product = product, float(residual @ towards)
        direction = towards + product / before * direction
    return best, last > best.validation_esr / ENOUGH


def _esr(rows: Sequence[_Rows], taps: np.ndarray) -> float:
    error = sum(float(np.sum((row.predict(taps) - row.wet) ** 2)) for row in rows)
    energy = sum(float(np.sum(row.wet**2)) for row in rows)
    return error / energy


def _without_tail(found: Fitted, held: Sequence[_Rows]) -> Fitted:
    """Without the last taps, as many as make validation no more than a little worse."""
    most = 1.02 * found.validation_esr + 1e-7
    few, enough = 0, found.taps.size
    while enough - few > max(16, found.taps.size // 64):
        middle = (few + enough) // 2
        kept = np.where(np.arange(found.taps.size) < middle, found.taps, 0.0)
        few, enough = (few, middle) if _esr(held, kept) <= most else (middle, enough)
    return replace(found, taps=found.taps[:enough])
