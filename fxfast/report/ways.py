"""What is compared: ways to render the same audio, each measured by runs of a fitting length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fxfast.report.measure import Timing, run_length

# Above this an activation has been approximated: the error of float32 is far below.
ACCURATE_DB = -80.0
# Where the search for the length of a run begins, and what rendering for the error may cost.
_FIRST_MULTIPLY_ADDS = 2_000_000_000
_ERROR_MULTIPLY_ADDS = 10_000_000_000
_MIN_SAMPLES = 8
_MOST_REPEATS = 20


class PeerError(Exception):
    """Why a way is not measured: the reason, in a line."""


@dataclass(frozen=True)
class Way:
    """A way to render: ``run(n)`` renders n samples of every stream and returns the seconds.

    ``first`` is the output of the first stream for the samples that the error is taken of, None
    where a program does not give it. ``measured`` is how many samples of each stream the time
    of ``run(samples)`` is of. ``repeats`` runs one after the other are one, in the mean, where all
    of the audio takes too short.
    """

    name: str
    engine: str
    run: Callable[[int], float]
    samples: int
    first: np.ndarray | None = None
    isa: str | None = None
    mode: str = "offline"
    block: int | None = None
    streams: int = 1
    measured: int | None = None
    memory: dict[str, int] = field(default_factory=dict)
    note: str = ""
    repeats: int = 1

    def seconds(self) -> float:
        return sum(self.run(self.samples) for _ in range(self.repeats)) / self.repeats

    @property
    def work(self) -> int:
        """Samples of one run, all streams together."""
        return self.streams * (self.samples if self.measured is None else self.measured)


@dataclass(frozen=True)
class Budget:
    """How long one run of a way takes, the most audio of one stream, in samples, and the
    multiply-adds of a sample."""

    target_seconds: float
    limit: int
    macs: int

    def samples(self, run: Callable[[int], float], streams: int = 1, least: int = 1) -> int:
        """How many samples of each stream a run is of, at least so many where there are."""
        start = max(_MIN_SAMPLES, least, min(256, _FIRST_MULTIPLY_ADDS // (streams * self.macs)))
        return run_length(run, self.limit, self.target_seconds, start)

    def settled(self, way: Way) -> Way:
        """The same, repeated if all of the audio takes much less than a run should."""
        if way.samples < self.limit:
            return way
        try:
            repeats = round(self.target_seconds / max(way.seconds(), 1e-9))
        except PeerError:  # which is told when it is measured
            return way
        return replace(way, repeats=min(max(1, repeats), _MOST_REPEATS))

    def error_samples(self, samples: int, streams: int) -> int:
        """Of how many of these samples the error is taken when so many streams are rendered."""
        affordable = _ERROR_MULTIPLY_ADDS // (streams * self.macs)
        return min(samples, max(_MIN_SAMPLES, affordable))

    def one_of(self, chunks: tuple[int, ...], run: Callable[[int], float]) -> int:
        """The chunk length with the lowest time a sample, the best of two runs counting.

        Chunks that take more than ten times the target are not tried: the shorter ones tell.
        """
        best, chosen = np.inf, chunks[0]
        for chunk in chunks:
            seconds = min(run(chunk) for _ in range(2))
            if seconds / chunk < best:
                best, chosen = seconds / chunk, chunk
            if seconds > 10 * self.target_seconds:
                break
        return chosen


@dataclass(frozen=True)
class Row:
    """A way's figures.

    ``useful_flops`` counts the model's multiply-adds (two operations each), however much work
    the way really did; ``error_db`` is the RMS error against float64 relative to the signal.
    """

    name: str
    engine: str
    isa: str | None
    mode: str
    block: int | None
    streams: int
    audio_seconds: float
    timing: Timing
    realtime: float
    useful_flops: float
    error_db: float | None
    memory: dict[str, int]
    note: str

    @property
    def is_approximate(self) -> bool:
        return self.error_db is not None and self.error_db > ACCURATE_DB

    def to_json(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "timing": self.timing.to_json(),
            "approximate": self.is_approximate,
        }


def row_of(
    way: Way, seconds: list[float], macs: int, sample_rate: int, truth: np.ndarray | None
) -> Row:
    timing = Timing.of(seconds)
    audio_seconds = way.work / sample_rate
    known = way.first is not None and truth is not None
    return Row(
        name=way.name,
        engine=way.engine,
        isa=way.isa,
        mode=way.mode,
        block=way.block,
        streams=way.streams,
        audio_seconds=audio_seconds,
        timing=timing,
        realtime=audio_seconds / timing.median,
        useful_flops=2.0 * macs * way.work / timing.median,
        error_db=relative_db(way.first, truth) if known else None,  # type: ignore[arg-type]
        memory=way.memory,
        note=way.note,
    )


def relative_db(rendered: np.ndarray, truth: np.ndarray) -> float:
    """Energy of the error over that of the truth, as far as both go."""
    samples = min(len(rendered), len(truth))
    rendered, truth = rendered[:samples].astype(np.float64), truth[:samples]
    ratio = np.sum(np.square(rendered - truth)) / max(np.sum(np.square(truth)), 1e-300)
    return float(10 * np.log10(max(ratio, 1e-30)))


def streams_of(audio: np.ndarray, streams: int, samples: int) -> np.ndarray:
    """So many streams (B, T) from evenly spaced places of ``audio`` on, the first from its start.

    ``audio`` repeats as often as it takes.
    """
    starts = len(audio) // streams * np.arange(streams)
    return audio.take(starts[:, None] + np.arange(samples), mode="wrap")


def with_streams(name: str, streams: int) -> str:
    return name if streams == 1 else f"{name}, {streams} streams"
