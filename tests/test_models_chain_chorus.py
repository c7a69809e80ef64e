"""A chorus in a chain: steps that begin anywhere in a file, and how it is found behind others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from families import chorus, flanger
from test_models_chain import CHORUS, ECHO, GAIN, NET, STEPS
from test_models_delay import RATE, model_of, pieces_of, sound, swinging
from tolerances import TOLERANCES

from fxfast import models
from fxfast.data import Blocks, Split, from_pairs
from fxfast.errors import PairError
from fxfast.graph import Delay
from fxfast.models.chain import ChainConfig, ChainModel
from fxfast.models.chain_fit import fit_chain
from fxfast.models.delay_line import DelayModel
from fxfast.models.modulated_fit import Chorus, Swing, without_swing
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import Observer, Step, train

SWING = Chorus(0.8, (Swing(0.5, 1.7 / RATE, 96.3, np.array([[12.0, 4.0]])),), 4)


def chain(*parts: object, seed: int = 0) -> ChainModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ChainModel(ChainConfig(parts))  # type: ignore[arg-type]


def drive(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.3 * np.tanh(6.0 * x))


def swung(x: np.ndarray, made_by: Chorus = SWING) -> np.ndarray:
    return made_by.predict(x.astype(np.float64), 0).astype(np.float32)


@pytest.mark.parametrize("node", [chorus, flanger])
def test_rows_that_begin_anywhere_are_parts_of_the_stream(node: object) -> None:
    model = model_of(node())  # type: ignore[operator]
    x, starts, history, count = sound(4000), torch.tensor([0, 1500, 2777]), 400, 300
    whole = Player(model.to_graph(RATE), mode="stream").render(x)
    rows = np.stack([x[start : start + history + count] for start in starts])
    with torch.no_grad():
        made = model(torch.from_numpy(rows)[:, None], starts).numpy()[:, 0, history:]
        alone = model(torch.from_numpy(rows[1:])[:, None]).numpy()[:, 0, history:]
    wanted = np.stack([whole[start + history :][:count] for start in starts])
    # The loop of the flanger hears silence before each row; what it keeps of it dies away.
    bound = TOLERANCES["windows_and_engine"].value * np.abs(wanted).max()
    assert np.abs(made - wanted).max() <= bound
    assert np.abs(alone - wanted[1:]).max() > 100 * bound


def test_rows_of_blocks_say_where_in_their_files_they_begin() -> None:
    pairs = [Pair(name, x := sound(count, count), x[::-1].copy(), RATE)
             for name, count in (("a", 3000), ("b", 5000))]  # fmt: skip
    data = from_pairs(pairs, Split(0.6, 0.2, 0.2))
    blocks = Blocks.of(data.train, 65, batch_size=1024, run=256, seed=3, threads=0)
    seen = 0
    for x_bct, _, mask_bct in blocks:
        for row, mask, start in zip(x_bct[:, 0], mask_bct[:, 0], blocks.starts, strict=True):
            heard = row[: 64 + int(mask.sum())].numpy()
            at = [p.dry[int(start) : int(start) + len(heard)] for p in pairs]
            assert any(np.array_equal(heard, each) for each in at)
            seen += 1
    assert seen > 10
    (first, *_) = data.validation.spans
    later = Blocks.of(data.validation, 65, batch_size=256, run=256, seed=0, threads=0)
    next(iter(later))
    assert int(later.starts.min()) >= int(first[1])


def test_a_chain_hears_its_rows_where_they_begin() -> None:
    model = chain(GAIN, CHORUS)
    model._receptive_field = 900
    model.parts[1].set_node(chorus())
    model.parts[0].rates.data[:2] = 0.05
    x, starts = sound(4000), torch.tensor([0, 1200, 2500])
    whole = Player(model.to_graph(RATE), mode="stream").render(x)
    rows = torch.from_numpy(np.stack([x[start : start + 1400] for start in starts]))[:, None]
    with torch.no_grad():
        made = model(rows, starts).numpy()[:, 0]
    wanted = np.stack([whole[start + 899 : start + 1400] for start in starts])
    bound = TOLERANCES["windows_and_engine"].value * np.abs(wanted).max()
    assert np.abs(made - wanted).max() <= bound


def test_a_chorus_is_taken_back() -> None:
    dry = sound(3 * RATE)
    again = without_swing(SWING, swung(dry), 0)
    # The dry is the louder one, so nothing is cancelled; damping leaves its own.
    assert np.sum((again - dry) ** 2) < 0.01 * np.sum(dry**2)
    late = without_swing(SWING, swung(dry)[RATE:], RATE)
    assert np.sum((late - dry[RATE:])[2000:] ** 2) < 0.01 * np.sum(dry[RATE:] ** 2)


def test_a_drive_into_a_chorus_is_learnt_end_to_end(tmp_path: Path) -> None:
    dry = sound(8 * RATE)
    pair = Pair("a", dry, swung(drive(dry)), RATE)
    model = chain(NET, CHORUS)
    result = train(replace(STEPS, epochs=3), [pair], model, tmp_path / "run")
    alone = train(STEPS, [pair], models.create("chorus"), tmp_path / "chorus")
    # 0.002, where the chorus alone comes to 0.029.
    assert result.test_esr < 0.2 * alone.test_esr
    assert result.test_esr < 0.02 * result.best_gain_esr
    (voice,) = model.parts[1].found.voices
    assert voice.rate * RATE == pytest.approx(1.7, rel=1e-3)
    assert voice.centre == pytest.approx(96.3, abs=0.2)


def test_a_compressor_into_a_chorus_is_found_without_a_step() -> None:
    compressor = models.create("compressor")
    compressor.curve.data[:] = -0.5 * torch.relu(torch.arange(65) / 4.0 - 11.0)
    dry = sound(8 * RATE) * (0.2 + np.abs(np.sin(np.arange(8 * RATE) / 9000.0))).astype("f4")
    pressed = Player(compressor.to_graph(RATE), threads=1).render(dry.astype(np.float32))
    wet = swung(pressed)
    pieces = pieces_of(dry.astype(np.float32), wet, 6 * RATE)
    parts = [models.create("compressor"), models.create("chorus")]
    shares: list[float] = []
    fit_chain(parts, pieces, RATE, lambda share, _: shares.append(share))
    assert shares == sorted(shares)
    heard = Player(parts[0].to_graph(RATE), threads=1).render(dry.astype(np.float32))
    made = Player(parts[1].to_graph(RATE), threads=1).render(heard)
    error = np.sum((made - wet)[6 * RATE :] ** 2) / np.sum(wet[6 * RATE :] ** 2)
    assert error < 0.005


def test_a_swing_that_is_not_there_is_refused_with_the_order() -> None:
    dry = sound(4 * RATE)
    model = chain(GAIN, CHORUS)
    with pytest.raises(PairError, match="expected a copy of dry in wet whose delay swings"):
        model.fit(*pieces_of(dry, drive(dry), 3 * RATE), RATE, lambda s, n: None)
    model = chain(ECHO, CHORUS)
    echo = models.create("delay")
    echoed = Player(echo.to_graph(RATE), threads=1).render(dry)
    with pytest.raises(PairError, match="looked for behind delay, maybe in the wrong order"):
        model.fit(*pieces_of(dry, echoed, 3 * RATE), RATE, lambda s, n: None)


def moved(node: Delay, name: str, by: float) -> DelayModel:
    model = model_of(node)
    getattr(model, name).data += by
    return model


@pytest.mark.parametrize("node", [chorus, flanger])
@pytest.mark.parametrize(("name", "by"), [("tables", -2.5), ("tables", -9.0), ("mix", 0.9)])
def test_steps_that_go_too_far_leave_a_model_that_plays(node: object, name: str, by: float) -> None:
    model = moved(node(), name, by)  # type: ignore[operator]
    graph = model.to_graph(RATE)
    graph.root.validate("root", 1)
    x = sound(1500)
    rendered = Player(graph, mode="stream").render(x)
    with torch.no_grad():
        made = model(torch.from_numpy(x)[None, None]).numpy()[0, 0]
    assert np.abs(made - rendered).max() <= (
        TOLERANCES["windows_and_engine"].value * max(1.0, np.abs(rendered).max())
    )


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_chain_with_a_chorus_killed_in_its_fit_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    class Stop(Observer):
        def on_fit(self, done: float, note: str) -> None:
            if done > share:
                raise KeyboardInterrupt

    monkeypatch.setattr("fxfast.models.chain_fit._STEPS", 20)
    dry, config = sound(4 * RATE), replace(STEPS, epochs=2)
    pairs = [Pair("a", dry, swung(drive(dry)), RATE)]
    whole = train(config, pairs, chain(NET, CHORUS), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, pairs, chain(NET, CHORUS), tmp_path / "cut", observers=[Stop()])
    cut = train(config, pairs, chain(NET, CHORUS, seed=4), tmp_path / "cut", resume=True)
    assert cut.test_esr == whole.test_esr


def test_a_chain_with_a_chorus_killed_between_steps_ends_as_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Observer):
        def on_step(self, step: Step) -> None:
            if step.number == 5:
                raise KeyboardInterrupt

    monkeypatch.setattr("fxfast.models.chain_fit._STEPS", 20)
    monkeypatch.setattr("fxfast.training.trainer.CHECKPOINT_SECONDS", -1.0)
    dry, config = swinging(4 * RATE)[0], replace(STEPS, epochs=2)
    pairs = [Pair("a", dry, swung(drive(dry)), RATE)]
    whole = chain(NET, CHORUS)
    train(config, pairs, whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, pairs, chain(NET, CHORUS), tmp_path / "cut", observers=[Stop()])
    other = chain(NET, CHORUS, seed=4)
    train(config, pairs, other, tmp_path / "cut", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
