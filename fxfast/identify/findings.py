"""All looks at a pair in one place, and the family of models that they speak for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fxfast.errors import PairError
from fxfast.identify.beside import BesideFinding, find_beside
from fxfast.identify.distortion import distortion_by_level
from fxfast.identify.excerpt import Piece, excerpt, slowed
from fxfast.identify.level import GainFinding, find_gain
from fxfast.identify.linear import LinearFinding, find_linear
from fxfast.identify.modulation import ModulationFinding, find_modulation
from fxfast.pairs.levels import clipped_samples

# What can be learnt, by the name of its kind of model.
FAMILIES = (
    *("linear", "feedback-delay", "modulated-delay", "gate", "compressor"),
    *("nonlinear", "modulated-gain", "unrelated"),
    # One into the other, in this order.
    *("nonlinear+modulated-delay", "modulated-delay+nonlinear"),
    *("compressor+modulated-delay", "modulated-delay+compressor"),
)
LOOKED_SECONDS = 15.0
HEARD_SECONDS = 90.0

# A hypothesis is taken when it leaves less than this share of what a simpler one leaves.
_MODULATED_OF_LINEAR = 0.4
_MODULATED_ESR = 0.1
_UNFILTERED_ESR = 0.002
# What is more than a swing: the track of the delay is a sine, and what is beside it leaves so much
# of what the swing alone leaves, a filter, and the same without a swing. It stands in front unless
# it explains clearly more behind.
_TRACK_SHARE = 0.8
_SWING_ALONE_ESR = 0.002
_BESIDE_OF_SWING = 0.6
_BESIDE_OF_LINEAR, _BESIDE_OF_STILL = 0.25, 0.5
_BEHIND_OF_FRONT = 0.85
_GAIN_OF_CONSTANT = 0.2
_GAIN_ESR = 0.035
_LINEAR_OF_GAIN = 0.35
_LONG_OF_SHORT = 0.5
_LINEAR_ESR = 0.003
_SWING_SHARE = 0.7
_MIN_RANGE_DB = 1.0
_ECHO_SHARE = 0.9
_LOOP_RETURN = 0.3
_UNRELATED_ESR = 0.85
_SHORT_SECONDS = 10.0


@dataclass(frozen=True)
class Findings:
    """What was found in ``seconds`` of audio: ``family`` is one of ``FAMILIES``, ``reasons`` say
    why in words, ``notes`` what makes it doubtful, the rest are the figures. ``distortion`` are
    points (level_db, share). ``beside`` is there where a delay swings and is not all."""

    family: str
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    linear: LinearFinding
    modulation: ModulationFinding
    gain: GainFinding
    distortion: tuple[tuple[float, float], ...]
    beside: BesideFinding | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def identify(pairs: Sequence[tuple[np.ndarray, np.ndarray]], sample_rate: int) -> Findings:
    """The findings of pairs of dry and wet, float (T) each, aligned, at ``sample_rate`` Hz.

    Raises PairError for no pairs, pairs of unequal length, less than a second, or silence.
    """
    if not pairs:
        raise PairError("pairs: expected at least one, got none")
    for dry, wet in pairs:
        if dry.shape != wet.shape or dry.ndim != 1:
            raise PairError(
                f"pairs: expected dry and wet of one shape (T), got {dry.shape} and {wet.shape}"
            )
    looked = excerpt(pairs, sample_rate, LOOKED_SECONDS)
    heard = excerpt(pairs, sample_rate, HEARD_SECONDS)
    slow, slow_rate = slowed(looked, sample_rate)
    linear = find_linear(slow, slow_rate)
    modulation, swung = find_modulation(slow, slow_rate)
    gain = find_gain(looked, heard, sample_rate)
    beside = None
    seconds = _longest(slow, slow_rate)
    has_more = modulation.esr > _SWING_ALONE_ESR and _may_swing(linear, modulation, seconds)
    if swung is not None and has_more:
        beside = find_beside(swung, slow_rate)
    family, reasons = _choose(linear, modulation, beside, gain, seconds)
    return Findings(
        family=family,
        reasons=reasons,
        notes=_notes(heard, sample_rate),
        seconds=sum(len(piece.x) for piece in heard) / sample_rate,
        linear=linear,
        modulation=modulation,
        gain=gain,
        distortion=distortion_by_level(slow, slow_rate),
        beside=beside,
    )


def _notes(pieces: Sequence[Piece], sample_rate: int) -> tuple[str, ...]:
    notes = []
    seconds = max(len(piece.x) for piece in pieces) / sample_rate
    if seconds < _SHORT_SECONDS:
        notes.append(
            f"the longest pair has {seconds:.1f} s: swings slower than {1.5 / seconds:.1f} Hz and "
            f"long tails are not seen in less than {_SHORT_SECONDS:g} s"
        )
    for side, sounds in (("dry", [p.x for p in pieces]), ("wet", [p.y for p in pieces])):
        clipped = sum(clipped_samples(sound) for sound in sounds)
        if clipped:
            notes.append(
                f"{side} clips at full scale in {clipped} samples: what was cut off there counts "
                f"as distortion"
            )
    return tuple(notes)


def _longest(pieces: Sequence[Piece], rate: float) -> float:
    return max(len(piece.x) for piece in pieces) / rate


def _choose(
    linear: LinearFinding,
    modulation: ModulationFinding,
    beside: BesideFinding | None,
    gain: GainFinding,
    seconds: float,
) -> tuple[str, tuple[str, ...]]:
    """The first hypothesis, from the most to the least particular, that the figures speak for."""
    filtered = min(linear.short_esr, linear.long_esr)
    if _may_swing(linear, modulation, seconds):
        why = (
            f"dry plus a copy whose delay swings leaves {modulation.esr:.4f} of the wet, "
            f"a fixed filter {filtered:.4f}"
        )
        more = None if beside is None else _beside_kind(modulation, beside, filtered)
        if more is not None:
            return more[0], (why, more[1])
        if modulation.esr < min(_MODULATED_ESR, _MODULATED_OF_LINEAR * filtered):
            return "modulated-delay", (why,)
    kind = _gain_kind(linear, gain)
    if kind is not None:
        return kind
    if linear.long_esr < _LINEAR_OF_GAIN * linear.gain_esr and (
        linear.long_esr < _LONG_OF_SHORT * linear.short_esr or linear.long_esr < _LINEAR_ESR
    ):
        return _linear_kind(linear)
    if filtered < _LINEAR_ESR:
        return "linear", (f"a filter of 16 ms leaves {linear.short_esr:.5f} of the wet",)
    if min(filtered, linear.gain_esr, gain.esr, modulation.esr) > _UNRELATED_ESR:
        return "unrelated", (
            f"neither filter nor gain nor delay explains more than "
            f"{1 - min(filtered, gain.esr):.0%} of the wet",
        )
    return "nonlinear", (
        f"a filter leaves {filtered:.3f} of the wet and a gain that changes {gain.esr:.3f}: "
        f"what is left was not in the dry at those frequencies",
    )


def _may_swing(linear: LinearFinding, found: ModulationFinding, seconds: float) -> bool:
    filtered = min(linear.short_esr, linear.long_esr, linear.gain_esr)
    explains = found.esr < min(_MODULATED_ESR, _MODULATED_OF_LINEAR * filtered)
    return (
        filtered > _UNFILTERED_ESR
        and (explains or found.share > _TRACK_SHARE)
        and found.rate_hz * seconds > 1.5
    )


def _beside_kind(
    found: ModulationFinding, beside: BesideFinding, filtered: float
) -> tuple[str, str] | None:
    """The family of a swing that is not all, and why."""
    bound = min(_MODULATED_ESR, _BESIDE_OF_SWING * found.esr, _BESIDE_OF_LINEAR * filtered)
    if min(beside.curve, beside.gain) > min(bound, _BESIDE_OF_STILL * beside.still):
        return None
    if beside.curve <= beside.gain:
        kind, what = "nonlinear", "a curve"
        front, behind = beside.curve_in_front, beside.curve_behind
    elif beside.pressed_db > _MIN_RANGE_DB:
        kind, what = "compressor", "a gain that yields to loud sound"
        front, behind = beside.gain_in_front, beside.gain_behind
    else:
        return None
    is_behind = behind < _BEHIND_OF_FRONT * front
    family = f"modulated-delay+{kind}" if is_behind else f"{kind}+modulated-delay"
    place, other = ("behind", "in front of") if is_behind else ("in front of", "behind")
    of_place, of_other = (behind, front) if is_behind else (front, behind)
    return family, (f"{what} {place} the swing leaves {of_place:.4f}, {other} it {of_other:.4f}")


def _gain_kind(linear: LinearFinding, gain: GainFinding) -> tuple[str, tuple[str, ...]] | None:
    follows = gain.esr < _GAIN_ESR and gain.esr < _GAIN_OF_CONSTANT * gain.constant_esr
    quiet = gain.share_quiet < _GAIN_OF_CONSTANT * gain.constant_quiet and gain.esr < 0.01
    if not (follows or quiet) or gain.range_db < _MIN_RANGE_DB:
        return None
    why = (
        f"a gain per 5 ms leaves {gain.esr:.5f} of the wet, one gain {gain.constant_esr:.5f} "
        f"(every frame counted alike: {gain.share_quiet:.4f} and {gain.constant_quiet:.4f})"
    )
    if gain.swing.share > max(_SWING_SHARE, gain.explained):
        return "modulated-gain", (why, f"the gain swings {gain.swing.rate_hz:.2f} times a second")
    if gain.expands:
        return "gate", (why, "the gain falls where the dry is quiet")
    return "compressor", (why, "the gain falls where the dry is loud")


def _linear_kind(linear: LinearFinding) -> tuple[str, tuple[str, ...]]:
    why = (
        f"one impulse response of {linear.memory_seconds:.2f} s leaves {linear.long_esr:.4f} of "
        f"the wet, one of 16 ms {linear.short_esr:.4f}"
    )
    if linear.echo_share > _ECHO_SHARE and linear.echo_return < _LOOP_RETURN:
        return "linear", (
            why,
            f"its echoes, the first after {linear.echo_ms[0]:.1f} ms, do not come round again: "
            f"one has {linear.echo_return:.1%} of the least energy that it has in a loop",
        )
    if linear.echo_share > _ECHO_SHARE and linear.echo_ms:
        return "feedback-delay", (
            why,
            f"{linear.echo_share:.0%} of its late energy lies in echoes, "
            f"the first after {linear.echo_ms[0]:.1f} ms",
        )
    return "linear", (
        why,
        f"{linear.echo_share:.0%} of its late energy lies in single echoes: it is a tail",
    )
