"""The models of a whole benchmark: the presets, and shapes that people try besides."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import numpy as np

from fxfast import models
from fxfast.audio.signals import guitar_like
from fxfast.graph import Linear, ModelGraph
from fxfast.models.recurrent_config import RecurrentConfig
from fxfast.models.wavenet_config import ActivationConfig, WaveNetConfig, plain_array
from fxfast.native import engine
from fxfast.report.compare import Options

SAMPLE_RATE = 48_000
_OCTAVES = tuple(2**n for n in range(10))


@dataclass(frozen=True)
class Case:
    """A model, how many streams of it are rendered at once, and in which blocks it streams.

    ``compiled``: beside torch.compile too, which takes long to prepare. ``large``: on the best
    instruction set alone, beside eager PyTorch alone. With ``windows_seconds`` also as people
    begin: see ``Options``.
    """

    name: str
    streams: tuple[int, ...] = (1,)
    blocks: tuple[int, ...] = (48, 512)
    compiled: bool = False
    large: bool = False
    windows_seconds: float | None = None


def options_of(case: Case, options: Options) -> Options:
    """What is measured of a case: all isas of ``options`` in every mode, unless it is large."""
    peers = tuple(p for p in options.peers if case.compiled or p != "compile")
    return replace(
        options,
        isas=options.isas[:1] if case.large else options.isas,
        offline_isas=() if case.large else options.offline_isas,
        streams=case.streams,
        blocks=case.blocks,
        peers=("eager",) if case.large else peers,
        windows_seconds=case.windows_seconds,
        quiet=options.quiet and not case.large,
    )


SUITE = (
    Case("a1-standard", compiled=True),
    Case("a1-wide"),
    Case("a1-lite"),
    Case("a1-feather"),
    Case("a1-nano"),
    Case("a2-full"),
    Case("a2-lite"),
    Case(
        "conv-64-32",
        blocks=(16, 48, 64, 192, 512, 4096),
        compiled=True,
        windows_seconds=1.0,
    ),
    Case("dense-64"),
    Case("tcn-16"),
    Case("lstm-16", (1, 2, 32)),
    Case("lstm-40", (1, 32)),
    Case("lstm-2x8"),
    Case("lstm-2x16"),
    Case("lstm-96"),
    Case("lstm-6x800", (32,), (), large=True),
    Case("gru-16"),
    Case("conv-lstm-24"),
    Case("linear-200ms"),
    Case("linear-2s"),
    Case("linear-10s"),
    Case("delay"),
    Case("chorus"),
    Case("coupling"),
    Case("compressor"),
    Case("gate"),
)


def case_of(name: str) -> Case | None:
    """The case of that name, or None."""
    return next((case for case in SUITE if case.name == name), None)


def graph_of(name: str) -> ModelGraph:
    """A model of the suite, or any preset, with random weights.

    Raises ``ModelError`` for a name that is neither.
    """
    if name == "a1-wide":
        return _made("wavenet", _wide())
    if name == "lstm-2x16":
        return _made("recurrent", RecurrentConfig("lstm", 16, 2))
    if name == "linear-2s":
        return ModelGraph(Linear(_decay(2 * SAMPLE_RATE)), SAMPLE_RATE)
    return models.create(name, seed=0).to_graph(SAMPLE_RATE)


def names() -> tuple[str, ...]:
    """The presets and what the suite adds to them."""
    known = tuple(models.presets())
    return known + tuple(case.name for case in SUITE if case.name not in known)


def audio_of(sample_rate: int) -> np.ndarray:
    """What every model of a benchmark renders: 20 s like a guitar."""
    return guitar_like(20.0, sample_rate, seed=6)


def fused_isas() -> tuple[str, ...]:
    """The instruction sets of this machine that are made for speed, best first."""
    return tuple(name for name, supported in engine().isas() if supported and name != "reference")


def _wide() -> WaveNetConfig:
    tanh, taps = ActivationConfig("tanh"), [3] * len(_OCTAVES)
    first = plain_array(32, taps, _OCTAVES, tanh, head_channels=8, head_bias=False)
    return WaveNetConfig((first, plain_array(8, taps, _OCTAVES, tanh)), head_scale=0.02)


def _made(architecture: str, config: WaveNetConfig | RecurrentConfig) -> ModelGraph:
    description = {"architecture": architecture, "config": asdict(config)}
    return models.from_description(description, seed=0).to_graph(SAMPLE_RATE)


def _decay(samples: int) -> np.ndarray:
    """A room of noise that dies away."""
    noise = np.random.default_rng(0).standard_normal(samples)
    taps: np.ndarray = (0.02 * noise * np.exp(-6.9 * np.arange(samples) / samples)).astype("f4")
    return taps
