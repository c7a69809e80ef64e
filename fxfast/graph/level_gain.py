"""A gain that follows the level of its input: compressor, limiter, expander, gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from fxfast.errors import ModelError
from fxfast.graph.checks import as_float32, check_array, check_number
from fxfast.graph.node import Convolution, MonoNode, check_depth

DETECTORS = ("peak", "power")
RAMPS = ("linear", "exponential")
MAX_CURVE_POINTS = 4096
MAX_HOLD_SAMPLES = 1 << 24
_MAX_LOG2 = 100.0


def _check_within(value: float, low: float, high: float, name: str) -> None:
    check_number(value, name)
    if not low <= value <= high:
        raise ModelError(f"{name}: expected {low:g} to {high:g}, got {value:g}")


@dataclass(frozen=True, eq=False)
class _Detected(MonoNode):
    """What both gains share: one channel, and a detector that smooths |x| ("peak") or x squared
    ("power"): a += ``detector_average`` (d - a), then e += k (a - e), with k = ``detector_rise``
    where a > e, else ``detector_fall``."""

    detector: str
    detector_rise: float
    detector_fall: float
    detector_average: float = field(default=1.0, kw_only=True)

    @property
    def history_samples(self) -> int:
        """None that is finite: see ``is_recurrent``."""
        return 0

    @property
    def is_recurrent(self) -> bool:
        return True

    def convolutions(self) -> Iterator[Convolution]:
        return iter(())

    @property
    def macs_per_sample(self) -> int:
        """As the engine counts them: of the detector, the gain's way and the product, about."""
        return 32

    def _round(self, *names: str) -> None:
        for name in names:
            object.__setattr__(self, name, as_float32(getattr(self, name)))

    def _check_detector(self, name: str, in_channels: int, depth: int) -> None:
        check_depth(depth, name)
        if in_channels != 1:
            raise ModelError(f"{name}: expected 1 input channel for a gain, got {in_channels}")
        if self.detector not in DETECTORS:
            raise ModelError(
                f"{name}.detector: expected one of {', '.join(DETECTORS)}, got {self.detector!r}"
            )
        _check_within(self.detector_rise, 0.0, 1.0, f"{name}.detector_rise")
        _check_within(self.detector_fall, 0.0, 1.0, f"{name}.detector_fall")
        _check_within(self.detector_average, 0.0, 1.0, f"{name}.detector_average")


@dataclass(frozen=True, eq=False)
class Compressor(_Detected):
    """``y = x 2^s``: s follows a static curve of the detected level, rising and falling apart.

    ``curve`` is log2 of the gain at levels ``first_level + n / points_per_level``, n = 0, 1, ...,
    which are log2 of the detected amplitude (6.02 dB each); between the points it is straight,
    beyond them it is level. s += k (curve - s), k = ``gain_fall`` where the curve is below s,
    else ``gain_rise``. Before any sound s is what the curve has for silence.
    """

    gain_rise: float
    gain_fall: float
    first_level: float
    points_per_level: float
    curve: np.ndarray

    kind: ClassVar[str] = "compressor"

    def __post_init__(self) -> None:
        self._round(
            *("detector_rise", "detector_fall", "detector_average"),
            *("gain_rise", "gain_fall", "first_level", "points_per_level"),
        )

    @property
    def other_parameters(self) -> int:
        return 7 + int(self.curve.size)

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        self._check_detector(name, in_channels, depth)
        _check_within(self.gain_rise, 0.0, 1.0, f"{name}.gain_rise")
        _check_within(self.gain_fall, 0.0, 1.0, f"{name}.gain_fall")
        _check_within(self.first_level, -_MAX_LOG2, _MAX_LOG2, f"{name}.first_level")
        _check_within(self.points_per_level, 0.01, MAX_CURVE_POINTS, f"{name}.points_per_level")
        check_array(self.curve, f"{name}.curve", 1)
        if not 2 <= self.curve.size <= MAX_CURVE_POINTS:
            raise ModelError(
                f"{name}.curve: expected 2 to {MAX_CURVE_POINTS} points, got {self.curve.size}"
            )
        steepest = float(np.abs(self.curve).max())
        if steepest > _MAX_LOG2:
            raise ModelError(
                f"{name}.curve: expected values up to {_MAX_LOG2:g} (log2), got {steepest:g}"
            )


@dataclass(frozen=True, eq=False)
class Gate(_Detected):
    """``y = x (range_gain + (1 - range_gain) g)``: g is 0 while closed and 1 while open.

    It opens when the detector's e reaches ``open_level``, and opens to the end whatever comes;
    once e has been below ``close_level`` for more than ``hold_samples`` it closes, unless e
    reaches ``open_level`` again. A sample takes ``gain_rise`` of the way up, ``gain_fall`` of the
    way down: of the whole way with linear ``ramps``, of what is left with exponential ones.
    Levels are amplitudes of a "peak" detector and powers of a "power" one.
    """

    gain_rise: float
    gain_fall: float
    open_level: float
    close_level: float
    hold_samples: int
    range_gain: float
    ramps: str

    kind: ClassVar[str] = "gate"

    def __post_init__(self) -> None:
        self._round(
            *("detector_rise", "detector_fall", "detector_average"),
            *("gain_rise", "gain_fall", "open_level", "close_level", "range_gain"),
        )

    @property
    def other_parameters(self) -> int:
        return 9

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        self._check_detector(name, in_channels, depth)
        _check_within(self.gain_rise, 0.0, 1.0, f"{name}.gain_rise")
        _check_within(self.gain_fall, 0.0, 1.0, f"{name}.gain_fall")
        _check_within(self.open_level, 0.0, 1e12, f"{name}.open_level")
        _check_within(self.close_level, 0.0, self.open_level, f"{name}.close_level")
        _check_within(self.range_gain, 0.0, 1.0, f"{name}.range_gain")
        hold = self.hold_samples
        if type(hold) is not int or not 0 <= hold <= MAX_HOLD_SAMPLES:
            raise ModelError(
                f"{name}.hold_samples: expected an integer from 0 to {MAX_HOLD_SAMPLES}, "
                f"got {hold!r}"
            )
        if self.ramps not in RAMPS:
            raise ModelError(
                f"{name}.ramps: expected one of {', '.join(RAMPS)}, got {self.ramps!r}"
            )
