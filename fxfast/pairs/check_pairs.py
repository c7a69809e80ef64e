"""Does a wet recording belong to its dry one, and what has to be done before a model learns it?

Every check gives a figure, a confidence and an action. What can be put right is put right
("fixed"), what may spoil the result is said ("warned"), what cannot be learnt is "refused".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fxfast.audio.align import MAX_OFFSET_SECONDS, Alignment, align, correlate, overlap
from fxfast.audio.resample import resample
from fxfast.pairs.levels import (
    SILENCE_DB,
    clipped_samples,
    decibels,
    noise_floor_db,
    sounding_share,
)

ACTIONS = ("ok", "fixed", "warned", "refused")
MIN_CONFIDENCE = 0.35
MAX_DRIFT_SAMPLES = 4.0
WARN_DRIFT_SAMPLES = 1.5
MIN_SECONDS = 0.1
TOLERATED_SAMPLES = 0.75
FILTER_TOLERATED_SAMPLES = 4.0

_FILTER_SAMPLES = 0.3
_WARN_DC = 0.015
_WARN_NOISE_DB = -40.0
_WARN_GAIN_DB = 40.0
_REFUSE_CLIPPED_SHARE = 0.05
_SWAP_FRAMES = 1 << 19
_SWAP_RATIO = 1.5


@dataclass(frozen=True)
class Finding:
    """What one check found; ``action`` is one of ``ACTIONS``, ``reason`` one line."""

    check: str
    figure: float
    unit: str
    confidence: float
    action: str
    reason: str


@dataclass(frozen=True)
class CheckRules:
    """What may be put right. An effect made here is known to belong to its dry recording, and
    what it does to time and polarity is its own. Offsets of up to ``tolerated_samples`` are left.
    """

    fix_offset: bool = True
    fix_polarity: bool = True
    belongs: bool = False
    tolerated_samples: float = TOLERATED_SAMPLES
    max_offset_seconds: float = MAX_OFFSET_SECONDS
    channel: int = 0


@dataclass(frozen=True, eq=False)
class CheckedPair:
    """The findings of one pair, and its two sides as they should be stored: float32 (T).

    The sides are None when the pair is refused.
    """

    name: str
    sample_rate: int
    alignment: Alignment | None
    findings: tuple[Finding, ...]
    dry: np.ndarray | None = None
    wet: np.ndarray | None = None

    @property
    def status(self) -> str:
        return worst(finding.action for finding in self.findings)

    @property
    def reasons(self) -> list[str]:
        return [finding.reason for finding in self.findings if finding.action != "ok"]

    def to_json(self) -> dict[str, Any]:
        found = self.alignment
        return {
            "name": self.name,
            "offset_samples": None if found is None else round(found.offset_samples, 3),
            "polarity": None if found is None else found.polarity,
            "gain_db": None if found is None else round(found.gain_db, 3),
            "drift_ppm": None if found is None else round(found.drift_ppm, 3),
            "confidence": 0.0 if found is None else round(found.confidence, 3),
            "status": self.status,
            "reasons": self.reasons,
            "sample_rate": self.sample_rate,
            "checks": [
                {
                    "check": finding.check,
                    "figure": round(finding.figure, 6),
                    "unit": finding.unit,
                    "confidence": round(finding.confidence, 3),
                    "action": finding.action,
                }
                for finding in self.findings
            ],
        }


@dataclass
class _Notes:
    """Findings as they come up."""

    rows: list[Finding] = field(default_factory=list)

    def add(
        self,
        check: str,
        figure: float,
        unit: str = "",
        action: str = "ok",
        reason: str = "",
        confidence: float = 1.0,
    ) -> None:
        self.rows.append(Finding(check, float(figure), unit, confidence, action, reason))

    @property
    def refused(self) -> bool:
        return any(row.action == "refused" for row in self.rows)


def worst(actions: Any) -> str:
    """The most serious of some actions; "ok" when there are none."""
    return max(actions, key=ACTIONS.index, default="ok")


def refused(name: str, check: str, reason: str, sample_rate: int = 0) -> CheckedPair:
    """A pair that cannot even be looked at, as an unreadable file."""
    return CheckedPair(name, sample_rate, None, (Finding(check, 0.0, "", 1.0, "refused", reason),))


def check_pair(
    name: str,
    dry_ct: np.ndarray,
    dry_rate: int,
    wet_ct: np.ndarray,
    wet_rate: int,
    rules: CheckRules | None = None,
) -> CheckedPair:
    """Look at two float32 recordings (C, T) and put right what can be put right."""
    rules = rules or CheckRules()
    notes = _Notes()
    if wet_rate != dry_rate:
        notes.add("sample_rate", wet_rate, "Hz", "fixed",
                  f"wet at {wet_rate} Hz, dry at {dry_rate} Hz: wet resampled")  # fmt: skip
        wet_ct = resample(wet_ct, wet_rate, dry_rate)
    else:
        notes.add("sample_rate", wet_rate, "Hz")
    dry, wet = _one_channel(dry_ct, wet_ct, rules, notes)
    _check_sound(notes, "dry", dry, dry_rate)
    _check_sound(notes, "wet", wet, dry_rate)
    if notes.refused:
        return CheckedPair(name, dry_rate, None, tuple(notes.rows))
    found = align(dry, wet, round(rules.max_offset_seconds * dry_rate))
    _check_alignment(notes, found, rules, dry_rate)
    offset = found.offset_samples
    lag = whole_offset(offset, rules.tolerated_samples) if rules.fix_offset else 0
    a, b = overlap(dry, wet, lag)
    _check_length(notes, dry, wet, lag, dry_rate)
    noise_db, certain = noise_floor_db(a, b, dry_rate)
    loud = noise_db > _WARN_NOISE_DB and certain > 0.5 and not rules.belongs
    notes.add("noise_floor", noise_db, "dBFS", "warned" if loud else "ok",
              f"wet noise of {noise_db:.0f} dBFS where the dry is silent", certain)  # fmt: skip
    if notes.refused:
        return CheckedPair(name, dry_rate, found, tuple(notes.rows))
    if rules.fix_polarity and found.polarity < 0:
        b = -b
    return CheckedPair(name, dry_rate, found, tuple(notes.rows), a, b)


def whole_offset(offset_samples: float, tolerated_samples: float = TOLERATED_SAMPLES) -> int:
    """The samples to shift by. What a filter adds to an offset stays: a wet sound that is too
    early cannot be learnt, one that is a little late can.
    """
    near = abs(offset_samples) <= tolerated_samples
    return 0 if near else round(offset_samples - _FILTER_SAMPLES)


def _one_channel(
    dry_ct: np.ndarray, wet_ct: np.ndarray, rules: CheckRules, notes: _Notes
) -> tuple[np.ndarray, np.ndarray]:
    """The channel to learn from. Stereo recordings are checked for swapped sides first."""
    sides = {"dry": dry_ct, "wet": wet_ct}
    chosen = min(rules.channel, len(dry_ct) - 1)
    dry = dry_ct[chosen]
    if len(dry_ct) == 1 and len(wet_ct) == 1:
        return dry, wet_ct[0]
    alike = {name: bool(np.all(x_ct == x_ct[:1])) for name, x_ct in sides.items()}
    if len(wet_ct) > 1 and not alike["wet"]:
        heights = [_height(dry, wet) for wet in wet_ct]
        best = int(np.argmax(heights))
        expected = min(chosen, len(wet_ct) - 1)
        ratio = heights[best] / max(heights[expected], 1e-9)
        swapped = best != expected and ratio > _SWAP_RATIO and len(dry_ct) == len(wet_ct)
        if not alike["dry"]:
            reason = f"dry channel {chosen + 1} sounds in wet channel {best + 1}: sides swapped"
            notes.add("channels_swapped", ratio, "", "fixed" if swapped else "ok",
                      reason, min(1.0, abs(ratio - 1.0)))  # fmt: skip
        wet = wet_ct[best if swapped or len(dry_ct) == 1 else expected]
    else:
        wet = wet_ct[min(chosen, len(wet_ct) - 1)]
    if not all(alike.values()):
        counts = " and ".join(f"{name} {len(x_ct)}" for name, x_ct in sides.items())
        notes.add("channels", len(wet_ct), "", "warned",
                  f"channels: {counts}: one of each is kept (channel {chosen + 1})")  # fmt: skip
    return dry, wet


def _height(dry: np.ndarray, wet: np.ndarray) -> float:
    """How clearly the dry sounds in the wet, in the middle of the recording."""
    length = min(len(dry), len(wet))
    start = max(0, (length - _SWAP_FRAMES) // 2)
    a, b = dry[start : start + _SWAP_FRAMES], wet[start : start + _SWAP_FRAMES]
    if not np.any(a) or not np.any(b):
        return 0.0
    peak = correlate(a, b, max(1, min(len(a), len(b)) // 4))
    return peak.sharpness * float(np.sqrt(np.mean(np.square(b))) > 1e-5)


def _check_sound(notes: _Notes, side: str, x: np.ndarray, sample_rate: int) -> None:
    """Silence, clipping and DC of one side."""
    peak_db = decibels(float(np.max(np.abs(x), initial=0.0)))
    silent = peak_db < SILENCE_DB
    notes.add(f"{side}_peak", peak_db, "dBFS", "refused" if silent else "ok",
              f"{side} is silent: its peak is {peak_db:.0f} dBFS")  # fmt: skip
    if silent:
        return
    share = sounding_share(x, sample_rate)
    notes.add(f"{side}_sound", share, "", "warned" if share < 0.1 else "ok",
              f"{side}: only {100 * share:.0f} % of it is sound")  # fmt: skip
    clipped = clipped_samples(x)
    action = "ok"
    if clipped:
        action = "refused" if clipped > _REFUSE_CLIPPED_SHARE * len(x) else "warned"
    notes.add(f"{side}_clipping", clipped, "samples", action,
              f"{side} is clipped at full scale: {clipped} samples")  # fmt: skip
    dc = float(np.mean(x, dtype=np.float64))
    notes.add(f"{side}_dc", dc, "", "warned" if abs(dc) > _WARN_DC else "ok",
              f"{side} has a DC offset of {dc:.4f}")  # fmt: skip


def _check_alignment(notes: _Notes, found: Alignment, rules: CheckRules, sample_rate: int) -> None:
    sure = found.confidence
    unrelated = sure < MIN_CONFIDENCE
    span = rules.max_offset_seconds
    action = "ok" if not unrelated else ("warned" if rules.belongs else "refused")
    reason = (
        f"wet does not belong to dry: no offset within {span:g} s explains it "
        f"(confidence {sure:.2f}, expected {MIN_CONFIDENCE:g})"
    )
    notes.add(
        "belongs", found.sharpness, "sigma", action, reason, 1.0 - sure if unrelated else sure
    )
    if unrelated:
        return
    moved = abs(found.drift_samples) - 3.0 * found.drift_error_samples
    drift_action = "ok"
    if moved > WARN_DRIFT_SAMPLES:
        drift_action = "refused" if moved > MAX_DRIFT_SAMPLES else "warned"
        if rules.belongs:
            drift_action = "warned"
    notes.add("drift", found.drift_ppm, "ppm", drift_action,
              f"drift: the offset moves by {found.drift_samples:.1f} samples "
              f"({found.drift_ppm:.1f} ppm): the recorders ran on two clocks", sure)  # fmt: skip
    offset = found.offset_samples
    late = whole_offset(offset, rules.tolerated_samples) != 0
    word = "late" if offset > 0 else "early"
    act = (
        ("fixed" if rules.fix_offset else "warned") if late and drift_action != "refused" else "ok"
    )
    notes.add("offset", offset, "samples", act,
              f"wet {abs(offset):.2f} samples {word} ({1e3 * abs(offset) / sample_rate:.2f} ms)",
              sure)  # fmt: skip
    turned = "fixed" if found.polarity < 0 and rules.fix_polarity else "ok"
    notes.add("polarity", found.polarity, "", turned, "wet polarity inverted", sure)
    far = abs(found.gain_db) > _WARN_GAIN_DB
    notes.add("gain", found.gain_db, "dB", "warned" if far else "ok",
              f"wet level {found.gain_db:+.1f} dB beside the dry", sure)  # fmt: skip


def _check_length(
    notes: _Notes, dry: np.ndarray, wet: np.ndarray, lag: int, sample_rate: int
) -> None:
    """What is lost at the ends: both sides are cut to what they share."""
    common = len(overlap(dry, wet, lag)[0])
    missing = max(0, len(dry) - max(0, -lag) - common)
    if common < MIN_SECONDS * sample_rate:
        notes.add("length", common / sample_rate, "s", "refused",
                  f"dry and wet share {common / sample_rate:.3f} s, "
                  f"expected {MIN_SECONDS:g} s or more")  # fmt: skip
        return
    short = missing - max(0, lag)
    action = "ok"
    if short > 0:
        action = "warned" if short > max(sample_rate, 0.05 * len(dry)) else "fixed"
    notes.add("length", (len(wet) - len(dry)) / sample_rate, "s", action,
              f"wet is {short / sample_rate:.3f} s shorter than dry: both cut to "
              f"{common / sample_rate:.3f} s")  # fmt: skip


def summary(checked: Sequence[CheckedPair]) -> str:
    """How many pairs are ok, fixed, warned and refused, on one line."""
    counts = {action: sum(pair.status == action for pair in checked) for action in ACTIONS}
    return ", ".join(f"{action}: {count}" for action, count in counts.items())
