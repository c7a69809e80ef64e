"""``.nam`` files out: what comes back, which keys and version, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nam_documents import (
    PARITY_FILES,
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
from wavenet_reference import reference_graph
from wavenets import PRESETS, WEIGHT_KINDS, Options, random_stack, random_wavenet

from fxfast import exchange
from fxfast.errors import ModelError
from fxfast.exchange import nam, nam_text, nam_write
from fxfast.graph import (
    FILM_PLACES,
    MODES,
    Activation,
    Conv1x1,
    ConvLayer,
    ConvStack,
    Linear,
    ModelGraph,
    Node,
    Recurrent,
    RecurrentLayer,
    Sequential,
)
from fxfast.lowering import lower
from fxfast.player import Player

RATE = 48_000


def written(graph: ModelGraph) -> Any:
    return json.loads(nam_write.dumps(graph))


def again(graph: ModelGraph) -> ModelGraph:
    return nam.parse(nam_write.dumps(graph).encode())


def play(graph: ModelGraph) -> np.ndarray:
    x = np.random.default_rng(3).uniform(-0.5, 0.5, 100)
    if graph.is_recurrent:
        return Player(graph, threads=1).render(x.astype(np.float32))
    return run_program(lower(graph), x, np.float64, graph.receptive_field)


def as_float32(weights: Any) -> bytes:
    return np.array(weights, np.float64).astype(np.float32).tobytes()


def refused(graph: ModelGraph) -> str:
    with pytest.raises(ModelError) as caught:
        nam_write.dumps(graph)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- round trips ---------------------------------------------------------------------------


def assert_round_trip(found: Any, **options: Any) -> Any:
    """Weights to the bit, audio to the bit, the text again to the letter."""
    graph = parse(found, **options)
    result = written(graph)
    assert as_float32(result["weights"]) == as_float32(found["weights"])
    assert again(graph).metadata["nam"].get("unknown") == graph.metadata["nam"].get("unknown")
    np.testing.assert_array_equal(play(again(graph)), play(graph))
    assert nam_write.dumps(again(graph)) == nam_write.dumps(graph)
    return result


@pytest.mark.parametrize("name", ["standard", "lite", "feather", "nano"])
def test_first_generation_presets_are_written_as_0_5_4(name: str) -> None:
    found = wavenet(*a1_preset(name))
    result = assert_round_trip(found)
    assert result["version"] == "0.5.4"
    for array, expected in zip(result["config"]["layers"], found["config"]["layers"], strict=True):
        # What every reader of 0.5.4 knows, and what the trainer of 2026 cannot read without.
        head = {"out_channels": array["head_size"], "kernel_size": 1, "bias": array["head_bias"]}
        assert array == {**expected, "head": head}
    assert set(result) == {"version", "architecture", "config", "weights", "sample_rate"}


def test_gates_are_written_with_the_keys_of_0_7_0() -> None:
    """As 0.5.4 with ``gated`` the trainer would read them as layers without a gate."""
    result = assert_round_trip(wavenet(old_array(gated=True)))
    assert result["version"] == "0.7.0"
    array = result["config"]["layers"][0]
    assert array["gating_mode"] == ["gated", "gated"]
    assert array["secondary_activation"] == [{"type": "Sigmoid"}] * 2


def test_what_the_trainer_needs_to_read_activations_is_there() -> None:
    head = {"channels": 2, "out_channels": 1, "kernel_sizes": [2], "activation": {"type": "ReLU"}}
    config = assert_round_trip(wavenet(new_array(), head=head))["config"]
    assert config["layers"][0]["secondary_activation"] == [None, None]
    assert config["head"]["activation"] == "ReLU"


@pytest.mark.parametrize("channels", [3, 8])
def test_second_generation_presets_are_written_as_0_7_0(channels: int) -> None:
    found = wavenet(a2_array(channels))
    result = assert_round_trip(found)
    assert result["version"] == "0.7.0"
    layers = result["config"]["layers"][0]
    for key, value in found["config"]["layers"][0].items():
        if key != "activation":
            assert layers[key] == value
    slopes = {activation["negative_slope"] for activation in layers["activation"]}
    assert slopes == {float(np.float32(0.01))}


@pytest.mark.parametrize(
    "found",
    [
        document("Linear", {"receptive_field": 5, "bias": True}, [*values(5), 0.0]),
        document("Linear", {"receptive_field": 5, "bias": False}, values(5)),
        document(
            "ConvNet",
            {"channels": 2, "dilations": [1, 2], "batchnorm": False, "activation": "Tanh"},
            values(4 + 2 + 8 + 2 + 3),
        ),
        document(
            "LSTM",
            {"input_size": 1, "hidden_size": 3, "num_layers": 2},
            values(12 * 5 + 6 + 12 * 7 + 6 + 4),
        ),
        wavenet(old_array(activation={"type": "PReLU", "negative_slopes": [0.1, 0.2, 0.3]})),
    ],
    ids=["linear-with-bias", "linear", "convnet", "lstm", "prelu"],
)
def test_other_models_come_back(found: Any) -> None:
    assert_round_trip(found)


def test_nested_models_come_back() -> None:
    inner = wavenet(new_array(head={"out_channels": 3, "kernel_size": 1, "bias": False}))
    inner["metadata"] = {"loudness": -20.0}
    found = wavenet(new_array(condition_size=3), condition_dsp=inner)
    condition = assert_round_trip(found)["config"]["condition_dsp"]
    assert as_float32(condition["weights"]) == as_float32(inner["weights"])
    assert condition["metadata"] == inner["metadata"]
    chain = document("Sequential", {"models": [found, wavenet(old_array())]}, [])
    models = assert_round_trip(chain)["config"]["models"]
    assert [model["version"] for model in models] == ["0.7.0", "0.5.4"]
    assert as_float32(models[0]["weights"]) == as_float32(found["weights"])


def test_what_nobody_knows_comes_back_to_its_place() -> None:
    found = wavenet(old_array(slimmable={"method": "x", "kwargs": {}}), seed=1)
    found |= {"notes": ["a", None, {"b": 1.5}], "metadata": {"name": "überdrive", "gain": None}}
    found["config"] |= {"odd": 7}
    found["config"]["layers"][0] |= {"more": True}
    result = assert_round_trip(found)
    assert result["notes"] == found["notes"]
    assert result["metadata"] == found["metadata"]
    assert result["config"]["odd"] == 7
    assert result["config"]["layers"][0]["more"] is True
    assert result["config"]["layers"][0]["slimmable"] == {"method": "x", "kwargs": {}}
    assert result["version"] == "0.7.0"


def test_a_rate_that_the_file_had_not_is_not_written() -> None:
    found = wavenet(old_array())
    del found["sample_rate"]
    graph = parse(found)
    assert "sample_rate" not in written(graph)
    other = ModelGraph(graph.root, 44_100, metadata=graph.metadata)
    assert written(other)["sample_rate"] == 44_100


def test_the_parity_files_come_back() -> None:
    if not PARITY_FILES.exists():
        pytest.skip(f"no parity files in {PARITY_FILES}")
    for path in sorted(PARITY_FILES.glob("*.nam")):
        found = json.loads(path.read_text())
        if found["weights"]:
            assert_round_trip(found)


def test_what_was_kept_survives_the_native_file(tmp_path: Path) -> None:
    inner = {**wavenet(new_array()), "metadata": {"loudness": -20.0}}
    found = {**wavenet(new_array(), condition_dsp=inner), "notes": ["n"], "metadata": {"gain": 1}}
    graph = parse(found)
    exchange.save(graph, tmp_path / "a.safetensors")
    assert nam_write.dumps(exchange.load(tmp_path / "a.safetensors")) == nam_write.dumps(graph)


def test_a_chosen_size_is_written_alone() -> None:
    small, full = wavenet(old_array(channels=2)), wavenet(old_array())
    small["metadata"] = {"name": "small"}
    submodels = [{"max_value": 0.5, "model": small}, {"max_value": 1.0, "model": full}]
    found = document("SlimmableContainer", {"submodels": submodels}, [], notes="n")
    result = written(parse(found, slim=0))
    assert as_float32(result["weights"]) == as_float32(small["weights"])
    assert (result["metadata"], result["notes"]) == ({"name": "small"}, "n")


# --- graphs from elsewhere -------------------------------------------------------------------


@st.composite
def wavenet_options(draw: st.DrawFn) -> dict[str, Any]:
    sizes = st.sampled_from([1, 2, 3, 5, 7, 12])
    layers = draw(st.integers(1, 3))
    channels = draw(sizes)
    layer1x1 = draw(st.booleans())
    condition = draw(st.sampled_from([1, 2]))

    def each(strategy: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(strategy, min_size=layers, max_size=layers))

    grouped = channels % 2 == 0 and layer1x1
    bottleneck = draw(st.sampled_from([2, 4])) if grouped else draw(sizes)
    groups = draw(st.sampled_from([1, 2])) if grouped else 1
    options = Options(
        channels,
        bottleneck if layer1x1 else channels,
        each(st.integers(1, 4)),
        each(st.integers(1, 5)),
        each(st.sampled_from(MODES)),
        each(st.sampled_from(WEIGHT_KINDS)),
        each(st.sampled_from(WEIGHT_KINDS)),
        groups=groups,
        groups_mixin=2 if groups == 2 and condition == 2 else 1,
        groups_1x1=groups,
        layer1x1=layer1x1,
        head1x1=draw(st.sampled_from([None, 2, 4] if groups == 2 else [None, 1, 3])),
        films=draw(st.lists(st.sampled_from(FILM_PLACES), unique=True)),
        shift=draw(st.booleans()),
        head_taps=draw(st.integers(1, 3)),
        head_dilation=draw(st.integers(1, 3)),
        head_bias=draw(st.booleans()),
        head_out=draw(sizes) if (head := draw(st.booleans())) else 1,
    )
    inside: Node | None = None
    if condition == 2:
        inside = random_wavenet(1, [Options(2, head_out=2)])
    tail = [("leaky_relu", 3, 2), ("leaky_relu", 1, 3)] if head else []
    return {"seed": draw(st.integers(0, 99)), "arrays": [options], "head": tail,
            "condition": inside}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*layer1x1. inactive")
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(options=wavenet_options())
def test_random_wavenets_come_back(options: dict[str, Any]) -> None:
    """Against the float64 reference that knows neither the file nor its layout."""
    net = random_wavenet(head_scale=0.25, **options)
    for conv in net.head:
        # One activation stands for the whole head in .nam.
        assert conv.activation.slopes is not None
        conv.activation.slopes[:] = 0.125
    graph = ModelGraph(net, RATE)
    found = again(graph)
    assert (found.parameters, found.receptive_field) == (graph.parameters, graph.receptive_field)
    x = np.random.default_rng(5).uniform(-0.5, 0.5, 40)
    np.testing.assert_array_equal(reference_graph(found, x), reference_graph(graph, x))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_made_here_are_written(name: str) -> None:
    result = written(ModelGraph(PRESETS[name](), RATE))
    a2_leaky = name.startswith("a2")
    assert result["version"] == ("0.7.0" if a2_leaky else "0.5.4")


def test_absent_biases_are_zeros() -> None:
    net = random_wavenet(3, [Options()])
    layer = net.arrays[0].layers[0]
    object.__setattr__(layer, "conv_bias", None)
    object.__setattr__(layer, "layer1x1", Conv1x1(layer.layer1x1.weight))  # type: ignore[union-attr]
    graph = ModelGraph(net, RATE)
    np.testing.assert_array_equal(play(again(graph)), play(graph))


def test_stacks_with_the_form_of_a_convnet_are_written() -> None:
    stack = random_stack(1, [1, 5, 5], "prelu")
    last = ConvLayer(np.ones((1, 5, 1), np.float32))
    first, second = stack.layers
    same = ConvLayer(second.weight, None, 7, first.activation)
    graph = ModelGraph(ConvStack((first, same, last)), RATE)
    result = written(graph)
    assert (result["architecture"], result["version"]) == ("ConvNet", "0.7.0")
    np.testing.assert_array_equal(play(again(graph)), play(graph))


# --- what .nam cannot hold ---------------------------------------------------------------------


def stack(*layers: ConvLayer, skip: bool = False) -> ModelGraph:
    return ModelGraph(ConvStack(layers, skip), RATE)


def ones(*shape: int, kind: str = "none") -> ConvLayer:
    return ConvLayer(np.ones(shape, np.float32), None, 1, Activation(kind))


TANH, LAST = ones(3, 1, 2, kind="tanh"), ones(1, 3, 1)


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (stack(TANH, LAST, skip=True), "root.skip: expected no skip"),
        (stack(ones(1, 1, 1)), "root.layers: expected at least 2 layers"),
        (stack(ones(3, 1, 3, kind="tanh"), LAST), "root.layers[0].weight: expected 2 taps"),
        (stack(TANH, ones(1, 3, 2)), "root.layers[1]: expected a last layer of 1 tap"),
        (stack(ones(3, 1, 2), LAST), "for .nam has none for 'none'"),
        (stack(TANH, ones(3, 3, 2, kind="relu"), LAST), "the activation of layers[0]"),
        (stack(TANH, ones(2, 3, 2, kind="tanh"), ones(1, 2, 1)), "expected 3 channels"),
    ],
)
def test_stacks_that_are_no_convnet_are_refused(graph: ModelGraph, words: str) -> None:
    assert words in refused(graph)


def test_wavenets_that_are_refused() -> None:
    def changed(index: int, **changes: Any) -> ModelGraph:
        net = random_wavenet(1, [Options(films=["conv_pre_film"])])
        for key, value in changes.items():
            object.__setattr__(net.arrays[0].layers[index], key, value)
        return ModelGraph(net, RATE)

    message = refused(changed(1, layer1x1=None))
    assert message.startswith("root.arrays[0].layers[1]: expected what .nam can hold, one bottle")
    assert "root.arrays[0].layers[1]: " in refused(changed(1, films={}))
    assert "for .nam has none for 'none'" in refused(changed(0, activation=Activation()))
    net = random_wavenet(1, [Options()], head=[("relu", 1, 1), ("tanh", 1, 1)])
    assert refused(ModelGraph(net, RATE)).startswith("root.head[1].activation: expected what .nam")
    net = random_wavenet(1, [Options()], head=[("relu", 2, 1), ("relu", 3, 1), ("relu", 1, 1)])
    assert refused(ModelGraph(net, RATE)).startswith("root.head[1].weight: expected what .nam")


def lstm(*units: int, cell: str = "lstm", head: ConvLayer | None = None) -> ModelGraph:
    rows, inputs, layers = {"lstm": 4, "gru": 3}[cell], 1, []
    for count in units:
        shapes = [(rows * count, inputs), (rows * count, count), (rows * count,), (rows * count,)]
        arrays = [np.full(shape, 0.5, np.float32) for shape in (*shapes, (2, count))]
        layers.append(RecurrentLayer(cell, *arrays))
        inputs = count
    cells, dense = Recurrent(tuple(layers)), ConvStack((head or ones(1, inputs, 1),))
    return ModelGraph(Sequential((cells, dense)), RATE)


def first_sample_from_the_file(found: Any, level: float = 0.0) -> float:
    """What a player hears that starts at once from the state in the file."""
    units, layers = found["config"]["hidden_size"], found["config"]["num_layers"]
    numbers, x = iter(found["weights"]), np.array([level])

    def take(*shape: int) -> np.ndarray:
        return np.array([next(numbers) for _ in range(int(np.prod(shape)))]).reshape(shape)

    for _ in range(layers):
        weight, bias = take(4 * units, len(x) + units), take(4 * units)
        h, c = take(units), take(units)
        i, f, g, o = (weight @ np.concatenate([x, h]) + bias).reshape(4, units)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        x = np.tanh(c) / (1 + np.exp(-o))
    return float((take(1, units) @ x + take(1))[0])


def test_an_lstm_is_written_with_its_state_after_silence() -> None:
    def silence(graph: ModelGraph) -> float:
        return float(Player(graph).render(np.zeros(1, np.float32))[0])

    graph = lstm(3, 3)
    rest = silence(graph)
    assert first_sample_from_the_file(written(graph)) == pytest.approx(rest, abs=1e-6)
    shift = Linear(np.ones(1, np.float32), 0.75)
    chain = ModelGraph(Sequential((shift, graph.root)), RATE)
    found = written(chain)["config"]["models"][1]
    assert first_sample_from_the_file(found, 0.75) == pytest.approx(silence(chain), abs=1e-6)
    assert abs(silence(chain) - rest) > 0.001


def test_an_lstm_of_a_file_keeps_the_state_it_came_with() -> None:
    config = {"input_size": 1, "hidden_size": 2, "num_layers": 1}
    found = document("LSTM", config, values(8 * 3 + 8 + 4 + 3))
    assert written(parse(found))["weights"] == found["weights"]


def test_recurrent_models_that_are_no_lstm_are_refused() -> None:
    assert written(lstm(3, 3))["config"] == {"input_size": 1, "hidden_size": 3, "num_layers": 2}
    # The file holds the state after silence, found in double.
    apart = np.abs(play(again(lstm(3, 3))) - play(lstm(3, 3))).max()
    assert apart <= TOLERANCES["settled_state"].value * np.abs(play(lstm(3, 3))).max()
    for graph in (lstm(3, 4), lstm(3, cell="gru"), lstm(3, head=ones(1, 3, 1, kind="tanh"))):
        message = refused(graph)
        assert message.startswith("root.children[0]: expected wavenet, conv_stack, linear, ")
        assert message.endswith("an LSTM with one dense layer for .nam, got recurrent")


def test_more_weights_than_a_file_may_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nam_text, "MAX_FILE_BYTES", 10_000)
    message = refused(ModelGraph(Linear(np.ones(5000, np.float32)), RATE))
    assert message.startswith("file size: expected 1 to 10000 bytes, got 25")


def test_damaged_metadata_is_refused() -> None:
    root = Sequential((Linear(np.ones(2, np.float32)),))
    for found, words in (
        (7, "metadata.nam: expected an object, got 7"),
        ({"unknown": {"": 3}}, "metadata.nam.unknown: expected an object of objects"),
        ({"metadata": {"x": float("nan")}}, "metadata.nam.metadata.x: expected finite numbers"),
    ):
        assert words in refused(ModelGraph(root, RATE, metadata={"nam": found}))


# --- files ---------------------------------------------------------------------------------


def test_save_goes_by_the_name(tmp_path: Path) -> None:
    graph = parse(wavenet(old_array()))
    exchange.save(graph, tmp_path / "a.nam")
    assert json.loads((tmp_path / "a.nam").read_text())["version"] == "0.5.4"
    np.testing.assert_array_equal(play(exchange.load(tmp_path / "a.nam")), play(graph))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nam"]
    with pytest.raises(ModelError, match=r"missing/a\.nam: No such file"):
        exchange.save(graph, tmp_path / "missing" / "a.nam")
    with pytest.raises(ModelError, match=r"b\.nam: root\.skip: expected no skip"):
        exchange.save(stack(TANH, LAST, skip=True), tmp_path / "b.nam")
    assert not (tmp_path / "b.nam").exists()
