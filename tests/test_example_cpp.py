"""The C++ example is built against libtorch and streams a WAV as the player does."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from nets import random_graph

from fxfast import native
from fxfast.exchange.torchscript import export_torchscript
from fxfast.player import Player

SOURCE = Path(__file__).resolve().parent.parent / "examples/stream_wav.cpp"
TORCH = Path(torch.__file__).parent
GRAPH = random_graph([(9, 5, 3, "tanh"), (1, 8, 1, "none")], sample_rate=48_000)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    if not (TORCH / "include/torch/script.h").is_file():
        pytest.skip("this torch came without the headers of libtorch")
    program = tmp_path_factory.mktemp("example") / "stream_wav"
    command = [
        *(compiler, "-O1", "-std=c++20", str(SOURCE), "-o", str(program)),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        *(f"-I{TORCH / 'include'}", f"-I{TORCH / 'include/torch/csrc/api/include'}"),
        *(f"-L{TORCH / 'lib'}", f"-Wl,--no-as-needed,-rpath,{TORCH / 'lib'}"),
        *("-ltorch", "-ltorch_cpu", "-lc10", "-ldl"),
    ]
    subprocess.run(command, check=True, timeout=300)
    return program


def stream(program: Path, folder: Path, *block: str) -> subprocess.CompletedProcess[str]:
    files = (native.torch_library(), folder / "model.ts", folder / "in.wav", folder / "out.wav")
    command = [str(program), *map(str, files), *block]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("subtype", "block"), [("FLOAT", "64"), ("PCM_16", "7")])
def test_it_streams_a_wav(program: Path, tmp_path: Path, subtype: str, block: str) -> None:
    export_torchscript(GRAPH, tmp_path / "model.ts")
    audio = 0.3 * np.random.default_rng(0).standard_normal((5000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", audio.clip(-1, 1), 48_000, subtype=subtype)
    result = stream(program, tmp_path, block)
    assert result.returncode == 0, result.stderr
    x, _ = soundfile.read(tmp_path / "in.wav", dtype="float32", always_2d=True)
    y, rate = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    assert rate == 48_000
    assert np.array_equal(
        y.T, Player(GRAPH, threads=1, mode="stream").render(np.ascontiguousarray(x.T))
    )


def test_it_refuses_another_rate(program: Path, tmp_path: Path) -> None:
    export_torchscript(GRAPH, tmp_path / "model.ts")
    soundfile.write(tmp_path / "in.wav", np.zeros(100, np.float32), 44_100, subtype="FLOAT")
    result = stream(program, tmp_path)
    assert result.returncode == 1
    assert "another rate" in result.stderr
    assert not (tmp_path / "out.wav").exists()
