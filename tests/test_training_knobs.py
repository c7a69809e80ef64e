"""Conditioned models: knobs of the pairs as inputs, through training, files and rendering."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from test_training_run import RATE, SMALL, make_pair, one_thread, small_model
from tolerances import TOLERANCES

from fxfast import exchange, models
from fxfast.cli import main
from fxfast.cli.identify import identify_pairs
from fxfast.data import from_pairs, pack
from fxfast.errors import InputError, ModelError, PairError
from fxfast.graph import Knob
from fxfast.models.inputs import with_knobs
from fxfast.models.wavenet import WaveNetModel
from fxfast.models.wavenet_config import ActivationConfig, WaveNetConfig, plain_array
from fxfast.pairs.manifest import PairRecord, file_sha256, write_manifest
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import evaluate_model, train

__all__ = ["one_thread"]
KNOBS = (Knob("drive", 0.0, 10.0, 5.0), Knob("tone", -1.0, 1.0, 0.0))


def turned(drive: float, tone: float = 0.0, samples: int = 6000) -> Pair:
    """The drive is a gain before a tanh."""
    dry = make_pair(samples, seed=int(drive)).dry
    wet = 0.4 * np.tanh((2 + 4 * drive) * dry)
    knobs = {"drive": drive, "tone": tone, "fixed": 3.0}
    return Pair(f"{drive:g}", dry, wet.astype(np.float32), RATE, knobs)


def small_wavenet(knobs: tuple[Knob, ...] = KNOBS, seed: int = 0) -> WaveNetModel:
    torch.manual_seed(seed)
    tanh = ActivationConfig("tanh")
    arrays = (
        plain_array(6, [3, 3], [1, 2], tanh, head_channels=4, head_bias=False),
        plain_array(4, [3], [4], tanh),
    )
    return WaveNetModel(WaveNetConfig(arrays, head_scale=0.1, knobs=knobs))


def test_the_engine_plays_a_conditioned_model_as_the_module_does() -> None:
    model = small_wavenet()
    model.calibrate(0.03, 0.3)
    x = 0.1 * torch.randn(1, 1, 500, generator=torch.Generator().manual_seed(1))
    for drive, tone in ((0.0, -1.0), (5.0, 0.0), (10.0, 0.5)):
        scaled = torch.tensor([[drive / 10, (tone + 1) / 2]])
        with torch.no_grad():
            inputs = with_knobs(x, scaled)
            expected = model(inputs)[0, 0].numpy()
            plain = model.as_torch()(inputs)[0, 0].numpy()
        for mode in ("stream", "offline"):
            player = Player(model.to_graph(RATE), mode=mode)
            got = player.render(x[0, 0].numpy(), {"drive": drive, "tone": tone})
            got = got[model.receptive_field - 1 :]
            tolerance = TOLERANCES["windows_and_engine"].value
            assert np.abs(got - expected).max() <= tolerance
            assert np.abs(plain - expected).max() <= tolerance
    again = models.from_graph(model.to_graph(RATE))
    assert again.knobs == KNOBS
    assert again.to_graph(RATE).root.parameters == model.to_graph(RATE).root.parameters
    described = json.loads(json.dumps(models.describe(model)))
    assert models.from_description(described).knobs == KNOBS
    with pytest.raises(InputError, match=r"x: expected shape \(B, 3, T\)"):
        model(x)


def test_knobs_of_pairs_become_those_of_the_data() -> None:
    data = from_pairs([turned(2, -1), turned(10, 3), turned(4, 1)])
    assert data.knob_names == ("drive", "tone")  # the third is never turned
    assert data.controls == (Knob("drive", 2, 10, 4), Knob("tone", -1, 3, 1))
    assert np.allclose(data.knobs, [[0, 0], [1, 1], [0.25, 0.5]])
    assert [dict(piece.knobs) for piece in data.pieces()] == [
        {"drive": 2, "tone": -1},
        {"drive": 10, "tone": 3},
        {"drive": 4, "tone": 1},
    ]
    assert from_pairs([turned(2), turned(2)]).controls == ()
    with pytest.raises(PairError, match="2: expected where the knob gain stood, got nothing"):
        from_pairs([turned(2), replace(turned(3), knobs={**turned(3).knobs, "gain": 1.0})])


def test_a_conditioned_model_learns_what_the_knob_does(tmp_path: Path) -> None:
    pairs = [turned(0), turned(5), turned(10)]
    data = from_pairs(pairs)
    torch.manual_seed(0)
    model = small_wavenet(data.controls)
    config = replace(SMALL, epochs=30)
    result = train(config, pairs, model, tmp_path / "run")
    assert result.test_esr < 0.2 * result.best_gain_esr
    graph = exchange.load(tmp_path / "run")
    assert graph.knobs == data.controls
    scores = evaluate_model(graph, data)
    assert max(file.scores.model.esr or 0 for file in scores.files) < 0.3
    wrong = from_pairs([replace(pair, knobs={"drive": 10 - pair.knobs["drive"]}) for pair in pairs])
    turned_round = evaluate_model(graph, wrong).total.model.esr
    assert turned_round is not None
    assert scores.total.model.esr is not None
    assert turned_round > 3 * scores.total.model.esr
    with pytest.raises(PairError, match="expected the knobs of the model, drive, got none"):
        train(config, [make_pair()], model, tmp_path / "other")
    with pytest.raises(PairError, match="expected where the knob drive stood, got nothing"):
        evaluate_model(graph, from_pairs([make_pair()]))


def test_only_some_models_take_knobs() -> None:
    assert models.create("a1-nano", knobs=KNOBS).knobs == KNOBS
    assert models.create("a1-nano").knobs == ()
    for name in ("lstm-16", "gru-16", "conv-lstm-24", "conv-64-32", "dense-64", "tcn-16"):
        assert models.create(name, knobs=KNOBS).knobs == KNOBS
    assert small_model().knobs == ()
    for name in ("delay", "linear-200ms", "a1-nano+delay"):
        with pytest.raises(ModelError, match="knobs: expected a model that takes some, as a1-stan"):
            models.create(name, knobs=KNOBS)


def write_pairs(folder: Path, pairs: list[Pair]) -> None:
    records = []
    for pair in pairs:
        for side, audio in (("dry", pair.dry), ("wet", pair.wet)):
            path = folder / side / f"{pair.name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, audio, RATE, subtype="FLOAT")
        names = [f"{side}/{pair.name}.wav" for side in ("dry", "wet")]
        hashes = [file_sha256(folder / name) for name in names]
        records.append(
            PairRecord(pair.name, *names, *hashes, RATE, len(pair.dry), knobs=pair.knobs)
        )
    write_manifest(folder, records)


@pytest.mark.parametrize("name", ["a1-nano", "lstm-2x8", "tcn-16"])
def test_commands_take_knobs_from_the_manifest(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, run = tmp_path / "pairs", tmp_path / "run"
    write_pairs(pairs, [turned(drive, samples=36_000) for drive in (0, 10)])
    words = ["train", str(pairs), "--block", "512", "--batch", "4", "--lr", "0.01", "--no-check"]
    assert main([*words, "--model", name, "--out", str(run), "--epochs", "1"]) == 0
    # A run goes on with its knobs; they are not said again.
    assert main(["train", str(pairs), "--out", str(run), "--resume", "--epochs", "2"]) == 0
    graph = exchange.load(run)
    assert graph.knobs == (Knob("drive", 0, 10, 5),)
    capsys.readouterr()
    assert main(["evaluate", str(run), str(pairs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["model"]["esr"] < 1.0
    (tmp_path / "in").mkdir()
    dry = turned(3).dry
    sf.write(tmp_path / "in/a.wav", dry, RATE, subtype="FLOAT")
    (tmp_path / "c.csv").write_text("time_s,drive\n0,2\n0.5,8\n")

    def rendered(*options: str) -> np.ndarray:
        words = ["render", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "y")]
        assert main([*words, "--overwrite", *options]) == 0
        found: np.ndarray = sf.read(tmp_path / "y/a.wav", dtype="float32")[0]
        return found

    player = Player(graph)
    curve = np.interp(np.arange(len(dry)) / RATE, [0, 0.5], [2, 8])
    for options, knobs in (
        ((), {}),
        (("--knob", "drive=7"), {"drive": 7.0}),
        (("--knob-curve", str(tmp_path / "c.csv")), {"drive": curve}),
    ):
        expected = player.render(dry, knobs)  # type: ignore[arg-type]
        # Files hold 24 bits.
        assert np.abs(rendered(*options) - np.clip(expected, -1, 1)).max() <= 2**-22
    words = ["render", str(run), str(tmp_path / "in"), "--out", str(tmp_path / "no"), "--knob"]
    for wrong, message in (
        ("drive=11", "knob drive: expected values from 0 to 10, got 11"),
        ("gain=1", "knob: expected drive, got 'gain'"),
    ):
        assert main([*words, wrong]) == 2
        assert message in capsys.readouterr().err


def test_a_model_without_knobs_is_told_what_it_misses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path / "pairs", [turned(drive, samples=36_000) for drive in (0, 10)])
    words = ["train", str(tmp_path / "pairs"), "--model", "linear-200ms", "--no-check"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "knobs differ (drive) and linear-200ms takes none" in capsys.readouterr().err
    assert exchange.load(tmp_path / "run").knobs == ()


def test_pairs_at_several_settings_are_identified_at_one(tmp_path: Path) -> None:
    """Together, a level that is turned between pairs is a gain that swings."""
    dry = make_pair(40_000).dry
    pairs = [
        Pair(f"{level:g}", dry, (level * dry).astype(np.float32), RATE, {"level": level})
        for level in (0.05, 0.3, 1.0)
    ]
    write_pairs(tmp_path / "pairs", pairs)
    assert identify_pairs(tmp_path / "pairs").family == "linear"
    pack(pairs, tmp_path / "p.fxpack")
    assert identify_pairs(tmp_path / "p.fxpack").family == "linear"
    without = [replace(pair, knobs={}) for pair in pairs]
    write_pairs(tmp_path / "without", without)
    assert identify_pairs(tmp_path / "without").family != "linear"
