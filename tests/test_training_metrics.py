"""Loss, metrics, schedule and checkpoint files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fxfast.errors import InputError, RunError
from fxfast.training import TrainConfig, best_gain, esr, esr_loss, esr_of_best_gain
from fxfast.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, write_json
from fxfast.training.config import WARM_UP, budget_used, choose_device, learning_rate_at


def test_esr_of_known_signals() -> None:
    target = [np.array([3.0, 4.0], np.float32), np.array([0.0], np.float32)]
    assert esr(target, target) == 0.0
    assert esr([np.zeros(2), np.ones(1)], target) == pytest.approx(26 / 25)
    assert best_gain([np.array([1.5, 2.0]), np.zeros(1)], target) == pytest.approx(2.0)
    assert esr_of_best_gain([np.array([1.5, 2.0]), np.zeros(1)], target) == pytest.approx(0.0)
    assert esr_of_best_gain([np.zeros(2), np.zeros(1)], target) == 1.0


def test_esr_errors() -> None:
    with pytest.raises(InputError, match=r"expected the target's shape \(2,\), got \(3,\)"):
        esr([np.zeros(3)], [np.ones(2)])
    with pytest.raises(InputError, match="target: expected a signal, got silence"):
        esr([np.zeros(3)], [np.zeros(3)])


def test_loss_is_the_esr_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 4, 1, 50).unbind(0)
    target[0] = 0.0  # one silent block does not blow the loss up
    loss = esr_loss(prediction, target, energy_floor=0.0)
    assert float(loss) == pytest.approx(esr([prediction.numpy()], [target.numpy()]), rel=1e-5)


def test_loss_of_silence_is_finite() -> None:
    zeros = torch.zeros(2, 1, 8)
    prediction = zeros.clone().requires_grad_()
    loss = esr_loss(prediction, zeros)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert torch.isfinite(prediction.grad).all()


def test_masked_samples_do_not_count() -> None:
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 1, 1, 20).unbind(0)
    mask = (torch.arange(20) < 12).float()[None, None]
    for coefficient in (0.0, 0.95):
        masked = esr_loss(prediction, target, mask, pre_emphasis=coefficient)
        short = esr_loss(prediction[..., :12], target[..., :12], pre_emphasis=coefficient)
        assert float(masked) == pytest.approx(float(short), rel=1e-6)


def test_pre_emphasis_weighs_high_frequencies() -> None:
    t = torch.arange(4800)
    target = torch.sin(t * 2 * torch.pi * 0.02)[None, None]
    low, high = (0.1 * torch.sin(t * 2 * torch.pi * f)[None, None] for f in (0.001, 0.3))
    flat = [float(esr_loss(target + error, target)) for error in (low, high)]
    weighted = [float(esr_loss(target + error, target, pre_emphasis=0.95)) for error in (low, high)]
    assert flat[0] == pytest.approx(flat[1], rel=0.05)
    assert weighted[0] < 0.3 * flat[0]
    assert weighted[1] > 3 * flat[1]


@pytest.mark.parametrize("budget", ["seconds", "epochs"])
def test_learning_rate_decays_over_the_budget_whatever_its_size(budget: str) -> None:
    config = TrainConfig(**{"epochs": None, budget: 10}, learning_rate=1.0, final_learning_rate=0.1)

    def at(share: float) -> float:
        elapsed, epochs = (10 * share, 0.0) if budget == "seconds" else (1e9, 10 * share)
        return learning_rate_at(config, budget_used(config, elapsed, epochs))

    assert at(0.0) == pytest.approx(0.1)
    assert at(WARM_UP) == pytest.approx(1.0)
    assert at(1.0) == at(2.0) == pytest.approx(0.1)
    falling = [at(share) for share in np.linspace(WARM_UP, 1, 20)]
    assert falling == sorted(falling, reverse=True)


BAD_SETTINGS = {
    "batch_blocks: expected an integer of at least 1, got 0": {"batch_blocks": 0},
    "block_samples: expected an integer of at least 2, got 1": {"block_samples": 1},
    "seed: expected an integer of at least 0, got -1": {"seed": -1},
    "seconds: expected a number above 0, got -2": {"seconds": -2},
    "learning_rate: expected a number above 0, got nan": {"learning_rate": float("nan")},
    "final_learning_rate: expected 0 to learning_rate": {"final_learning_rate": 1.0},
    "pre_emphasis: expected 0 to below 1, got 1.0": {"pre_emphasis": 1.0},
    "budget: expected seconds, epochs or patience": {"epochs": None},
    "device: expected one of auto, cpu, cuda, got 'tpu'": {"device": "tpu"},
}


@pytest.mark.parametrize("message", BAD_SETTINGS)
def test_impossible_settings_are_errors(message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainConfig(**BAD_SETTINGS[message])


def test_device_by_availability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(RunError, match="device: expected a CUDA GPU, got none"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == torch.device("cuda")
    assert choose_device("cpu") == torch.device("cpu")


def some_checkpoint() -> Checkpoint:
    return Checkpoint(
        model={"weight": torch.arange(3.0)},
        optimizer={"state": {0: {"step": torch.tensor(2.0)}}, "param_groups": [{"lr": 0.1}]},
        epoch=2,
        step=9,
        seed=1,
        best_esr=0.5,
        best_epoch=1,
        elapsed_seconds=3.5,
        feed={"state": bytes(64)},
        losses=torch.tensor([0.5, 0.25]),
        samples=700,
        waited=0.125,
        trained=2.5,
    )


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(some_checkpoint(), path)
    loaded = load_checkpoint(path)
    assert torch.equal(loaded.model["weight"], torch.arange(3.0))
    assert loaded.optimizer["param_groups"] == [{"lr": 0.1}]
    assert (loaded.epoch, loaded.step, loaded.best_epoch, loaded.elapsed_seconds) == (2, 9, 1, 3.5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_failed_write_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(some_checkpoint(), path)
    before = path.read_bytes()

    def broken_save(values: object, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", broken_save)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(some_checkpoint(), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_checkpoint_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(RunError, match="expected a checkpoint to resume from, got no such file"):
        load_checkpoint(path)
    save_checkpoint(some_checkpoint(), path)
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"\x00" * 100):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="expected a readable checkpoint") as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
    torch.save({"other": 1}, path)
    with pytest.raises(RunError, match="expected a checkpoint of fxfast, got other contents"):
        load_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    path = tmp_path / "checkpoint.pt"
    torch.save({"model": Hostile()}, path)
    with pytest.raises(RunError, match="expected a readable checkpoint"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(RunError, match="expected a readable checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_json_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 2}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]
