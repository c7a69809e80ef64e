"""The commands render and inspect: output, exit codes, and nothing else on stdout."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_player import MODEL_RATE, FakePlayer, one_layer_graph

from fxfast import exchange
from fxfast.audio.files import probe
from fxfast.cli import inspect, library_options, main, render
from fxfast.errors import BuildError, FxfastError, InputError, ModelError
from fxfast.graph import Activation, ConvLayer, ModelGraph
from fxfast.rendering import output_format


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are played by a fake, so that these tests need no native build."""
    library = importlib.import_module("fxfast.rendering.render_library")
    monkeypatch.setattr(library, "_player_of", lambda model, isa, device: FakePlayer(0.5))


@pytest.fixture
def model(tmp_path: Path) -> str:
    exchange.save(one_layer_graph(0.0, 0.5), tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    x_t = np.random.default_rng(1).uniform(-0.4, 0.4, MODEL_RATE)
    soundfile.write(root / "a.wav", x_t, MODEL_RATE)
    soundfile.write(root / "sub" / "b.flac", x_t, MODEL_RATE)
    return root


def command(*arguments: object) -> int:
    """Parse and run as the command does; errors come out as exceptions."""
    parser = argparse.ArgumentParser(prog="fxfast")
    subparsers = parser.add_subparsers(required=True)
    render.add_parser(subparsers)
    inspect.add_parser(subparsers)
    args = parser.parse_args([str(a) for a in arguments])
    return int(args.run(args))


# --- render ------------------------------------------------------------------------


@pytest.mark.usefixtures("fake_engine")
def test_render_a_folder(
    model: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command("render", model, folder, "--out", out, "--jobs", 2) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert printed.out.startswith("rendered 2 of 2 files: 2.0 s of audio in ")
    assert printed.out.endswith("x real time\n")
    assert probe(out / "a.wav").subtype == "PCM_16"
    assert probe(out / "sub" / "b.flac").frames == MODEL_RATE


@pytest.mark.usefixtures("fake_engine")
def test_a_terminal_gets_a_bar_on_standard_error(
    model: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    (folder / "bad.wav").write_text("no sound")
    assert command("render", model, folder, "--out", tmp_path / "out", "--json") == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["rendered"] == 2
    assert "rendering, 1 failed" in printed.err
    assert "2/2" in printed.err  # the bad one failed before the first render


@pytest.mark.usefixtures("fake_engine")
def test_render_with_choices(model: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_directory = Path(model).parent
    settings = ["--format", "wav", "--subtype", "float", "--overwrite", "--resample"]
    soundfile.write(folder / "c.wav", np.zeros(100), 44_100)
    for _ in range(2):
        assert command("render", run_directory, f"{folder}/**", "--out", out, *settings) == 0
    assert {probe(path).subtype for path in out.rglob("*.wav")} == {"FLOAT"}
    assert probe(out / "c.wav").sample_rate == 44_100


@pytest.mark.usefixtures("fake_engine")
def test_one_bad_file_gives_exit_code_1_and_its_reason(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(folder / "rate.wav", np.zeros(100), 44_100)
    assert command("render", model, folder, "--out", tmp_path / "out") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("rendered 2 of 3 files")
    assert lines[1].startswith(f"failed: E_RATE {folder / 'rate.wav'}: expected the model's")
    assert "48000 Hz, got 44100 Hz" in lines[1]
    exchange.save(one_layer_graph(0.0, 0.25), model)
    assert command("render", model, folder / "a.wav", "--out", tmp_path / "out") == 1
    assert "failed: E_EXISTS" in capsys.readouterr().out


def test_dry_run_lists_and_writes_nothing(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command("render", model, folder, "--out", out, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder / 'a.wav'} -> {out / 'a.wav'}",
        f"{folder / 'sub' / 'b.flac'} -> {out / 'sub' / 'b.flac'}",
        "dry run: 2 of 2 files can be rendered, 2.0 s of audio; nothing was written",
    ]
    assert not out.exists()


@pytest.mark.usefixtures("fake_engine")
def test_json_is_one_document(
    model: str, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.wav").write_text("no sound")
    assert command("render", model, folder, "--out", tmp_path / "out", "--json") == 1
    printed = capfd.readouterr()
    document = json.loads(printed.out)
    assert printed.err == ""
    assert list(document["models"]) == ["model"]
    assert (document["rendered"], document["failed"]) == (2, 1)
    assert [file["status"] for file in document["files"]] == ["rendered", "failed", "rendered"]
    assert document["files"][1]["code"] == "E_FORMAT"


def test_json_of_a_run_that_cannot_start(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError):
        command("render", model, tmp_path / "none", "--out", tmp_path / "out", "--json")
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "E_INPUT"
    assert "none: expected a file, a folder or a glob, found nothing" in error["message"]


def test_runs_that_cannot_start(model: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="No such file"):
        command("render", tmp_path / "none.safetensors", folder, "--out", out)
    with pytest.raises(InputError, match="jobs: expected an integer of at least 1, got 0"):
        command("render", model, folder, "--out", out, "--jobs", 0)
    with pytest.raises(InputError, match="for flac, got 'float'"):
        command("render", model, folder, "--out", out, "--format=flac", "--subtype=float")
    with pytest.raises(InputError, match="inputs: expected at least one file"):
        command("render", model, "--out", out)
    assert main(["render", model, str(folder), "--out", str(out), "--jobs=0"]) == 2
    with pytest.raises(SystemExit) as usage:
        command("render", model, folder)
    assert usage.value.code == 2
    assert not out.exists()


def test_missing_build_is_one_line(
    model: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fxfast._native", None)
    with pytest.raises(BuildError, match=r"fxfast\._native: expected the built engine") as caught:
        command("render", model, folder, "--out", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_choices_are_those_of_rendering() -> None:
    assert library_options._FORMATS == output_format.FORMATS
    assert library_options._SUBTYPES == output_format.SUBTYPES


def test_unknown_instruction_set_is_refused(model: str, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("fxfast._native", reason="the engine is not built")
    with pytest.raises(FxfastError, match="mmx"):
        command("render", model, folder, "--out", tmp_path / "out", "--isa", "mmx")


def test_the_command_renders_in_a_fresh_process_without_torch(
    model: str, folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("fxfast._native", reason="the engine is not built")
    script = (
        "import sys; from fxfast.cli import render, inspect; import argparse\n"
        "p = argparse.ArgumentParser(); s = p.add_subparsers(); render.add_parser(s)\n"
        "a = p.parse_args(sys.argv[1:]); code = a.run(a)\n"
        "assert 'torch' not in sys.modules; sys.exit(code)\n"
    )
    arguments = ["render", model, str(folder), "--out", str(tmp_path / "out"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, env=environment, check=True
    )
    assert done.stderr == b""
    assert json.loads(done.stdout)["rendered"] == 2


# --- inspect -----------------------------------------------------------------------


def preset_graph() -> ModelGraph:
    """The 64-32-1 stack over 64 samples, and one dilated layer with slopes of its own."""

    def layer(out_in_taps: tuple[int, int, int], **settings: Any) -> ConvLayer:
        bias = np.zeros(out_in_taps[0], np.float32)
        return ConvLayer(np.zeros(out_in_taps, np.float32), bias, **settings)

    slopes = Activation("prelu", np.full(32, 0.1, np.float32))
    return ModelGraph(
        (
            layer((64, 1, 33), activation=Activation("relu")),
            layer((32, 64, 17), dilation=2, activation=slopes),
            layer((1, 32, 16)),
        ),
        48_000,
        skip=True,
        metadata={"name": "test"},
    )


def test_inspect_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange.save(preset_graph(), tmp_path / "model.safetensors")
    assert command("inspect", tmp_path) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "layer kind channels taps dilation activation parameters MACs",
        "0 conv1d 1 -> 64 33 1 relu 2,176 2,112",
        "1 conv1d 64 -> 32 17 2 prelu 34,880 34,816",
        "2 conv1d 32 -> 1 16 1 none 513 512",
        "",
        "parameters 37,569",
        "multiply-adds 37,440 per sample, 1.8 G per second of audio",
        "receptive field 80 samples, 1.67 ms",
        "sample rate 48000 Hz",
        "latency 0 samples, 0.00 ms",
        "skip the input is added to the output",
    ]


def test_inspect_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exchange.save(preset_graph(), tmp_path / "m.safetensors")
    assert command("inspect", tmp_path / "m.safetensors", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["parameters"] == 37_569
    assert document["macs_per_sample"] == 37_440
    assert document["receptive_field_samples"] == 80
    assert document["receptive_field_ms"] == pytest.approx(80 / 48)
    assert (document["sample_rate_hz"], document["latency_samples"]) == (48_000, 0)
    assert document["layers"][1] == {
        "kind": "conv1d",
        "in_channels": 64,
        "out_channels": 32,
        "taps": 17,
        "dilation": 2,
        "activation": "prelu",
        "bias": True,
        "parameters": 34_880,
        "macs_per_sample": 34_816,
    }
    assert (document["skip"], document["metadata"]) == (True, {"name": "test"})


def test_inspect_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match=r"m\.safetensors: header length: expected"):
        command("inspect", tmp_path / "m.safetensors")


@pytest.mark.usefixtures("fake_engine")
def test_a_run_that_cannot_start_exits_with_2(
    model: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong, and with one line; 1 is for files that failed."""
    out, file = tmp_path / "out", tmp_path / "a file"
    file.write_text("no model")
    ready = ["--out", str(out)]
    for arguments, expected in (
        ([str(tmp_path / "none.nam"), str(folder), *ready], "none.nam"),
        ([str(file), str(folder), *ready], "a file"),
        ([str(folder), *ready, "--chain", str(file) + ".wav"], "impulse response"),
        ([model, str(folder), "--out", str(file)], "expected a folder for the output"),
        ([model, str(folder / "none"), *ready], "expected a file, a folder or a glob"),
        ([model, str(folder), *ready, "--report", str(tmp_path)], "--report: expected a file"),
        ([model, str(folder), *ready, "--report", str(out / "r" / "x")], "--report: expected"),
        ([model, str(folder), *ready, "--jobs", "0"], "jobs: expected an integer"),
    ):
        assert main(["render", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("fxfast: error: ")
        assert error.count("\n") == 1
        assert expected in error
        assert not out.exists()


@pytest.mark.usefixtures("fake_engine")
def test_a_report_that_cannot_be_written_is_an_error_in_a_line(
    model: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from fxfast.rendering.outcomes import Outcomes

    def full(outcomes: Outcomes, path: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Outcomes, "write_lines", full)
    report = str(tmp_path / "report.jsonl")
    ready = ["--out", str(tmp_path / "out"), "--report", report]
    assert main(["render", model, str(folder), *ready]) == 1
    assert f"{report}: cannot be written: No space left on device" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.wav").exists()
