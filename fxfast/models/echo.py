"""EchoModel: a delay that comes round again."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fxfast.data import Piece
from fxfast.errors import PairError
from fxfast.graph import Delay
from fxfast.models.base import Progress, register
from fxfast.models.delay_line import DelayConfig, DelayModel, fixed_voice
from fxfast.models.echo_fit import find_echo
from fxfast.models.fitted import require_seconds

_LEAST_SECONDS = 1.0


@register("delay")
class EchoModel(DelayModel):
    """An echo with feedback: one fixed delay, between samples if need be, filters in the loop,
    and a mix of dry, the echo and the filtered echo. Equations: ``fxfast.graph.Delay``.

    Preset: "delay". ``fit`` finds the delay from the impulse response of dry to wet and moves all
    numbers by Gauss-Newton (``echo_fit``): no filter, a low-pass or a high-pass and a low-pass in
    the loop, whichever predicts validation best. It needs some 15 numbers where an impulse
    response ("linear-10s") needs one for each sample, and its tail has no end.

    Before a fit: an echo after 250 ms at 48 kHz, of which three tenths come round again.
    """

    presets = {"delay": DelayConfig(1)}  # noqa: RUF012
    graph_kinds = (Delay.kind,)
    is_linear = True

    def first_node(self) -> Delay:
        gain = 0.4 + 0.2 * float(torch.rand(()))
        return Delay((fixed_voice(1.0, 12_000.0),), wet=gain, feedback=0.3)

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        require_seconds(training, sample_rate, _LEAST_SECONDS, "an echo")
        found = find_echo(training, validation, sample_rate, progress)
        if found is None:
            raise PairError(
                "pairs: expected a copy of dry in wet some milliseconds late, found none "
                "(fxfast identify says what there is)"
            )
        self.set_node(found.node())
