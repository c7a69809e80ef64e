"""Delay, chorus and reverb: sound of the past, in blocks no longer than the shortest delay."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from fxfast.pairs.effect_base import Effect, Parameter, high_pass

# Lengths without a common factor, 22 to 60 ms.
_LINE_SECONDS = (0.02197, 0.02631, 0.03041, 0.03527, 0.03989, 0.04583, 0.05227, 0.05939)
_INPUT_SIGNS = np.array([1, -1, 1, 1, -1, 1, -1, -1], np.float64)
_OUTPUT_SIGNS = np.array([1, 1, -1, 1, 1, -1, -1, 1], np.float64)
_SPAN_SAMPLES = 1 << 16


def delay(
    x: np.ndarray,
    sample_rate: int,
    time_ms: float,
    feedback: float,
    level: float,
    low_cut_hz: float,
    high_cut_hz: float,
) -> np.ndarray:
    """The dry sound plus echoes of it, float64 (C, T).

    Each echo is ``feedback`` times the one before, through a first-order high-pass at
    ``low_cut_hz`` (0: none) and a one-pole low-pass at ``high_cut_hz`` in the loop.

    Source: J. Dattorro, "Effect design, part 2: delay-line modulation and chorus", J. Audio Eng.
    Soc. 45(10), 1997 (feedback delay line).
    """
    step = max(1, round(time_ms * sample_rate / 1000.0))
    total = x.shape[-1]
    echo = np.zeros_like(x)
    pole = float(np.exp(-2.0 * np.pi * min(high_cut_hz, 0.45 * sample_rate) / sample_rate))
    warped = float(np.tan(np.pi * low_cut_hz / sample_rate))
    high = ([1.0, -1.0], [1.0 + warped, warped - 1.0]) if low_cut_hz > 0 else None
    state = np.zeros((len(x), 1))
    high_state = np.zeros((len(x), 1))
    # One turn of the loop needs only the turn before it, so a whole delay is computed at once.
    for start in range(step, total, step):
        stop = min(start + step, total)
        turn = x[:, start - step : stop - step] + feedback * echo[:, start - step : stop - step]
        turn, state = lfilter([1.0 - pole], [1.0, -pole], turn, zi=state)
        if high is not None:
            turn, high_state = lfilter(*high, turn, zi=high_state)
        echo[:, start:stop] = turn
    return x + level * echo


def chorus(
    x: np.ndarray,
    sample_rate: int,
    rate_hz: float,
    depth: float,
    delay_ms: float,
    level: float,
) -> np.ndarray:
    """The dry sound plus a copy whose delay swings, float64 (C, T).

    The delay is ``delay_ms`` times 1 + ``depth`` sin(2 pi ``rate_hz`` t), read between the
    samples by a third-order Lagrange polynomial. t counts from the first sample: the same input
    later in time gives another output.

    Source: J. Dattorro, "Effect design, part 2: delay-line modulation and chorus", J. Audio Eng.
    Soc. 45(10), 1997.
    """
    total = x.shape[-1]
    time = np.arange(total)
    swing = np.sin((2.0 * np.pi * rate_hz / sample_rate) * time)
    place = time - (delay_ms * sample_rate / 1000.0) * (1.0 + depth * swing)
    np.minimum(place, time - 1.0, out=place)  # the polynomial reads one sample ahead
    whole = np.floor(place)
    t = place - whole
    padding = int(max(0.0, -whole.min(initial=0.0))) + 2
    padded = np.pad(x, ((0, 0), (padding, 3)))
    first = whole.astype(np.int64) + (padding - 1)
    weights = (
        -t * (t - 1.0) * (t - 2.0) / 6.0,
        (t + 1.0) * (t - 1.0) * (t - 2.0) / 2.0,
        -(t + 1.0) * t * (t - 2.0) / 2.0,
        (t + 1.0) * t * (t - 1.0) / 6.0,
    )
    copy = sum(weight * padded[:, first + tap] for tap, weight in enumerate(weights))
    return np.asarray(x + level * copy)


def reverb(
    x: np.ndarray,
    sample_rate: int,
    decay_seconds: float,
    high_decay: float,
    predelay_ms: float,
    mix: float,
) -> np.ndarray:
    """A feedback delay network of eight lines, float64 (C, T), channels apart.

    The lines feed each other through a Householder matrix. A one-pole low-pass in each makes
    low frequencies fall by 60 dB in ``decay_seconds`` and those at half the rate in
    ``high_decay`` times that. ``mix`` 0 is dry, 1 is reverb only.

    Source: J.-M. Jot, A. Chaigne, "Digital delay networks for designing artificial
    reverberators", 90th AES Convention, 1991.
    """
    before = round(predelay_ms * sample_rate / 1000.0)
    late = np.pad(x, ((0, 0), (before, 0)))[:, : x.shape[-1]]
    wet = np.stack([_network(sound, sample_rate, decay_seconds, high_decay) for sound in late])
    return (1.0 - mix) * x + mix * high_pass(wet, sample_rate, 20.0)


def _network(x: np.ndarray, sample_rate: int, decay_seconds: float, ratio: float) -> np.ndarray:
    lengths = np.array([max(2, round(seconds * sample_rate)) for seconds in _LINE_SECONDS])
    gain = 10.0 ** (-3.0 * lengths / (sample_rate * decay_seconds))
    # The pole whose filter has the gains that both decay times ask for, at 0 and at half the rate.
    at_top = gain ** (1.0 / ratio - 1.0)
    pole = (1.0 - at_top) / (1.0 + at_top)
    feed = gain * (1.0 - pole)
    longest, block = int(lengths.max()), int(lengths.min())
    # What went into each line: the last ``longest`` samples, then those of this span.
    lines = np.zeros((len(lengths), longest + _SPAN_SAMPLES))
    state = np.zeros(len(lengths))
    wet = np.empty_like(x)
    scale = 1.0 / np.sqrt(len(lengths))
    for origin in range(0, len(x), _SPAN_SAMPLES):
        end = min(origin + _SPAN_SAMPLES, len(x))
        for start in range(origin, end, block):
            stop = min(start + block, end)
            here = longest + start - origin
            size = stop - start
            starts = zip(lines, here - lengths, strict=True)
            out = np.stack([line[begin : begin + size] for line, begin in starts])
            for row in range(len(lengths)):
                out[row], last = lfilter(
                    feed[row : row + 1], [1.0, -pole[row]], out[row], zi=state[row : row + 1]
                )
                state[row] = last[0]
            wet[start:stop] = scale * (_OUTPUT_SIGNS @ out)
            out -= (2.0 / len(lengths)) * out.sum(axis=0)
            lines[:, here : here + size] = out + np.outer(_INPUT_SIGNS, x[start:stop])
        lines[:, :longest] = lines[:, end - origin : end - origin + longest].copy()
    return wet


DELAY = Effect(
    name="delay",
    summary="echoes with filters in the loop",
    source="Dattorro, JAES 45(10) 1997",
    parameters=(
        Parameter("time_ms", "ms", 250.0, 1.0, 4000.0, "time between echoes"),
        Parameter("feedback", "", 0.4, 0.0, 0.98, "each echo over the one before"),
        Parameter("level", "", 0.4, 0.0, 1.0, "level of the first echo"),
        Parameter("low_cut_hz", "Hz", 0.0, 0.0, 2000.0, "high-pass in the loop, 0 for none"),
        Parameter("high_cut_hz", "Hz", 20000.0, 200.0, 20000.0, "low-pass in the loop"),
    ),
    function=delay,
)

CHORUS = Effect(
    name="chorus",
    summary="a copy with a swinging delay; its LFO starts with the file",
    source="Dattorro, JAES 45(10) 1997",
    parameters=(
        Parameter("rate_hz", "Hz", 0.8, 0.01, 20.0, "swings per second"),
        Parameter("depth", "", 0.1, 0.0, 0.95, "swing over the delay"),
        Parameter("delay_ms", "ms", 20.0, 1.0, 100.0, "delay in the middle of the swing"),
        Parameter("level", "", 0.5, 0.0, 1.0, "level of the copy"),
    ),
    function=chorus,
)

REVERB = Effect(
    name="reverb",
    summary="feedback delay network of eight lines",
    source="Jot, Chaigne, AES 90, 1991",
    parameters=(
        Parameter("decay_seconds", "s", 2.0, 0.1, 20.0, "time to fall by 60 dB, low frequencies"),
        Parameter("high_decay", "", 0.3, 0.05, 1.0, "that time at half the rate over it"),
        Parameter("predelay_ms", "ms", 20.0, 0.0, 500.0, "before the reverb begins"),
        Parameter("mix", "", 0.4, 0.0, 1.0, "0 dry, 1 reverb only"),
    ),
    function=reverb,
)
