"""``.nam`` files in: layouts, options, traps, architectures."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nam_documents import (
    a1_preset,
    a2_array,
    document,
    new_array,
    old_array,
    parse,
    values,
    wavenet,
)
from programs import run_program
from tolerances import TOLERANCES

from fxfast import exchange
from fxfast.errors import InputError, ModelError
from fxfast.graph import ConvStack, Linear, ModelGraph, Recurrent, Sequential, WaveNet
from fxfast.lowering import lower


def refused(found: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        parse(found, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    return message


def play(graph: ModelGraph, x: np.ndarray) -> np.ndarray:
    return run_program(lower(graph), x, np.float64, graph.receptive_field)


def noise(samples: int = 200) -> np.ndarray:
    return np.random.default_rng(3).uniform(-0.5, 0.5, samples)


def wavenet_of(graph: ModelGraph) -> WaveNet:
    assert isinstance(graph.root, WaveNet)
    return graph.root


# --- weights: counts and places --------------------------------------------------------


def test_an_unknown_architecture_is_refused_by_name() -> None:
    message = refused(document("CatLSTM", {"input_size": 1}, []))
    assert message == (
        "architecture: expected one of WaveNet, LSTM, ConvNet, Linear, Sequential, "
        "SlimmableContainer, got 'CatLSTM'"
    )


@pytest.mark.parametrize(
    ("arrays", "count", "receptive_field"),
    [
        (a1_preset("standard"), 13802, 4093),
        (a1_preset("lite"), 6554, 4093),
        (a1_preset("feather"), 3026, 4093),
        (a1_preset("nano"), 842, 4093),
        ([a2_array(3)], 1871, 6347),
        ([a2_array(8)], 12146, 6347),
    ],
    ids=["standard", "lite", "feather", "nano", "a2-lite", "a2-full"],
)
def test_presets_have_the_known_counts(
    arrays: list[dict[str, Any]], count: int, receptive_field: int
) -> None:
    graph = parse(wavenet(*arrays, count=count))
    assert (graph.parameters, graph.receptive_field) == (count, receptive_field)
    assert f"expected {count} values, got {count - 1}; head_scale () needs 1, 0 are left" in (
        refused(wavenet(*arrays, count=count - 1))
    )
    assert f"expected {count} values, got {count + 1}; 1 are left after head_scale" in (
        refused(wavenet(*arrays, count=count + 1))
    )


def test_the_first_tensor_that_does_not_fit_is_named() -> None:
    assert refused(wavenet(old_array(), count=20)) == (
        "weights: expected 98 values, got 20; arrays[0].layers[0].conv_weight (3, 3, 3) needs 27, "
        "17 are left"
    )


def test_every_weight_is_where_the_format_says() -> None:
    """Channels 2, bottleneck 1, one gated layer, one FiLM: 41 weights counted by hand."""
    array = new_array(
        channels=2,
        bottleneck=1,
        dilations=[5],
        kernel_sizes=[3],
        activation="Tanh",
        gating_mode="gated",
        head1x1={"active": True, "out_channels": 3, "groups": 1},
        conv_post_film={"active": True, "shift": True, "groups": 1},
        head={"out_channels": 1, "kernel_size": 2, "bias": True},
    )
    found = wavenet(array, count=2 + 12 + 2 + 2 + 4 + 6 + 8 + 6 + 1 + 1)
    found["weights"] = list(range(len(found["weights"])))
    net = wavenet_of(parse(found))
    layer = net.arrays[0].layers[0]
    assert layer.layer1x1 is not None
    assert layer.head1x1 is not None
    film = layer.films["conv_post_film"]
    in_order = [
        (net.arrays[0].rechannel, (2, 1)),
        (layer.conv_weight, (2, 2, 3)),
        (layer.conv_bias, (2,)),
        (layer.mixin_weight, (2, 1)),
        (layer.layer1x1.weight, (2, 1)),
        (layer.layer1x1.bias, (2,)),
        (layer.head1x1.weight, (3, 1)),
        (layer.head1x1.bias, (3,)),
        (film.weight, (4, 1)),
        (film.bias, (4,)),
        (net.arrays[0].head_weight, (1, 3, 2)),
        (net.arrays[0].head_bias, (1,)),
    ]
    start = 0
    for tensor, shape in in_order:
        assert tensor is not None
        assert tensor.shape == shape
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor.ravel(), np.arange(start, start + tensor.size))
        start += tensor.size
    assert net.head_scale == start


# --- keys and their defaults -------------------------------------------------------------


def test_old_and_new_keys_say_the_same() -> None:
    old = wavenet(old_array(gated=True), seed=1)
    new = wavenet(
        new_array(
            channels=3,
            bottleneck=None,
            dilations=[1, 2],
            kernel_sizes=[3, 3],
            activation="Tanh",
            gating_mode=["gated", "gated"],
            secondary_activation=[{"type": "Sigmoid"}, None],
            layer1x1=None,
            head={"out_channels": 1, "kernel_size": 1, "bias": True},
        ),
        seed=1,
    )
    assert old["weights"] == new["weights"]
    np.testing.assert_array_equal(play(parse(old), noise()), play(parse(new), noise()))


def test_the_version_does_not_decide_which_keys_exist() -> None:
    for version in ("0.5.0", "0.5.4", "0.5.99", "0.6.0", "0.7.0", "0.7.3"):
        for array in (old_array(), new_array()):
            assert parse({**wavenet(array), "version": version}).kind == "wavenet"


@pytest.mark.parametrize("version", ["0.4.9", "0.8.0", "1.0.0", "0.7", "0.7.0a", "", 0.7, None])
def test_other_versions_are_refused(version: Any) -> None:
    message = refused({**wavenet(old_array()), "version": version})
    assert message.startswith("version: expected ")


def test_a_file_without_a_rate_is_48_khz_and_stays_without() -> None:
    found = wavenet(old_array())
    del found["sample_rate"]
    graph = parse(found)
    assert graph.sample_rate == 48_000
    assert graph.metadata["nam"]["sample_rate"] is None
    assert parse({**found, "sample_rate": 44100.0}).sample_rate == 44_100


def test_activations_and_their_parameters() -> None:
    def activation(described: Any, channels: int = 3) -> Any:
        array = old_array(channels=channels, dilations=[1], activation=described)
        return wavenet_of(parse(wavenet(array))).arrays[0].layers[0].activation

    kinds = {
        "Tanh": "tanh",
        "Hardtanh": "hardtanh",
        "Fasttanh": "fasttanh",
        "ReLU": "relu",
        "Sigmoid": "sigmoid",
        "SiLU": "silu",
        "Hardswish": "hardswish",
        "Softsign": "softsign",
    }
    for name, kind in kinds.items():
        assert activation(name).kind == activation({"type": name}).kind == kind
    assert activation({"type": "Hardtanh", "min_val": -1.0, "max_val": 1.0}).kind == "hardtanh"
    assert activation("LeakyReLU").slopes == np.float32(0.01)
    assert activation({"type": "LeakyReLU", "negative_slope": 0.2}).slopes == np.float32(0.2)
    assert activation({"type": "PReLU", "negative_slope": 0.3}).slopes == np.float32(0.3)
    slopes = activation({"type": "PReLU", "negative_slopes": [0.1, 0.2, 0.3]}).slopes
    np.testing.assert_array_equal(slopes, np.array([0.1, 0.2, 0.3], np.float32))
    for name in ("LeakyHardtanh", "LeakyHardTanh"):
        limits = activation({"type": name, "min_val": -0.5}).limits
        np.testing.assert_array_equal(limits, np.array([-0.5, 1, 0.01, 0.01], np.float32))


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ("Softsigmoid", "expected one of Tanh, "),
        ({"type": "Tanh", "inplace": True}, "expected no such parameter of Tanh: 'inplace'"),
        ("PReLU", "negative_slope: expected a value, got none"),
        ({"type": "PReLU", "negative_slopes": [0.1, 0.2]}, "expected 1 or 3 values, got 2"),
        ({"type": "LeakyReLU", "negative_slope": "0.1"}, "expected a finite float32 number"),
        ({"type": "Hardtanh", "max_val": 2}, "max_val: expected 1.0 for Hardtanh, got 2"),
        (["Tanh"], "expected one value or a list of 2, one for each dilation, got 1"),
        (None, "activation: expected an object, got None"),
        (7, "activation[0]: expected an object, got 7"),
    ],
)
def test_activations_that_are_refused(described: Any, words: str) -> None:
    found = wavenet(old_array(), count=94)
    found["config"]["layers"][0]["activation"] = described
    message = refused(found)
    assert message.startswith("config.layers[0].activation")
    assert words.replace("activation: ", "") in message


# --- the traps of the format -------------------------------------------------------------


def test_the_last_weight_overrides_the_head_scale() -> None:
    found = wavenet(old_array())
    found["config"]["head_scale"] = 123.0
    found["weights"][-1] = 0.25
    assert wavenet_of(parse(found)).head_scale == 0.25


def test_an_inactive_layer1x1_passes_the_input_on_and_warns() -> None:
    array = new_array(layer1x1={"active": False, "groups": 1})
    with pytest.warns(UserWarning, match=r"config\.layers\[0\]\.layer1x1: inactive"):
        graph = parse(wavenet(array))
    net = wavenet_of(graph)
    assert [layer.layer1x1 for layer in net.arrays[0].layers] == [None, None]
    # The second layer reads the rechannelled input: an impulse reaches tap delay 2 or 3, not 5.
    assert graph.receptive_field == 1 + max(2, 3)
    array["bottleneck"] = 2
    assert "bottleneck: expected 4 without layer1x1, got 2" in refused(wavenet(array, count=9))


def test_layer1x1_post_film_acts_in_every_mode() -> None:
    """Scale and shift 0 from the FiLM leave h as it was, so the second layer is like the first."""
    film = {"active": True, "shift": True, "groups": 1}
    for mode in ("none", "gated", "blended"):
        array = new_array(gating_mode=mode, layer1x1_post_film=film)
        graph = parse(wavenet(array))
        for layer in wavenet_of(graph).arrays[0].layers:
            layer.films["layer1x1_post_film"].weight[:] = 0
            bias = layer.films["layer1x1_post_film"].bias
            assert bias is not None
            bias[:] = 0
        still = play(graph, noise())
        for layer in wavenet_of(graph).arrays[0].layers:
            assert layer.layer1x1 is not None
            layer.layer1x1.weight[:] = 7
        np.testing.assert_array_equal(play(graph, noise()), still)


@pytest.mark.parametrize("key", ["layer1x1", "head1x1"])
def test_a_film_after_nothing_is_refused(key: str) -> None:
    array = new_array(**{key: {"active": False}, f"{key}_post_film": {"active": True}})
    assert f"{key}_post_film: expected an active {key}, got none" in (
        refused(wavenet(array, count=9))
    )


def test_linear_taps_are_newest_first_unless_told() -> None:
    taps = values(5)
    found = document("Linear", {"receptive_field": 5, "bias": True}, [*taps, 0.5])
    x = np.eye(1, 12)[0]
    expected = np.concatenate([taps, np.zeros(7)]) + 0.5
    np.testing.assert_allclose(play(parse(found), x), expected, atol=1e-12)
    old = parse(found, linear_tap_order="oldest-first")
    expected[:5] = np.array(taps[::-1]) + 0.5
    np.testing.assert_allclose(play(old, x), expected, atol=1e-12)
    with pytest.raises(InputError, match="linear_tap_order: expected one of newest-first"):
        parse(found, linear_tap_order="reversed")
    assert isinstance(old.root, Linear)


def test_depthwise_groups_use_the_same_order() -> None:
    array = new_array(groups_input=4, layer1x1={"active": True, "groups": 4})
    found = wavenet(array)
    layer = wavenet_of(parse(found)).arrays[0].layers[0]
    assert layer.conv_weight.shape == (4, 1, 3)
    np.testing.assert_array_equal(layer.conv_weight.ravel(), found["weights"][4:16])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"groups_input": 3}, "groups_input: expected groups that divide 4 and 4 channels, got 3"),
        ({"groups_input_mixin": 2}, "groups_input_mixin: expected groups that divide 1 and 4"),
        ({"layer1x1": {"groups": 3}}, "layer1x1: expected groups that divide 4 and 4 channels"),
        (
            {"head": {"out_channels": 1, "kernel_size": 1, "bias": False, "head_dilation": 0}},
            "head.head_dilation: expected an integer from 1 to 16777216, got 0",
        ),
        ({"kernel_size": 3}, "expected either kernel_size or kernel_sizes, got both"),
        ({"kernel_sizes": None}, "expected either kernel_size or kernel_sizes, got none"),
        ({"kernel_sizes": [3]}, "kernel_sizes: expected 2 values, one for each dilation, got 1"),
        ({"gating_mode": "mixed"}, "expected one of none, gated, blended, got 'mixed'"),
        ({"head": None}, "head_size: expected a value, got none"),
        ({"head_size": 2}, "head_size: expected 1 as in head, got 2"),
        ({"head_bias": True}, "head_bias: expected False as in head, got True"),
        ({"input_size": 2}, "input_size: expected 1, got 2"),
        ({"condition_size": 2}, "condition_size: expected 1, got 2"),
        ({"conv_pre_film": True}, "conv_pre_film: expected an object, got True"),
    ],
)
def test_arrays_that_are_refused(changes: dict[str, Any], words: str) -> None:
    message = refused(wavenet(new_array(**changes), count=9))
    assert message.startswith("config.layers[0].")
    assert words in message


def test_arrays_have_to_fit_each_other() -> None:
    second = old_array(input_size=3, channels=2)
    assert parse(wavenet(old_array(head_size=2), second)).kind == "wavenet"
    message = refused(wavenet(old_array(head_size=3), second, count=9))
    assert message == "config.layers[1].bottleneck: expected 3, got 2"


# --- other architectures -------------------------------------------------------------------


def test_lstm_weights_are_where_the_format_says() -> None:
    config = {"input_size": 1, "hidden_size": 2, "num_layers": 2}
    count = (8 * 3 + 8 + 4) + (8 * 4 + 8 + 4) + 2 + 1
    graph = parse(document("LSTM", config, list(range(count))))
    assert isinstance(graph.root, Sequential)
    cells, head = graph.root.children
    assert isinstance(cells, Recurrent)
    assert isinstance(head, ConvStack)
    first, second = cells.layers
    np.testing.assert_array_equal(first.weight_ih, np.arange(0, 24, 3)[:, None])
    np.testing.assert_array_equal(first.weight_hh[1], [4, 5])
    np.testing.assert_array_equal(first.bias_ih + first.bias_hh, np.arange(24, 32))
    np.testing.assert_array_equal(first.initial, [[32, 33], [34, 35]])
    np.testing.assert_array_equal(second.weight_ih[0], [36, 37])
    np.testing.assert_array_equal(second.weight_hh[7], [66, 67])
    np.testing.assert_array_equal(second.initial, [[76, 77], [78, 79]])
    np.testing.assert_array_equal(head.layers[0].weight.ravel(), [80, 81])
    assert head.layers[0].bias == 82
    message = refused(document("LSTM", config, [0] * 50))
    assert message == (
        "weights: expected 83 values, got 50; layers[1].weight (8, 4) needs 32, 14 are left"
    )
    message = refused(document("LSTM", {**config, "out_channels": 2}, []))
    assert message == "config.out_channels: expected 1, got 2"


def test_convnet_folds_the_batch_norm() -> None:
    """Against the equation of batch norm, on a net of one block."""
    config = {"channels": 3, "dilations": [4], "batchnorm": True, "activation": "ReLU"}
    weights = np.array(values(6 + 4 * 3 + 1 + 3 + 1), np.float32)
    weights[9:12] = [0.3, 1.0, 2.0]
    weights[18] = 1e-3
    graph = parse(document("ConvNet", config, weights.astype(float).tolist()))
    x = noise()
    past = np.concatenate([np.zeros(4), x[:-4]])
    conv = weights[:6].reshape(3, 2) @ np.stack([past, x])
    mean, variance, scale, shift = weights[6:18].astype(np.float64).reshape(4, 3, 1)
    normed = (conv - mean) / np.sqrt(variance + np.float64(weights[18])) * scale + shift
    expected = weights[19:22] @ np.maximum(normed, 0) + weights[22]
    assert np.abs(play(graph, x) - expected).max() < TOLERANCES["nam_parity"].value
    assert isinstance(graph.root, ConvStack)
    message = refused(document("ConvNet", {**config, "groups": 3}, []))
    assert message == "config.groups: expected 1, got 3"
    weights[9:12], weights[18] = 0, 0
    message = refused(document("ConvNet", config, weights.astype(float).tolist()))
    assert message == "weights: expected variances above 0 in layers[0], got 0"


def test_convnet_without_batch_norm() -> None:
    config = {"channels": 2, "dilations": [1, 2], "batchnorm": False, "activation": "Tanh"}
    graph = parse(document("ConvNet", config, values(4 + 2 + 8 + 2 + 2 + 1)))
    assert [layer.weight.shape for layer in graph.layers] == [(2, 1, 2), (2, 2, 2), (1, 2, 1)]
    assert [layer.activation.kind for layer in graph.layers] == ["tanh", "tanh", "none"]
    assert (graph.receptive_field, graph.skip) == (4, False)


def test_sequential_plays_one_after_the_other() -> None:
    models = [
        document("Linear", {"receptive_field": 2, "bias": False}, values(2)),
        wavenet(old_array()),
    ]
    found = document("Sequential", {"models": models}, [])
    graph = parse(found)
    assert isinstance(graph.root, Sequential)
    first, second = (parse(model) for model in models)
    np.testing.assert_allclose(play(graph, noise()), play(second, play(first, noise())), atol=1e-12)
    other = copy.deepcopy(found)
    other["config"]["models"][1]["sample_rate"] = 44_100
    message = refused(other)
    assert message == "config.models[1].sample_rate: expected 48000, got 44100"
    assert "weights: expected 0 values" in refused({**found, "weights": [1.0]})


def container(sizes: list[float]) -> Any:
    submodels = [
        {"max_value": size, "model": wavenet(old_array(channels=n + 1))}
        for n, size in enumerate(sizes)
    ]
    return document("SlimmableContainer", {"submodels": submodels}, [])


def test_slim_chooses_the_first_size_above() -> None:
    def channels(slim: float | None) -> int:
        return wavenet_of(parse(container([0.33, 0.66, 1.0]), slim=slim)).arrays[0].channels

    chosen = [channels(slim) for slim in (None, 0, 0.32, 0.33, 0.65, 0.66, 1)]
    assert chosen == [3, 1, 1, 2, 2, 3, 3]
    for sizes in ([0.5, 0.5, 1.0], [1.0, 0.5], [0.5, 0.9]):
        assert "submodels: expected max_value to rise to 1 or more" in refused(container(sizes))
    with pytest.raises(InputError, match="slim: expected a number from 0 to 1"):
        parse(container([1.0]), slim=1.5)
    message = refused(wavenet(old_array()), slim=0.5)
    assert message == "slim: expected none for a model of one size, got 0.5"


def test_the_sizes_that_are_not_chosen_may_be_anything() -> None:
    found = container([0.5, 1.0])
    found["config"]["submodels"][0]["model"] = document("CatLSTM", {}, [])
    assert parse(found).kind == "wavenet"
    assert refused(found, slim=0).startswith("config.submodels[0].model.architecture: ")


def test_a_condition_model_has_to_fit() -> None:
    inner = wavenet(new_array(head={"out_channels": 3, "kernel_size": 1, "bias": False}))
    graph = parse(wavenet(new_array(condition_size=3), condition_dsp=inner))
    condition = wavenet_of(graph).condition
    assert condition is not None
    assert condition.out_channels == 3
    found = wavenet(new_array(condition_size=2), condition_dsp=inner, count=9)
    assert refused(found) == "config.layers[0].condition_size: expected 3, got 2"
    inner["weights"].pop()
    message = refused(wavenet(new_array(condition_size=3), condition_dsp=inner))
    assert message.startswith("config.condition_dsp.weights: expected ")


def test_the_post_stack_head() -> None:
    head = {"channels": 4, "out_channels": 1, "kernel_sizes": [8, 1], "activation": "ReLU"}
    array = new_array(head={"out_channels": 2, "kernel_size": 1, "bias": False})
    net = wavenet_of(parse(wavenet(array, head=head)))
    assert [conv.weight.shape for conv in net.head] == [(4, 2, 8), (1, 4, 1)]
    assert "in_channels: expected 2, got 1" in (
        refused(wavenet(array, head={**head, "in_channels": 1}, count=9))
    )


# --- where files come in -------------------------------------------------------------------


def test_files_are_told_by_name_or_content(tmp_path: Path) -> None:
    text = json.dumps(wavenet(old_array()))
    for name in ("a.nam", "b.NAM", "model", "c.json"):
        (tmp_path / name).write_text(text)
        assert exchange.load(tmp_path / name).kind == "wavenet"
    (tmp_path / "d.safetensors").write_bytes(b"\x80\0\0\0\0\0\0\0{}")
    with pytest.raises(ModelError, match=r"d\.safetensors: header length"):
        exchange.load(tmp_path / "d.safetensors")
    with pytest.raises(ModelError, match=r"missing\.nam: No such file"):
        exchange.load(tmp_path / "missing.nam")


def test_no_warning_without_a_trap() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse(wavenet(old_array()))
        parse(wavenet(new_array()))
