"""Chains of models: the module against the engine, gradients through all parts, files, runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from test_models_delay import sound
from tolerances import TOLERANCES

from fxfast import exchange, models
from fxfast.cli import main
from fxfast.errors import ModelError, PairError
from fxfast.exchange.torchscript import export_torchscript
from fxfast.graph import Sequential
from fxfast.models.chain import ChainConfig, ChainModel, PartConfig
from fxfast.models.conv_stack import ConvLayerConfig, ConvStackConfig
from fxfast.models.level_gain import LevelGainConfig
from fxfast.models.long_linear import LongLinearConfig
from fxfast.models.wavenet import WaveNetModel
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import Observer, Step, TrainConfig, train

RATE = 8000
NET = PartConfig(
    "conv-stack",
    ConvStackConfig((ConvLayerConfig(8, 3, 1, "tanh"), ConvLayerConfig(1, 1)), skip=True),
)
ROOM = PartConfig("long-linear", LongLinearConfig(400 / RATE))
GAIN = PartConfig("level-gain", LevelGainConfig("compressor"))
ECHO = PartConfig("delay", models.presets()["delay"].presets["delay"])
CHORUS = PartConfig("chorus", models.presets()["chorus"].presets["chorus"])
CHAINS = {
    "net into room": (NET, ROOM),
    "net into echo": (NET, ECHO),
    "gain into net": (GAIN, NET),
    "room, gain, net": (ROOM, GAIN, NET),
    "net into chorus": (NET, CHORUS),
    "chorus, gain, net": (CHORUS, GAIN, NET),
    "gain, chorus, echo": (GAIN, CHORUS, ECHO),
}
STEPS = TrainConfig(epochs=30, block_samples=512, batch_blocks=4, learning_rate=0.01, device="cpu")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Of a net alone, where what it learns is not asked."""
    if "learnt" not in request.node.name:
        monkeypatch.setattr("fxfast.models.chain_fit._STEPS", 20)


def chain(name: str, seed: int = 0) -> ChainModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ChainModel(ChainConfig(CHAINS[name]))


def distorted_room(samples: int = 16_000) -> Pair:
    """tanh, then a response of 300 samples."""
    dry = sound(samples)
    response = 0.3 * np.random.default_rng(4).standard_normal(300) * 0.98 ** np.arange(300)
    response[0] = 1.0
    wet = lfilter(response, [1.0], 0.3 * np.tanh(6.0 * dry)).astype(np.float32)
    return Pair("a", dry, wet, RATE)


def with_short_history(model: ChainModel) -> ChainModel:
    """That hears silence before its audio, of which its nets make silence too."""
    model._receptive_field = 1
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return model


@pytest.mark.parametrize("name", list(CHAINS))
def test_forward_the_twin_and_the_engine_agree(name: str) -> None:
    model = with_short_history(chain(name))
    x = torch.from_numpy(np.stack([sound(3000), sound(3000, 1)])[:, None])
    rendered = Player(model.to_graph(RATE)).render(x.numpy())
    for module in (model, model.as_torch()):
        with torch.no_grad():
            error = np.abs(module(x).numpy() - rendered).max()
        assert error <= TOLERANCES["windows_and_engine"].value * max(1.0, np.abs(rendered).max())


