"""How a wet recording lies in time beside its dry one: offset, polarity, gain and drift.

Three steps. The whole recordings are correlated over the full range of offsets with softened
whitening: plain correlation has broad peaks that distortion moves by hundreds of samples, fully
whitened correlation (GCC-PHAT) answers to any click that two recordings share; the cross spectrum
divided by its magnitude to the power 0.7 does neither. Then the phase of the coherent part of the
spectrum gives the offset to a fraction of a sample. Windows along the recording show drift.

Source of GCC-PHAT and of weighting by coherence: C. Knapp, G. Carter, "The generalized
correlation method for estimation of time delay", IEEE Trans. ASSP 24(4), 1976.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from fxfast.errors import InputError

MAX_OFFSET_SECONDS = 2.0
# The highest peak over the rms of the correlation. Recordings that do not belong together reach
# 7, and 13 when both have one sharp attack; then little else fits, which the coherence tells.
# Beyond 16 the peak alone is enough: a long reverb leaves little coherence.
SHARPNESS_UNRELATED = 7.0
SHARPNESS_CERTAIN = 12.0
COHERENCE_UNRELATED = 0.007
COHERENCE_CERTAIN = 0.017

_WHITENING = 0.7
_SPECTRUM_FLOOR = 1e-5
_COARSE_FRAMES = 1 << 20
_FADE_FRAMES = 12000
_FINE_FRAMES = 2048
_FINE_UPSAMPLING = 16
_FINE_REACH = 64
_FINE_BAND = 0.4
_FINE_SEGMENTS = 700
_FILTER_SHARE = 0.65
_WINDOW_FRAMES = 1 << 15
_WINDOW_REACH = 3072
_WINDOWS = 16
_SHARP_ALONE = (16.0, 24.0)
_DRIFT_SMEARS = 8.0
_WINDOWS_DISAGREE = 250.0
_LINE_SHARPNESS = (6.0, 9.0)
_OCTAVE_BINS = 8.0


@dataclass(frozen=True)
class Alignment:
    """Where the wet recording lies beside the dry one.

    ``offset_samples`` is positive when the wet is later. ``polarity`` is 1 or -1. ``gain_db`` is
    the level of the wet over the dry. ``drift_ppm`` is how fast the offset grows, and
    ``drift_samples`` how far it moves from the first to the last window, give or take
    ``drift_error_samples``. ``confidence`` runs from 0 (what two recordings that have nothing to
    do with each other reach) to 1. ``sharpness`` and ``coherence`` are what it is made of.
    """

    offset_samples: float
    polarity: int
    gain_db: float
    drift_ppm: float
    drift_samples: float
    drift_error_samples: float
    confidence: float
    sharpness: float
    coherence: float


@dataclass(frozen=True)
class FineAlignment:
    """What ``refine`` finds; ``coherence`` is how much of the wet follows from the dry by a filter,
    at this offset, evenly over octaves: 0 to 1.
    """

    offset_samples: float
    polarity: int
    coherence: float


@dataclass(frozen=True)
class CorrelationPeak:
    """The highest peak of a correlation: its lag, sign and height over the correlation's rms."""

    lag: int
    sign: int
    sharpness: float


