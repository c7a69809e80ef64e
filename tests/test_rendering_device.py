"""Rendering on a GPU: the kernels are a stand-in on the CPU, everything else is real."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cuda_stand_in import built_stand_in, set_memory
from families import dense, family, recurrent
from test_cuda import gpu_library
from test_families import noise

from fxfast import cuda_packed, exchange
from fxfast.audio.files import read_audio
from fxfast.cli import main
from fxfast.cuda_engine import CudaEngine
from fxfast.cuda_library import LIBRARY_VARIABLE, CudaMemoryError
from fxfast.cuda_packed import Packed
from fxfast.errors import BuildError, InputError, ModelError
from fxfast.graph import Linear, ModelGraph, Sequential
from fxfast.lowering import lower_for_device
from fxfast.player import Player
from fxfast.rendering import Processing, RunOptions, render_library
from fxfast.rendering.device import DeskPlayer, DevicePlayer, place
from fxfast.rendering.journal import JOURNAL_NAME
from fxfast.rendering.split import Cores

KINDS = ("wavenet", "conv and lstm", "net into echo", "compressor of power into a net")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    library = built_stand_in()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    before = set_memory(library, 1 << 40)
    yield library
    set_memory(library, before)


@pytest.fixture(params=["stand-in", "gpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    library = built_stand_in() if request.param == "stand-in" else gpu_library()
    monkeypatch.setenv(LIBRARY_VARIABLE, str(library))
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of several lengths and channel counts, one of another rate, one that is no audio."""
    (tmp_path / "in").mkdir()
    for n, (frames, channels, rate) in enumerate(
        [(3000, 1, 48_000), (2999, 2, 48_000), (1, 1, 48_000), (0, 1, 48_000), (2000, 1, 44_100)]
    ):
        x_tc = 0.3 * noise(max(1, channels), max(1, frames))[:, :frames].T
        soundfile.write(tmp_path / "in" / f"{n}.wav", x_tc, rate, subtype="FLOAT")
    (tmp_path / "in" / "bad.wav").write_bytes(b"RIFF and nothing else")
    return tmp_path


@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_a_library_has_the_bits_of_the_device_alone(
    name: str, isolate: bool, folder: Path, device: str
) -> None:
    if isolate and device == "gpu":
        pytest.skip("this process has used the GPU and cannot be forked")
    graph = family(name)
    report = render_library(
        graph,
        [folder / "in"],
        folder / "out",
        options=RunOptions(jobs=2, isolate=isolate),
        processing=Processing(resample=True),
        device="cuda",
    )
    assert [report.count(s) for s in ("rendered", "failed")] == [5, 1]
    assert report.notes == ()
    player = Player(graph, device="cuda")
    for n in range(3):
        x_ct, _ = read_audio(folder / "in" / f"{n}.wav")
        y_ct, _ = read_audio(folder / "out" / f"{n}.wav")
        np.testing.assert_array_equal(y_ct, player.render(x_ct))
    assert soundfile.info(folder / "out" / "3.wav").frames == 0
    assert soundfile.info(folder / "out" / "4.wav").frames == 2000


@pytest.mark.parametrize("name", KINDS)
def test_any_packing_gives_the_same_bits(name: str, device: str) -> None:
    graph = family(name)
    x_ct = noise(5, 1300)
    whole = Player(graph, device="cuda").render(x_ct)
    packed = Packed(CudaEngine(lower_for_device(graph), "cuda"))
    streams = [packed.stream(2), packed.stream(1), packed.stream(2)]
    rows = [slice(0, 2), slice(2, 3), slice(3, 5)]
    got: list[list[np.ndarray]] = [[], [], []]
    at = [0, 0, 0]
    for lengths in ((1, 500, 77), (700, 0, 3), (0, 800, 600), (599, 0, 620)):
        pieces = []
        for k, n in enumerate(lengths):
            pieces.append((streams[k], x_ct[rows[k], at[k] : at[k] + n]))
            at[k] += n
        for parts, y in zip(got, packed.play(pieces), strict=True):
            parts.append(y)
    for k, parts in enumerate(got):
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole[rows[k]])
    # States of streams that ended are used again, settled.
    del streams
    again = packed.stream(2)
    np.testing.assert_array_equal(packed.play([(again, x_ct[:2])])[0], whole[:2])


