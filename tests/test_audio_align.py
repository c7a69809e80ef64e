"""Offsets, polarity, gain and drift: exact on every effect, unsure of what does not belong."""

from __future__ import annotations

import numpy as np
import pytest
from pair_audio import (
    DI_TAKES,
    RATE,
    RECORDINGS,
    ZOO,
    guitar,
    needs_recordings,
    recording,
    shifted,
)
from scipy.signal import fftconvolve, lfilter

from fxfast.audio.align import align, overlap
from fxfast.audio.resample import resample
from fxfast.errors import InputError
from fxfast.pairs.check_pairs import MIN_CONFIDENCE
from fxfast.pairs.effects import EFFECTS, overdrive

REACH = 2 * RATE


def test_an_exact_copy() -> None:
    x = guitar()
    found = align(x, shifted(np.float32(-0.25) * x, 321), REACH)
    assert found.offset_samples == pytest.approx(321.0, abs=0.01)
    assert found.polarity == -1
    assert found.gain_db == pytest.approx(-12.04, abs=0.1)
    assert abs(found.drift_ppm) < 0.01
    assert found.confidence == 1.0


@pytest.mark.parametrize("samples", [-60000, -5000, -1, 0, 1, 4999, 90000])
def test_whole_offsets_of_a_distorted_guitar(samples: int) -> None:
    x = guitar()
    wet = overdrive(x, RATE, tone_hz=6000.0)
    found = align(x, shifted(-wet, samples), REACH)
    assert found.offset_samples == pytest.approx(samples, abs=0.5)
    assert found.polarity == -1
    assert found.confidence > 0.9


@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.8])
def test_fractions_of_a_sample(fraction: float) -> None:
    x = guitar()
    spectrum = np.fft.rfft(x) * np.exp(-2j * np.pi * np.fft.rfftfreq(len(x)) * (100 + fraction))
    found = align(x, np.fft.irfft(spectrum, len(x)).astype(np.float32), REACH)
    assert found.offset_samples == pytest.approx(100 + fraction, abs=0.05)


def test_a_filter_is_hardly_an_offset() -> None:
    x = guitar()
    found = align(x, lfilter([0.4], [1.0, -0.6], x).astype(np.float32), REACH)
    assert abs(found.offset_samples) < 0.5


def test_a_tail_is_no_offset() -> None:
    x = guitar()
    rng = np.random.default_rng(0)
    tail = rng.normal(size=RATE) * np.exp(-np.arange(RATE) / 8000.0) * 0.1
    tail[0] = 1.0
    found = align(x, fftconvolve(x, tail)[: len(x)].astype(np.float32), REACH)
    assert found.offset_samples == pytest.approx(0.0, abs=0.1)


def test_short_and_quiet_recordings() -> None:
    x = 1e-3 * guitar(3.0)[RATE : RATE + 24000]
    found = align(x, shifted(x, -77), REACH)
    assert found.offset_samples == pytest.approx(-77.0, abs=0.1)


def test_the_offset_reaches_as_far_as_asked() -> None:
    x = guitar()
    assert align(x, shifted(x, 3000), 4000).offset_samples == pytest.approx(3000.0, abs=0.1)
    assert align(x, shifted(x, 5000), 4000).confidence < MIN_CONFIDENCE


@pytest.mark.parametrize("ppm", [-300.0, 12.0])
def test_drift_is_measured(ppm: float) -> None:
    x = np.concatenate([guitar(6.0, seed) for seed in range(2)])
    stretched = resample(overdrive(x, RATE), 1_000_000, round(1_000_000 + ppm))
    found = align(x, stretched, REACH)
    assert found.drift_ppm == pytest.approx(ppm, rel=0.1)
    assert found.confidence > MIN_CONFIDENCE


def test_noise_and_silence_give_no_confidence() -> None:
    x = guitar()
    noise = np.random.default_rng(1).normal(size=len(x)).astype(np.float32)
    assert align(x, noise, REACH).confidence < MIN_CONFIDENCE
    assert align(x, np.zeros_like(x), REACH).confidence == 0.0
    assert align(np.zeros_like(x), x, REACH).confidence == 0.0


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 0)])
def test_another_take_gives_no_confidence(first: int, second: int) -> None:
    wet = overdrive(guitar(seed=second), RATE)
    assert align(guitar(seed=first), wet, REACH).confidence < MIN_CONFIDENCE


def test_overlap_is_what_both_have() -> None:
    x, y = np.arange(5.0), np.arange(10.0, 17.0)
    assert [part.tolist() for part in overlap(x, y, 3)] == [[0, 1, 2, 3], [13, 14, 15, 16]]
    assert [part.tolist() for part in overlap(x, y, -2)] == [[2, 3, 4], [10, 11, 12]]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"dry: expected shape \(T\) with at least 1 sample"):
        align(np.zeros((2, 9)), np.zeros(9), 5)
    with pytest.raises(InputError, match="wet: expected shape"):
        align(np.zeros(9), np.zeros(0), 5)


