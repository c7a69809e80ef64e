"""Sounds for the tests of pairs: generated ones, and the recordings of ``../shared``."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from fxfast.audio.files import read_audio
from fxfast.audio.signals import guitar_like

RATE = 48000
RECORDINGS = (
    Path(os.environ.get("FXFAST_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
)
needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="the shared recordings are not there"
)
PRESET_COUNTS = {"gate": 3, "ts": 3, "fuzz": 3, "comp": 3, "reverb": 3, "chorus": 6, "delay": 6}
ZOO = tuple(f"{name}-{n + 1}" for name, count in PRESET_COUNTS.items() for n in range(count))
DI_TAKES = tuple(
    sorted(path.stem for path in (RECORDINGS / "di").glob("*.flac")) if RECORDINGS.is_dir() else ()
)


@cache
def guitar(seconds: float = 6.0, seed: int = 0) -> np.ndarray:
    return guitar_like(seconds, RATE, seed)


@cache
def recording(name: str) -> np.ndarray:
    """The first channel of a recording, float32 (T)."""
    return np.ascontiguousarray(read_audio(RECORDINGS / name)[0][0])


def shifted(x: np.ndarray, samples: int) -> np.ndarray:
    """``samples`` later (or earlier when negative), of the same length."""
    if samples >= 0:
        return np.concatenate([np.zeros(samples, x.dtype), x])[: len(x)]
    return np.concatenate([x[-samples:], np.zeros(-samples, x.dtype)])
