"""Runs that are stopped anywhere, killed too, end with the weights of a run that was not."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_training_run import SMALL, StopAfter, log_of, make_pair, one_thread, small_model
from tolerances import TOLERANCES

from fxfast import models
from fxfast.data import Lanes, Split, from_pairs, load, pack
from fxfast.errors import InputError, RunError
from fxfast.models.recurrent import RecurrentModel
from fxfast.models.recurrent_config import FrontLayerConfig, RecurrentConfig
from fxfast.training import TrainConfig, train, trainer
from fxfast.training.checkpoint import load_checkpoint
from fxfast.training.config import for_model
from fxfast.training.feed import LaneFeed, make_feed

__all__ = ["one_thread"]
FRONT = (FrontLayerConfig(3, 4, 2, "tanh"), FrontLayerConfig(2, 3, 1))
RECURRENT = {
    "lstm": RecurrentConfig("lstm", 6, 2, warm_up_samples=40),
    "gru": RecurrentConfig("gru", 5, 1, (4,), warm_up_samples=0),
    "everything": RecurrentConfig("lstm", 4, 2, (5,), "tanh", FRONT, True, 30),
}
LANES = replace(SMALL, epochs=2, batch_blocks=4, block_samples=50, segment_blocks=4)


def recurrent_model(name: str, seed: int = 0) -> RecurrentModel:
    torch.manual_seed(seed)
    return RecurrentModel(RECURRENT[name])


def build(kind: str, seed: int = 0) -> tuple[models.AudioModel, TrainConfig]:
    if kind == "windows":
        return small_model(seed), SMALL
    return recurrent_model(kind, seed), LANES


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunk_by_chunk_is_the_same_as_in_one(name: str, chunk: int) -> None:
    model = recurrent_model(name)
    model.calibrate(0.1, 0.3)
    x = torch.randn(3, 1, 200, generator=torch.Generator().manual_seed(3))
    whole, after = model.forward_from(x, model.initial_state(3))
    state, parts = model.initial_state(3), []
    for part in x.split(chunk, dim=2):
        y, state = model.forward_from(part, state)
        parts.append(y)
    tolerance = TOLERANCES["windows_and_engine"].value
    assert (torch.cat(parts, dim=2) - whole).abs().max() <= tolerance
    for one, other in zip(state, after, strict=True):
        assert torch.allclose(one, other, rtol=0, atol=tolerance)
    # What forward drops is the warm-up: with the same past the rest is the same.
    history = torch.nn.functional.pad(x, (model.config.history_samples, 0))
    dropped = model.config.warm_up_samples
    assert (model(history) - whole[:, :, dropped:]).abs().max() <= tolerance


def test_lanes_carry_their_state_and_reset_alone() -> None:
    model = recurrent_model("lstm")
    config = for_model(LANES, model.receptive_field, True)
    data = from_pairs([make_pair(900), make_pair(700, 1, "b")])
    feed = make_feed(config, data, model, torch.device("cpu"))
    assert isinstance(feed, LaneFeed)
    for stagger in (False, True):
        feed.sampler = feed.lanes = Lanes(
            data, lanes=4, segment=200, chunk=50, warmup=40, seed=1, stagger=stagger, threads=0
        )
        files = {index: torch.from_numpy(piece.dry) for index, piece in enumerate(data.pieces())}
        batches = feed.batches()
        for batch in batches:
            prediction = batch.predict().detach()
            lanes = feed.lanes
            info = lanes._tensors[lanes._slot]["info"]
            for row in range(4):
                _, _, valid, _, file, start = info[:, row].tolist()
                if file < 0 or valid == 0:
                    continue
                # The state of a lane depends on the audio from its warm-up on, whatever the
                # other lanes do.
                begin = begins_of(lanes, file, start)
                past = files[file][max(0, begin - 40) : start + valid]
                past = torch.nn.functional.pad(past, (max(0, 40 - begin), 0))
                alone, _ = model.forward_from(past[None, None], model.initial_state(1))
                expected = alone[0, 0, -valid:].detach()
                assert torch.allclose(prediction[row, 0, :valid], expected, atol=2e-5)
        feed._state = None


def test_a_feed_without_the_hidden_state_hears_the_past_again() -> None:
    model = recurrent_model("lstm")
    config = for_model(LANES, model.receptive_field, True)
    data = from_pairs([make_pair(900), make_pair(700, 1, "b")])
    feed, other = (make_feed(config, data, model, torch.device("cpu")) for _ in range(2))
    batches = feed.batches()
    for _ in range(3):
        next(batches).predict()
    state = feed.state_dict()
    other.load_state_dict({**state, "hidden": ()})
    exact, near = next(batches).predict().detach(), next(other.batches()).predict().detach()
    silent = make_feed(config, data, model, torch.device("cpu"))
    assert isinstance(silent, LaneFeed)
    silent.load_state_dict(state)
    silent._state = model.initial_state(4)
    unheard = next(silent.batches()).predict().detach()
    assert (near - exact).abs().max() < 0.1 * (unheard - exact).abs().max()


def begins_of(lanes: Lanes, file: int, start: int) -> int:
    """First sample of the segment that a chunk belongs to."""
    from sampler_oracle import LaneOracle

    oracle = LaneOracle(
        lanes.data.lengths.tolist(),
        lanes=4,
        segment=200,
        chunk=50,
        warmup=40,
        seed=1,
    )
    return next(a for f, a, b in oracle.segments(0) if f == file and a <= start < b)


@pytest.mark.parametrize("kind", ["windows", *RECURRENT])
@pytest.mark.parametrize("step", [0, 3, 29])
def test_a_run_stopped_within_an_epoch_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", -1.0)  # after every step
    pairs = [make_pair(4000), make_pair(2000, 1, "b")]
    model, config = build(kind)
    whole = train(config, pairs, model, tmp_path / "whole")
    cut_model, _ = build(kind)
    with pytest.raises(KeyboardInterrupt):
        train(config, pairs, cut_model, tmp_path / "cut", observers=[StopAfter(step=step)])
    assert load_checkpoint(tmp_path / "cut/checkpoint.pt").step == step + 1
    other, _ = build(kind, seed=99)
    resumed = train(config, pairs, other, tmp_path / "cut", resume=True)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    assert (resumed.steps, resumed.test_esr) == (whole.steps, whole.test_esr)
    for a, b in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "cut"), strict=True):
        for name in ("epoch", "steps", "train_loss", "validation_esr"):
            assert a[name] == b[name]


@pytest.mark.parametrize("kind", ["windows", "lstm"])
@pytest.mark.parametrize("before", ["append_log", "save_checkpoint"])
def test_a_run_killed_between_its_best_model_and_its_checkpoint_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, before: str
) -> None:
    """The model is that of an epoch which the checkpoint, or the log as well, does not know."""
    pairs = [make_pair(4000), make_pair(2000, 1, "b")]
    model, config = build(kind)
    whole = train(config, pairs, model, tmp_path / "whole")
    room = trainer.run_folder if before == "append_log" else trainer
    write, calls = getattr(room, before), 0

    def killed(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first checkpoint is from before any epoch
            raise KeyboardInterrupt
        write(*args)

    monkeypatch.setattr(room, before, killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, pairs, build(kind)[0], tmp_path / "cut")
    monkeypatch.setattr(room, before, write)
    resumed = train(config, pairs, build(kind, seed=99)[0], tmp_path / "cut", resume=True)
    one, other = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "cut"))
    assert one == other
    assert (resumed.best_epoch, resumed.scores) == (whole.best_epoch, whole.scores)
    for a, b in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "cut"), strict=True):
        for name in ("epoch", "steps", "train_loss", "validation_esr", "best_esr"):
            assert a[name] == b[name]


SCRIPT = """
import sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from test_training_resume import build
from test_training_run import make_pair
from fxfast.training import train, trainer
trainer.CHECKPOINT_SECONDS = 0.01
model, config = build({kind!r}, seed={seed})
train(config, [make_pair(6000), make_pair(3000, 1, "b")], model, {run!r}, resume={resume})
torch.save(model.state_dict(), {out!r})
"""


def run_script(folder: Path, kind: str, resume: bool, out: str) -> subprocess.Popen[bytes]:
    script = SCRIPT.format(
        tests=str(Path(__file__).parent),
        kind=kind,
        seed=7 if resume else 0,
        run=str(folder),
        resume=resume,
        out=out,
    )
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["windows", "everything"])
def test_a_run_that_is_killed_at_any_moment_ends_with_the_same_weights(
    tmp_path: Path, kind: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_script(whole, kind, False, str(tmp_path / "whole.pt")).wait() == 0
    generator, out, kills = random.Random(3), tmp_path / "cut.pt", 0
    while not out.exists():
        process = run_script(cut, kind, (cut / "checkpoint.pt").exists(), str(out))
        if kills >= 2:
            assert process.wait() == 0
            break
        # From the first checkpoint on, a random time: importing torch takes the longest.
        began = (cut / "checkpoint.pt").stat().st_mtime_ns if kills else 0
        while process.poll() is None and (
            not (cut / "checkpoint.pt").exists()
            or (cut / "checkpoint.pt").stat().st_mtime_ns == began
        ):
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.3))
        process.kill()
        process.wait()
        kills += 1
    one, other = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "cut"))
    assert kills > 0
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "model.safetensors").read_bytes() == (cut / "model.safetensors").read_bytes()


def test_training_on_a_pack_is_training_on_its_pairs(tmp_path: Path) -> None:
    pairs = [make_pair(), make_pair(2000, 1, "b")]
    pack(pairs, tmp_path / "d.fxpack")
    results = [
        train(replace(SMALL, epochs=2), data, small_model(), tmp_path / name)
        for name, data in (("pairs", pairs), ("pack", load(tmp_path / "d.fxpack")))
    ]
    assert results[0].test_esr == results[1].test_esr
    waits = [line["data_wait"] for line in log_of(tmp_path / "pack")]
    assert all(0 <= wait < 1 for wait in waits)
    pack(pairs, tmp_path / "e.fxpack", split=Split(0.6, 0.2, 0.2))
    with pytest.raises(RunError, match="expected the pairs of the run to resume, got other audio"):
        train(
            replace(SMALL, epochs=3),
            load(tmp_path / "e.fxpack"),
            small_model(),
            tmp_path / "pack",
            resume=True,
        )


def test_recurrent_nets_learn_on_lanes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = RecurrentModel(RecurrentConfig("lstm", 8, warm_up_samples=64))
    config = replace(LANES, epochs=12, batch_blocks=8, learning_rate=0.02)
    result = train(config, [make_pair(8000)], model, tmp_path / "run")
    assert result.test_esr < 0.1 * result.best_gain_esr
    described = json.loads((tmp_path / "run/config.json").read_text())["train"]
    assert (described["batch_blocks"], described["segment_blocks"]) == (8, 4)


def test_the_size_of_a_step_grows_with_the_receptive_field() -> None:
    sizes = {}
    for field in (1, 64, 256, 257, 4093, 8187, 100_000):
        config = for_model(TrainConfig(), field, carries_state=False)
        sizes[field] = (config.block_samples, config.batch_blocks)
    assert sizes[64] == sizes[1] == sizes[256] == (256, 16)
    assert sizes[257] == (512, 10)
    assert sizes[4093] == (4096, 2)
    assert sizes[8187] == (8192, 2)
    assert sizes[100_000] == (65_536, 1)
    given = for_model(TrainConfig(block_samples=1000), 4093, carries_state=False)
    assert (given.block_samples, given.batch_blocks, given.segment_blocks) == (1000, 6, None)
    lanes = for_model(TrainConfig(), 1025, carries_state=True)
    assert None not in (lanes.block_samples, lanes.batch_blocks, lanes.segment_blocks)
    with pytest.raises(InputError, match="segment_blocks: expected an integer of at least 1"):
        TrainConfig(segment_blocks=0)
    assert np.isfinite(lanes.learning_rate)


def test_weights_that_run_away_end_the_run_with_a_cause(tmp_path: Path) -> None:
    """A cell squashes everything: the loss stays finite where the weights are beyond all use."""
    config = replace(LANES, learning_rate=1e12, max_gradient_norm=0.0)
    said = r"expected finite values of at most 1e\+06, got .* \(a smaller one may help\)"
    with pytest.raises(RunError, match=said):
        train(config, [make_pair()], recurrent_model("lstm"), tmp_path / "run")
