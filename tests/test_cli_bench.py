"""fxfast bench, the benchmark suite and the tables made from their results, on short audio."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import random_graph

from fxfast import exchange
from fxfast.cli import main
from fxfast.graph import Linear, ModelGraph
from fxfast.report import suite
from fxfast.report.table import comparison_rows, models_table, peers_that_win

SHORT = ["--rounds", "1", "--isa", "portable", "--no-compile", "--blocks", "48"]


@pytest.fixture(autouse=True)
def _short_audio(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 3000).astype(np.float32)
    monkeypatch.setattr(suite, "audio_of", lambda _: audio)


def model_file(folder: Path) -> str:
    graph = random_graph([(2, 3, 1, "tanh"), (1, 4, 1, "none")])
    exchange.save(graph, folder / "model.safetensors")
    return str(folder / "model.safetensors")


def test_without_a_model_it_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    names = capsys.readouterr().out.split()
    assert {"a1-standard", "lstm-16", "linear-2s"} <= set(names)
    assert main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"models": names}


def test_a_model_file_in_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", model_file(tmp_path), *SHORT]) == 0
    shown = capsys.readouterr()
    for text in ("engine portable", "blocks of 48", "eager dense", "multiply-add peak", "error:"):
        assert text in shown.out
    assert shown.err == ""  # no progress where nobody looks


def test_the_document(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    out = tmp_path / "found.json"
    assert main(["bench", "lstm-16", *SHORT, "--streams", "1,2", "--json", "-o", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(out.read_text())
    assert set(found) == {
        *("schema", "date", "machine", "rounds", "models", "further runs", "musts")
    }
    assert {"processor", "cores", "commit", "torch"} <= set(found["machine"])
    (model,) = found["models"].values()
    assert {row["streams"] for row in model["rows"]} == {1, 2}
    assert model["skipped"] == [
        {"name": "ONNX Runtime", "reason": "onnx is not installed (pip install onnxruntime onnx)"}
    ]


def test_a_nam_file_beside_another_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exchange.save(ModelGraph(Linear(np.array([1.0], np.float32)), 48_000), tmp_path / "same.nam")
    render, broken = tmp_path / "render", tmp_path / "broken"
    render.write_text('#!/bin/sh\ncp "$2" "$3"\n')
    broken.write_text("#!/bin/sh\nexit 7\n")
    for path in (render, broken):
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    peers = ["--nam-core", f"mine={render}", "--nam-core", f"theirs={broken}"]
    assert main(["bench", str(tmp_path / "same.nam"), *SHORT, *peers]) == 0
    shown = capsys.readouterr().out
    assert "mine" in shown
    assert "not measured: theirs: exit code 7" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.nam"], "nowhere.nam"),
        (["lstm-16", "--blocks", "0"], "--blocks: expected integers from 1 to 65536, got '0'"),
        (["lstm-16", "--rounds", "0"], "--rounds: expected 1 to 1000, got 0"),
        (["lstm-16", "--isa", "mmx"], "mmx"),
        (["lstm-16", "--nam-core", "/no/where"], "expected the path of a program or library"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_the_whole_benchmark_in_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import readme, run

    monkeypatch.setattr(run, "audio_of", suite.audio_of)
    out = tmp_path / "found.json"
    assert run.main(["--rounds", "1", "--only", "dense-64", "--out", str(out)]) == 0
    assert "dense-64" in capsys.readouterr().out
    table = readme.all_models(json.loads(out.read_text()))
    assert "| dense-64 |" in table


# --- tables -------------------------------------------------------------------------


def row(name: str, engine: str, realtime: float, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "engine": engine,
        "isa": None,
        "mode": "offline",
        "block": None,
        "streams": 1,
        "timing": {"median": 1.0, "p10": 0.9, "p90": 1.1, "runs": 5},
        "realtime": realtime,
        "share_of_peak": 0.5,
        "share_of_floor": 0.75,
        "error_db": -120.0,
        "approximate": False,
        "memory": {},
        **values,
    }


def ours(isa: str, realtime: float, **values: Any) -> dict[str, Any]:
    return row(f"engine {isa}", "fxfast", realtime, isa=isa, **values)


MODELS = {
    "net": {
        "kind": "recurrent",
        "peak_flops": {"wide": 2e9, "narrow": 1e9},
        "rows": [
            ours("wide", 110.0, memory={"state_bytes": 2048, "plan_bytes": 3 << 20}),
            ours("wide", 220.0, streams=32),
            ours("wide", 80.0, mode="stream", block=48),
            ours("narrow", 60.0),
            row("eager dense", "PyTorch eager", 11.0),
            row("eager dense, 32 streams", "PyTorch eager", 55.0, streams=32),
            row("ONNX Runtime", "ONNX Runtime", 22.0),
            row("fast", "NeuralAudio", 120.0, error_db=-40.0, approximate=True),
            row("fast, blocks of 48", "NeuralAudio", 90.0, mode="stream", block=48),
            row("exact", "NeuralAudio", 40.0),
        ],
    }
}


def test_the_table_is_a_line_for_each_number_of_streams() -> None:
    header, _, one, many = models_table(MODELS).splitlines()
    assert header == (
        "| model | wide | narrow | of the peak | of the floor | in blocks of 48 | eager | "
        "`torch.compile` | ONNX Runtime | best other engine | times the best peer | error |"
    )
    assert one == (
        "| net | 110x | 60.0x | 50% | 75% | 80.0x | 11.0x | - | 22.0x | "
        "120x fast (approximate, -40 dB) | 0.9 | -120 dB |"
    )
    assert many == (
        "| net, 32 streams | 220x | - | 50% | 75% | - | 55.0x | - | - | "
        "120x fast (approximate, -40 dB) | 1.8 | -120 dB |"
    )


def test_it_says_where_a_peer_is_faster() -> None:
    assert peers_that_win(MODELS) == [
        "net: fast, 1.09 times as fast (approximate, -40 dB)",
        "net in blocks of 48: fast, blocks of 48, 1.12 times as fast",
    ]


def test_a_row_shows_spread_and_memory() -> None:
    assert comparison_rows(MODELS["net"])[0] == (
        *("engine wide", "110x", "10.0%", "50%", "75%", "-120 dB"),
        "2 KiB state, 3.0 MiB plan",
    )
