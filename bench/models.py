"""Every preset on the engine beside eager PyTorch, one core, in one run."""

from __future__ import annotations

from typing import Any

from bench.engine import SAMPLE_RATE, fused_isas
from fxfast import models
from fxfast.audio.signals import guitar_like
from fxfast.report.compare import compare

# A larger preset would take longer than all the others together.
MAX_MACS_PER_SAMPLE = 1_000_000


def presets(count: int) -> dict[str, Any]:
    """For each preset but the largest, and each instruction set: speed, share of the peak,
    error against float64."""
    audio = guitar_like(3.0, SAMPLE_RATE, seed=6)
    isas = fused_isas()
    found: dict[str, Any] = {}
    for name in models.presets():
        graph = models.create(name, seed=0).to_graph(SAMPLE_RATE)
        if graph.macs_per_sample > MAX_MACS_PER_SAMPLE:
            continue
        comparison = compare(graph, audio, isas, count=max(3, count // 2), windows_seconds=0.0)
        found[name] = {
            "parameters": graph.parameters,
            "multiply_adds_per_sample": graph.macs_per_sample,
            "receptive_field_samples": graph.receptive_field,
            **comparison.to_json(),
            "share_of_peak": {isa: comparison.share_of_peak(isa) for isa in isas},
            "times_as_fast_as_eager": comparison.ratio(f"engine {isas[0]}", "eager dense"),
        }
    return found
