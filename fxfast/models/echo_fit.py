"""Finds an echo: where the copy of dry lies in wet, then all numbers by Gauss-Newton.

The impulse response of dry to wet (``identify.linear``) shows the first echo and how much of it
comes round again. From there the mix, the feedback, the delay and the filters of the loop move
together until the squared error of wet is smallest, all of it in the frequency domain, where the
node is a closed form and so is its derivative. A wrong delay is a small part of a cycle at low
frequencies alone: those are fitted first (the coarse to fine of image registration: Lucas and
Kanade, An iterative image registration technique, IJCAI 1981).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft
from scipy.signal import butter, sosfiltfilt

from fxfast.data import Piece
from fxfast.graph.delay import MOST_LOOP_GAIN, Delay, DelayVoice
from fxfast.identify.excerpt import Piece as Excerpt
from fxfast.identify.linear import fit_response

_SEARCH_SECONDS, _LONGEST_SECONDS = 20.0, 3.0
_SHORTEST_SECONDS = 0.004
_STEPS = 12
# Filters in the loop have to make validation so much better than none.
_WORTH = 0.8
# Another interpolation.
_CLEARLY = 0.98
# What 16 bits leave: filters cannot make it better.
_ENOUGH = 3e-7
_MOST_TAIL_SAMPLES = 1 << 21
# The filters that a fit begins with: kind, frequency in Hz.
_LAYOUTS = ((), (("low", 6000.0),), (("high", 80.0), ("low", 6000.0)))
_NO_M = {"low": (0.0, 0.0, 1.0), "high": (1.0, -1.0, -1.0)}
# dry, wet, wet_filtered, feedback, delay.
_MIX = 5


@dataclass(frozen=True, eq=False)
class Echo:
    """``mix`` is dry, wet, wet_filtered, feedback and the delay in samples; ``sections`` (S, 5)
    as ``fxfast.graph.Delay`` has them; ``points`` of interpolation, 2 or 4."""

    mix: np.ndarray
    sections: np.ndarray
    points: int = 2

    def node(self) -> Delay:
        """The delay line that plays it. Raises ``ModelError`` where the loop does not die away."""
        dry, wet, wet_filtered, feedback, delay = (float(each) for each in self.mix)
        least = 2 if self.points == 4 else 1
        base = max(least, math.floor(delay))
        table = np.array([max(delay - base, 0.0)], np.float32)
        sections = self.sections.astype(np.float32) if len(self.sections) else None
        return Delay(
            (DelayVoice(1.0, base, table),), dry, wet, wet_filtered, feedback, sections,
            "cubic" if self.points == 4 else "linear",
        )  # fmt: skip


@dataclass(frozen=True)
class _Stage:
    """Seconds of audio to look at, the highest frequency in Hz (0: all), and whether the filters
    are free in everything or in their frequency alone."""

    seconds: float
    highest_hz: float
    free: bool


_STAGES = (_Stage(12.0, 1000.0, False), _Stage(12.0, 4000.0, False), _Stage(12.0, 0.0, True))
_LAST_STAGE = (_Stage(20.0, 0.0, True),)
_WHOLE = _Stage(math.inf, 0.0, True)


class _Rows:
    """The spectrum of what was heard, and the wet that it became, as far as a stage looks at them;
    ``tail`` is the length of the response in samples."""

    def __init__(self, piece: Piece, rate: int, stage: _Stage, tail: int) -> None:
        first = len(piece.heard) - len(piece.wet)
        count = round(min(float(len(piece.wet)), stage.seconds * rate))
        heard, wet = (
            each.astype(np.float64) for each in (piece.heard[: first + count], piece.wet[:count])
        )
        slower = 1
        if 0 < stage.highest_hz < 0.4 * rate and count > 64:
            low = butter(2, stage.highest_hz / (rate / 2), output="sos")
            heard, wet = sosfiltfilt(low, heard), sosfiltfilt(low, wet)
            slower = 2 ** int(math.log2(max(1.0, rate / (6.0 * stage.highest_hz))))
        # The response goes round the transform: behind the audio lies room for its tail.
        self.size = slower * scipy.fft.next_fast_len((len(heard) + tail) // slower + 1, real=True)
        # What has no high frequencies needs few samples.
        self.slow_size = self.size // slower
        self.bins = self.slow_size // 2 + 1
        self.angles = 2 * np.pi * np.arange(self.bins) / self.size
        self.spectrum = scipy.fft.rfft(heard, self.size)[: self.bins] / slower
        self.first, self.end = -(-first // slower), (first + count) // slower
        placed = np.concatenate([np.zeros(first), wet])
        target = scipy.fft.rfft(placed, self.size)[: self.bins] / slower
        self.wet: np.ndarray = scipy.fft.irfft(target, self.slow_size)[self.first : self.end]

    def made(self, response: np.ndarray) -> np.ndarray:
        found: np.ndarray = scipy.fft.irfft(response * self.spectrum, self.slow_size)
        return found[self.first : self.end]


def find_echo(
    training: Sequence[Piece],
    validation: Sequence[Piece],
    rate: int,
    progress: Callable[[float, str], None],
) -> Echo | None:
    """The echo that predicts ``validation`` best; None where there is no copy of dry in wet."""
    progress(0.02, "where the echo lies")
    start = first_guess(max(training, key=lambda piece: len(piece.wet)), rate)
    if start is None:
        return None
    best, best_esr = None, math.inf
    for number, layout in enumerate(_LAYOUTS):
        share = 0.1 + 0.8 * number / len(_LAYOUTS)
        progress(share, f"{len(layout)} filters in the loop, validation ESR {best_esr:.2g}")
        found = _refined(_with_filters(start, layout, rate), training, rate)
        found_esr = esr_of(found, validation, rate)
        if found_esr < _WORTH * best_esr:
            best, best_esr = found, found_esr
        if best_esr < _ENOUGH:
            break
    assert best is not None
    progress(0.95, f"interpolation, validation ESR {best_esr:.2g}")
    whole = best.mix.copy()
    whole[4] = round(whole[4])
    for mix, points in ((whole, 2), (best.mix, 4)):
        found = _refined(replace(best, mix=mix, points=points), training, rate, _LAST_STAGE)
        found_esr = esr_of(found, validation, rate)
        if found_esr < _CLEARLY * best_esr:
            best, best_esr = found, found_esr
    return best


def first_guess(piece: Piece, rate: int) -> Echo | None:
    """The echo without filters that the impulse response of a piece shows."""
    count = min(len(piece.wet), round(_SEARCH_SECONDS * rate))
    excerpt = Excerpt(piece.dry[:count].astype(np.float64), piece.wet[:count].astype(np.float64))
    taps = min(round(_LONGEST_SECONDS * rate), excerpt.border // 2)
    shortest = round(_SHORTEST_SECONDS * rate)
    if taps < 4 * shortest:
        return None
    response = fit_response([excerpt], taps)
    # A filter spreads an echo over some samples.
    near = max(3, round(0.0005 * rate))
    local = np.convolve(np.abs(response), np.ones(near), "same")
    delay = shortest + int(local[shortest:].argmax())
    delay = max(shortest, delay - near) + int(
        np.abs(response[max(shortest, delay - near) : delay + near + 1]).argmax()
    )

    def size_at(place: int) -> float:
        if place + near >= taps:
            return 0.0
        return float(response[max(0, place - near) : place + near + 1].sum())

    echo, again = size_at(delay), size_at(2 * delay)
    dry = float(response[: near + 1].sum())
    if abs(echo) < 1e-4 * max(abs(dry), 1e-12):
        return None
    feedback = float(np.clip(again / echo, -0.9, 0.9))
    return Echo(np.array([dry, echo, 0.0, feedback, float(delay)]), np.zeros((0, 5)))


def _with_filters(echo: Echo, layout: Sequence[tuple[str, float]], rate: int) -> Echo:
    rows = []
    for kind, hz in layout:
        g = math.tan(math.pi * min(hz, 0.4 * rate) / rate)
        m0, m1, m2 = _NO_M[kind]
        rows.append([g, math.sqrt(2.0), m0, m1 * math.sqrt(2.0) if kind == "high" else m1, m2])
    if not rows:
        return echo
    mix = echo.mix.copy()
    mix[1:3] = 0.5 * mix[1]
    return replace(echo, mix=mix, sections=np.array(rows))


def esr_of(echo: Echo, pieces: Sequence[Piece], rate: int) -> float:
    rows = [_Rows(piece, rate, _WHOLE, _tail(echo)) for piece in pieces]
    error = sum(float(np.sum((row.made(response_of(echo, row.angles)) - row.wet) ** 2))
                for row in rows)  # fmt: skip
    return error / max(sum(float(np.sum(row.wet**2)) for row in rows), 1e-30)


def _tail(echo: Echo) -> int:
    """Samples until the loop has died away to a millionth."""
    gain = min(max(_loop_gain(echo), 1e-3), 0.999)
    rounds = math.log(1e-7) / math.log(gain) + 1.0
    return int(min(rounds * (echo.mix[4] + 200.0) + 4096, _MOST_TAIL_SAMPLES))


def _loop_gain(echo: Echo) -> float:
    try:
        return echo.node().loop_gain()
    except (ValueError, OverflowError):
        return math.inf


def _refined(
    echo: Echo,
    training: Sequence[Piece],
    rate: int,
    stages: Sequence[_Stage] = _STAGES,
) -> Echo:
    for stage in stages:
        left, rows = stage.seconds, []
        for piece in training:
            if left * rate > 64:
                rows.append(_Rows(piece, rate, replace(stage, seconds=left), _tail(echo)))
                left -= len(piece.wet) / rate
        echo = _gauss_newton(echo, rows, _moving(echo, stage.free))
    return echo


def _moving(echo: Echo, free: bool) -> np.ndarray:
    """Which numbers move: without filters what is heard filtered is what is heard."""
    sections = np.ones(echo.sections.shape, bool)
    sections[:, 1:] = free
    mix = np.array([True, True, bool(len(echo.sections)), True, True])
    return np.flatnonzero(np.concatenate([mix, sections.ravel()]))


def _gauss_newton(echo: Echo, rows: Sequence[_Rows], moving: np.ndarray) -> Echo:
    """Levenberg's damped steps; a step that makes the error larger is tried again, shorter."""
    damping = 1e-4
    matrix, right, error = _equations(echo, rows, moving)
    for _ in range(_STEPS):
        diagonal = np.diag(matrix)
        scale = np.sqrt(np.maximum(diagonal, 1e-12 * diagonal.max()))
        system = matrix / np.outer(scale, scale) + damping * np.eye(len(scale))
        step = np.zeros(_MIX + echo.sections.size)
        step[moving] = np.linalg.solve(system, right / scale) / scale
        moved = _moved(echo, step)
        found_error = _error(moved, rows) if _is_sound(moved) else math.inf
        if found_error < error:
            settled = found_error > error * (1 - 1e-4)
            echo = moved
            damping = max(damping / 10, 1e-9)
            if settled:
                break
            matrix, right, error = _equations(echo, rows, moving)
        else:
            damping *= 30
            if damping > 1e4:
                break
    return echo


