"""Knobs as inputs of recurrent nets and of stacks: the module, its gradient, the engine, lanes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training_knobs import KNOBS, turned
from test_training_run import RATE, SMALL, StopAfter, one_thread
from tolerances import TOLERANCES

from fxfast import exchange, models
from fxfast.data import from_pairs
from fxfast.errors import InputError, ModelError, PairError, RunError
from fxfast.graph import Knob
from fxfast.models import AudioModel
from fxfast.models.conv_stack import ConvLayerConfig, ConvStack, ConvStackConfig
from fxfast.models.inputs import with_knobs
from fxfast.models.recurrent import RecurrentModel
from fxfast.models.recurrent_config import FrontLayerConfig, RecurrentConfig
from fxfast.native import engine
from fxfast.player import MODES, Player
from fxfast.training import TrainConfig, evaluate_model, train
from fxfast.training.config import for_model
from fxfast.training.feed import LaneFeed, make_feed

__all__ = ["one_thread"]
ISAS = [name for name, supported in engine().isas() if supported]
FRONT = (FrontLayerConfig(4, 3, 2, "tanh"), FrontLayerConfig(3, 2, 1, "tanh"))
TANH = ConvStackConfig(
    (ConvLayerConfig(12, 3, 1, "tanh"), ConvLayerConfig(8, 2, 3, "tanh"), ConvLayerConfig(1, 1))
)
CONFIGS: dict[str, RecurrentConfig | ConvStackConfig] = {
    "lstm": RecurrentConfig("lstm", 8, warm_up_samples=300),
    "gru": RecurrentConfig("gru", 8, warm_up_samples=300),
    "lstm-6": RecurrentConfig("lstm", 5, 6, (4,), "tanh", warm_up_samples=400),
    "conv-lstm": RecurrentConfig("lstm", 6, 2, front=FRONT, skip=True, warm_up_samples=300),
    "conv-gru": RecurrentConfig("gru", 6, 1, front=FRONT, warm_up_samples=300),
    "stack": TANH,
    "stack-skip": replace(TANH, skip=True),
}
RECURRENT = [name for name, config in CONFIGS.items() if isinstance(config, RecurrentConfig)]
LANES = replace(SMALL, epochs=2, batch_blocks=4, block_samples=50, segment_blocks=4)


def build(name: str, knobs: tuple[Knob, ...] = KNOBS, seed: int = 0) -> AudioModel:
    torch.manual_seed(seed)
    config = replace(CONFIGS[name], knobs=knobs)
    made: AudioModel
    made = RecurrentModel(config) if isinstance(config, RecurrentConfig) else ConvStack(config)
    return made


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_engine_plays_what_the_module_does(name: str, isa: str) -> None:
    model = build(name)
    model.calibrate(0.03, 0.3)
    x = noise(1, 1, model.receptive_field + 299)
    tolerance = TOLERANCES["windows_and_engine"].value
    for drive, tone in ((0.0, -1.0), (10.0, 0.5)):
        inputs = with_knobs(x, torch.tensor([[drive / 10, (tone + 1) / 2]]))
        with torch.no_grad():
            expected = model(inputs)[0, 0].numpy()
            plain = model.as_torch()(inputs)[0, 0].numpy()
        assert np.abs(plain - expected).max() <= tolerance
        for mode in MODES:
            player = Player(model.to_graph(RATE), mode=mode, isa=isa)
            got = player.render(x[0, 0].numpy(), {"drive": drive, "tone": tone})
            assert np.abs(got[model.receptive_field - 1 :] - expected).max() <= tolerance


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    """Along one direction through all weights, the audio and the knobs, in float64."""
    model = build(name).double()
    model.calibrate(0.03, 0.3)
    samples = model.receptive_field + 40
    inputs = with_knobs(noise(2, 1, samples), torch.tensor([[0.2, 0.9], [1.0, 0.0]])).double()
    inputs.requires_grad_()
    target = noise(2, 1, 41, seed=2).double()
    points = [inputs, *model.parameters()]
    directions = [torch.randn(p.shape, generator=torch.Generator().manual_seed(3)).double()
                  for p in points]  # fmt: skip

    def loss_at(step: float) -> torch.Tensor:
        moved = [p.detach() + step * d for p, d in zip(points, directions, strict=True)]
        weights = dict(zip((n for n, _ in model.named_parameters()), moved[1:], strict=True))
        y: torch.Tensor = torch.func.functional_call(model, weights, (moved[0],))
        return (y - target).square().mean()

    (model(inputs) - target).square().mean().backward()
    slope = sum(float((p.grad * d).sum()) for p, d in zip(points, directions, strict=True))  # type: ignore[operator]
    step = 1e-5
    expected = float(loss_at(step) - loss_at(-step)) / (2 * step)
    assert slope == pytest.approx(expected, rel=TOLERANCES["finite_differences"].value)
    assert inputs.grad is not None
    assert inputs.grad[:, 1:].abs().amax(dim=(0, 2)).min() > 0  # every knob matters


@pytest.mark.parametrize("name", CONFIGS)
def test_files_and_descriptions_keep_knobs(name: str, tmp_path: Path) -> None:
    model = build(name)
    model.calibrate(0.03, 0.3)
    exchange.save(model.to_graph(RATE), tmp_path / "m.safetensors")
    again = models.from_graph(exchange.load(tmp_path / "m.safetensors"))
    assert again.knobs == KNOBS
    inputs = with_knobs(noise(1, 1, model.receptive_field + 9), torch.tensor([[0.3, 0.8]]))
    assert torch.equal(again(inputs), model(inputs))
    described = json.loads(json.dumps(models.describe(model)))
    assert models.from_description(described).config == model.config
    # Of a version whose family took none.
    del described["config"]["knobs"]
    assert models.from_description(described).knobs == ()


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_no_input_or_no_knob_is_refused(name: str) -> None:
    model = build(name)
    with pytest.raises(InputError, match=r"x: expected shape \(B, 3, T\) with T of at least"):
        model(torch.zeros(1, 1, model.receptive_field))
    with pytest.raises(ModelError, match="knobs: expected different names, got a, a"):
        build(name, (Knob("a"), Knob("a")))
    with pytest.raises(ModelError, match=r"knobs\[0\]: expected minimum <= default <= maximum"):
        build(name, (Knob("a", 1.0, 1.0),))


# --- lanes ------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECURRENT)
def test_chunk_by_chunk_is_the_same_as_in_one(name: str) -> None:
    model = build(name)
    model.calibrate(0.1, 0.3)
    knobs = torch.tensor([[0.0, 1.0], [0.5, 0.5], [1.0, 0.1]])
    x = with_knobs(noise(3, 1, 200), knobs)
    whole, after = model.forward_from(x, model.initial_state(3, knobs))
    state, parts = model.initial_state(3, knobs), []
    # Before any audio there is silence, with the knobs where they stand.
    past = torch.zeros(3, 1, state[0].shape[2])
    assert torch.equal(state[0], with_knobs(past, knobs))
    for part in x.split(7, dim=2):
        y, state = model.forward_from(part, state)
        parts.append(y)
    tolerance = TOLERANCES["windows_and_engine"].value
    assert (torch.cat(parts, dim=2) - whole).abs().max() <= tolerance
    for one, other in zip(state, after, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", RECURRENT)
def test_every_lane_hears_the_knobs_of_its_file(name: str) -> None:
    """What a lane gives is what the engine gives: settled with the knobs of the file."""
    data = from_pairs([turned(0, -1, 900), turned(10, 1, 700), turned(4, 0, 800)])
    model = build(name, data.controls)
    config = replace(LANES, segment_blocks=1000)  # a segment is a file: nothing is cut off
    feed = make_feed(for_model(config, model.receptive_field, True), data, model,
                     torch.device("cpu"))  # fmt: skip
    assert isinstance(feed, LaneFeed)
    player = Player(model.to_graph(RATE), mode="stream")
    wanted = {
        index: player.render(piece.dry, dict(piece.knobs))
        for index, piece in enumerate(data.pieces())
    }
    seen, tolerance = set(), 2 * TOLERANCES["windows_and_engine"].value
    for batch in feed.batches():
        prediction = batch.predict().detach()
        lanes = feed.lanes
        info = lanes._tensors[lanes._slot]["info"]
        for row in range(len(prediction)):
            _, _, valid, _, file, start = info[:, row].tolist()
            if file < 0 or valid == 0:
                continue
            expected = wanted[file][start : start + valid]
            assert np.abs(prediction[row, 0, :valid].numpy() - expected).max() <= tolerance
            seen.add(file)
    assert seen == {0, 1, 2}


def test_a_feed_without_the_hidden_state_hears_the_past_with_its_knobs() -> None:
    data = from_pairs([turned(0, -1, 900), turned(10, 1, 700)])
    model = build("conv-lstm", data.controls)
    config = for_model(replace(LANES, segment_blocks=8), model.receptive_field, True)
    feed, other = (make_feed(config, data, model, torch.device("cpu")) for _ in range(2))
    batches = feed.batches()
    for _ in range(3):
        next(batches).predict()
    other.load_state_dict({**feed.state_dict(), "hidden": ()})
    exact, near = next(batches).predict(), next(other.batches()).predict()
    assert (near - exact).abs().max() <= 1e-3 * exact.abs().max()
    assert isinstance(feed, LaneFeed)
    replay = feed.lanes.replay(50)
    assert {tuple(row) for row in replay.knobs.tolist()} >= {(0.0, 0.0), (1.0, 1.0)}


@pytest.mark.parametrize("name", ["lstm", "conv-gru"])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    pairs = [turned(0, samples=3000), turned(10, samples=3000)]
    controls = from_pairs(pairs).controls
    small = replace(LANES, epochs=3)
    train(small, pairs, build(name, controls), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(small, pairs, build(name, controls), tmp_path / "cut", observers=[StopAfter(step=9)])
    train(small, pairs, build(name, controls), tmp_path / "cut", resume=True)
    one, other = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == other


# --- training ---------------------------------------------------------------------


def small(name: str) -> tuple[Callable[[tuple[Knob, ...]], AudioModel], TrainConfig]:
    config = replace(SMALL, epochs=12)
    if name in RECURRENT:
        config = replace(config, batch_blocks=8, block_samples=50, segment_blocks=4)
    return lambda knobs: build(name, knobs), config


@pytest.mark.parametrize("name", ["lstm", "gru", "conv-lstm", "stack", "stack-skip"])
def test_training_learns_what_the_knob_does(name: str, tmp_path: Path) -> None:
    pairs = [turned(0), turned(10)]
    data = from_pairs(pairs)
    make, config = small(name)
    result = train(config, pairs, make(data.controls), tmp_path / "run")
    assert result.test_esr < 0.2 * result.best_gain_esr
    graph = exchange.load(tmp_path / "run")
    assert graph.knobs == data.controls
    scores = evaluate_model(graph, data)
    assert max(file.scores.model.esr or 0 for file in scores.files) < 0.3
    wrong = from_pairs([replace(pair, knobs={"drive": 10 - pair.knobs["drive"]}) for pair in pairs])
    turned_round = evaluate_model(graph, wrong).total.model.esr
    assert turned_round is not None
    assert turned_round > 1.0  # a gain of nothing has 1
    with pytest.raises(PairError, match="expected where the knob drive stood, got nothing"):
        evaluate_model(graph, from_pairs([replace(pairs[0], knobs={})]))
    with pytest.raises(PairError, match="expected the knobs of the model, drive, got none"):
        train(config, [pairs[0]], make(data.controls), tmp_path / "other")


def test_a_run_of_a_version_without_knobs_goes_on(tmp_path: Path) -> None:
    run, pairs = tmp_path / "run", [turned(0, samples=3000)]
    train(replace(LANES, epochs=1), pairs, build("lstm", ()), run)
    config = json.loads((run / "config.json").read_text())
    del config["model"]["config"]["knobs"]
    (run / "config.json").write_text(json.dumps(config))
    result = train(replace(LANES, epochs=2), pairs, build("lstm", ()), run, resume=True)
    assert result.epochs == 2
    config["model"]["config"]["units"] = 9
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="expected the model of the run to resume, got another one"):
        train(replace(LANES, epochs=3), pairs, build("lstm", ()), run, resume=True)
