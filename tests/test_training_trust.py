"""What makes a run trustworthy: no NaN unseen, overfitting said, parts of the split kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_training_run import RATE, SMALL, log_of, make_pair, one_thread, small_model
from test_training_scores import write_folder

from fxfast.data import PARTS, Data, Split, from_pairs, load, pack
from fxfast.errors import InputError, PairError, RunError
from fxfast.pairs.pair_set import Pair
from fxfast.training import TrainConfig, judge, train
from fxfast.training.config import learning_rate_at
from fxfast.training.material import gather

__all__ = ["one_thread"]


@pytest.mark.parametrize("where", ["prediction", "gradient"])
def test_a_loss_that_is_not_a_number_stops_the_run_and_leaves_its_batch(
    tmp_path: Path, where: str
) -> None:
    model = small_model()
    count = [0]
    before: dict[str, torch.Tensor] = {}

    def poison(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        count[0] += 1
        if count[0] != 6:
            return output
        before.update({name: value.clone() for name, value in model.state_dict().items()})
        if where == "prediction":
            return output * float("nan")
        output.register_hook(lambda gradient: gradient * float("inf"))
        return output

    model.register_forward_hook(poison)
    with pytest.raises(RunError, match=r"got .* in epoch 1, step 5, at learning") as e:
        train(SMALL, [make_pair()], model, tmp_path / "run")
    assert str(tmp_path / "run/bad_batch.pt") in str(e.value)
    saved = torch.load(tmp_path / "run/bad_batch.pt", weights_only=True)
    assert saved["step"] == 5
    assert saved["x"].shape == (4, 1, 64 + model.receptive_field - 1)
    assert saved["y"].shape == saved["mask"].shape == (4, 1, 64)
    assert not bool(torch.isfinite(saved["loss"] + saved["gradient_norm"]))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(value, saved["model"][name])


def epochs(losses: list[float], validation: list[float]) -> list[dict[str, float]]:
    return [
        {"epoch": i + 1, "steps": 5, "train_loss": loss, "validation_esr": esr}
        for i, (loss, esr) in enumerate(zip(losses, validation, strict=True))
    ]


def test_overfitting_is_told_in_words() -> None:
    falling = [1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02]
    overfit = judge(epochs(falling, [1.0, 0.5, 0.4, 0.5, 0.6, 0.7, 0.8]))
    assert overfit.overfits
    assert "since epoch 3 the validation ESR rose from 0.40000 to 0.80000" in overfit.words
    assert not judge(epochs(falling, falling)).overfits
    assert not judge(epochs(falling, [1.0, 0.5, 0.4, 0.41, 0.42, 0.43, 0.42])).overfits
    worse = judge(epochs([1.0, 0.1, 0.5, 0.6, 0.7, 0.8], [1.0, 0.1, 0.5, 0.6, 0.7, 0.8]))
    assert not worse.overfits
    assert "smaller learning rate" in worse.words
    far = judge(epochs(falling, [1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]))
    assert not far.overfits
    assert "from afar: validation ESR 0.30000 beside a training loss of 0.02000" in far.words
    assert "no overfitting" in judge(epochs(falling, falling)).words
    assert "too few" in judge(epochs([1.0], [1.0])).words


def test_a_run_on_little_audio_is_found_to_overfit(tmp_path: Path) -> None:
    """White noise can only be learnt by heart."""
    rng = np.random.default_rng(0)
    pair = Pair("a", *(rng.normal(size=(2, 700)).astype(np.float32)), RATE)
    from fxfast.models.conv_stack import ConvLayerConfig, ConvStack, ConvStackConfig

    torch.manual_seed(0)
    model = ConvStack(ConvStackConfig((ConvLayerConfig(64, 24, 1, "tanh"), ConvLayerConfig(1, 3))))
    config = replace(SMALL, epochs=40, schedule="constant", train_fraction=0.4,
                     validation_fraction=0.3, test_fraction=0.3)  # fmt: skip
    result = train(config, [pair], model, tmp_path / "run")
    assert result.overfitting.overfits, result.overfitting.words


def test_schedules_are_as_they_say() -> None:
    exponential = TrainConfig(schedule="exponential", learning_rate=0.004)
    assert learning_rate_at(exponential, 0.0, 0) == 0.004
    assert learning_rate_at(exponential, 0.9, 100) == pytest.approx(0.004 * 0.993**100)
    assert learning_rate_at(TrainConfig(schedule="constant"), 0.99, 7) == TrainConfig.learning_rate
    for message, values in {
        "schedule: expected one of cosine, exponential, constant": {"schedule": "x"},
        "decay: expected above 0 to 1": {"decay": 1.5},
        "max_gradient_norm: expected a number of at least 0": {"max_gradient_norm": -1.0},
        "stft_weight: expected a number of at least 0": {"stft_weight": float("nan")},
    }.items():
        with pytest.raises(InputError, match=message):
            TrainConfig(**values)


def test_every_option_of_the_loss_trains(tmp_path: Path) -> None:
    config = replace(SMALL, epochs=3, dc_weight=0.5, stft_weight=0.1, pre_emphasis=0.95,
                     max_gradient_norm=0.0, schedule="exponential", decay=0.9)  # fmt: skip
    result = train(config, [make_pair()], small_model(), tmp_path / "run")
    assert result.test_esr < 0.5 * result.dry_as_wet_esr
    rates = [line["learning_rate"] for line in log_of(tmp_path / "run")]
    assert rates == pytest.approx([0.02, 0.018, 0.0162])
    assert result.scores.model.esr == result.test_esr
    assert result.scores.best_gain.esr == result.best_gain_esr


def named(pairs: list[Pair], parts: list[str]) -> Data:
    return from_pairs([replace(p, split=s) for p, s in zip(pairs, parts, strict=True)], Split())


def parts_of(data: Data, file: int) -> list[tuple[str, int, int]]:
    rows = zip(data.spans.tolist(), data.parts.tolist(), strict=True)
    return [(PARTS[part], start, length) for (f, start, length), part in rows if f == file]


def test_parts_that_pairs_name_are_kept() -> None:
    pairs = [make_pair(800, i, str(i)) for i in range(3)]
    every = named(pairs, ["train", "validation", "test"])
    assert [parts_of(every, i) for i in range(3)] == [[(p, 0, 800)] for p in PARTS]
    whole = [("train", 0, 600), ("validation", 600, 100), ("test", 700, 100)]
    some = named(pairs, ["train", "", "test"])
    assert [parts_of(some, i) for i in range(3)] == [
        [("train", 0, 800)],
        whole,
        [("test", 0, 800)],
    ]
    held = named(pairs, ["train", "train", "test"])
    shared = [("train", 0, 686), ("validation", 686, 114)]
    assert [parts_of(held, i) for i in range(3)] == [shared, shared, [("test", 0, 800)]]
    assert parts_of(named(pairs, ["train"] * 3), 1) == whole
    with pytest.raises(InputError, match="split: expected one of train, validation, test, got"):
        named(pairs, ["train", "held-out", "test"])


@given(st.lists(st.sampled_from(["", *PARTS]), min_size=1, max_size=6), st.integers(0, 9))
def test_no_sample_is_in_two_parts_however_they_are_named(parts: list[str], guard: int) -> None:
    lengths = [100 + 7 * i for i in range(len(parts))]
    pairs = [Pair(str(i), np.ones(n, np.float32), np.ones(n, np.float32), RATE, {}, part)
             for i, (n, part) in enumerate(zip(lengths, parts, strict=True))]  # fmt: skip
    data = from_pairs(pairs, Split(guard_samples=guard))
    seen = [np.zeros(length, int) for length in lengths]
    for (file, start, length), part in zip(data.spans.tolist(), data.parts.tolist(), strict=True):
        seen[file][start : start + length] += 1
        assert parts[file] in ("", "train", PARTS[part])
    assert all(count.max() <= 1 for count in seen)
    assert all(count.min() == 1 for count in seen) or guard


def test_a_pack_keeps_the_named_parts(tmp_path: Path) -> None:
    pairs = [replace(make_pair(800, i, str(i)), split=p) for i, p in enumerate(("test", "", ""))]
    pack(pairs, tmp_path / "d.fxpack")
    packed = load(tmp_path / "d.fxpack")
    assert packed.fingerprint == from_pairs(pairs, Split()).fingerprint


def test_folders_are_put_together_and_included_ones_only_train(tmp_path: Path) -> None:
    folders = [write_folder(tmp_path / n, [make_pair(900, 1)]) for n in ("one", "two", "more")]
    pairs = gather(folders[:2], [folders[2]])
    assert [(p.name, p.split) for p in pairs] == [("one/a", ""), ("two/a", ""), ("more/a", "train")]
    result = train(SMALL, pairs, small_model(), tmp_path / "run")
    assert result.test_esr < 1
    with pytest.raises(InputError, match="expected folders of different names, got one/a twice"):
        gather([folders[0], folders[0]])
    pack(pairs, tmp_path / "d.fxpack")
    with pytest.raises(InputError, match="expected folders beside each other, got the file"):
        gather([folders[0], tmp_path / "d.fxpack"])
    assert isinstance(gather([tmp_path / "d.fxpack"]), Data)
    with pytest.raises(PairError, match="expected a folder with dry/ and wet/"):
        gather([tmp_path / "none"])
