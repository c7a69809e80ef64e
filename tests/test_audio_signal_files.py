"""Generated test signals: deterministic, varied, in range, all of it written down."""

from __future__ import annotations

import json
import os
import time
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxfast.audio.files import probe, read_audio, write_audio
from fxfast.audio.resample import resample
from fxfast.audio.signal_files import SignalRequest, varied_signal, write_signals
from fxfast.audio.signal_phrases import INSTRUMENTS, PHRASES, Bend, bend_string
from fxfast.audio.signals import Pluck, guitar_like, pluck_string
from fxfast.cli import main
from fxfast.errors import InputError, OutputExistsError

RATE = 48000


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_the_seed_decides_every_bit_and_event() -> None:
    first, events = varied_signal(20.0, RATE, 7)
    again, same = varied_signal(20.0, RATE, 7)
    assert np.array_equal(first, again)
    assert events == same
    assert not np.array_equal(first, varied_signal(20.0, RATE, 8)[0])
    assert np.array_equal(varied_signal(5.0, RATE, 7)[0], first[: 5 * RATE])


@pytest.mark.parametrize("instrument", sorted(INSTRUMENTS))
def test_every_kind_occurs_at_varied_levels(instrument: str) -> None:
    x, events = varied_signal(120.0, RATE, 1, instrument)
    assert x.dtype == np.float32
    assert np.max(np.abs(x)) < 0.9
    assert {event["kind"] for event in events} == set(PHRASES)
    levels = [event["level_db"] for event in events]
    assert max(levels) > -6.0
    assert min(levels) < -20.0
    assert len(set(levels)) == len(levels)
    frames = x[: len(x) // 2400 * 2400].reshape(-1, 2400)
    peak_db = 20 * np.log10(np.max(np.abs(frames), axis=1) + 1e-12)
    assert np.mean(peak_db < -120) > 0.05
    assert np.percentile(peak_db[peak_db > -120], 5) < -50.0


def test_events_say_where_sound_and_silence_are() -> None:
    x, events = varied_signal(60.0, RATE, 2)
    for event, following in pairwise(events):
        start = round(event["start_seconds"] * RATE)
        end = round(following["start_seconds"] * RATE)
        gap = round(event["silence_after_seconds"] * RATE)
        assert not x[end - gap : end].any()
        peak_db = 20 * np.log10(np.max(np.abs(x[start:end])) / 0.85)
        assert peak_db == pytest.approx(event["level_db"], abs=2.5)


def numbers(value: Any, key: str) -> list[float]:
    """All values of a key, however deep."""
    if isinstance(value, dict):
        return [v for k, v in value.items() if k == key] + [
            n for v in value.values() for n in numbers(v, key)
        ]
    return [n for v in value for n in numbers(v, key)] if isinstance(value, list) else []


@pytest.mark.parametrize(("instrument", "low", "high"), [("guitar", 82, 1300), ("bass", 41, 400)])
def test_fundamentals_lie_in_the_range(instrument: str, low: float, high: float) -> None:
    x, events = varied_signal(90.0, RATE, 3, instrument)
    hertz = numbers(events, "frequency_hz") + numbers(events, "tone_hz")
    assert len(hertz) > 50
    assert low <= min(hertz) < 2 * low
    assert 0.6 * high < max(hertz) <= high
    power = np.abs(np.fft.rfft(x)) ** 2
    above = np.fft.rfftfreq(len(x), 1 / RATE) > 1.5 * high
    assert power[above].sum() > 0.003 * power.sum()


def pitch(x: np.ndarray, near_hz: float) -> float:
    size = 1 << 19
    power = np.abs(np.fft.rfft(x * np.hanning(len(x)), size))
    hertz = np.fft.rfftfreq(size, 1 / RATE)
    band = (hertz > 0.85 * near_hz) & (hertz < 1.15 * near_hz)
    return float(hertz[band][np.argmax(power[band])])


@pytest.mark.parametrize("frequency_hz", [110.3, 329.6])
@pytest.mark.parametrize("semitones", [1.0, 2.0])
def test_bends_reach_their_pitch(frequency_hz: float, semitones: float) -> None:
    pluck = Pluck(frequency_hz, 2.4, decay_seconds=4.0)
    bent = bend_string(generator(), pluck, Bend(semitones, 0.6, 0.3), RATE)
    assert len(bent) == round(2.4 * RATE)
    before, after = bent[: round(0.55 * RATE)], bent[round(1.0 * RATE) :]
    assert abs(1200 * np.log2(pitch(before, frequency_hz) / frequency_hz)) < 6.0
    goal = frequency_hz * 2 ** (semitones / 12)
    assert abs(1200 * np.log2(pitch(after, goal) / goal)) < 3.0


def test_a_bend_of_nothing_is_the_straight_string() -> None:
    pluck = Pluck(220.7, 0.5, damping=0.3)
    bent = bend_string(generator(5), pluck, Bend(0.0, 0.1, 0.1), RATE)
    np.testing.assert_allclose(bent, pluck_string(generator(5), pluck, RATE), atol=1e-9)


def test_a_bend_can_go_back_and_leaves_no_click() -> None:
    bend = Bend(2.0, 0.2, 0.2, back=True)
    ratio = bend.ratio(np.array([0.0, 0.4, 0.7, 2.0]))
    np.testing.assert_allclose(ratio, [1.0, 2 ** (2 / 12), 1.0, 1.0], atol=1e-12)
    bent = bend_string(generator(), Pluck(196.0, 1.5), Bend(2.0, 0.5, 0.2, True), RATE)
    curve = np.abs(np.diff(bent, 2))
    assert (
        curve[round(0.5 * RATE) :].max() < 1.5 * curve[round(0.3 * RATE) : round(0.5 * RATE)].max()
    )


def test_sweeps_go_through_the_range() -> None:
    sound, record = PHRASES["sweep"](generator(1), RATE, INSTRUMENTS["guitar"])
    if not record["up"]:
        sound = sound[::-1]
    crossings = np.flatnonzero(np.diff(np.signbit(sound)))
    assert RATE / 2 / np.mean(np.diff(crossings[:4])) == pytest.approx(record["low_hz"], rel=0.2)
    assert RATE / 2 / np.mean(np.diff(crossings[-50:])) == pytest.approx(record["high_hz"], rel=0.1)
    middle = len(sound) // 2
    near = crossings[np.abs(crossings - middle) < 500]
    half_way = np.sqrt(record["low_hz"] * record["high_hz"])
    assert RATE / 2 / np.mean(np.diff(near)) == pytest.approx(half_way, rel=0.1)


@pytest.mark.parametrize("kind", ["steps", "bursts"])
def test_steps_and_bursts_span_60_db_in_tone_and_noise(kind: str) -> None:
    records = [PHRASES[kind](generator(seed), RATE, INSTRUMENTS["guitar"])[1] for seed in range(9)]
    lists: list[Any] = numbers(records, "levels_db")
    levels = [*numbers(records, "level_db"), *chain.from_iterable(lists)]
    assert max(levels) > -5.0
    assert min(levels) < -50.0
    assert numbers(records, "tone_hz")
    assert numbers(records, "noise_corner_hz")


def test_a_minute_takes_less_than_two_seconds() -> None:
    start = time.process_time()
    varied_signal(60.0, RATE, 0)
    assert time.process_time() - start < 2.0


# --- folders ---------------------------------------------------------------------------------


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "signals.jsonl").read_text().splitlines()]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Recordings of several formats and rates, in two folders."""
    x = guitar_like(1.0, 44100, 0)
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "held").mkdir()
    write_audio(tmp_path / "mine" / "a.wav", x, 44100)
    write_audio(tmp_path / "mine" / "deep" / "b.flac", np.stack([x, -0.5 * x]), 96000)
    write_audio(tmp_path / "held" / "c.wav", 0.1 * x, 22050, "PCM_16")
    return tmp_path


def test_recordings_are_mixed_in(recordings: Path) -> None:
    out = recordings / "out"
    words = ["signals", "-o", str(out), "--seconds", "1", "--include", str(recordings / "mine")]
    assert main([*words, "--test", str(recordings / "held")]) == 0
    found = {row["file"]: row for row in rows(out)}
    assert {name: row["split"] for name, row in found.items()} == {
        "guitar-000.wav": "train",
        "recordings/a.wav": "train",
        "recordings/deep/b.wav": "train",
        "test/c.wav": "test",
    }
    x = guitar_like(1.0, 44100, 0)
    a = read_audio(out / "recordings" / "a.wav")[0][0]
    np.testing.assert_array_equal(a, resample(x, 44100, RATE))
    for name, row in found.items():
        info = probe(out / name)
        assert (info.channels, info.sample_rate, info.frames) == (1, RATE, row["frames"])
    assert found["recordings/deep/b.wav"]["source_channels"] == 2
    assert found["test/c.wav"]["source_rate"] == 22050
    assert found["test/c.wav"]["gain"] == 1.0


def test_recordings_are_normalised_on_request(recordings: Path) -> None:
    request = SignalRequest(count=0, held_out=(recordings / "held",), normalise=True)
    write_signals(recordings / "out", request)
    x = read_audio(recordings / "out" / "test" / "c.wav")[0][0]
    assert np.max(np.abs(x)) == pytest.approx(0.85, abs=1e-4)


def test_a_bad_recording_is_told_and_the_rest_done(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "mine" / "zero.wav").write_bytes(b"")
    write_audio(recordings / "mine" / os.fsdecode(b"caf\xe9.wav"), guitar_like(0.1, RATE, 0), RATE)
    out = recordings / "out"
    words = ["signals", "-o", str(out), "--count", "0", "--include", str(recordings / "mine")]
    assert main(words) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "expected a file name in UTF-8" in lines[0]
    assert "zero.wav: expected an audio file, got an empty file" in lines[1]
    assert [row["file"] for row in rows(out)] == ["recordings/a.wav", "recordings/deep/b.wav"]


def test_splits_reach_the_pairs(recordings: Path) -> None:
    from fxfast.pairs.pair_set import load_pairs

    out, pairs = recordings / "out", recordings / "pairs"
    request = SignalRequest(seconds=3.0, seed=4, held_out=(recordings / "held",))
    write_signals(out, request)
    assert main(["pairs", "make", str(out), "--preset", "ts-1", "-o", str(pairs)]) == 0
    assert {pair.name: pair.split for pair in load_pairs(pairs)} == {
        "guitar-000": "train",
        "test/c": "test",
    }


def test_wrong_requests_are_refused(recordings: Path) -> None:
    out = recordings / "out"
    with pytest.raises(InputError, match="instrument: expected one of guitar, bass, got 'kazoo'"):
        write_signals(out, SignalRequest(instrument="kazoo"))
    with pytest.raises(InputError, match="count: expected at least 1, got 0"):
        write_signals(out, SignalRequest(count=0))
    with pytest.raises(InputError, match="expected recordings outside the output"):
        write_signals(recordings, SignalRequest(count=0, include=(recordings / "mine",)))
    both = (recordings / "mine", recordings / "mine" / "a.wav")
    with pytest.raises(InputError, match="has that name too"):
        write_signals(out, SignalRequest(count=0, include=both))
    write_signals(out, SignalRequest(seconds=0.2))
    with pytest.raises(OutputExistsError, match=r"signals\.jsonl: expected no file there"):
        write_signals(out, SignalRequest(seconds=0.2))
    write_signals(out, SignalRequest(seconds=0.2, seed=1), overwrite=True)
    assert rows(out)[0]["seed"] == 1
