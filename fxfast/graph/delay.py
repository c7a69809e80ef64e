"""A delay line: voices that are fixed or modulated, feedback, filters in the loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fxfast.errors import ModelError
from fxfast.graph.checks import as_float32, check_array, check_number, check_shape
from fxfast.graph.node import Convolution, MonoNode, check_depth

# As csrc/kernels/delay_task.h limits them.
MAX_VOICES = 16
MAX_SECTIONS = 8
MAX_TABLE = 1 << 12
MAX_DELAY_SAMPLES = 1 << 22
# Units of phase in a cycle: whole numbers of them are exact in every format and for ever.
CYCLE = 1 << 48
POINTS = {"linear": 2, "cubic": 4}
# A loop must lose at least so much at every frequency, or it takes for ever to die away.
MOST_LOOP_GAIN = 0.9999


@dataclass(frozen=True, eq=False)
class DelayVoice:
    """What is heard of the line: ``gain`` times the line ``base_samples + table(phase)`` ago.

    ``table`` is one cycle in samples, of a power of two entries with straight lines between them
    and from the last to the first; one entry is a fixed delay. At sample t of the stream the
    phase is (``start`` + ``step`` * t) modulo ``CYCLE``.
    """

    gain: float
    base_samples: int
    table: np.ndarray
    step: int = 0
    start: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gain", as_float32(self.gain))

    @property
    def shortest_samples(self) -> int:
        return self.base_samples + int(np.floor(self.table.min()))

    @property
    def longest_samples(self) -> int:
        return self.base_samples + int(np.ceil(self.table.max()))


@dataclass(frozen=True, eq=False)
class Delay(MonoNode):
    """A delay line u of one channel; d is what its voices say together:

        f[t] = sections(d)[t]
        u[t] = x[t] + feedback * f[t]
        y[t] = dry * x[t] + wet * d[t] + wet_filtered * f[t]

    ``interpolation`` between samples is "linear" or "cubic" (Lagrange, four points).
    ``sections`` (S, 5) are state variable filters one after the other, each a row g, k, m0, m1,
    m2: H(s) = m0 + (m1 s + m2) / (s^2 + k s + 1) with s = j tan(w / 2) / g, so g is
    tan(pi * frequency / rate) and k is 1 / Q (Zavalishin, The art of VA filter design, 2018).

    The loop loses energy at every frequency, or the node is refused.
    """

    voices: tuple[DelayVoice, ...]
    dry: float = 1.0
    wet: float = 0.0
    wet_filtered: float = 0.0
    feedback: float = 0.0
    sections: np.ndarray | None = None
    interpolation: str = "linear"

    kind: ClassVar[str] = "delay"

    def __post_init__(self) -> None:
        object.__setattr__(self, "voices", tuple(self.voices))
        for name in ("dry", "wet", "wet_filtered", "feedback"):
            object.__setattr__(self, name, as_float32(getattr(self, name)))

    @property
    def history_samples(self) -> int:
        """None that is finite: see ``is_recurrent``."""
        return 0

    @property
    def is_recurrent(self) -> bool:
        """With feedback and filters it never ends; and its phases count from the start."""
        return True

    @property
    def is_modulated(self) -> bool:
        return any(voice.table.size > 1 for voice in self.voices)

    @property
    def other_parameters(self) -> int:
        of_voices = sum(voice.table.size + (4 if voice.table.size > 1 else 2)
                        for voice in self.voices)  # fmt: skip
        return 4 + of_voices + (0 if self.sections is None else self.sections.size)

    def convolutions(self) -> Iterator[Convolution]:
        return iter(())

    @property
    def macs_per_sample(self) -> int:
        sections = 0 if self.sections is None else len(self.sections)
        return 4 + len(self.voices) * (POINTS[self.interpolation] + 2) + 8 * sections

    def loop_gain(self) -> float:
        """The most that a sound gains in one round, at the worst frequency."""
        gain = abs(self.feedback) * sum(abs(voice.gain) for voice in self.voices)
        if gain == 0.0 or self.sections is None or _is_announced(self.sections):
            return gain
        return gain * float(np.abs(sections_response(self.sections, _FREQUENCIES)).max())

    def validate(self, name: str, in_channels: int, depth: int = 0) -> None:
        check_depth(depth, name)
        if in_channels != 1:
            raise ModelError(f"{name}: expected 1 input channel for a delay, got {in_channels}")
        if not 1 <= len(self.voices) <= MAX_VOICES:
            raise ModelError(f"{name}.voices: expected 1 to {MAX_VOICES}, got {len(self.voices)}")
        for key in ("dry", "wet", "wet_filtered", "feedback"):
            check_number(getattr(self, key), f"{name}.{key}")
        if self.interpolation not in POINTS:
            raise ModelError(
                f"{name}.interpolation: expected one of {', '.join(POINTS)}, "
                f"got {self.interpolation!r}"
            )
        for index, voice in enumerate(self.voices):
            self._validate_voice(voice, f"{name}.voices[{index}]")
        if self.sections is not None:
            _validate_sections(self.sections, f"{name}.sections")
        if self.loop_gain() > MOST_LOOP_GAIN:
            raise ModelError(
                f"{name}.feedback: expected a loop gain of at most {MOST_LOOP_GAIN} at every "
                f"frequency, got {self.loop_gain():.4g}"
            )

    def _validate_voice(self, voice: Any, name: str) -> None:
        if not isinstance(voice, DelayVoice):
            raise ModelError(f"{name}: expected a DelayVoice, got {type(voice).__name__}")
        check_number(voice.gain, f"{name}.gain")
        check_array(voice.table, f"{name}.table", 1)
        size = voice.table.size
        if size > MAX_TABLE or size & (size - 1):
            raise ModelError(
                f"{name}.table: expected a power of two up to {MAX_TABLE} entries, got {size}"
            )
        if voice.table.min() < 0:
            raise ModelError(f"{name}.table: expected samples from 0 on, got {voice.table.min():g}")
        for key, high in (("base_samples", MAX_DELAY_SAMPLES), ("step", CYCLE - 1),
                          ("start", CYCLE - 1)):  # fmt: skip
            value = getattr(voice, key)
            if type(value) is not int or not 0 <= value <= high:
                raise ModelError(
                    f"{name}.{key}: expected an integer from 0 to {high}, got {value!r}"
                )
        if voice.longest_samples > MAX_DELAY_SAMPLES:
            raise ModelError(
                f"{name}: expected a delay of at most {MAX_DELAY_SAMPLES} samples, "
                f"got {voice.longest_samples}"
            )
        least = (1 if self.interpolation == "cubic" else 0) + (1 if self.feedback else 0)
        if voice.shortest_samples < least and not _is_announced(voice.table):
            raise ModelError(
                f"{name}: expected a delay of at least {least} samples at any time "
                f"({self.interpolation}{', feedback' if self.feedback else ''}), "
                f"got {voice.shortest_samples}"
            )


def _is_announced(array: np.ndarray) -> bool:
    """Whether it only stands for what a file says that it has (``check_array``)."""
    return not any(array.strides)


def _validate_sections(sections: Any, name: str) -> None:
    check_array(sections, name, 2)
    check_shape(sections, name, (sections.shape[0], 5))
    if len(sections) > MAX_SECTIONS:
        raise ModelError(f"{name}: expected at most {MAX_SECTIONS}, got {len(sections)}")
    if not (sections[:, :2] > 0).all() and not _is_announced(sections):
        raise ModelError(f"{name}: expected g and k above 0, got {sections[:, :2].min():g}")


# In radians a sample, denser at low ones; 0 and pi included.
_FREQUENCIES = np.concatenate(
    [[0.0], np.geomspace(1e-4, 0.1, 512), np.linspace(0.1, np.pi * (1 - 1e-9), 2048)]
)


def sections_response(sections: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The complex response of sections in a row at frequencies in radians a sample."""
    response = np.ones(frequencies.shape, np.complex128)
    tangent = np.tan(frequencies / 2)
    for g, k, m0, m1, m2 in sections.astype(np.float64):
        s = 1j * tangent / g
        response = response * (m0 + (m1 * s + m2) / (s * s + k * s + 1))
    return response
