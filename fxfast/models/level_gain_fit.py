"""Finding compressors and gates from a pair, without a gradient step.

A compressor's curve is the mean gain at each detected level (a regression), so only the three time
constants of the detector are searched; a gate is played by the engine with its numbers changed
one at a time, for its thresholds and its hold are steps that no gradient sees.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.signal import lfilter

from fxfast.data import Piece
from fxfast.follow_ops import follow
from fxfast.graph import Compressor, Gate, ModelGraph
from fxfast.models.base import Progress
from fxfast.player import Player

_FIRST_LEVEL, _PER_LEVEL, _POINTS = -16.0, 4.0, 65
_BLOCK = 16
_MOST_SECONDS = 60.0
_SMOOTHNESS = 1e-4
_PAIRS_MS = tuple(itertools.product((0.02, 1.0, 10.0, 100.0), (1.0, 10.0, 100.0, 300.0)))
# Less than a sample: no average.
_AVERAGES_MS = (1e-3, 10.0, 100.0)
_FLOOR = 1e-9


# Milliseconds of rise, fall and average.
_Times = tuple[float, float, float]
# Which of them grow or shrink in a step of the search: one, or two in opposite or equal ways.
_WAYS = tuple(
    way for way in itertools.product((-1, 0, 1), repeat=3) if 1 <= sum(map(abs, way)) <= 2
)
_FIRST_TURNS, _TURNS = 8, 8


def fit_compressor(training: Sequence[Piece], rate: int, progress: Progress) -> Compressor:
    """The detector and the curve that leave least of the wet."""
    pieces = _enough(training, rate)
    score = _CompressorScore(pieces, rate)
    grid = [(*times, average) for average in _AVERAGES_MS for times in _PAIRS_MS]
    tried: dict[_Times, float] = {}
    for number, start in enumerate(grid):
        tried[start] = score(start)[0]
        progress(0.4 * (number + 1) / len(grid), "detector")
    # From the best start with each average: where it smooths much the others look alike.
    found = []
    for number in range(len(_AVERAGES_MS)):
        alike = grid[number * len(_PAIRS_MS) : (number + 1) * len(_PAIRS_MS)]
        start = min(alike, key=lambda each: tried[each])
        found.append(_refined(score, start, tried[start], _FIRST_TURNS))
        progress(0.4 + 0.15 * (number + 1), "time constants")
    least, times = min(found)
    _, times = _refined(score, times, least, _TURNS)
    rise, fall, average = (_share(time, rate) for time in times)
    curve = score(times)[1].astype(np.float32)
    return Compressor(
        "peak", rise, fall, 1.0, 1.0, _FIRST_LEVEL, _PER_LEVEL, curve, detector_average=average
    )


def _refined(
    score: _CompressorScore, times: _Times, least: float, turns: int
) -> tuple[float, _Times]:
    """The least error that a search by steps around ``times`` finds, and where."""
    step = 2.0
    for _ in range(turns):
        around = [_scaled(times, step, powers) for powers in _WAYS]
        scores = [score(each)[0] for each in around]
        if min(scores) < least:
            least, times = min(scores), around[int(np.argmin(scores))]
        else:
            step = step**0.5
    return least, times


def _scaled(times: _Times, step: float, powers: tuple[int, ...]) -> _Times:
    rise, fall, average = (time * step**power for time, power in zip(times, powers, strict=True))
    return rise, fall, average


def _share(milliseconds: float, rate: int) -> float:
    """How much of the way a one-pole filter of this time constant goes in a sample."""
    return float(1.0 - np.exp(-1000.0 / (milliseconds * rate)))


def _enough(training: Sequence[Piece], rate: int) -> list[tuple[np.ndarray, np.ndarray, int]]:
    """What is heard, the target, and where it starts in what is heard."""
    found, left = [], round(_MOST_SECONDS * rate)
    for piece in training:
        count = min(len(piece.wet), left)
        left -= count
        before = len(piece.heard) - len(piece.wet)
        if count > _BLOCK:
            found.append((piece.heard[: before + count], piece.wet[:count], before))
    return found


class _CompressorScore:
    """ESR of the best curve for a detector, over blocks of 16 samples."""

    def __init__(self, pieces: Sequence[tuple[np.ndarray, np.ndarray, int]], rate: int) -> None:
        self.rate = rate
        self.heard = [np.abs(heard) for heard, _, _ in pieces]
        self.averaged: tuple[float, list[torch.Tensor]] = (0.0, [])
        self.starts = [start for _, _, start in pieces]
        blocks = [_blocks(heard[start:], wet) for heard, wet, start in pieces]
        self.xx, self.xy, self.yy = (np.concatenate(each) for each in zip(*blocks, strict=True))
        self.gain = self.xy / (self.xx + 1e-12)
        # Without noise at the bottom: a block counts as much as its gain is sure.
        self.weight = self.xx + 0.0

    def _averages(self, milliseconds: float) -> list[torch.Tensor]:
        """|x| averaged; kept, for a search changes the other two more often."""
        if self.averaged[0] != milliseconds:
            share = _share(milliseconds, self.rate)
            means = [lfilter([share], [1.0, share - 1.0], heard) for heard in self.heard]
            found = [torch.from_numpy(mean.astype(np.float32))[None] for mean in means]
            self.averaged = (milliseconds, found)
        return self.averaged[1]

    def __call__(self, times: _Times) -> tuple[float, np.ndarray]:
        numbers = [torch.tensor(_share(time, self.rate), dtype=torch.float64) for time in times[:2]]
        levels = []
        for heard, start in zip(self._averages(times[2]), self.starts, strict=True):
            level = follow(heard, torch.zeros(1), *numbers)[0, start:].numpy()
            count = len(level) // _BLOCK * _BLOCK
            levels.append(level[_BLOCK // 2 : count : _BLOCK])
        log2 = np.log2(np.maximum(np.concatenate(levels), 1e-38))
        places = np.clip((log2 - _FIRST_LEVEL) * _PER_LEVEL, 0.0, _POINTS - 1.0)
        gains = _curve_of_gains(places, self.gain, self.weight)
        curve = np.log2(np.maximum(gains, 1e-6))
        played = np.exp2(np.interp(places, np.arange(_POINTS), curve))
        error = self.yy - 2.0 * played * self.xy + np.square(played) * self.xx
        return float(error.sum() / (self.yy.sum() + 1e-20)), curve


def _blocks(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    count = len(y) // _BLOCK * _BLOCK
    a = x[:count].reshape(-1, _BLOCK).astype(np.float64)
    b = y[:count].reshape(-1, _BLOCK).astype(np.float64)
    return (a * a).sum(1), (a * b).sum(1), (b * b).sum(1)


def _curve_of_gains(places: np.ndarray, gain: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Points of a curve, straight between them, nearest to the gains; smooth where none are."""
    point = np.minimum(places.astype(np.int64), _POINTS - 2)
    share = places - point
    matrix = np.zeros((_POINTS, _POINTS))
    right = np.zeros(_POINTS)
    for first, a in ((0, 1.0 - share), (1, share)):
        right += np.bincount(point + first, weight * a * gain, _POINTS)
        for second, b in ((0, 1.0 - share), (1, share)):
            sums = np.bincount(point, weight * a * b, _POINTS - 1)
            rows = np.arange(_POINTS - 1)
            matrix[rows + first, rows + second] += sums
    bend = np.diff(np.eye(_POINTS), 2, axis=0)
    slope = np.diff(np.eye(_POINTS), axis=0)
    total = float(weight.sum()) / _POINTS + 1e-20
    matrix += total * (_SMOOTHNESS * bend.T @ bend + 1e-3 * _SMOOTHNESS * slope.T @ slope)
    return np.asarray(np.linalg.solve(matrix, right))