@pytest.mark.parametrize("name", list(CHAINS))
def test_the_gradient_of_every_part_is_that_of_finite_differences(name: str) -> None:
    model = with_short_history(chain(name)).double()
    for part in model.parts:
        if hasattr(part, "base"):
            part.base -= 11_950 if part.architecture == "delay" else 400  # within the audio,
            part.step *= 240  # a whole cycle of it,
            part.tables.data += 0.3  # off the samples, where the slope jumps
        if hasattr(part, "rates"):
            part.rates.data.clamp_(max=0.5)  # off the most that there is
    x = torch.from_numpy(0.1 + np.abs(sound(200)))[None, None].double()
    target = torch.from_numpy(sound(200, 1))[None, None].double()

    def loss() -> torch.Tensor:
        error: torch.Tensor = (model(x) - target).square().sum()
        return error

    torch.autograd.backward(loss())
    looked = set()
    for key, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is None or key.endswith("turn"):
            continue
        looked.add(key.split(".")[1])
        for index in range(0, parameter.numel(), max(1, parameter.numel() // 4)):
            if key.endswith("mix") and index == 3 and not model.parts[int(key[6])].opens_loop:
                assert float(gradient[index]) == 0.0  # a loop that is closed stays so
                continue
            ends = []
            for sign in (1.0, -1.0):
                with torch.no_grad():
                    parameter.view(-1)[index] += sign * 1e-6
                    ends.append(float(loss()))
                    parameter.view(-1)[index] -= sign * 1e-6
            found = float(gradient.view(-1)[index])
            assert found == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=5e-3, abs=1e-6), key
    assert looked == {str(index) for index in range(len(CHAINS[name]))}


@pytest.mark.parametrize("name", list(CHAINS))
def test_file_export_split_and_round_trip_are_the_same_bits(name: str, tmp_path: Path) -> None:
    graph = chain(name).to_graph(RATE)
    assert isinstance(graph.root, Sequential)
    x = sound(3000)
    expected = Player(graph, mode="stream").render(x)
    exchange.save(graph, tmp_path / "m.safetensors")
    again = exchange.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(Player(again, mode="stream").render(x), expected)
    model = models.from_graph(again)
    assert isinstance(model, ChainModel)
    np.testing.assert_array_equal(Player(model.to_graph(RATE), mode="stream").render(x), expected)
    export_torchscript(graph, tmp_path / "m.ts")  # proves itself, bit for bit
    stream = Player(graph, mode="stream").stream()
    blocks = [stream.process(part[None]) for part in np.split(x, [1, 8, 71, 1000, 1001])]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1)[0], expected)


def test_a_distortion_into_a_room_is_learnt_end_to_end(tmp_path: Path) -> None:
    result = train(STEPS, [distorted_room()], chain("net into room"), tmp_path / "run")
    linear = models.create("linear-200ms")
    of_room = train(TrainConfig(), [distorted_room()], linear, tmp_path / "linear")
    assert result.test_esr < 0.1 * of_room.test_esr
    assert result.test_esr < 0.01 * result.best_gain_esr


@pytest.mark.parametrize("net", ["tcn-16", "lstm-16", "conv-lstm-24", "a1-nano"])
def test_a_net_behind_a_fitted_part_starts_as_a_wire(net: str, tmp_path: Path) -> None:
    pair = distorted_room(20_000)
    alone = models.create("linear-200ms")
    train(TrainConfig(), [pair], alone, tmp_path / "alone")
    both = models.create(f"linear-200ms+{net}")
    train(TrainConfig(epochs=1, block_samples=512), [pair], both, tmp_path / "both")
    x = sound(3000, 2)
    graphs = [model.to_graph(RATE) for model in (alone, both)]
    expected, started = (Player(graph, mode="stream").render(x) for graph in graphs)
    # Other operations follow, so the long filter may run in blocks of another size.
    assert np.abs(started - expected).max() <= TOLERANCES["windows_and_engine"].value


def test_steps_learn_what_a_fitted_part_leaves(tmp_path: Path) -> None:
    dry = sound(16_000)
    heard = lfilter([0.3, 0.2, 0.1], [1.0, -0.5], dry)
    pair = Pair("a", dry, np.tanh(6.0 * heard).astype(np.float32), RATE)
    torch.manual_seed(1)
    both = ChainModel(ChainConfig((ROOM, NET)))
    alone = train(replace(STEPS, epochs=1), [pair], both, tmp_path / "fit")
    torch.manual_seed(1)
    both = ChainModel(ChainConfig((ROOM, NET)))
    together = train(STEPS, [pair], both, tmp_path / "both")
    # About a half, and a third.
    assert together.validation_esr < 0.7 * alone.validation_esr
    assert together.test_esr < 0.7 * alone.test_esr


