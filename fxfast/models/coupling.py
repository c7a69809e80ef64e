"""CouplingModel: the high-pass of a coupling capacitor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from fxfast.data import Piece
from fxfast.graph import Delay
from fxfast.models.base import Progress, register
from fxfast.models.delay_line import DelayConfig, DelayModel, fixed_voice
from fxfast.models.fitted import require_seconds

_LEAST_SECONDS = 0.5
# From hardly any to one that is heard.
_CORNERS_HZ = np.geomspace(0.5, 40.0, 40)
# Of the section 1 / (s + a) as (s + 1 / a) / ((s + a) (s + 1 / a)).
_FIRST_CORNER_HZ, _FIRST_RATE = 3.0, 48_000


@register("coupling")
class CouplingModel(DelayModel):
    """y = gain * (x - lowpass(x)) of one pole: what stands between the stages of analogue devices.

    Preset: "coupling", two numbers: the corner, of those from 0.5 to 40 Hz, and the gain that
    leave least of wet. Where a filter of hundreds of taps learns what recordings have by chance, a
    chain such as "compressor+coupling" keeps to what a circuit can do.

    It is the node ``fxfast.graph.Delay`` without a delay: its filter is a one-pole low-pass.
    """

    presets = {"coupling": DelayConfig(1)}  # noqa: RUF012
    graph_kinds = (Delay.kind,)
    is_linear = True
    opens_loop = False
    # A step of training moves the corner by little of itself.
    step_sizes = {"mix": 1e-3, "gains": 1e-3, "sections": 1e-6, "tables": 0.0}  # noqa: RUF012

    def first_node(self) -> Delay:
        return node_of(1.0, _FIRST_CORNER_HZ, _FIRST_RATE)

    @property
    def step_history(self) -> int:
        return _FIRST_RATE // 4

    def fit(
        self,
        training: Sequence[Piece],
        validation: Sequence[Piece],
        sample_rate: int,
        progress: Progress,
    ) -> None:
        require_seconds(training, sample_rate, _LEAST_SECONDS, "a coupling")
        tried = []
        for number, corner_hz in enumerate(_CORNERS_HZ):
            progress(number / len(_CORNERS_HZ), f"{corner_hz:.2g} Hz")
            xx = xy = yy = 0.0
            for piece in training:
                x = _high_passed(piece.heard, corner_hz, sample_rate)[-len(piece.wet) :]
                y = piece.wet.astype(np.float64)
                xx, xy, yy = xx + float(x @ x), xy + float(x @ y), yy + float(y @ y)
            tried.append((yy - xy * xy / (xx + 1e-20), xy / (xx + 1e-20), corner_hz))
        _, gain, corner_hz = min(tried)
        self.set_node(node_of(gain, float(corner_hz), sample_rate))


def _high_passed(x: np.ndarray, corner_hz: float, rate: int) -> np.ndarray:
    """By the bilinear transform, as the engine's sections."""
    g = np.tan(np.pi * corner_hz / rate)
    return np.asarray(lfilter([1 / (1 + g), -1 / (1 + g)], [1.0, (g - 1) / (1 + g)], x))


def node_of(gain: float, corner_hz: float, rate: int) -> Delay:
    """H(s) = 1 - 1 / (1 + s), s over the corner: 1 / (1 + s) is (1 + s) / (1 + s)^2."""
    g = np.tan(np.pi * corner_hz / rate)
    section = np.array([[g, 2.0, 0.0, 1.0, 1.0]], np.float32)
    return Delay((fixed_voice(1.0, 0.0),), dry=gain, wet_filtered=-gain, sections=section)
