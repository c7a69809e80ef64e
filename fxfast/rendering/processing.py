"""What happens to the samples of a file besides the model: rate, channels and level."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from fxfast.errors import InputError
from fxfast.graph import Knob
from fxfast.rendering.knobs import KnobCurve, check_knobs
from fxfast.rendering.work_key import sha256

CHANNEL_POLICIES = ("each", "mid-side", "mono-sum", "left")
NORMALIZATIONS = ("peak", "loudness")
NONFINITE_POLICIES = ("error", "zero")
# What a file is rendered in; the samples do not depend on it.
BLOCK_FRAMES = 16384
# More channels in one file are a mistake, or not audio.
MAX_CHANNELS = 64
_MAX_GAIN_DB = 120.0
# Peak: a margin for players that interpolate. Loudness: the programme level of EBU R 128.
_DEFAULT_TARGET_DB = {"peak": -1.0, "loudness": -23.0}


@dataclass(frozen=True)
class Processing:
    """How the samples of a file are processed.

    ``resample``   files of another rate go through the model at its rate, and back
    ``channels``   "each": every channel by itself; "mid-side": a stereo file as its half sum and
                   half difference, which become left and right again; "mono-sum": the mean of the
                   channels; "left": the first channel. The last two give files of one channel
    ``gain_db``    after the model
    ``normalize``  None, "peak" (the largest sample) or "loudness" (integrated, ITU-R BS.1770-4),
                   to ``target_db``: dBFS (default -1) or LUFS (default -23)
    ``dither``     triangular noise of two steps from peak to peak in integer formats
    ``nonfinite``  "error", or "zero": NaN and infinity in the input become 0
    ``lenient``    what is there of a damaged file is rendered and marked
    ``ignore_rate`` files of another rate go through the model as if they had its rate
    ``no_empty``   files without a frame are errors
    ``knobs``      where knobs of a conditioned model stand, (name, value) each
    ``curve``      how others turn, from the start of every file
    """

    resample: bool = False
    channels: str = "each"
    gain_db: float = 0.0
    normalize: str | None = None
    target_db: float | None = None
    dither: bool = False
    nonfinite: str = "error"
    lenient: bool = False
    ignore_rate: bool = False
    no_empty: bool = False
    knobs: tuple[tuple[str, float], ...] = ()
    curve: KnobCurve | None = None

    @property
    def target(self) -> float:
        """The level to normalise to, in dBFS or LUFS; 0 where nothing is normalised."""
        if self.normalize is None:
            return 0.0
        return _DEFAULT_TARGET_DB[self.normalize] if self.target_db is None else self.target_db

    def output_channels(self, in_channels: int) -> int:
        """The channels of an output of an input of ``in_channels``."""
        return 1 if self.channels in ("mono-sum", "left") else in_channels

    def check(self) -> None:
        """Raise ``InputError`` unless every field has a meaning, alone and beside the others."""
        for name in ("resample", "dither", "lenient", "ignore_rate", "no_empty"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        _check_choice("channels", self.channels, CHANNEL_POLICIES)
        _check_choice("nonfinite", self.nonfinite, NONFINITE_POLICIES)
        _check_level("gain", self.gain_db)
        if self.normalize is None:
            if self.target_db is not None:
                raise InputError(f"target: expected none without normalize, got {self.target_db!r}")
            return
        _check_choice("normalize", self.normalize, NORMALIZATIONS)
        if self.target_db is not None:
            _check_level("target", self.target_db)
        if self.gain_db != 0.0:
            raise InputError(f"gain: expected none beside normalize, got {self.gain_db!r}")

    def check_knobs(self, knobs: tuple[Knob, ...]) -> None:
        """Raise ``InputError`` unless a model with ``knobs`` can be played so."""
        check_knobs(knobs, self.knobs, self.curve)

    def key(self) -> dict[str, Any]:
        """The fields as JSON values: what the samples of an output depend on, besides the model."""
        found = asdict(self)
        if self.curve is not None:  # which may be long
            text = json.dumps(found["curve"], sort_keys=True)
            found["curve"] = sha256(text.encode()).hexdigest()
        return found


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def _check_level(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and abs(value) <= _MAX_GAIN_DB):
        raise InputError(
            f"{name}: expected a number of decibels from {-_MAX_GAIN_DB:g} to {_MAX_GAIN_DB:g}, "
            f"got {value!r}"
        )
