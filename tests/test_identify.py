"""What kind of effect a pair holds: effects of our own with known settings, and bad pairs."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pair_audio import PRESET_COUNTS, RATE, guitar, needs_recordings, recording
from scipy.signal import lfilter

from fxfast.audio.files import write_audio
from fxfast.cli import main
from fxfast.errors import PairError
from fxfast.identify import FAMILIES, Findings, describe, identify
from fxfast.models.choice import preset_for
from fxfast.pairs.effects import EFFECTS

SECONDS = 12.0
FAMILY_OF = {
    "gate": "gate",
    "ts": "nonlinear",
    "fuzz": "nonlinear",
    "comp": "compressor",
    "reverb": "linear",
    "chorus": "modulated-delay",
    "delay": "feedback-delay",
}


def found(wet: np.ndarray, dry: np.ndarray | None = None) -> Findings:
    return identify([(guitar(SECONDS) if dry is None else dry, wet)], RATE)


def played(effect: str, **parameters: float) -> np.ndarray:
    return EFFECTS[effect](guitar(SECONDS), RATE, **parameters)


@cache
def found_of(effect: str) -> Findings:
    return found(played(effect))


@pytest.mark.parametrize(
    ("effect", "family"),
    [
        ("gate", "gate"),
        ("overdrive", "nonlinear"),
        ("fuzz", "nonlinear"),
        ("compressor", "compressor"),
        ("reverb", "linear"),
        ("chorus", "modulated-delay"),
        ("delay", "feedback-delay"),
    ],
)
def test_every_built_in_effect_is_told(effect: str, family: str) -> None:
    findings = found_of(effect)
    assert findings.family == family
    assert findings.reasons
    text = describe(findings)
    assert text.startswith(family)
    assert all(reason in text for reason in findings.reasons)
    assert json.loads(json.dumps(findings.as_dict()))["family"] == family


@pytest.mark.parametrize(
    ("rate_hz", "depth", "delay_ms"), [(0.8, 0.1, 20.0), (3.0, 0.02, 10.0), (0.4, 0.2, 30.0)]
)
def test_rate_depth_and_centre_of_a_swinging_delay(
    rate_hz: float, depth: float, delay_ms: float
) -> None:
    wet = played("chorus", rate_hz=rate_hz, depth=depth, delay_ms=delay_ms)
    modulation = found(wet).modulation
    assert modulation.rate_hz == pytest.approx(rate_hz, rel=0.01)
    assert modulation.centre_ms == pytest.approx(delay_ms, rel=0.01)
    assert modulation.depth_ms == pytest.approx(depth * delay_ms, rel=0.15)


def test_echoes_and_memory() -> None:
    findings = found(played("delay", time_ms=300.0, feedback=0.4, level=0.5))
    assert findings.linear.echo_ms[:2] == pytest.approx((300.0, 600.0), abs=0.2)
    assert findings.linear.memory_seconds >= 0.3
    assert found_of("overdrive").linear.memory_seconds < 0.05


@pytest.mark.parametrize(("time_ms", "second"), [(100.0, 0.5), (250.0, 0.25)])
def test_two_taps_are_told_from_a_loop(time_ms: float, second: float) -> None:
    dry, delay = guitar(SECONDS), round(0.001 * time_ms * RATE)
    late, later = (np.concatenate([np.zeros(n), dry[:-n]]) for n in (delay, 2 * delay))
    taps = found((dry + 0.6 * late + 0.6 * second * later).astype(np.float32))
    assert taps.family == "linear"
    assert any("do not come round again" in reason for reason in taps.reasons)
    assert preset_for(taps) == "linear-10s"
    for low_pass in (0.0, 0.5):
        again = np.zeros(delay + 2)
        again[[0, 1, delay]] = 1.0, -low_pass, -second * (1.0 - low_pass)
        # late / (1 - second z^-delay F), F = (1 - low_pass) / (1 - low_pass z^-1)
        loop = found((dry + 0.6 * lfilter([1.0, -low_pass], again, late)).astype(np.float32))
        assert loop.family == "feedback-delay"
        assert preset_for(loop) == "delay"


def test_an_equaliser_is_linear_with_a_short_memory() -> None:
    wet = lfilter([0.5, 0.3], [1.0, -0.6], guitar(SECONDS)).astype(np.float32)
    findings = found(wet)
    assert findings.family == "linear"
    assert findings.linear.memory_seconds < 0.03
    assert findings.linear.coherence > 0.99


def test_the_gain_of_a_compressor_follows_the_level() -> None:
    gain = found_of("compressor").gain
    assert not gain.expands
    assert gain.explained > 0.7
    assert gain.range_db > 3.0
    assert gain.curve[0][1] > gain.curve[-1][1]
    assert found_of("gate").gain.expands


def test_slower_release_is_told_from_faster() -> None:
    slow, fast = (
        found(played("compressor", attack_ms=1.0, release_ms=release)).gain.release_ms
        for release in (600.0, 20.0)
    )
    assert slow >= 4 * fast


def test_a_tremolo_swings_the_gain() -> None:
    time = np.arange(len(guitar(SECONDS))) / RATE
    wet = guitar(SECONDS) * (1.0 - 0.4 * np.sin(2 * np.pi * 2.5 * time)).astype(np.float32)
    findings = found(wet)
    assert findings.family == "modulated-gain"
    assert findings.gain.swing.rate_hz == pytest.approx(2.5, rel=0.02)


def test_distortion_is_said_by_level() -> None:
    def shares(effect: str) -> list[float]:
        return [share for _, share in found_of(effect).distortion]

    assert max(shares("overdrive")) > 0.2
    assert max(shares("gate")) < 0.05


def test_the_same_and_a_plain_gain_are_linear() -> None:
    for factor in (1.0, -0.3):
        assert found((factor * guitar(SECONDS)).astype(np.float32)).family == "linear"


def test_a_wrong_pair_is_unrelated() -> None:
    findings = found(guitar(SECONDS), guitar(SECONDS, seed=5))
    assert findings.family == "unrelated"


def test_a_short_and_a_clipped_pair_are_noted() -> None:
    dry = guitar(SECONDS)[: 5 * RATE]
    findings = found(np.clip(30.0 * dry, -1.0, 1.0), dry)
    assert findings.family == "nonlinear"
    assert "5.0 s" in findings.notes[0]
    assert "wet clips" in findings.notes[1]
    assert all(note in describe(findings) for note in findings.notes)


def test_many_short_pairs_are_looked_at_together() -> None:
    dry = guitar(SECONDS)
    wet = played("compressor")
    cuts = [slice(i * 2 * RATE, (i + 1) * 2 * RATE) for i in range(6)]
    assert identify([(dry[cut], wet[cut]) for cut in cuts], RATE).family == "compressor"


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least one"),
        ([(np.zeros(9, np.float32), np.zeros(8, np.float32))], "one shape"),
        ([(np.ones(900, np.float32), np.ones(900, np.float32))], "1 s or more"),
        ([(np.zeros(96000, np.float32), np.ones(96000, np.float32))], "dry: expected a signal"),
        ([(np.ones(96000, np.float32), np.zeros(96000, np.float32))], "wet: expected a signal"),
    ],
)
def test_what_cannot_be_looked_at(pairs: list[tuple[np.ndarray, np.ndarray]], message: str) -> None:
    with pytest.raises(PairError, match=message):
        identify(pairs, RATE)


def write_pair(folder: Path, dry: np.ndarray, wet: np.ndarray) -> None:
    for side, sound in (("dry", dry), ("wet", wet)):
        (folder / side).mkdir(parents=True)
        write_audio(folder / side / "a.wav", sound.astype(np.float32), RATE)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dry = guitar(SECONDS)[: 5 * RATE]
    for name, wet in (("good", np.tanh(20 * dry)), ("wrong", guitar(SECONDS, 5)[: len(dry)])):
        write_pair(tmp_path / name, dry, wet)
    assert main(["identify", str(tmp_path / "good")]) == 0
    assert capsys.readouterr().out.startswith("nonlinear: ")
    assert main(["identify", str(tmp_path / "good"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] in FAMILIES
    assert main(["identify", str(tmp_path / "wrong")]) == 1
    assert capsys.readouterr().out.startswith("unrelated: ")


def test_the_command_takes_a_packed_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = guitar(SECONDS)[: 5 * RATE]
    write_pair(tmp_path / "pairs", dry, 0.5 * dry)
    assert main(["pack", str(tmp_path / "pairs"), "-o", str(tmp_path / "a.fxpack")]) == 0
    capsys.readouterr()
    assert main(["identify", str(tmp_path / "a.fxpack")]) == 0
    assert capsys.readouterr().out.startswith("linear: ")


@needs_recordings
@pytest.mark.slow
@pytest.mark.parametrize("effect", sorted(PRESET_COUNTS))
def test_real_plug_ins_are_told(effect: str) -> None:
    # The mildest gate closes so seldom that it takes the whole minute to be seen.
    samples = (60 if effect == "gate" else 15) * RATE
    dry = recording("zoo/dry.flac")[:samples]
    families = [
        found(recording(f"zoo/{effect}-{number + 1}.flac")[:samples], dry).family
        for number in range(PRESET_COUNTS[effect])
    ]
    assert families == [FAMILY_OF[effect]] * PRESET_COUNTS[effect]


@needs_recordings
@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "pairs", "rate", "family"),
    [
        ("openamp_tubescreamer", [(f"clip{i}_dry", f"clip{i}_wet") for i in range(4)], 44100, "n"),
        ("openamp_bluesdriver", [(f"clip{i}_dry", f"clip{i}_wet") for i in range(4)], 44100, "n"),
        *(
            (
                "cl1b",
                [
                    (f"{name}_dry", f"{name}_wet_{setting}")
                    for name in ("guitar", "bass", "sweep", "drumKick", "drumHH")
                ],
                RATE,
                "c",
            )
            for setting in ("GC", "MC", "HC")
        ),
    ],
)
def test_real_devices_are_told(
    folder: str, pairs: list[tuple[str, str]], rate: int, family: str
) -> None:
    sounds = [
        (recording(f"pairs/{folder}/{dry}.flac"), recording(f"pairs/{folder}/{wet}.flac"))
        for dry, wet in pairs
    ]
    assert identify(sounds, rate).family == {"n": "nonlinear", "c": "compressor"}[family]
