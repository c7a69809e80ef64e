"""ChorusModel: copies of the dry whose delay swings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fxfast.data import Piece
from fxfast.errors import PairError
from fxfast.graph import CYCLE, Delay, DelayVoice
from fxfast.models.base import Progress, register
from fxfast.models.delay_line import DelayConfig, DelayModel
from fxfast.models.fitted import require_seconds
from fxfast.models.modulated_fit import MAX_CHORUS_VOICES, Chorus, Swing, find_chorus

# Entries of a cycle: straight lines between so many are a sine to a part in 200,000.
_ENTRIES = 1024
_LEAST_SECONDS = 1.0
# The longest delay that is looked for, 64 ms, at 96 kHz, and its swing.
_STEP_HISTORY = 8_192


@register("chorus")
class ChorusModel(DelayModel):
    """wet = dry_gain * dry + sum over voices of gain * dry, ``delay`` ago: chorus, vibrato and
    flanger without feedback.

    A delay swings about its centre with one rate and the waveform of a table. Preset: "chorus",
    of up to three voices, each found from what the others leave (``modulated_fit``): rate,
    centre, start phase, waveform by up to nine harmonics, gain, interpolation. The start phase is
    that of time 0 of the file, where the effect is taken to have started: rendering begins there,
    and the phase is a whole number of 2^-48 cycles that goes with the stream.

    In a chain steps of training move all of it too: the tables, the gains and the rates.

    Before a fit: one voice 10 ms late that swings by 1 ms once a second, at 48 kHz.
    """

    presets = {"chorus": DelayConfig(MAX_CHORUS_VOICES)}  # noqa: RUF012
    graph_kinds = (Delay.kind,)
    counts_from_start = True
    opens_loop = False
    # A fit knows the delays far better than a step of so many samples.
    step_sizes = {"mix": 0.1, "gains": 0.1, "turn": 1e-10, "tables": 0.02}  # noqa: RUF012
    found: Chorus | None = None

    def first_node(self) -> Delay:
        phase = float(torch.rand(()))
        waves = 48.0 * np.array([[np.cos(2 * np.pi * phase), np.sin(2 * np.pi * phase)]])
        return node_of(Chorus(1.0, (Swing(0.5, 1 / 48_000, 480.0, waves),)))

    @property
    def step_history(self) -> int:
        return _STEP_HISTORY

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        self.found = None
        self.refit(training, validation, sample_rate, progress)

    def refit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        require_seconds(training, sample_rate, _LEAST_SECONDS, "how a delay swings")
        found = find_chorus(
            training, validation, sample_rate, self.config.voices, progress, self.found
        )
        if not found.voices:
            raise PairError(
                "pairs: expected a copy of dry in wet whose delay swings, found none "
                "(fxfast identify says what there is)"
            )
        self.found = found
        self.set_node(node_of(found))


def node_of(chorus: Chorus) -> Delay:
    """The delay line that plays a chorus; a voice's delay is never below what it can be."""
    least = 1 if chorus.points == 4 else 0
    voices = []
    for swing in chorus.voices:
        cycle = np.arange(_ENTRIES) / (_ENTRIES * max(abs(swing.rate), 1e-12))
        delay = np.maximum(swing.delay(cycle), least)
        base = max(least, int(np.floor(delay.min())))
        table = np.maximum(delay - base, 0.0).astype(np.float32)
        step = round(abs(swing.rate) * CYCLE) % CYCLE
        voices.append(DelayVoice(float(swing.gain), base, table, step))
    return Delay(
        tuple(voices),
        dry=float(chorus.dry_gain),
        wet=1.0,
        interpolation="cubic" if chorus.points == 4 else "linear",
    )