def fit_gate(training: Sequence[Piece], rate: int, progress: Progress) -> Gate:
    """The gate that leaves least of the wet, every stretch of 5 ms counted alike."""
    score = _GateScore(_enough(training, rate), rate)
    best, least = None, np.inf
    starts = [
        Gate("peak", 1.0, 1.0, 1000.0 / (1.0 * rate), 1000.0 / (100.0 * rate), level, level,
             round(0.03 * rate), 0.0, "linear")
        for level in (10.0 ** (np.arange(-54.0, -11.0, 6.0) / 20.0)).tolist()
    ]  # fmt: skip
    for number, start in enumerate(starts):
        error = score(start)
        if error < least:
            best, least = start, error
        progress(0.2 * (number + 1) / len(starts), "threshold")
    assert best is not None
    steps = {"open_level": 0.5, "hold_samples": 1.0, "gain_fall": 1.0, "gain_rise": 1.0}
    turns = 12
    for turn in range(turns):
        for name in steps:
            for sign in (1.0, -1.0):
                changed = _changed(best, name, sign * steps[name])
                error = score(changed)
                if error < least:
                    best, least = changed, error
                    break
            else:
                steps[name] *= 0.5
        progress(0.2 + 0.7 * (turn + 1) / turns, "times and threshold")
    for share in (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5):
        changed = replace(best, range_gain=share)
        error = score(changed)
        if error < least:
            best, least = changed, error
    return best


def _changed(node: Gate, name: str, octaves: float) -> Gate:
    value = getattr(node, name) * 2.0**octaves
    if name == "hold_samples":
        return replace(node, hold_samples=max(0, round(value)))
    if name == "open_level":
        return replace(node, open_level=float(value), close_level=float(value))
    if name == "gain_rise":
        return replace(node, gain_rise=float(min(1.0, value)))
    return replace(node, gain_fall=float(min(1.0, value)))


class _GateScore:
    """Error over what the dry has, mean over stretches of 5 ms, so that closed ones count."""

    def __init__(self, pieces: Sequence[tuple[np.ndarray, np.ndarray, int]], rate: int) -> None:
        self.pieces, self.rate = pieces, rate
        self.frame = max(1, round(0.005 * rate))

    def _frames(self, x: np.ndarray) -> np.ndarray:
        count = len(x) // self.frame * self.frame
        squares = np.square(x[:count].astype(np.float64)).reshape(-1, self.frame)
        return np.asarray(squares.sum(1))

    def __call__(self, node: Gate) -> float:
        player = Player(ModelGraph(node, self.rate), threads=1, mode="stream")
        total = count = 0.0
        for heard, wet, start in self.pieces:
            error = self._frames(player.render(np.ascontiguousarray(heard))[start:] - wet)
            whole = self._frames(heard[start:]) + self.frame * _FLOOR
            total += float((error / whole).sum())
            count += len(error)
        return total / max(count, 1.0)
