"""The engine beside its peers on the same model and audio, in one run, one thread each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fxfast.errors import ModelError
from fxfast.graph import Linear, ModelGraph
from fxfast.player import Player
from fxfast.report.engine_ways import engine_ways
from fxfast.report.floor import activation_values, floor_realtime
from fxfast.report.measure import multiply_add_peak, rounds
from fxfast.report.onnx_way import ENGINE as ONNX
from fxfast.report.onnx_way import onnx_way
from fxfast.report.programs import Job, Program, ways_of
from fxfast.report.scipy_way import oaconvolve, scipy_way
from fxfast.report.torch_ways import (
    COMPILED,
    EAGER,
    Twin,
    compiled_way,
    eager_net,
    eager_way,
    usual_ways,
)
from fxfast.report.ways import Budget, PeerError, Row, Way, row_of

__all__ = ["PEERS", "Comparison", "Options", "compare", "eager_net"]

PEERS = ("eager", "compile", "onnx", "scipy")
_NAMES = {"eager": EAGER, "compile": COMPILED, "onnx": ONNX, "scipy": "scipy"}
# The truth costs multiply-adds in float64, so a big model's is short.
_TRUTH_SECONDS = 0.5
_TRUTH_MULTIPLY_ADDS = 1e9
_MIN_TRUTH_SAMPLES = 64
# Blocks in which a library of another engine plays: the first stands for whole audio.
_LIBRARY_BLOCKS = (4096, 48)
_COMPILED_CHUNK = 16384


@dataclass(frozen=True)
class Options:
    """What is measured. ``rounds`` runs of about ``target_seconds`` each make a figure.

    The engine runs on ``isas`` in every mode, on ``offline_isas`` over the whole audio only.

    ``blocks`` are those of the streaming rows, ``streams`` the numbers of streams that are
    rendered at once, ``peers`` some of ``PEERS``. With ``windows_seconds`` eager PyTorch also
    renders the whole file in one piece, and so much of it window by window. With ``quiet`` the
    engine renders silence and denormals too.
    """

    isas: tuple[str, ...]
    offline_isas: tuple[str, ...] = ()
    rounds: int = 5
    target_seconds: float = 0.06
    blocks: tuple[int, ...] = (48, 512)
    streams: tuple[int, ...] = (1,)
    peers: tuple[str, ...] = PEERS
    programs: tuple[Program, ...] = ()
    windows_seconds: float | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Comparison:
    """All rows of one run, the multiply-add peak of one core in that run, by ISA, and the floor."""

    graph: ModelGraph
    rows: tuple[Row, ...]
    skipped: tuple[tuple[str, str], ...]
    peak_flops: dict[str, float]
    error_against: str
    eager_chunk: int | None = None
    audio_seconds: float = field(default=0.0)

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def ratio(self, name: str, peer: str) -> float:
        """How many times faster ``name`` is than ``peer``."""
        return self.row(name).realtime / self.row(peer).realtime

    def share_of_peak(self, isa: str) -> float:
        """The engine's useful operations over the measured peak of the same instruction set."""
        return self.row(f"engine {isa}").useful_flops / self.peak_flops[isa]

    def floor(self, isa: str) -> float:
        """Times real time at the floor of that instruction set."""
        return floor_realtime(self.graph, self.peak_flops[isa])

    def to_json(self) -> dict[str, Any]:
        graph = self.graph
        return {
            "kind": graph.kind,
            "sample_rate_hz": graph.sample_rate,
            "parameters": graph.parameters,
            "multiply_adds_per_sample": graph.macs_per_sample,
            "activation_values_per_sample": activation_values(graph),
            "receptive_field_samples": graph.receptive_field,
            "audio_seconds": self.audio_seconds,
            "error_against": self.error_against,
            "peak_flops": self.peak_flops,
            "floor_realtime": {isa: self.floor(isa) for isa in self.peak_flops},
            "eager_chunk_samples": self.eager_chunk,
            "rows": [self._row_json(row) for row in self.rows],
            "skipped": [{"name": name, "reason": reason} for name, reason in self.skipped],
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        # A peer may use whatever the machine has: it is beside the widest instruction set.
        isa = row.isa or next(iter(self.peak_flops))
        return {
            **row.to_json(),
            "share_of_peak": row.useful_flops / self.peak_flops[isa],
            "share_of_floor": row.realtime / self.floor(isa),
        }


def compare(
    graph: ModelGraph,
    audio: np.ndarray,
    options: Options,
    *,
    on_round: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Measure the engine and its peers on ``audio`` (T,) float32, one thread each.

    Each way renders from the start of the same samples, as many of them as give a run of the
    length that ``options`` say; streams that are rendered together begin at different places.
    A peer that is not installed or fails is left out with the reason. ``on_round`` gets how
    many of how many rounds are done.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="fxfast-bench-") as folder:
            return _compare(graph, audio, options, Path(folder), on_round)
    finally:
        torch.set_num_threads(threads)


def _compare(
    graph: ModelGraph,
    audio: np.ndarray,
    options: Options,
    folder: Path,
    on_round: Callable[[int, int], None] | None,
) -> Comparison:
    run = _Run(graph, audio, options, folder)
    ways = [run.budget.settled(way) for way in run.ways()]
    works: dict[str, Callable[[], float]] = {way.name: way.seconds for way in ways}
    isas = (*options.isas, *options.offline_isas)
    peaks = {f"peak {isa}": partial(multiply_add_peak, isa, 0.03) for isa in isas}
    failed: dict[str, str] = {}
    figures = rounds(
        {name: partial(_guarded, name, work, failed) for name, work in works.items()} | peaks,
        options.rounds,
        on_round=on_round,
    )
    run.skipped += failed.items()
    rows = tuple(
        row_of(way, figures[way.name], graph.macs_per_sample, graph.sample_rate, run.truth)
        for way in ways
        if way.name not in failed
    )
    eager = next((way for way in ways if way.name == "eager dense"), None)
    return Comparison(
        graph,
        rows,
        tuple(run.skipped),
        {isa: float(np.median(figures[f"peak {isa}"])) for isa in isas},
        run.error_against,
        None if eager is None else eager.samples,
        len(audio) / graph.sample_rate,
    )


def _guarded(name: str, work: Callable[[], float], failed: dict[str, str]) -> float:
    """A program that fails in a later round is left out with the reason, too."""
    if name in failed:
        return 0.0
    try:
        return work()
    except PeerError as error:
        failed[name] = str(error)
        return 0.0


class _Run:
    """Prepares all ways of one comparison; ``skipped`` gathers the names and reasons of others."""

    def __init__(
        self, graph: ModelGraph, audio: np.ndarray, options: Options, folder: Path
    ) -> None:
        self.graph, self.audio, self.options, self.folder = graph, audio, options, folder
        self.skipped: list[tuple[str, str]] = []
        self.budget = Budget(options.target_seconds, len(audio), graph.macs_per_sample)
        self.twin: Twin | None = None
        self.no_twin = ""
        try:
            self.twin = Twin.of(graph)
        except PeerError as error:
            self.no_twin = str(error)
        self.truth, self.error_against = self._truth()

    def ways(self) -> list[Way]:
        options = self.options
        found = [way for isa in options.isas for way in self._engine(isa)]
        for isa in options.offline_isas:
            found += self._engine(isa, streams=(1,), blocks=())
        for peer, make in (
            ("eager", self._eager),
            ("compile", self._compiled),
            ("onnx", self._onnx),
            ("scipy", self._scipy),
        ):
            if peer in self.options.peers:
                found += self._unless_skipped(_NAMES[peer], make())
        for program in self.options.programs:
            found += self._unless_skipped(program.label, self._program(program))
        return found

    def _unless_skipped(self, name: str, ways: Iterable[Way]) -> Iterator[Way]:
        try:
            yield from ways
        except PeerError as error:
            self.skipped.append((name, str(error)))

    def _engine(
        self,
        isa: str,
        *,
        streams: tuple[int, ...] | None = None,
        blocks: tuple[int, ...] | None = None,
    ) -> Iterator[Way]:
        return engine_ways(
            self.graph,
            self.audio,
            isa,
            blocks=self.options.blocks if blocks is None else blocks,
            streams=streams or self.options.streams,
            truth_samples=len(self.truth),
            budget=self.budget,
            quiet=self.options.quiet and isa in self.options.isas,
        )

    def _needs_twin(self) -> Twin:
        if self.twin is None:
            raise PeerError(self.no_twin)
        return self.twin

    def _eager(self) -> Iterator[Way]:
        twin = self._needs_twin()
        for streams in self.options.streams:
            yield eager_way(twin, self.audio, streams, len(self.truth), self.budget)
        if self.options.windows_seconds is not None:
            seconds = self.options.windows_seconds
            yield from usual_ways(twin, self.audio, seconds, self.graph.sample_rate)

    def _compiled(self) -> Iterator[Way]:
        yield compiled_way(self._needs_twin(), self.audio, len(self.truth), _COMPILED_CHUNK)

    def _onnx(self) -> Iterator[Way]:
        for streams in self.options.streams:
            yield onnx_way(self._needs_twin(), self.audio, streams, len(self.truth), self.budget)

    def _scipy(self) -> Iterator[Way]:
        if isinstance(self.graph.root, Linear):
            yield scipy_way(self.graph.root, self.audio, len(self.truth), self.budget)

    def _program(self, program: Program) -> Iterator[Way]:
        from fxfast.exchange import nam_write

        model = self.folder / "model.nam"
        try:
            if not model.exists():
                model.write_text(nam_write.dumps(self.graph))
        except ModelError as error:
            raise PeerError(f"no .nam of this model: {error}") from None
        job = Job(
            model, self.audio, self.graph.sample_rate, len(self.truth), self.budget, self.folder
        )
        yield from ways_of(program, job, _LIBRARY_BLOCKS)

    def _truth(self) -> tuple[np.ndarray, str]:
        """The first samples in float64, and what computed them."""
        graph = self.graph
        samples = min(
            len(self.audio),
            round(_TRUTH_SECONDS * graph.sample_rate),
            max(_MIN_TRUTH_SAMPLES, round(_TRUTH_MULTIPLY_ADDS / graph.macs_per_sample)),
        )
        x = self.audio[:samples]
        if isinstance(graph.root, Linear):
            x = self.audio[: round(2 * _TRUTH_SECONDS * graph.sample_rate) + graph.receptive_field]
            return oaconvolve(graph.root, x.astype(np.float64)), "scipy in float64"
        if self.twin is not None:
            return self.twin.truth(x), "PyTorch in float64"
        reference = Player(graph, threads=1, isa="reference")
        return reference.render(x).astype(np.float64), "the reference kernels"