def test_a_wavenet_with_a_skip_is_the_same_everywhere() -> None:
    preset = models.presets()["a1-nano"].presets["a1-nano"]
    config = replace(preset, skip=True)
    model = WaveNetModel(config)
    model.calibrate(0.1, 0.2)
    graph = model.to_graph(RATE)
    again = models.from_graph(graph)
    assert again.config.skip
    x = sound(model.receptive_field + 2000)
    rendered = Player(graph, mode="stream").render(x)[model.receptive_field - 1 :]
    x_bct = torch.from_numpy(x)[None, None]
    for module in (model, again, model.as_torch()):
        with torch.no_grad():
            made = module(x_bct).numpy()[0, 0]
        assert np.abs(made - rendered).max() <= TOLERANCES["windows_and_engine"].value


def test_a_fitted_part_moves_by_small_steps(tmp_path: Path) -> None:
    before = chain("net into room")
    train(replace(STEPS, epochs=1), [distorted_room()], before, tmp_path / "fit")
    after = chain("net into room")
    train(replace(STEPS, epochs=3), [distorted_room()], after, tmp_path / "run")
    moved = (after.parts[1].taps - before.parts[1].taps).abs()
    assert 0 < float(moved.detach().max()) < 0.01
    moved = (after.parts[0].convolutions[0].weight - before.parts[0].convolutions[0].weight).abs()
    assert float(moved.detach().max()) > 0.01


@pytest.mark.parametrize("stop", ["fit", "steps"])
def test_a_chain_killed_anywhere_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    class Stop(Observer):
        def on_fit(self, share: float, note: str) -> None:
            if stop == "fit" and share > 0.2:
                raise KeyboardInterrupt

        def on_step(self, step: Step) -> None:
            if stop == "steps" and step.number == 4:
                raise KeyboardInterrupt

    monkeypatch.setattr("fxfast.training.trainer.CHECKPOINT_SECONDS", -1.0)
    config = replace(STEPS, epochs=3)
    whole = chain("net into room")
    train(config, [distorted_room()], whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, [distorted_room()], chain("net into room"), tmp_path / "cut",
              observers=[Stop()])  # fmt: skip
    other = chain("net into room", seed=5)
    train(config, [distorted_room()], other, tmp_path / "cut", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_what_makes_no_chain_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected presets with . between them.*got 'fuzz'"):
        models.create("a1-nano+fuzz")
    with pytest.raises(
        ModelError, match=r"parts: expected one that swings, .*got chorus and chorus"
    ):
        models.create("chorus+a1-nano+chorus")
    with pytest.raises(ModelError, match="parts: expected 2 to 8 in a chain, got 1"):
        ChainModel(ChainConfig((NET,)))
    with pytest.raises(ModelError, match="config: expected the fields of ChainConfig"):
        models.from_description({"architecture": "chain", "config": {}})
    with pytest.raises(ModelError, match="graph: expected parts in a row and metadata"):
        models.from_graph(chain("net into room").parts[0].to_graph(RATE), architecture="chain")
    with pytest.raises(PairError, match="for the train part"):
        train(STEPS, [distorted_room(6000)], chain("net into echo"), tmp_path / "short")


def test_the_command_trains_a_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fxfast.audio.files import write_audio

    pair = distorted_room(24_000)
    for side in ("dry", "wet"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        write_audio(tmp_path / "pairs" / side / "a.wav", getattr(pair, side), RATE)
    run = tmp_path / "run"
    command = ["train", str(tmp_path / "pairs"), "--out", str(run), "--no-check"]
    options = ["--epochs", "2", "--block", "512", "--batch", "4"]
    assert main([*command, "--model", "tcn-16+linear-200ms", *options]) == 0
    assert "test ESR" in capsys.readouterr().out
    assert [node.kind for node in exchange.load(run).root.children] == ["conv_stack", "linear"]
    assert main([*command, "--epochs", "3", "--resume"]) == 0
