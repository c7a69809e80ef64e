"""``.nam`` files to and from the PyPI package ``neural-amp-modeler``, run on its own torch code.

It lives in an environment of its own: that of the python named by ``FXFAST_NAM_PYTHON``, or
build/nam-env, which ``tools/nam-env`` makes.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tolerances import TOLERANCES

from fxfast import exchange, models
from fxfast.graph import ConvLayer, ConvStack, ModelGraph, Recurrent, RecurrentLayer, Sequential
from fxfast.player import Player

RATE = 48_000
NAMES = ("a1-standard", "a2-full", "lstm")
TESTS = Path(__file__).resolve().parent
INSTALLED = TESTS.parent / "build" / "nam-env" / "bin" / "python"

pytestmark = pytest.mark.slow


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, shape).astype(np.float32)


def lstm() -> ModelGraph:
    units = 16
    layer = RecurrentLayer(
        "lstm",
        weight_ih=drawn(1, 4 * units, 1),
        weight_hh=drawn(2, 4 * units, units),
        bias_ih=drawn(3, 4 * units),
        bias_hh=drawn(4, 4 * units),
        initial=drawn(5, 2, units),
    )
    head = ConvLayer(drawn(6, 1, units, 1), drawn(7, 1))
    return ModelGraph(Sequential((Recurrent((layer,)), ConvStack((head,)))), RATE)


def ours(name: str) -> ModelGraph:
    if name == "lstm":
        return lstm()
    model = models.create(name, seed=1)
    model.calibrate(input_rms=0.3, output_rms=0.3)
    return model.to_graph(RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files and outputs of both sides; one process of the trainer makes all of its own."""
    python = os.environ.get("FXFAST_NAM_PYTHON")
    if not python and not INSTALLED.exists():
        pytest.skip("neural-amp-modeler is not installed: run tools/nam-env")
    made = tmp_path_factory.mktemp("nam")
    np.save(made / "input.npy", drawn(8, 3000))
    for name in NAMES:
        exchange.save(ours(name), made / f"ours-{name}.nam")
    command = [python or INSTALLED, "-I", TESTS / "nam_trainer.py", made]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return made


def assert_equal_sound(graph: ModelGraph, file: Path) -> None:
    """Sample for sample, from the first one on."""
    expected = np.load(file.with_suffix(".npy"))
    found = Player(graph, threads=1).render(np.load(file.parent / "input.npy"))
    assert np.ptp(expected) > 0.05, "too quiet to show a difference"
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES["nam_parity"].value)


@pytest.mark.parametrize("name", NAMES)
def test_their_models_sound_the_same_here(folder: Path, name: str) -> None:
    file = folder / f"theirs-{name}.nam"
    assert_equal_sound(exchange.load(file), file)


@pytest.mark.parametrize("name", NAMES)
def test_our_models_sound_the_same_there(folder: Path, name: str) -> None:
    assert_equal_sound(ours(name), folder / f"ours-{name}.nam")
