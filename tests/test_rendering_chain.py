"""Chains with impulse responses, and knobs that stand or turn while files are rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_player import one_layer_graph
from families import dense, recurrent
from tolerances import TOLERANCES
from wavenets import random_stack

from fxfast import Player
from fxfast.audio.files import read_audio
from fxfast.audio.resample import resample
from fxfast.cli import main
from fxfast.errors import AudioFileError, InputError, ModelError
from fxfast.exchange import load, save
from fxfast.graph import Knob, Linear, ModelGraph, Sequential
from fxfast.rendering import Processing, render_file, render_library
from fxfast.rendering.chain import load_chain
from fxfast.rendering.knobs import KnobCurve, read_curve

RATE = 48_000
KNOBS = (Knob("gain", 0.0, 10.0, 5.0), Knob("tone", -1.0, 1.0, 0.0))


def noise(*shape: int, seed: int = 1, peak: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, shape).astype(np.float32)


def response(frames: int = 700) -> np.ndarray:
    decay = np.exp(-np.arange(frames) / 100).astype(np.float32)
    return noise(frames, seed=3) * decay


def write(path: Path, x_ct: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, np.atleast_2d(x_ct).T, rate, "FLOAT")
    return path


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for seed, path in enumerate(paths):
        save(ModelGraph(random_stack(seed, (1, 4, 1)), RATE), path)
    return paths


def conditioned(kind: str) -> ModelGraph:
    if kind == "stack":
        return ModelGraph(random_stack(1, (3, 8, 1)), RATE, knobs=KNOBS)
    root = Sequential((recurrent("lstm", 8, 1, channels=3), dense(8, 1)))
    return ModelGraph(root, RATE, knobs=KNOBS)


# --- chains -----------------------------------------------------------------------


def test_a_chain_is_its_parts_one_after_the_other(tmp_path: Path, models: list[Path]) -> None:
    taps = response()
    cab = write(tmp_path / "cab.wav", taps)
    chain = load_chain([*models, cab], load)
    x = noise(4000)
    played = Player(chain, mode="stream").render(x)
    # What each heard before the file is the answer to silence of the one before.
    silence = 2 * taps.size
    y = np.concatenate([np.zeros(silence, np.float32), x])
    for path in models:
        y = Player(load(path), mode="stream").render(y)
    expected = np.convolve(y.astype(np.float64), taps.astype(np.float64))[silence : y.size]
    assert np.abs(played - expected).max() <= TOLERANCES["chain"].value


def test_a_response_of_another_rate_keeps_its_frequencies(tmp_path: Path) -> None:
    taps = response(2000)
    cab = write(tmp_path / "cab.wav", taps, 96_000)
    model = tmp_path / "a.safetensors"
    save(one_layer_graph(1.0), model)
    with pytest.raises(ModelError, match="expected an impulse response of 48000 Hz, got 96000 Hz"):
        load_chain([model, cab], load)
    chain = load_chain([model, cab], load, resample_responses=True)
    (_, node) = chain.root.children
    assert isinstance(node, Linear)
    wanted = resample(taps, 96_000, RATE) * 2
    assert np.array_equal(node.taps, wanted[: node.taps.size])
    assert not wanted[node.taps.size :].any()


def test_a_response_alone_is_a_chain_at_its_own_rate(tmp_path: Path) -> None:
    cab = write(tmp_path / "cab.wav", response(), 44_100)
    chain = load_chain([cab], load)
    assert chain.sample_rate == 44_100
    assert chain.receptive_field == 700


def test_wrong_chains_are_refused_by_name(tmp_path: Path, models: list[Path]) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(100, np.float32))
    stereo = write(tmp_path / "stereo.wav", noise(2, 100))
    other = tmp_path / "other.safetensors"
    save(one_layer_graph(1.0, sample_rate=44_100), other)
    knobs = tmp_path / "knobs.safetensors"
    save(conditioned("stack"), knobs)
    (tmp_path / "text.wav").write_text("no audio")
    cases: list[tuple[list[Path], str]] = [
        ([], "chain: expected at least one model"),
        ([models[0], silent], "silent.wav: expected an impulse response, got silence"),
        ([models[0], stereo], "stereo.wav: expected an impulse response of 1 channel, got 2"),
        ([models[0], other], "other.safetensors: expected a model of 48000 Hz, .* got 44100 Hz"),
        ([models[0], knobs], "knobs.safetensors: expected a model without knobs after the first"),
    ]
    for paths, message in cases:
        with pytest.raises(ModelError, match=message):
            load_chain(paths, load)
    with pytest.raises(AudioFileError, match=r"impulse response .*text\.wav"):
        load_chain([models[0], tmp_path / "text.wav"], load)


def test_the_command_renders_chains_and_models_side_by_side(
    tmp_path: Path, models: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cab = write(tmp_path / "cab.wav", response())
    source = tmp_path / "in"
    source.mkdir()
    x_ct = noise(2, 3000)
    write(source / "x.wav", x_ct)
    out = tmp_path / "out"
    command = ["render", str(source), "--out", str(out), "--name", "{path}-{model}"]
    command += ["--chain", *map(str, [*models, cab]), "--chain", str(models[1])]
    assert main(command) == 0
    capsys.readouterr()
    names = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    assert names == ["x-a+b+cab.wav", "x-b.wav"]
    y_ct, _ = read_audio(out / "x-a+b+cab.wav")
    expected = Player(load_chain([*models, cab], load)).render(x_ct)
    assert np.array_equal(y_ct, expected)


# --- knobs ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stack", "lstm"])
@pytest.mark.parametrize("block_frames", [64, 1000, 1 << 14])
def test_knobs_stand_and_turn_the_same_in_every_block_size(
    tmp_path: Path, kind: str, block_frames: int
) -> None:
    graph = conditioned(kind)
    x_ct = noise(2, 6000)
    source = write(tmp_path / "in.wav", x_ct)
    curve = KnobCurve(("gain",), ((0.01, 0.0), (0.05, 10.0), (0.1, 2.0)))
    processing = Processing(knobs=(("tone", 0.5),), curve=curve)
    player = Player(graph, threads=1)
    render_file(
        player,
        source,
        tmp_path / "out.wav",
        processing=processing,
        block_frames=block_frames,
    )
    gain = np.interp(np.arange(6000) / RATE, [0.01, 0.05, 0.1], [0.0, 10.0, 2.0])
    expected = player.render(x_ct, {"tone": 0.5, "gain": gain})
    assert np.array_equal(read_audio(tmp_path / "out.wav")[0], expected)


def test_a_curve_keeps_time_in_a_file_of_another_rate(tmp_path: Path) -> None:
    graph = conditioned("stack")
    t = np.arange(44_100) / 44_100
    x = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    source = write(tmp_path / "in.wav", x, 44_100)
    curve = KnobCurve(("gain",), ((0.5, 0.0), (0.5001, 10.0)))
    settings = {"held": Processing(resample=True, knobs=(("gain", 0.0),))}
    settings["turned"] = Processing(resample=True, curve=curve)
    outputs = {}
    for name, processing in settings.items():
        out = tmp_path / f"{name}.wav"
        render_file(Player(graph), source, out, processing=processing)
        outputs[name] = read_audio(out)[0][0]
    apart = np.abs(outputs["held"] - outputs["turned"])
    turn = 22_050
    tolerance = TOLERANCES["before_a_turn"].value
    assert apart[: turn - 400].max() <= tolerance < apart[turn + 10 : turn + 200].max()


@pytest.mark.parametrize("jobs", [1, 2])
def test_files_in_groups_have_knobs_of_their_own_time(tmp_path: Path, jobs: int) -> None:
    graph = conditioned("lstm")
    source = tmp_path / "in"
    source.mkdir()
    sounds = {f"{n}.wav": noise(1, 2000 + 700 * n, seed=n) for n in range(5)}
    for name, x_ct in sounds.items():
        write(source / name, x_ct)
    curve = KnobCurve(("gain",), ((0.0, 1.0), (0.05, 9.0)))
    processing = Processing(knobs=(("tone", -1.0),), curve=curve)
    out = tmp_path / "out"
    report = render_library(
        graph, [source], out, jobs=jobs, processing=processing, block_frames=512
    )
    assert not report.failed
    player = Player(graph, threads=1)
    for name, x_ct in sounds.items():
        gain = np.interp(np.arange(x_ct.shape[1]) / RATE, [0.0, 0.05], [1.0, 9.0])
        expected = player.render(x_ct, {"tone": -1.0, "gain": gain})
        assert np.array_equal(read_audio(out / name)[0], expected)


def test_other_knobs_are_other_work(tmp_path: Path) -> None:
    curve = KnobCurve(("gain",), ((0.0, 1.0),))
    other = KnobCurve(("gain",), ((0.0, 2.0),))
    keys = [
        Processing().key(),
        Processing(knobs=(("gain", 1.0),)).key(),
        Processing(curve=curve).key(),
        Processing(curve=other).key(),
    ]
    assert all(a != b for i, a in enumerate(keys) for b in keys[:i])
    source = write(tmp_path / "a.wav", noise(1, 100))
    with pytest.raises(InputError, match="knob: expected none: the model has no knobs"):
        render_library(
            one_layer_graph(1.0),
            [source],
            tmp_path / "out",
            processing=Processing(knobs=(("gain", 1.0),)),
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a first line time_s,KNOB"),
        ("time_s\n0\n", "expected a first line time_s,KNOB"),
        ("time_s,gain\n", "expected at least one row of values, got none"),
        ("time_s,gain\n0,1\n0,2\n", "line 3: expected a time after 0 s, got 0 s"),
        ("time_s,gain\n0,1,2\n", "line 2: expected 2 columns, got 3"),
        ("time_s,gain\n0,loud\n", "line 2: expected numbers, got 'loud'"),
        ("time_s,gain\n0,nan\n", "line 2: expected numbers, got 'nan'"),
        ('time_s,gain\n0,"1\n', "expected a CSV file"),
    ],
)
def test_wrong_curves_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"curve\.csv.*{message}"):
        read_curve(path)


def test_the_command_takes_knobs_and_a_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = conditioned("stack")
    model = tmp_path / "m.safetensors"
    save(graph, model)
    x_ct = noise(1, 3000)
    source = write(tmp_path / "x.wav", x_ct)
    (tmp_path / "c.csv").write_text("time_s,gain\n0,0\n0.0625,10\n")
    command = ["render", str(model), str(source), "--out", str(tmp_path / "out")]
    assert main([*command, "--knob", "tone=0.5", "--knob-curve", str(tmp_path / "c.csv")]) == 0
    gain = np.interp(np.arange(3000) / RATE, [0.0, 0.0625], [0.0, 10.0])
    expected = Player(graph).render(x_ct, {"tone": 0.5, "gain": gain})
    assert np.array_equal(read_audio(tmp_path / "out" / "x.wav")[0], expected)
    for wrong, message in (("tone", "expected NAME=VALUE"), ("tone=2", "from -1 to 1, got 2")):
        assert main([*command, "--knob", wrong]) == 2
        assert message in capsys.readouterr().err