# --- recordings ------------------------------------------------------------------------------


@needs_recordings
@pytest.mark.parametrize("preset", ZOO)
def test_every_preset_shifted_and_inverted(preset: str) -> None:
    dry = recording("zoo/dry.flac")[: 6 * RATE]
    wet = recording(f"zoo/{preset}.flac")[: 6 * RATE]
    own = -1 if preset.startswith("fuzz") else 1
    for samples, sign in ((-5000, -1), (5000, 1)):
        found = align(dry, shifted(np.float32(sign) * wet, samples), REACH)
        assert found.offset_samples == pytest.approx(samples, abs=0.5)
        assert found.polarity == sign * own
        assert found.confidence > 0.9
        assert abs(found.drift_samples) < 1.0 + 3.0 * found.drift_error_samples


@needs_recordings
@pytest.mark.parametrize("pedal", ["tubescreamer", "bluesdriver"])
@pytest.mark.parametrize("clip", range(4))
def test_real_pedals_put_back_where_they_were(pedal: str, clip: int) -> None:
    dry = recording(f"pairs/openamp_{pedal}/clip{clip}_dry.flac")
    wet = recording(f"pairs/openamp_{pedal}/clip{clip}_wet.flac")
    found = align(np.concatenate([np.zeros(4410, np.float32), dry]), wet, 88200)
    assert found.offset_samples == pytest.approx(-4409.0, abs=1.0)
    assert found.polarity == 1
    assert found.confidence > 0.9


@needs_recordings
@pytest.mark.parametrize("sound", ["bass", "drumHH", "drumKick", "guitar", "sweep"])
@pytest.mark.parametrize(("mode", "early"), [("GC", 96), ("MC", 0), ("HC", 1)])
def test_a_real_compressor_put_back_where_it_was(sound: str, mode: str, early: int) -> None:
    dry = recording(f"pairs/cl1b/{sound}_dry.flac")
    wet = recording(f"pairs/cl1b/{sound}_wet_{mode}.flac")[early:]
    found = align(dry, wet, REACH)
    assert found.offset_samples == pytest.approx(-early, abs=0.5)
    assert found.polarity == 1
    assert found.confidence > 0.9
    assert abs(found.drift_samples) < 1.5


@needs_recordings
@pytest.mark.parametrize(("capture", "late"), [("od808_nam", 6), ("tsmini_nam", 4)])
def test_captures_of_real_pedals(capture: str, late: int) -> None:
    dry, wet = recording("zoo/dry.flac")[: 10 * RATE], recording(f"pairs/{capture}/wet.flac")
    found = align(dry, wet[: 10 * RATE], REACH)
    assert found.offset_samples == pytest.approx(late, abs=0.5)


@needs_recordings
def test_the_drifting_tape() -> None:
    dry, wet = (recording(f"pairs/tape_drift/{side}.flac") for side in ("dry", "wet"))
    found = align(dry, wet, 88200)
    assert found.drift_samples == pytest.approx(-740.0, abs=60.0)
    assert found.drift_ppm == pytest.approx(-820.0, abs=60.0)


@needs_recordings
@pytest.mark.parametrize("take", DI_TAKES)
def test_takes_do_not_belong_to_one_another(take: str) -> None:
    dry = recording(f"di/{take}.flac")[2 * RATE : 6 * RATE]
    for other in DI_TAKES[DI_TAKES.index(take) :]:
        wet = recording(f"di/{other}.flac")[2 * RATE : 6 * RATE]
        assert (align(dry, wet, RATE).confidence >= MIN_CONFIDENCE) == (other == take), other


@needs_recordings
def test_lossy_recordings() -> None:
    from fxfast.audio.files import read_audio

    for dry in sorted((RECORDINGS / "pairs/morphdrive_zendrive_mp3").glob("guitar-*_dry.mp3")):
        wet = dry.with_name(dry.name.replace("_dry", "_wet"))
        found = align(read_audio(dry)[0][0], read_audio(wet)[0][0], REACH)
        assert 0.0 <= found.offset_samples <= 9.0
        assert found.confidence > 0.9


@needs_recordings
def test_hard_clipping_is_no_drift() -> None:
    """The peaks of single windows of a fuzz move by several samples."""
    dry = recording("di/train-fear-guitar.flac")
    wet = EFFECTS["fuzz"](dry, RATE, fuzz=1.0)
    found = align(dry, wet, REACH)
    assert abs(found.drift_samples) < 1.5 + 3.0 * found.drift_error_samples
