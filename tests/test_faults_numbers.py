"""Fault cases 40 and 41: the same samples from every way to run, and no drift in a long one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from families import dense, recurrent
from nets import random_graph
from tolerances import TOLERANCES
from wavenet_reference import SETTLING_SAMPLES, forward, reference_graph
from wavenets import a1

from fxfast import Player
from fxfast.audio.files import read_audio
from fxfast.graph import ModelGraph, Sequential
from fxfast.native import engine
from fxfast.rendering import Processing, group, render_library

RATE = 48_000
CHUNKS = (64, 1000, 4096, 1 << 16, 4097)
THREADS = (1, 2, 16)
LANES = (1, 8, 32)
ISAS = [name for name, supported in engine().isas() if supported]


def lstm() -> ModelGraph:
    return ModelGraph(Sequential((recurrent("lstm", 8, 1), dense(8, 1))), RATE)


def by_transforms() -> ModelGraph:
    """Offline on a grid of 1792 samples."""
    return random_graph([(64, 33, 1, "relu"), (32, 17, 1, "relu"), (1, 16, 1, "none")])


MODELS = {
    "lstm": lstm(),
    "grid": by_transforms(),
    "wavenet": ModelGraph(a1((4, 4), [[1, 2], [4]]), RATE),
}


@pytest.fixture
def library(tmp_path: Path) -> list[Path]:
    """Short files and long ones, of one and two channels, one of another rate."""
    folder = tmp_path / "in"
    folder.mkdir()
    random = np.random.default_rng(5)
    paths = []
    for number, frames in enumerate((1, 63, 2000, 4097, 9000, 12_000)):
        x_tc = random.uniform(-0.5, 0.5, (frames, 1 + number % 2))
        paths.append(folder / f"{number}.{'flac' if number == 3 else 'wav'}")
        rate = 44_100 if number == 4 else RATE
        soundfile.write(paths[-1], x_tc, rate, "PCM_16")
    return paths


def digest(out: Path) -> str:
    """Names and bytes of all visible files."""
    found = hashlib.sha256()
    for path in sorted(out.iterdir()):
        if not path.name.startswith("."):
            found.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return found.hexdigest()


def outs(tmp_path: Path) -> Iterator[Path]:
    return (tmp_path / f"out-{number}" for number in range(1 << 20))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_fault_case_40_every_way_to_run_gives_the_same_bytes(
    tmp_path: Path, library: list[Path], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, folders = MODELS[model], outs(tmp_path)
    random = np.random.default_rng(6)
    processing = Processing(resample=True)
    found: dict[str, list[tuple[int, ...]]] = {}
    # Lanes are of recurrent models only: elsewhere their number changes nothing at all.
    for chunk, threads, lanes in product(CHUNKS, THREADS, LANES if graph.is_recurrent else (16,)):
        monkeypatch.setattr(group, "GROUP_FILES", lanes)
        shuffled = [library[i] for i in random.permutation(len(library))]
        out = next(folders)
        # Half of the files first, as if the run had been stopped there; then the rest.
        for inputs in (shuffled[: len(library) // 2], shuffled):
            report = render_library(
                graph, inputs, out, jobs=threads, processing=processing, block_frames=chunk
            )
            assert not report.failed
        found.setdefault(digest(out), []).append((chunk, threads, lanes))
    assert len(found) == 1, found


@pytest.mark.parametrize("model", MODELS)
def test_fault_case_40_instruction_sets_differ_by_rounding(
    tmp_path: Path, library: list[Path], model: str
) -> None:
    sounds: dict[str, np.ndarray] = {}
    for isa in ISAS:
        out = tmp_path / isa
        graph = MODELS[model]
        report = render_library(graph, [library[5]], out, isa=isa, subtype="float")
        assert not report.failed
        sounds[isa] = read_audio(out / library[5].name)[0]
    peak = np.abs(sounds["reference"]).max()
    for isa, y_ct in sounds.items():
        apart = np.abs(y_ct - sounds["reference"]).max()
        assert apart <= TOLERANCES["between_isas"].value * max(1.0, peak), isa


# --- 41 ---------------------------------------------------------------------------


def awkward(samples: int) -> dict[str, np.ndarray]:
    t = np.arange(samples)
    decay = np.exp2(-t / 12.0)  # below the smallest normal number after 1512 samples
    step = np.where(t < samples // 3, 0.0, 1.0)
    square = np.where(t // 240 % 2 == 0, 1.0, -1.0)
    signals = {"denormal tail": decay, "step": step, "full-scale square": square}
    return {name: x.astype(np.float32) for name, x in signals.items()}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("model", MODELS)
def test_fault_case_41_awkward_signals_stay_near_float64(model: str, isa: str) -> None:
    graph = MODELS[model]
    for name, x in awkward(4000).items():
        y = Player(graph, isa=isa).render(x)
        silence = SETTLING_SAMPLES if graph.is_recurrent else None
        truth = reference_graph(graph, x, silence)
        assert np.isfinite(y).all(), name
        assert esr(y, truth) < TOLERANCES["drift_esr"].value, name


@pytest.mark.parametrize("signal", ["step", "full-scale square", "silence"])
def test_fault_case_41_a_recurrent_state_does_not_drift(signal: str) -> None:
    """Five minutes in place of a day. The state is a function of the last samples: what it held
    before fades by a constant factor a sample, and rounding with it, so that an error either stays
    below what the last seconds show or grows with the number of samples, which shows here too."""
    period, minutes = 4800, 5
    t = np.arange(period)
    one = {
        "step": np.ones(period),
        "full-scale square": np.where(t // 240 % 2 == 0, 1.0, -1.0),
        "silence": np.zeros(period),
    }[signal].astype(np.float32)
    graph = lstm()
    stream = Player(graph, mode="stream").stream()
    block = np.tile(one, 100)
    last = None
    for _ in range(minutes * 60 * RATE // block.size):
        last = stream.process(block)
    assert last is not None
    assert np.isfinite(last).all()
    # float64, by the equations, over as much as the state remembers.
    heard = np.tile(one, 2).astype(np.float64)
    truth = forward(graph.root, heard[np.newaxis])[0, period:]
    assert esr(last[-period:], truth) < TOLERANCES["drift_esr"].value
    assert last[-period:].tobytes() == last[-2 * period : -period].tobytes()


def esr(y: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sum((y - truth) ** 2) / np.sum(truth**2))
