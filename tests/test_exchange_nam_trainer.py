"""``.nam`` files to and from the trainer, where the package neural-amp-modeler is installed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from nam_documents import a1_preset, a2_array, document, new_array, parse, values, wavenet
from tolerances import TOLERANCES

from fxfast.exchange import nam_write
from fxfast.graph import ModelGraph
from fxfast.player import Player

trainer = pytest.importorskip(
    "nam.models._from_nam", reason="needs neural-amp-modeler", exc_type=ImportError
)
torch = pytest.importorskip("torch")

SAMPLES = 8_000
OURS = {
    "a1-standard": wavenet(*a1_preset("standard")),
    "a1-nano": wavenet(*a1_preset("nano")),
    "a2-full": wavenet(a2_array(8)),
    "gated-and-blended": wavenet(
        new_array(
            gating_mode=["gated", "blended"],
            activation=[{"type": "Tanh"}, {"type": "ReLU"}],
            secondary_activation=[{"type": "Sigmoid"}, {"type": "SiLU"}],
            head1x1={"active": True, "out_channels": 6, "groups": 2},
            conv_pre_film={"active": True, "shift": True, "groups": 1},
            layer1x1_post_film={"active": True, "shift": False, "groups": 1},
        )
    ),
    "post-stack-head": wavenet(
        new_array(head={"out_channels": 2, "kernel_size": 3, "bias": True}),
        head={"channels": 3, "out_channels": 1, "kernel_sizes": [4, 2], "activation": "ReLU"},
    ),
    "lstm-2x8": document(
        "LSTM",
        {"input_size": 1, "hidden_size": 8, "num_layers": 2},
        values(32 * 9 + 32 + 16 + 32 * 16 + 32 + 16 + 9),
    ),
}


def noise() -> np.ndarray:
    return np.random.default_rng(2).uniform(-0.5, 0.5, SAMPLES).astype(np.float32)


def theirs_plays(model: Any) -> np.ndarray:
    with torch.no_grad():
        played: np.ndarray = model(torch.from_numpy(noise())[None], pad_start=True)[0].numpy()
    return played


def ours_plays(graph: ModelGraph) -> np.ndarray:
    return Player(graph, threads=1).render(noise())


def exported(model: Any, architecture: str) -> Any:
    """The document that the trainer writes, without its metadata."""
    weights = np.asarray(model._export_weights(), np.float64).tolist()
    return json.loads(json.dumps(document(architecture, model._export_config(), weights)))


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    scale = max(1.0, float(np.abs(b).max()))
    assert np.abs(a - b).max() < TOLERANCES["nam_trainer"].value * scale


@pytest.mark.parametrize("name", OURS)
def test_the_trainer_plays_our_file_and_we_play_its_export(name: str) -> None:
    graph = parse(OURS[name])
    text = json.loads(nam_write.dumps(graph))
    model = trainer.init_from_nam(text).eval()
    # An LSTM of the trainer starts from the states in the file, which are no settled ones here.
    start = SAMPLES // 2 if graph.is_recurrent else 0
    assert_close(ours_plays(graph)[start:], theirs_plays(model)[start:])
    back = exported(model, text["architecture"])
    if graph.is_recurrent:
        # It writes the states that it reaches on silence, where ours settles from the others.
        assert_close(ours_plays(parse(back)), ours_plays(graph))
    else:
        assert back["weights"] == text["weights"]
        np.testing.assert_array_equal(ours_plays(parse(back)), ours_plays(graph))


@pytest.mark.parametrize("batchnorm", [False, True])
@pytest.mark.parametrize("activation", ["Tanh", "Hardtanh"])
def test_we_play_its_convnets(batchnorm: bool, activation: str) -> None:
    from nam.models.conv_net import ConvNet

    torch.manual_seed(0)
    config = {"channels": 5, "dilations": [1, 2, 4], "batchnorm": batchnorm}
    model = ConvNet.init_from_config({**config, "activation": activation})
    for _ in range(3):  # batch norm learns its means
        model.train()(torch.randn(4, 2_000), pad_start=True)
    graph = parse(exported(model.eval(), "ConvNet"))
    assert_close(ours_plays(graph), theirs_plays(model))


def test_we_play_its_linear_models_in_either_order() -> None:
    """Trainers before August 2026 write the oldest tap first, and nothing in the file says so."""
    from nam.models.linear import Linear

    torch.manual_seed(0)
    model = Linear.init_from_config({"receptive_field": 7, "bias": True}).eval()
    found, played = exported(model, "Linear"), theirs_plays(model)
    orders = ("newest-first", "oldest-first")
    errors = [
        np.abs(ours_plays(parse(found, linear_tap_order=order)) - played).max() for order in orders
    ]
    assert min(errors) < TOLERANCES["nam_trainer"].value
