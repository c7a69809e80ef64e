"""A delay that swings with a distortion or a compressor in front of it or behind it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from pair_audio import RATE, guitar

from fxfast.identify import describe, identify
from fxfast.models.choice import preset_for
from fxfast.pairs.effects import EFFECTS

SECONDS = 12.0
Sound = np.ndarray


def drive(x: Sound) -> Sound:
    return np.asarray(0.3 * np.tanh(x * 8.0), np.float32)


def press(x: Sound) -> Sound:
    return EFFECTS["compressor"](x, RATE, ratio=6.0, threshold_db=-35.0)


def swing(x: Sound) -> Sound:
    return EFFECTS["chorus"](x, RATE, rate_hz=0.9, depth=0.1, delay_ms=14.0)


def swing_fast(x: Sound) -> Sound:
    return EFFECTS["chorus"](x, RATE, rate_hz=2.5, depth=0.05, delay_ms=9.0)


ORDERS: dict[str, tuple[Callable[[Sound], Sound], ...]] = {
    "nonlinear+modulated-delay": (drive, swing),
    "modulated-delay+nonlinear": (swing, drive),
    "compressor+modulated-delay": (press, swing),
    "modulated-delay": (swing,),
}


@cache
def wet_of(*effects: Callable[[Sound], Sound]) -> Sound:
    wet = guitar(SECONDS)
    for effect in effects:
        wet = effect(wet)
    return wet


@pytest.mark.parametrize("family", list(ORDERS))
def test_what_is_beside_a_swing_is_told_with_its_place(family: str) -> None:
    findings = identify([(guitar(SECONDS), wet_of(*ORDERS[family]))], RATE)
    assert findings.family == family
    text = describe(findings)
    assert "delay 14.0" in text or "delay 13.9" in text
    assert all(reason in text for reason in findings.reasons)


def test_another_swing_and_another_curve() -> None:
    findings = identify([(guitar(SECONDS), wet_of(drive, swing_fast))], RATE)
    assert findings.family == "nonlinear+modulated-delay"
    assert findings.modulation.rate_hz == pytest.approx(2.5, rel=0.01)
    assert preset_for(findings) == "a1-feather+chorus"
    assert findings.beside is not None
    assert findings.beside.curve_in_front < 0.5 * findings.modulation.esr


def test_a_distortion_without_a_swing_is_none() -> None:
    findings = identify([(guitar(SECONDS), drive(guitar(SECONDS)))], RATE)
    assert findings.family == "nonlinear"
    assert findings.beside is None
