"""How much of the wet is a linear, time-invariant function of the dry, and how far back it reaches.

The impulse response is found by least squares on the normal equations, whose matrix is that of
the autocorrelation of the dry and so a convolution: conjugate gradients with a circulant
preconditioner solve them in a few FFTs (T. Chan, "An optimal circulant preconditioner for
Toeplitz systems", SIAM J. Sci. Stat. Comput. 9(4), 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.linalg import solve_toeplitz
from scipy.signal import coherence

from fxfast.identify.excerpt import Piece, best_gain, held_out_esr

SHORT_SECONDS = 0.016
LONG_SECONDS = 1.5
_ITERATIONS = 40
# Up to so many, Levinson's recursion is quicker.
_DIRECT_TAPS = 1024
_REGULARISATION = 1e-4
_COHERENCE_SAMPLES = 4096
# Echoes are told from a tail by the share of the late energy in the few strongest windows.
_WINDOW_SECONDS = 0.002
_LATE_SECONDS = 0.01
_STRONGEST_WINDOWS = 12
# A filter spreads a round of an echo over so much to both sides.
_ROUND_SECONDS, _MOST_ROUNDS = 0.003, 8
_ABOVE_NOISE = 4.0
# Of a normal variable, to its variance.
_MEDIAN_OF_SQUARE = 0.455


@dataclass(frozen=True)
class LinearFinding:
    """ESRs where no fit looked, of the best gain, of a response of 16 ms, of one of up to 1.5 s.

    ``coherence`` is the mean magnitude-squared coherence, weighted by the power of the wet.
    ``memory_seconds`` is how much of the long response is needed. ``echo_share`` is the share of
    its energy past 10 ms that lies in a few windows of 2 ms: near 1 for echoes, small for a
    reverb; ``echo_ms`` are the strongest of them, in order of time.

    ``echo_return`` is the least energy of a round of the first echo, as a share of what it has at
    least in a loop, whatever filter is in it: near 1 or more in a loop, near 0 where taps end; 1
    where nothing can be told. Round n of a loop has the energy E[n] = integral of
    |H|^2 |F|^(2n-2), so E[n]^2 <= E[n-1] E[n+1] (Cauchy and Schwarz).
    """

    gain_esr: float
    short_esr: float
    long_esr: float
    coherence: float
    memory_seconds: float
    echo_share: float
    echo_ms: tuple[float, ...]
    echo_return: float


def find_linear(pieces: Sequence[Piece], rate: float) -> LinearFinding:
    """Fits to pieces at ``rate`` Hz."""
    gain = best_gain(pieces)
    gain_esr = held_out_esr(pieces, [gain * piece.x for piece in pieces])
    short = fit_response(pieces, round(SHORT_SECONDS * rate))
    longest = max(piece.border for piece in pieces) // 2
    taps = max(len(short), min(round(LONG_SECONDS * rate), longest))
    response = fit_response(pieces, taps)
    long_esr, memory = _memory(pieces, response)
    share, echoes = _echoes(response, rate)
    return LinearFinding(
        gain_esr=gain_esr,
        short_esr=_esr_of(pieces, short),
        long_esr=long_esr,
        coherence=_coherence(pieces),
        memory_seconds=memory / rate,
        echo_share=share,
        echo_ms=echoes,
        echo_return=_echo_return(response, echoes, rate),
    )


def fit_response(pieces: Sequence[Piece], taps: int) -> np.ndarray:
    """The impulse response (taps) that is best by least squares before the borders."""
    size = fft.next_fast_len(max(piece.border for piece in pieces) + taps, real=True)
    power, cross = np.zeros(size // 2 + 1), np.zeros(size // 2 + 1, complex)
    for piece in pieces:
        x = fft.rfft(piece.x[: piece.border], size)
        power += np.square(np.abs(x))
        cross += np.conj(x) * fft.rfft(piece.y[: piece.border], size)
    floor = _REGULARISATION * float(power.mean())
    right = fft.irfft(cross, size)[:taps]
    if taps <= _DIRECT_TAPS:
        column = fft.irfft(power, size)[:taps]
        column[0] += floor + 1e-20
        return np.asarray(solve_toeplitz(column, right))
    return _solve(power, right, floor, size)


def _solve(power: np.ndarray, right: np.ndarray, floor: float, size: int) -> np.ndarray:
    taps = len(right)
    row = fft.irfft(power, size)[:taps] * np.linspace(1.0, 0.0, taps)
    circle = np.concatenate([row, [0.0], row[:0:-1]])
    eigenvalues = np.maximum(fft.rfft(circle).real, 0.0) + floor

    def matrix(h: np.ndarray) -> np.ndarray:
        return np.asarray(fft.irfft(fft.rfft(h, size) * power, size)[:taps] + floor * h)

    def nearby(v: np.ndarray) -> np.ndarray:
        return np.asarray(fft.irfft(fft.rfft(v, 2 * taps) / eigenvalues, 2 * taps)[:taps])

    h, rest = np.zeros(taps), right.copy()
    direction = better = nearby(rest)
    product = float(rest @ better)
    for _ in range(_ITERATIONS):
        if product <= 1e-24:
            break
        turned = matrix(direction)
        step = product / float(direction @ turned)
        h += step * direction
        rest = rest - step * turned
        better = nearby(rest)
        product, before = float(rest @ better), product
        direction = better + (product / before) * direction
    return h


def apply_response(x: np.ndarray, response: np.ndarray) -> np.ndarray:
    size = fft.next_fast_len(len(x) + len(response), real=True)
    return np.asarray(fft.irfft(fft.rfft(x, size) * fft.rfft(response, size), size)[: len(x)])


def _esr_of(pieces: Sequence[Piece], response: np.ndarray) -> float:
    return held_out_esr(pieces, [apply_response(piece.x, response) for piece in pieces])


def _memory(pieces: Sequence[Piece], response: np.ndarray) -> tuple[float, int]:
    """The ESR of the best beginning of the response, and the shortest that is nearly as good."""
    lengths = [len(response)]
    while lengths[-1] > 64:
        lengths.append(lengths[-1] * 2 // 3)
    esrs = [_esr_of(pieces, response[:length]) for length in lengths]
    best = min(esrs)
    enough = [n for n, esr in zip(lengths, esrs, strict=True) if esr <= 1.25 * best + 1e-4]
    return best, min(enough)


def _coherence(pieces: Sequence[Piece]) -> float:
    total = weight = 0.0
    for piece in pieces:
        samples = min(_COHERENCE_SAMPLES, len(piece.x) // 4)
        if samples < 64:
            continue
        _, squared = coherence(piece.x, piece.y, nperseg=samples)
        power = np.square(np.abs(fft.rfft(piece.y, 2 * (len(squared) - 1))))
        total += float(np.nan_to_num(squared) @ power)
        weight += float(power.sum())
    return total / max(weight, 1e-20)


def _echoes(response: np.ndarray, rate: float) -> tuple[float, tuple[float, ...]]:
    window = max(1, round(_WINDOW_SECONDS * rate))
    first = round(_LATE_SECONDS * rate) // window
    windows = len(response) // window
    energy = np.square(response[: windows * window]).reshape(windows, window).sum(1)
    late = energy[first:]
    if len(late) < 20 or late.sum() <= 1e-8 * energy.sum():
        return 0.0, ()
    strongest = np.sort(late)[::-1]
    share = float(strongest[:_STRONGEST_WINDOWS].sum() / late.sum())
    peaks = [
        i
        for i in range(1, len(late) - 1)
        if late[i] >= max(late[i - 1], late[i + 1]) and late[i] > 0.03 * strongest[0]
    ]
    best = sorted(sorted(peaks, key=lambda i: -late[i])[:6])
    places = [_place(response, (first + i) * window, window, rate) for i in best]
    return share, tuple(places)


def _echo_return(response: np.ndarray, echo_ms: Sequence[float], rate: float) -> float:
    if not echo_ms:
        return 1.0
    first = 0.001 * echo_ms[0]
    half = min(_ROUND_SECONDS, first / 2)
    count = min(_MOST_ROUNDS, int((len(response) / rate - half) / first))
    power = np.square(response)

    def energy(seconds: float) -> float:
        near = slice(round((seconds - half) * rate), round((seconds + half) * rate) + 1)
        return float(power[near].sum())

    rounds = [energy((n + 1) * first) for n in range(count)]
    # Between the rounds there is what the fit leaves: its median, times what is clearly more.
    floor = _ABOVE_NOISE * float(np.median(power)) * (2.0 * half * rate + 1.0) / _MEDIAN_OF_SQUARE
    found = 1.0
    for before, now, after in zip(rounds, rounds[1:], rounds[2:], strict=False):
        if now <= floor or now * now <= floor * before:
            break
        found = min(found, after * before / (now * now))
    return found


def _place(response: np.ndarray, start: int, window: int, rate: float) -> float:
    inside = np.abs(response[start : start + window])
    return round(1000.0 * (start + int(inside.argmax())) / rate, 2)
