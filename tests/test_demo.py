"""The demo's steps in small, and the figures that it shows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fxfast import demo, exchange
from fxfast.audio.files import find_audio, probe
from fxfast.cli import main
from fxfast.errors import OutputExistsError, RunError


@pytest.mark.slow
def test_the_demo_walks_the_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "DRY_SECONDS", (8.0,))
    monkeypatch.setattr(demo, "_COMPARE_SECONDS", 1.0)
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), "--seconds", "2"]) == 0
    shown = capsys.readouterr().out
    for figure in ("test ESR", "library, all cores", "engine, one core", "eager PyTorch, windows"):
        assert figure in shown
    result = json.loads((out / "demo.json").read_text())
    # Two seconds teach nothing that a slow machine could promise.
    assert 0 < result["training"]["test_esr"] < math.inf
    assert result["library"]["files"] >= 20
    assert (out / "model.ts").is_file()

    inputs = [probe(path) for path in find_audio(out / "library")]
    assert {info.format for info in inputs} == {"WAV", "FLAC"}
    assert {info.subtype for info in inputs} == {"PCM_16", "PCM_24", "FLOAT"}
    assert len({info.sample_rate for info in inputs}) >= 3
    assert {info.channels for info in inputs} == {1, 2}
    assert len({info.frames for info in inputs}) >= 10

    assert main(["demo", "--out", str(out), "--seconds", "0.5", "--json"]) == 0  # replaces it
    assert json.loads(capsys.readouterr().out)["isa"] == result["isa"]


def test_a_folder_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="expected a new folder or an earlier demo's"):
        demo.generate(tmp_path, seed=0)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_wrong_rendering_is_noticed(tmp_path: Path) -> None:
    from nets import random_graph

    from fxfast.audio.files import write_audio
    from fxfast.audio.signals import guitar_like

    for name, rate in (("a", 48_000), ("b", 44_100)):
        (tmp_path / "library").mkdir(exist_ok=True)
        write_audio(tmp_path / "library" / f"{name}.wav", guitar_like(0.5, rate, seed=1), rate)
    (tmp_path / "run").mkdir()
    exchange.save(random_graph([(1, 1, 1, "none")]), tmp_path / "run" / "model.safetensors")
    report = demo.render(tmp_path)
    assert report.count("rendered") == 2
    (tmp_path / "wet" / "b.wav").unlink()
    write_audio(tmp_path / "wet" / "b.wav", guitar_like(0.4, 44_100, seed=1), 44_100)
    with pytest.raises(RunError, match="expected frames 22050, got 17640"):
        demo._check_library(report)
