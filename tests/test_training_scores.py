"""Every figure of merit against what it has to be, and models scored by them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from scipy.signal import stft
from test_training_run import RATE, make_pair, one_thread, small_model

from fxfast import exchange
from fxfast.cli import main
from fxfast.data import Split, from_pairs
from fxfast.errors import InputError, PairError
from fxfast.pairs.pair_set import Pair
from fxfast.player import Player
from fxfast.training import evaluate_model, score
from fxfast.training.losses import dc_loss, stft_loss
from fxfast.training.metrics import LSD_FRAME, LSD_HOP, STFT_RESOLUTIONS, compare

__all__ = ["one_thread"]


def noise(samples: int, seed: int = 0, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


def test_a_perfect_prediction_scores_nothing() -> None:
    x = noise(9000)
    scores = score([x], [x], RATE)
    assert (scores.esr, scores.esr_pre_emphasis, scores.dc, scores.loud_esr) == (0, 0, 0, 0)
    assert (scores.stft, scores.log_spectral_distance_db) == (0, 0)
    assert scores.error_dbfs == -400
    assert scores.quiet_error_dbfs is None


def test_figures_of_known_errors() -> None:
    target = noise(16_000)
    energy = float(np.mean(np.square(target, dtype=np.float64)))
    louder = score([1.1 * target], [target], RATE)
    assert louder.esr == pytest.approx(0.01, rel=1e-4)
    assert louder.esr_pre_emphasis == pytest.approx(0.01, rel=1e-4)
    # A gain moves every bin by as many decibels and every magnitude by its logarithm.
    assert louder.log_spectral_distance_db == pytest.approx(20 * np.log10(1.1), rel=1e-3)
    assert louder.stft == pytest.approx(0.1 + np.log(1.1), rel=1e-3)
    assert louder.error_dbfs == pytest.approx(10 * np.log10(0.01 * energy), abs=0.01)
    shifted = score([target + np.float32(0.01)], [target], RATE)
    assert shifted.dc == pytest.approx(1e-4 / energy, rel=1e-3)
    assert shifted.esr == pytest.approx(1e-4 / energy, rel=1e-3)
    assert shifted.esr_pre_emphasis is not None
    assert shifted.esr is not None
    assert shifted.esr_pre_emphasis < 0.01 * shifted.esr


def test_spectra_are_those_of_scipy() -> None:
    target, prediction = noise(20_000), noise(20_000, 1)
    options: dict[str, Any] = {"boundary": None, "padded": True, "scaling": "spectrum"}

    def magnitudes(x: np.ndarray, size: int, hop: int, length: int) -> np.ndarray:
        rest = -(len(x) - length) % hop
        taper = np.hanning(length + 1)[:-1]
        x = np.pad(x.astype(np.float64), (0, rest))
        found = stft(x, 1, taper, length, length - hop, size, **options)[2]
        return np.maximum(np.abs(found) * taper.sum(), 1e-5)

    expected = []
    for size in STFT_RESOLUTIONS:
        got, wanted = magnitudes(prediction, *size), magnitudes(target, *size)
        convergence = np.linalg.norm(wanted - got) / np.linalg.norm(wanted)
        expected.append(convergence + np.abs(np.log(wanted / got)).mean())
    scores = score([prediction], [target], RATE)
    assert scores.stft == pytest.approx(np.mean(expected), rel=1e-6)
    got, wanted = (magnitudes(x, LSD_FRAME, LSD_HOP, LSD_FRAME) for x in (prediction, target))
    decibels = 20 * np.log10(wanted / got)
    distance = np.sqrt(np.square(decibels).mean(axis=0)).mean()
    assert scores.log_spectral_distance_db == pytest.approx(distance, rel=1e-6)


def test_quiet_frames_count_for_themselves() -> None:
    frame = RATE // 100
    target = np.concatenate([noise(50 * frame), noise(50 * frame, 1, 1e-5)])
    error = np.concatenate([np.zeros(50 * frame), np.full(50 * frame, 1e-3)]).astype(np.float32)
    scores = score([target + error], [target], RATE)
    assert scores.quiet_error_dbfs == pytest.approx(-60, abs=0.05)
    assert scores.loud_esr == 0
    assert scores.esr is not None
    assert scores.esr < 1e-3  # which is why ESR alone misleads


def test_several_signals_are_scored_together_and_silence_has_no_ratio() -> None:
    one, other = noise(3000), noise(700, 1)
    together = compare([one, 0 * other], [one, other], [one, other], RATE)
    share = np.sum(other**2.0) / (np.sum(one**2.0) + np.sum(other**2.0))
    assert together.model.esr == pytest.approx(share, rel=1e-5)
    assert together.dry_as_wet.esr == 0
    assert together.best_gain.esr == pytest.approx(0, abs=1e-9)
    silent = score([one], [0 * one], RATE)
    assert (silent.esr, silent.esr_pre_emphasis, silent.dc, silent.loud_esr) == (None,) * 4
    assert silent.quiet_error_dbfs is not None
    with pytest.raises(InputError, match=r"prediction: expected the target's shape \(700,\)"):
        score([one], [other], RATE)


@pytest.mark.parametrize("samples", [16, 300, 4096])
def test_added_losses_fall_and_have_gradients(samples: int) -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.1 * torch.randn(3, 1, samples, generator=generator)
    mask = torch.ones_like(target)
    for loss_of in (dc_loss, stft_loss):
        assert float(loss_of(target, target, mask)) <= 1.1e-6
        values = []
        for step in (0.3, 0.1, 0.03):
            prediction = (target + step * 0.1).requires_grad_()
            loss = loss_of(prediction, target, mask)
            loss.backward()
            assert prediction.grad is not None
            assert torch.isfinite(prediction.grad).all()
            values.append(float(loss.detach()))
        assert values == sorted(values, reverse=True)
        silent = torch.zeros_like(target, requires_grad=True)
        loss_of(silent, target * 0, mask).backward()
        assert silent.grad is not None
        assert torch.isfinite(silent.grad).all()


@pytest.mark.parametrize("loss_of", [dc_loss, stft_loss])
def test_gradients_of_added_losses_are_right(loss_of: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(2, 1, 40, generator=generator, dtype=torch.float64)
    prediction = torch.randn(2, 1, 40, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.ones_like(target)
    mask[1, 0, 30:] = 0
    assert torch.autograd.gradcheck(lambda p: loss_of(p, target, mask), (prediction,))


def test_a_model_is_scored_on_every_file_as_it_would_be_rendered(tmp_path: Path) -> None:
    graph = small_model().to_graph(RATE)
    pairs = [make_pair(3000), make_pair(2000, 1, "b/c")]
    data = from_pairs(pairs, Split(0.5, 0.25, 0.25))
    result = evaluate_model(graph, data, "test", tmp_path / "residuals")
    assert [(file.name, file.start_seconds) for file in result.files] == [
        ("a", 2250 / RATE),
        ("b/c", 1500 / RATE),
    ]
    for pair, file in zip(pairs, result.files, strict=True):
        start = round(file.start_seconds * RATE)
        wet, dry = pair.wet[start:], pair.dry[start:]
        rendered = Player(graph, mode="stream").render(pair.dry)[start:]
        assert file.scores == compare([rendered], [dry], [wet], RATE)
        residual, rate = sf.read(tmp_path / "residuals" / f"{pair.name}.wav", dtype="float32")
        assert rate == RATE
        assert np.array_equal(residual, wet - rendered)
    with pytest.raises(PairError, match="expected 44100 Hz as the model has, got 8000 Hz"):
        evaluate_model(small_model().to_graph(44_100), data)
    with pytest.raises(PairError, match="expected audio in the part test, got none"):
        evaluate_model(graph, from_pairs(pairs), "test")


def write_folder(root: Path, pairs: list[Pair]) -> Path:
    for pair in pairs:
        for side, audio in (("dry", pair.dry), ("wet", pair.wet)):
            path = root / side / f"{pair.name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, audio, pair.sample_rate, subtype="FLOAT")
    return root


def test_the_command_prints_a_table_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "pairs", [make_pair(3000, name="[b]a")])
    exchange.save(small_model().to_graph(RATE), tmp_path / "m.safetensors")
    words = ["evaluate", str(tmp_path / "m.safetensors"), str(folder)]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "[b]a" in text
    assert "dry as wet" in text
    assert "all, 0.4 s: ESR " in text
    assert main([*words, "--json", "--part", "test", "-o", str(tmp_path / "left")]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"][0]["seconds"] == pytest.approx(375 / RATE)
    assert set(result["total"]) == {"model", "dry_as_wet", "best_gain"}
    assert (tmp_path / "left/[b]a.wav").exists()
