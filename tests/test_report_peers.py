"""Other engines: programs that obey the contract and such that do not, libraries, ONNX Runtime."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import random_graph

from fxfast.audio.files import write_audio
from fxfast.errors import InputError
from fxfast.graph import Linear, ModelGraph
from fxfast.report.compare import Comparison, Options, compare
from fxfast.report.programs import NAM_CORE, NEURALAUDIO, Program, programs_of

# Half of the input: what a Linear model of one tap is.
COPY = 'cp "$2" "$3"'
HALF = ModelGraph(Linear(np.array([0.5], np.float32)), 48_000)
SAME = ModelGraph(Linear(np.array([1.0], np.float32)), 48_000)
LIBRARY = r"""
#include <cstddef>
#include <cstdio>
struct Model { void* model; };
extern "C" {
void* CreateLoader() { return new Model(); }
void DeleteLoader(void* l) { delete static_cast<Model*>(l); }
void SetDefaultMaxAudioBufferSize(void*, int) {}
void* CreateModelFromFile(void*, const wchar_t* path) {
  std::printf("a library that talks\n");
  return new Model{path[0] == L'/' && LOADS ? static_cast<void*>(new Model()) : nullptr};
}
bool IsStatic(void*) { return true; }
void Process(void*, float* in, float* out, size_t n) {
  if (CRASHES && n) __builtin_trap();
  for (size_t i = 0; i < n; ++i) out[i] = 0.5f * in[i];
}
}
"""


def script(path: Path, body: str) -> str:
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def beside(graph: ModelGraph, *programs: Program, peers: tuple[str, ...] = ()) -> Comparison:
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    options = Options(
        ("portable",), rounds=1, target_seconds=0.002, blocks=(), peers=peers, programs=programs
    )
    return compare(graph, audio, options)


def reason_of(comparison: Comparison) -> str:
    ((_, reason),) = comparison.skipped
    return reason


def test_a_program_that_renders(tmp_path: Path) -> None:
    program = Program.of(
        NAM_CORE, "mine=" + script(tmp_path / "render", 'test -f "$1" && cp "$2" "$3"')
    )
    comparison = beside(SAME, program)
    row = comparison.row("mine")
    assert row.engine == NAM_CORE
    assert row.error_db == -300
    assert row.realtime > 0
    assert comparison.skipped == ()


def test_an_approximate_program_is_marked(tmp_path: Path) -> None:
    program = Program.of(NAM_CORE, script(tmp_path / "render", 'cp "$2" "$3"'))
    row = beside(HALF, program).row("NeuralAmpModelerCore render")
    assert row.error_db == pytest.approx(0, abs=0.1)  # as loud as the signal
    assert row.is_approximate


def test_programs_that_fail(tmp_path: Path) -> None:
    fails = Program.of(
        NAM_CORE, script(tmp_path / "a", "echo loading; echo no such model >&2; exit 3")
    )
    assert reason_of(beside(SAME, fails)) == "exit code 3: no such model"
    silent = Program.of(NAM_CORE, script(tmp_path / "b", "exit 0"))
    assert "its output cannot be read" in reason_of(beside(SAME, silent))
    write_audio(tmp_path / "short.wav", np.zeros(10, np.float32), 48_000, "FLOAT")
    short = Program.of(NAM_CORE, script(tmp_path / "c", f'cp "{tmp_path}/short.wav" "$3"'))
    assert reason_of(beside(SAME, short)) == (
        "expected 24000 samples of one channel, got shape (1, 10)"
    )
    (tmp_path / "d").write_text("not a program")
    assert "does not start" in reason_of(beside(SAME, Program.of(NAM_CORE, str(tmp_path / "d"))))


def test_a_program_that_fails_later_is_left_out(tmp_path: Path) -> None:
    count = f"{tmp_path}/count"
    body = f"echo x >> {count}; test $(wc -l < {count}) -lt 6 || exit 1; "
    comparison = beside(SAME, Program.of(NAM_CORE, script(tmp_path / "render", body + COPY)))
    assert reason_of(comparison) == "exit code 1: nothing printed"
    assert [row.name for row in comparison.rows] == ["engine portable"]


def test_programs_that_time_themselves(tmp_path: Path) -> None:
    core = Program.of(NAM_CORE, script(tmp_path / "benchmodel", "echo 20ms; echo 20.5ms"))
    text = "echo 'Internal: 0.5 (10.9xRT)'; echo 'NAM Core: 9 (1xRT)'"
    audio = Program.of(NEURALAUDIO, script(tmp_path / "ModelTest", text))
    mute = Program.of(NAM_CORE, "mute=" + script(tmp_path / "benchmute", "echo nothing"))
    comparison = beside(SAME, core, audio, mute)
    assert comparison.row("NeuralAmpModelerCore benchmodel").realtime == pytest.approx(2 / 0.0205)
    row = comparison.row("NeuralAudio ModelTest")
    assert row.realtime == pytest.approx(4096 * 64 / 48_000 / 0.5)
    assert row.error_db is None
    assert "silence" in row.note
    assert reason_of(comparison) == "it printed no time"


def test_a_model_that_no_nam_can_hold(tmp_path: Path) -> None:
    graph = random_graph([(2, 3, 1, "relu"), (1, 4, 1, "none")])
    program = Program.of(NAM_CORE, script(tmp_path / "render", 'cp "$2" "$3"'))
    reason = reason_of(beside(graph, program))
    assert reason.startswith("no .nam of this model: ")
    assert "/" not in reason


def test_programs_are_checked_at_the_door(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NeuralAudio: expected the path .* got '/no/where'"):
        programs_of([], ["label=/no/where"])
    path = script(tmp_path / "render", "")
    assert [program.label for program in programs_of([f"one={path}", path], [])] == [
        *("one", "NeuralAmpModelerCore render")
    ]


def library(tmp_path: Path, loads: int = 1, crashes: int = 0) -> Program:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ for a library")
    source, target = tmp_path / "library.cpp", tmp_path / "libhalf.so"
    source.write_text(LIBRARY)
    defines = [f"-DLOADS={loads}", f"-DCRASHES={crashes}"]
    command = [compiler, "-shared", "-fPIC", *defines, str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return Program.of(NEURALAUDIO, str(target))


def test_a_library_plays_in_its_own_process(tmp_path: Path) -> None:
    comparison = beside(HALF, library(tmp_path))
    whole = comparison.row("NeuralAudio half")
    assert whole.error_db == -300
    assert whole.mode == "offline"
    assert whole.memory["process_bytes"] > 1 << 20
    blocks = comparison.row("NeuralAudio half, blocks of 48")
    assert (blocks.mode, blocks.block, blocks.error_db) == ("stream", 48, -300)


def test_a_library_that_fails(tmp_path: Path) -> None:
    assert reason_of(beside(HALF, library(tmp_path, loads=0))) == "it does not load the model"
    assert "ended with exit code -" in reason_of(beside(HALF, library(tmp_path, crashes=1)))
    (tmp_path / "text.so").write_text("no library")
    reason = reason_of(beside(HALF, Program.of(NEURALAUDIO, str(tmp_path / "text.so"))))
    assert "text.so" in reason


def test_onnx_runtime_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    graph = random_graph([(2, 3, 1, "relu"), (1, 4, 1, "none")])
    comparison = beside(graph, peers=("onnx",))
    assert comparison.skipped == (
        ("ONNX Runtime", "onnx is not installed (pip install onnxruntime onnx)"),
    )


@pytest.mark.parametrize("name", ["conv", "lstm-16"])
def test_onnx_runtime_renders_the_same(name: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from fxfast.report.suite import graph_of

    graph = (
        random_graph([(2, 3, 1, "relu"), (1, 4, 1, "none")]) if name == "conv" else graph_of(name)
    )
    row = beside(graph, peers=("onnx",)).row("ONNX Runtime")
    assert row.error_db is not None
    assert row.error_db < -110


def test_torch_compile_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no compiler\nand much more")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    graph = random_graph([(2, 3, 1, "relu"), (1, 4, 1, "none")])
    assert reason_of(beside(graph, peers=("compile",))) == "RuntimeError: no compiler"


def test_torch_compile_leaves_recurrent_layers_alone() -> None:
    from fxfast.report.suite import graph_of

    reason = reason_of(beside(graph_of("lstm-16"), peers=("compile",)))
    assert reason == "it leaves recurrent layers to eager PyTorch"


@pytest.mark.slow
def test_torch_compile_renders_the_same() -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    graph = random_graph([(2, 3, 1, "relu"), (1, 4, 1, "none")])
    comparison = beside(graph, peers=("compile",))
    if comparison.skipped:
        pytest.skip(f"torch.compile does not work here: {comparison.skipped[0][1]}")
    row = comparison.row("torch.compile")
    assert row.error_db is not None
    assert row.error_db < -110
