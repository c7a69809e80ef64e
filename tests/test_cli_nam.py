"""The commands on ``.nam`` files: inspect, render, export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from nam_documents import PARITY_FILES, document, old_array, wavenet

from fxfast import exchange
from fxfast.cli import main
from fxfast.player import Player

CONTAINER = document(
    "SlimmableContainer",
    {
        "submodels": [
            {"max_value": size, "model": wavenet(old_array(channels=n + 1))}
            for n, size in enumerate((0.5, 1.0))
        ]
    },
    [],
)


@pytest.fixture
def container(tmp_path: Path) -> Path:
    path = tmp_path / "source.nam"
    path.write_text(json.dumps(CONTAINER))
    return path


def test_inspect_takes_nam(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(container), "--slim", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    graph = exchange.load(container, slim=0)
    assert (found["kind"], found["parameters"]) == ("wavenet", graph.parameters)
    assert main(["inspect", str(container), "--slim", "2"]) == 1
    assert "slim: expected a number from 0 to 1, got 2.0" in capsys.readouterr().err


def test_render_takes_nam(container: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).uniform(-0.4, 0.4, 4_800).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", x, 48_000, subtype="FLOAT")
    arguments = ["render", str(container), str(tmp_path / "a.wav"), "--slim", "0"]
    assert main([*arguments, "--out", str(tmp_path / "wet")]) == 0
    rendered, _ = soundfile.read(tmp_path / "wet" / "a.wav", dtype="float32")
    graph = exchange.load(container, slim=0)
    np.testing.assert_array_equal(rendered, Player(graph, threads=1).render(x))


def test_every_parity_file_renders_and_is_shown(tmp_path: Path) -> None:
    if not PARITY_FILES.exists():
        pytest.skip(f"no parity files in {PARITY_FILES}")
    dry = tmp_path / "dry"
    (dry / "takes").mkdir(parents=True)
    songs = {"a.wav": 480, "takes/b.wav": 1_001}
    rng = np.random.default_rng(4)
    for name, samples in songs.items():
        x = rng.uniform(-0.5, 0.5, samples).astype(np.float32)
        soundfile.write(dry / name, x, 48_000, subtype="FLOAT")
    for path in sorted(PARITY_FILES.glob("*.nam")):
        out = tmp_path / path.stem
        assert main(["render", str(path), str(dry), "--out", str(out)]) == 0
        player = Player(exchange.load(path), threads=1)
        for name in songs:
            x, _ = soundfile.read(dry / name, dtype="float32")
            rendered, _ = soundfile.read(out / name, dtype="float32")
            np.testing.assert_array_equal(rendered, player.render(x))
        assert main(["inspect", str(path)]) == 0


def test_export_writes_nam(
    container: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target.json"
    arguments = ["export", str(container), "--format", "nam", "-o", str(target), "--slim", "0.1"]
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"{target}\n"
    assert json.loads(target.read_text())["config"]["layers"][0]["channels"] == 1
    assert main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