def align(dry: np.ndarray, wet: np.ndarray, max_offset: int) -> Alignment:
    """The alignment of two float arrays (T) of one sample rate, at most ``max_offset`` apart.

    Silence on either side gives an offset of 0 and no confidence. Raises InputError for another
    shape or an empty array.
    """
    for name, x in (("dry", dry), ("wet", wet)):
        if x.ndim != 1 or len(x) == 0:
            raise InputError(f"{name}: expected shape (T) with at least 1 sample, got {x.shape}")
    if not np.any(dry) or not np.any(wet):
        return Alignment(0.0, 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    peak = _coarse(dry, wet, max(1, min(max_offset, min(len(dry), len(wet)) // 2)))
    a, b = overlap(dry, wet, peak.lag)
    fine = refine(a, b)
    lags = window_lags(a, b)
    drift, moved, error = _drift(lags)
    if 0.0 < abs(moved) < _FINE_REACH and len(a) >= 3 * _WINDOW_FRAMES:
        drift, moved = _confirmed(a, b, drift, moved)
    confidence = min(
        _share(peak.sharpness, SHARPNESS_UNRELATED, SHARPNESS_CERTAIN),
        _share(fine.coherence, COHERENCE_UNRELATED, COHERENCE_CERTAIN),
    )
    if error > _WINDOWS_DISAGREE:
        confidence *= 0.25  # as music does that repeats itself, shifted by a bar
    elif abs(moved) > _DRIFT_SMEARS:
        # The offset moved too far for the whole to agree: its windows say how sure it is.
        confidence = max(confidence, _line_confidence(lags))
    confidence = max(confidence, _share(peak.sharpness, *_SHARP_ALONE))
    return Alignment(
        offset_samples=peak.lag + fine.offset_samples,
        polarity=fine.polarity,
        gain_db=level_difference_db(a, b),
        drift_ppm=1e6 * drift,
        drift_samples=moved,
        drift_error_samples=error,
        confidence=confidence,
        sharpness=peak.sharpness,
        coherence=fine.coherence,
    )


def _coarse(dry: np.ndarray, wet: np.ndarray, reach: int) -> CorrelationPeak:
    """The peak over the full range of offsets, from the part of the dry with the most sound.

    Silence at the ends is left out: where sound begins or ends at once there is a click.
    """
    first, last = _sound(dry)
    start, stop = _loudest_stretch(dry[first:last])
    start, stop = start + first, stop + first
    wet_first, wet_last = _sound(wet)
    wet_first = max(wet_first, start - reach)
    wet_last = min(wet_last, stop + reach)
    if wet_last <= wet_first:
        return CorrelationPeak(0, 1, 0.0)
    return correlate(dry[start:stop], wet[wet_first:wet_last], reach, wet_first - start)


def overlap(dry: np.ndarray, wet: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts of both that are there at the same time when the wet is ``lag`` samples late."""
    a, b = (dry, wet[lag:]) if lag >= 0 else (dry[-lag:], wet)
    length = min(len(a), len(b))
    return a[:length], b[:length]


def level_difference_db(dry: np.ndarray, wet: np.ndarray) -> float:
    """The rms of the wet over that of the dry, in dB; 0 when one of them is silent."""
    power = [float(np.mean(np.square(x, dtype=np.float64))) if len(x) else 0.0 for x in (dry, wet)]
    return 10.0 * float(np.log10(power[1] / power[0])) if min(power) > 0.0 else 0.0


def correlate(dry: np.ndarray, wet: np.ndarray, reach: int, first_lag: int = 0) -> CorrelationPeak:
    """The peak of the softly whitened correlation over lags of at most +-``reach``.

    ``first_lag`` is the lag of ``wet[0]`` beside ``dry[0]``.
    """
    correlation = correlation_function(dry, wet, reach, first_lag)
    rms = float(np.sqrt(np.mean(np.square(correlation, dtype=np.float64))))
    if rms == 0.0:
        return CorrelationPeak(0, 1, 0.0)
    best = int(np.argmax(np.abs(correlation)))
    height = float(correlation[best])
    return CorrelationPeak(best - reach, 1 if height >= 0 else -1, abs(height) / rms)


def correlation_function(
    dry: np.ndarray, wet: np.ndarray, reach: int, first_lag: int = 0
) -> np.ndarray:
    """The softly whitened correlation at the lags -reach..reach, float32 (2 reach + 1)."""
    size = fft.next_fast_len(len(wet) + len(dry), real=True)
    size = min(size, fft.next_fast_len(max(len(dry), len(wet)) + reach + 1, real=True))
    spectra = [fft.rfft(_tapered(x), size) for x in (dry, wet)]
    magnitudes = [np.abs(spectrum) for spectrum in spectra]
    heard = np.ones(len(spectra[0]), bool)
    for magnitude in magnitudes:
        heard &= magnitude > _SPECTRUM_FLOOR * float(np.max(magnitude))
    weight = (magnitudes[0] * magnitudes[1] + np.float32(1e-30)) ** np.float32(-_WHITENING)
    cross = np.conj(spectra[0]) * spectra[1] * (weight * heard)
    circular = fft.irfft(cross, size)
    lags = np.arange(-reach, reach + 1) - first_lag
    return np.asarray(circular[lags % size])


def refine(dry: np.ndarray, wet: np.ndarray, segments: int = _FINE_SEGMENTS) -> FineAlignment:
    """The offset left between two arrays aligned to about 50 samples, and the polarity.

    The phases of the averaged cross spectrum are weighed by the coherence at their frequency,
    below 0.4 of the rate: near half the rate the filters of converters and resamplers turn the
    phase. A filter in the effect is no offset, but moves the peak later; a little more than half
    of what a minimum-phase filter of the seen magnitude would do is taken out, so the figure lies
    between the filter's onset and its centre.
    """
    cross, dry_power, coherence = _averaged_spectra(dry, wet, segments)
    weight = coherence.copy()
    weight[: max(2, round(30.0 / 48000.0 * _FINE_FRAMES))] = 0.0
    weight[round(_FINE_BAND * _FINE_FRAMES) :] = 0.0
    if not np.any(weight):
        return FineAlignment(0.0, 1, 0.0)
    magnitude = np.log(np.abs(cross) + 1e-30) - np.log(dry_power + 1e-30)
    phase = np.angle(cross) - _FILTER_SHARE * _minimum_phase(magnitude, coherence)
    fine_size = _FINE_FRAMES * _FINE_UPSAMPLING
    padded = np.zeros(fine_size // 2 + 1, complex)
    padded[: len(phase)] = weight * np.exp(1j * phase)
    correlation = np.roll(fft.irfft(padded, fine_size), _FINE_REACH * _FINE_UPSAMPLING)
    correlation = correlation[: 2 * _FINE_REACH * _FINE_UPSAMPLING + 1]
    best = int(np.argmax(np.abs(correlation)))
    position = best + _parabola(np.abs(correlation), best)
    offset = position / _FINE_UPSAMPLING - _FINE_REACH
    bins = np.arange(len(phase))
    evenly = 1.0 / (bins + _OCTAVE_BINS)
    turned = np.cos(phase + 2.0 * np.pi / _FINE_FRAMES * offset * bins)
    in_phase = float(np.abs(np.sum(evenly * weight * turned)) / np.sum(evenly))
    return FineAlignment(offset, 1 if correlation[best] >= 0 else -1, in_phase)


def window_lags(dry: np.ndarray, wet: np.ndarray) -> np.ndarray:
    """Rows of (time in samples, lag, sharpness) of windows with sound along aligned arrays."""
    frames = min(_WINDOW_FRAMES, len(dry))
    # Windows that overlap by more than half would agree with each other on a wrong lag.
    count = min(_WINDOWS, max(1, 2 * len(dry) // frames - 1))
    starts = np.linspace(0, len(dry) - frames, count).astype(int)
    rows = []
    loudest = max((float(np.max(np.abs(dry[s : s + frames]))) for s in starts), default=0.0)
    for start in starts:
        part = dry[start : start + frames]
        if float(np.max(np.abs(part))) < 0.03 * loudest:
            continue
        reach = min(_WINDOW_REACH, frames // 2)
        before = min(start, reach)
        around = wet[start - before : start + frames + reach]
        if not np.any(around):
            continue
        correlation = correlation_function(part, around, reach, -before)
        height = np.abs(correlation)
        best = int(np.argmax(height))
        rms = float(np.sqrt(np.mean(np.square(height, dtype=np.float64)))) or 1.0
        lag = best + _parabola(height, best) - reach
        rows.append((start + frames / 2, lag, float(height[best]) / rms))
    return np.array(rows, np.float64).reshape(-1, 3)


def _drift(lags: np.ndarray) -> tuple[float, float, float]:
    """The slope of the lags over time, samples per sample, what it adds up to, and how far the
    windows typically lie from it.

    The weighted median of all slopes between two windows (Theil and Sen): a third of the windows
    may be wrong.
    """
    if len(lags) < 3:
        return 0.0, 0.0, 0.0
    first, second = np.triu_indices(len(lags), 1)
    apart = lags[second, 0] - lags[first, 0]
    slopes = (lags[second, 1] - lags[first, 1]) / apart
    order = np.argsort(slopes)
    weight = np.cumsum((apart * np.square(lags[first, 2] * lags[second, 2]))[order])
    slope = float(slopes[order][np.searchsorted(weight, 0.5 * weight[-1])])
    rest = lags[:, 1] - slope * lags[:, 0]
    error = float(np.median(np.abs(rest - np.median(rest))))
    return slope, slope * float(lags[-1, 0] - lags[0, 0]), error


def _confirmed(dry: np.ndarray, wet: np.ndarray, slope: float, moved: float) -> tuple[float, float]:
    """A small drift, or what the first and the last third say when that is much less.

    Hard clipping moves the peaks of single windows by several samples; the averaged spectra of a
    third hardly change.
    """
    third = len(dry) // 3
    first = refine(dry[:third], wet[:third], _FINE_SEGMENTS // 4).offset_samples
    last = refine(dry[-third:], wet[-third:], _FINE_SEGMENTS // 4).offset_samples
    seen = (last - first) / (len(dry) - third)
    if abs(seen) >= (0.5 if seen * slope > 0.0 else 1.0) * abs(slope):
        return slope, moved
    return seen, seen / slope * moved


def _line_confidence(lags: np.ndarray) -> float:
    """How sure the windows are of a drift: most lie near one line, each with a clear peak."""
    slope, moved, _ = _drift(lags)
    rest = lags[:, 1] - slope * lags[:, 0]
    near = np.abs(rest - np.median(rest)) < max(4.0, min(0.25 * abs(moved), 300.0))
    if len(lags) < 6 or np.mean(near) < 0.6:
        return 0.0
    return _share(float(np.median(lags[near, 2])), *_LINE_SHARPNESS)


def _share(value: float, low: float, high: float) -> float:
    """Where a value lies between two, 0 to 1."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _sound(x: np.ndarray) -> tuple[int, int]:
    """Where sound begins and ends: the first and last sample above -80 dB of the peak."""
    heard = np.flatnonzero(np.abs(x) > 1e-4 * np.max(np.abs(x)))
    return int(heard[0]), int(heard[-1]) + 1


def _loudest_stretch(dry: np.ndarray) -> tuple[int, int]:
    """Where the most sound is, as long as the coarse correlation looks at."""
    if len(dry) <= _COARSE_FRAMES:
        return 0, len(dry)
    hop = _COARSE_FRAMES // 8
    blocks = np.add.reduceat(np.abs(dry), np.arange(0, len(dry), hop))
    sums = np.convolve(np.minimum(blocks, 4.0 * np.median(blocks)), np.ones(8), "valid")
    start = min(int(np.argmax(sums)) * hop, len(dry) - _COARSE_FRAMES)
    return start, start + _COARSE_FRAMES


def _tapered(x: np.ndarray) -> np.ndarray:
    """Without DC and faded slowly at both ends: whitening lifts the leakage of a quick fade."""
    y = (x - x.mean(dtype=np.float64)).astype(np.float32)
    fade = min(len(y) // 4, _FADE_FRAMES)
    if fade:
        ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)
        y[:fade] *= ramp
        y[-fade:] *= ramp[::-1]
    return np.asarray(y)


def _averaged_spectra(dry: np.ndarray, wet: np.ndarray, segments: int) -> tuple[np.ndarray, ...]:
    """Cross spectrum, power of the dry and coherence (0 to 1, its bias taken out).

    Every segment counts the same however loud it is; segments without sound are left out.
    """
    frames = _FINE_FRAMES
    if len(dry) < frames:
        dry, wet = (np.pad(x, (0, frames - len(x))) for x in (dry, wet))
    count = (len(dry) - frames) // (frames // 2) + 1
    step = max(1, count // segments)
    starts = np.arange(0, count, step) * (frames // 2)
    window = np.hanning(frames).astype(np.float32)
    index = starts[:, np.newaxis] + np.arange(frames)
    x_kf, y_kf = (fft.rfft(x.astype(np.float32, copy=False)[index] * window) for x in (dry, wet))
    x_power, y_power = (np.square(np.abs(s)).mean(axis=1, dtype=np.float64) for s in (x_kf, y_kf))
    heard = (x_power > 1e-6 * x_power.max()) & (y_power > 1e-6 * y_power.max())
    x_kf, y_kf = x_kf[heard], y_kf[heard]
    scale = 1.0 / np.sqrt(x_power[heard] * y_power[heard])
    cross = scale @ (np.conj(x_kf) * y_kf)
    dry_power, wet_power = (scale @ np.square(np.abs(s)) for s in (x_kf, y_kf))
    coherence = np.square(np.abs(cross)) / (dry_power * wet_power + 1e-60)
    bias = 2.0 / max(3, len(scale))
    coherence = np.clip((coherence - bias) / (1.0 - bias), 0.0, 1.0)
    present = (dry_power > 1e-9 * dry_power.max(initial=0.0)) & (wet_power > 0.0)
    return cross, dry_power, np.where(present, coherence, 0.0)


def _minimum_phase(log_magnitude: np.ndarray, coherence: np.ndarray) -> np.ndarray:
    """The phase of the minimum-phase filter of a magnitude, smoothed over a third of an octave."""
    bins = np.arange(len(log_magnitude))
    weight = coherence + 1e-6
    low = (bins * 2.0 ** (-1.0 / 6.0)).astype(int)
    high = np.minimum((bins * 2.0 ** (1.0 / 6.0)).astype(int) + 1, len(bins))
    high = np.maximum(high, low + 1)
    sums = np.concatenate([[0.0], np.cumsum(log_magnitude * weight)])
    weights = np.concatenate([[0.0], np.cumsum(weight)])
    smooth = (sums[high] - sums[low]) / (weights[high] - weights[low])
    cepstrum = fft.irfft(smooth, _FINE_FRAMES)
    cepstrum[1 : _FINE_FRAMES // 2] *= 2.0
    cepstrum[_FINE_FRAMES // 2 + 1 :] = 0.0
    return np.asarray(np.imag(fft.rfft(cepstrum)))


def _parabola(values: np.ndarray, best: int) -> float:
    """Where between its neighbours the top of a peak lies, -0.5..0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    left, top, right = (float(values[best + k]) for k in (-1, 0, 1))
    curve = left - 2.0 * top + right
    return 0.5 * (left - right) / curve if curve < 0.0 else 0.0