@pytest.mark.parametrize("name", KINDS)
def test_out_of_memory_splits_a_launch(name: str, stand_in: Path) -> None:
    graph = family(name)
    x_ct = noise(3, 30_000)
    whole = Player(graph, device="cuda").render(x_ct)
    packed = Packed(CudaEngine(lower_for_device(graph), "cuda"))
    streams = [packed.stream(2), packed.stream(1)]
    set_memory(stand_in, 300_000)
    played = packed.play([(streams[0], x_ct[:2]), (streams[1], x_ct[2:])])
    np.testing.assert_array_equal(np.concatenate(played), whole)
    assert packed.most_samples < cuda_packed.MOST_SAMPLES


@pytest.mark.parametrize("name", KINDS)
def test_no_memory_at_all_is_an_error(name: str, stand_in: Path) -> None:
    packed = Packed(CudaEngine(lower_for_device(family(name)), "cuda"))
    stream = packed.stream()
    set_memory(stand_in, 1)
    with pytest.raises(CudaMemoryError, match="out of memory"):
        packed.play([(stream, noise(1, 5000))])


def test_threads_share_a_desk_and_errors_stay_with_their_file(device: str) -> None:
    graph = family("wavenet")
    x_ct = noise(8, 2000)
    whole = Player(graph, device="cuda").render(x_ct)
    player = DeskPlayer(DevicePlayer(graph, "cuda:0"), Cores(2), 8)
    got: dict[int, np.ndarray] = {}
    errors: list[str] = []

    def file(k: int) -> None:
        player._cores._free.acquire()
        stream = player.stream()
        try:
            blocks = [stream.process(x_ct[k, t : t + 500]) for t in range(0, 2000, 500)]
            if k == 3:
                stream.process(np.array([np.nan], np.float32))
        except InputError as error:
            errors.append(str(error))
        finally:
            player._cores._free.release()
        got[k] = np.concatenate(blocks)

    threads = [threading.Thread(target=file, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        np.testing.assert_array_equal(got[k], whole[k])
    assert len(errors) == 1
    assert "finite" in errors[0]


def test_an_error_of_a_launch_reaches_all_who_wait(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    player = DevicePlayer(family("wavenet"), "cuda:0")
    stream = player.stream()

    def fails(pieces: object) -> list[np.ndarray]:
        raise BuildError("CUDA: play failed: an illegal memory access was encountered")

    monkeypatch.setattr(player.desk().packed, "play", fails)
    for _ in range(4):  # more than there are launches
        with pytest.raises(BuildError, match="illegal memory access"):
            stream.process(np.zeros(10, np.float32))


def test_where_a_run_plays(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plays, does_not = family("wavenet"), unplayable()
    for isolate in (False, True):
        assert place("cpu", [plays], isolate, 100, 2) == ("cpu", None, None)
        assert place("auto", [plays], isolate, 100, 2) == ("cuda:0", "cuda 0.0", None)
        assert place("cuda:0", [plays], isolate, 100, 2).device == "cuda:0"
        with pytest.raises(InputError, match="expected one of 1 CUDA devices, got cuda:7"):
            place("cuda:7", [plays], isolate, 100, 2)
    with pytest.raises(InputError, match="device: expected cpu, auto, cuda or cuda:0"):
        place("gpu", [plays], False, 100, 2)
    with pytest.raises(ModelError, match="on CUDA"):
        place("cuda", [plays, does_not], False, 100, 2)
    placed = place("auto", [plays, does_not], False, 100, 2)
    assert placed.device == "cpu"
    assert "rendered on the CPU" in (placed.note or "")
    monkeypatch.setenv(LIBRARY_VARIABLE, str(stand_in.with_name("absent.so")))
    for device in ("auto", "cuda"):
        placed = place(device, [plays], True, 100, 2)
        assert placed.device == "cpu"
        assert (placed.note or "").startswith(f"device {device}: rendered on the CPU: CUDA kernels")
    with pytest.raises(InputError, match="found none"):
        place("cuda:0", [plays], True, 100, 2)


def test_few_files_of_a_recurrent_model_play_on_the_cpu(stand_in: Path) -> None:
    net, cells, echo = (family(n) for n in ("wavenet", "conv and lstm", "net into echo"))
    for files, cores, device in (
        (2, 1, "cpu"),
        (3, 1, "cuda:0"),
        (47, 16, "cpu"),
        (48, 16, "cuda:0"),
    ):
        long = ModelGraph(Linear(np.ones(9000, np.float32)), 48_000)  # kept as a state there
        for graphs in ([cells], [net, cells], [echo], [long]):
            placed = place("auto", graphs, False, files, cores)
            assert placed.device == device
            assert (placed.note is None) == (device != "cpu")
        assert place("auto", [net], False, files, cores).device == "cuda:0"
        assert place("cuda", [cells], False, files, cores).device == "cuda:0"
    note = place("auto", [cells], False, 4, 2).note or ""
    assert note.endswith("a model that plays stream by stream gains from 6 files on 2 cores, got 4")


def test_a_library_of_few_files_says_why_auto_is_the_cpu(folder: Path, stand_in: Path) -> None:
    options = RunOptions(jobs=3)
    (folder / "in" / "bad.wav").unlink()
    for name, where in (("conv and lstm", "cpu"), ("wavenet", "cuda:0")):
        report = render_library(
            family(name),
            [folder / "in"],
            folder / name,
            options=options,
            processing=Processing(resample=True),
            device="auto",
        )
        assert report.count("rendered") == 5
        assert bool(report.notes) == (where == "cpu")


def unplayable() -> ModelGraph:
    nodes = (recurrent("lstm", 300, 1), dense(300, 1), family("echo").root)
    return ModelGraph(Sequential(nodes), 48_000)


def test_the_command_renders_on_a_gpu_in_its_child_process(folder: Path) -> None:
    gpu_library()
    (folder / "in" / "bad.wav").unlink()
    exchange.save(family("wavenet"), folder / "model.safetensors")
    command = [
        sys.executable,
        "-c",
        "import sys; from fxfast.cli import main; sys.exit(main())",
        "render",
        "model.safetensors",
        "in",
        "--json",
    ]
    command += ["--out", "out", "--resample", "--device", "cuda:0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rendered"], report["notes"]) == (5, [])


def test_the_command_and_its_journal(
    folder: Path,
    stand_in: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "in" / "bad.wav").unlink()
    exchange.save(family("wavenet"), folder / "model.safetensors")
    command = ["render", str(folder / "model.safetensors"), str(folder / "in"), "--resample"]
    command += ["--out", str(folder / "out"), "--overwrite", "--json"]
    assert main([*command, "--device", "cuda"]) == 0
    assert json.loads(capsys.readouterr().out)["rendered"] == 5
    again = [word for word in command if word != "--overwrite"]
    assert main([*again, "--device", "auto"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 5
    # The samples of the CPU are others: what the GPU made is not taken for them.
    main([*again, "--device", "cpu"])
    report = json.loads(capsys.readouterr().out)
    assert report["done"] == 0
    lines = (folder / "out" / JOURNAL_NAME).read_text()
    assert "cuda 0.0" in lines
    monkeypatch.setenv(LIBRARY_VARIABLE, str(stand_in.with_name("absent.so")))
    assert main([*command, "--device", "cuda"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rendered"] == 5
    assert "rendered on the CPU" in report["notes"][0]
    assert main([*command, "--device", "cuda:0"]) == 2