def _is_sound(echo: Echo) -> bool:
    if not np.isfinite(echo.mix).all() or not np.isfinite(echo.sections).all():
        return False
    if not (3.0 <= echo.mix[4] < (1 << 22) - 2 and np.abs(echo.sections).max(initial=0.0) < 1e4):
        return False
    return _loop_gain(echo) <= 0.999 * MOST_LOOP_GAIN


def _error(echo: Echo, rows: Sequence[_Rows]) -> float:
    return sum(
        float(np.sum((row.made(response_of(echo, row.angles)) - row.wet) ** 2)) for row in rows
    )


def _equations(
    echo: Echo, rows: Sequence[_Rows], moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """The normal equations of a step from here, and the squared error."""
    size = len(moving)
    matrix, right, error = np.zeros((size, size)), np.zeros(size), 0.0
    for row in rows:
        response, slopes = derivatives(echo, row.angles)
        rest = row.wet - row.made(response)
        stacked = np.stack([row.made(slopes[index]) for index in moving])
        matrix += stacked @ stacked.T
        right += stacked @ rest
        error += float(rest @ rest)
    return matrix, right, error


def response_of(echo: Echo, angles: np.ndarray) -> np.ndarray:
    """The complex response at angles in radians a sample."""
    dry, wet, wet_filtered, feedback, delay = echo.mix
    voice, _ = _voice(delay, angles, echo.points)
    filters = np.ones_like(voice)
    for section in echo.sections:
        filters = filters * _section(section, angles)[0]
    found: np.ndarray = dry + voice * (wet + wet_filtered * filters) / (
        1.0 - feedback * voice * filters
    )
    return found


def derivatives(echo: Echo, angles: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The response, and how it changes with each number: the mix, then each section's g and k by
    their logarithm, and its m."""
    dry, wet, wet_filtered, feedback, delay = echo.mix
    voice, slope = _voice(delay, angles, echo.points)
    sections = [_section(section, angles) for section in echo.sections]
    filters = np.ones_like(voice)
    for value, _ in sections:
        filters = filters * value
    loop = 1.0 / (1.0 - feedback * voice * filters)
    heard = wet + wet_filtered * filters
    out = voice * loop
    by_filters = out * (wet_filtered + heard * loop * feedback * voice)
    slopes = [
        np.ones_like(voice),
        out,
        out * filters,
        out * heard * loop * voice * filters,
        heard * loop * loop * slope,
    ]
    for index, (_, of_section) in enumerate(sections):
        others = by_filters
        for other, (value, _) in enumerate(sections):
            if other != index:
                others = others * value
        slopes += [others * each for each in of_section]
    return dry + out * heard, slopes


def _voice(delay: float, angles: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """The response of the interpolated delay, and how it changes with the delay."""
    whole = math.floor(delay)
    f = delay - whole
    late, step = np.exp(-1j * whole * angles), np.exp(-1j * angles)
    if points == 2:
        return late * (1.0 + f * (step - 1.0)), late * (step - 1.0)
    early, later = np.conj(step), step * step
    value = (-f * (f - 1) * (f - 2) / 6 * early + (f + 1) * (f - 1) * (f - 2) / 2
             - (f + 1) * f * (f - 2) / 2 * step + (f + 1) * f * (f - 1) / 6 * later)  # fmt: skip
    slope = (-(3 * f * f - 6 * f + 2) / 6 * early + (3 * f * f - 4 * f - 1) / 2
             - (3 * f * f - 2 * f - 2) / 2 * step + (3 * f * f - 1) / 6 * later)  # fmt: skip
    return late * value, late * slope


def _section(section: np.ndarray, angles: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The response of a section, and how it changes with log g, log k, m0, m1 and m2."""
    g, k, m0, m1, m2 = section
    s = 1j * np.tan(np.minimum(angles / 2, math.pi / 2 - 1e-9)) / g
    below = 1.0 / (s * s + k * s + 1.0)
    above = m1 * s + m2
    by_s = (m1 - above * (2 * s + k) * below) * below
    return m0 + above * below, [
        -s * by_s,
        -k * s * above * below * below,
        np.ones_like(s),
        s * below,
        below,
    ]


def _moved(echo: Echo, step: np.ndarray) -> Echo:
    sections = echo.sections.copy()
    of_sections = step[_MIX:].reshape(sections.shape)
    sections[:, :2] *= np.exp(np.clip(of_sections[:, :2], -1.0, 1.0))
    sections[:, 2:] += of_sections[:, 2:]
    return replace(echo, mix=echo.mix + step[:_MIX], sections=sections)
