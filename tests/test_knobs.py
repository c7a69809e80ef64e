"""Conditioned models: knobs beside the audio, in the graph, the engine and the native file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from families import dense, recurrent
from tolerances import TOLERANCES
from wavenet_reference import SETTLING_SAMPLES, forward
from wavenets import Options, random_stack, random_wavenet

from fxfast import ops
from fxfast.errors import InputError, ModelError
from fxfast.exchange import load, save
from fxfast.exchange.torchscript import export_torchscript
from fxfast.graph import (
    Activation,
    ConvLayer,
    ConvStack,
    Knob,
    Linear,
    ModelGraph,
    Node,
    Residual,
    Sequential,
)
from fxfast.native import engine
from fxfast.player import MODES, Player

ISAS = [name for name, supported in engine().isas() if supported]
KNOBS = (Knob("gain", 0.0, 10.0, 5.0), Knob("tone", -1.0, 1.0, 0.0))
RATE = 48_000
TURNED = {"gain": 7.5, "tone": -0.25}


def noise(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.7, 0.7, shape).astype(np.float32)


def wide_stack() -> ConvStack:
    """Wide enough that an offline plan runs it by transforms, on a grid."""
    random = np.random.default_rng(4)
    layers, channels = [], 3
    for out, taps, kind in ((64, 33, "relu"), (32, 17, "relu"), (1, 16, "none")):
        weight = random.standard_normal((out, channels, taps)) / np.sqrt(channels * taps)
        bias = random.uniform(-0.2, 0.2, out).astype(np.float32)
        layers.append(ConvLayer(weight.astype(np.float32), bias, 1, Activation(kind)))
        channels = out
    return ConvStack(tuple(layers))


def skipping(stack: ConvStack) -> ConvStack:
    return ConvStack(stack.layers, True)


FAMILIES: dict[str, Node] = {
    "stack": random_stack(1, (3, 8, 8, 1)),
    "stack-skip": skipping(random_stack(2, (3, 8, 1))),
    "stack-wide": wide_stack(),
    "wavenet": random_wavenet(3, [Options(channels=8, taps=(3, 3, 3))], in_channels=3),
    "wavenet-film": random_wavenet(
        4,
        [Options(channels=4, films=("conv_post_film", "activation_pre_film"))],
        in_channels=3,
        condition=random_stack(5, (3, 4)),
    ),
    "lstm": Sequential((recurrent("lstm", 16, 1, channels=3), dense(16, 1))),
    "gru-residual": Residual(Sequential((recurrent("gru", 12, 2, channels=3), dense(12, 1)))),
    "lstm-6": Sequential((recurrent("lstm", 4, 6, channels=3), dense(4, 1))),
    "conv-gru": Sequential(
        (random_stack(7, (3, 6, 2)), recurrent("gru", 9, 1, channels=2), dense(9, 5, 1))
    ),
    "stack-filter": Sequential(
        (random_stack(6, (3, 6, 1)), Linear(noise(900, seed=9) / np.float32(20)))
    ),
}


def graph_of(name: str) -> ModelGraph:
    return ModelGraph(FAMILIES[name], RATE, knobs=KNOBS)


@pytest.fixture(params=FAMILIES)
def graph(request: pytest.FixtureRequest) -> ModelGraph:
    return graph_of(request.param)


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def curves(samples: int) -> dict[str, np.ndarray]:
    t = np.arange(samples) / samples
    return {"gain": 10 * t, "tone": np.sin(40 * t)}


def reference(graph: ModelGraph, x: np.ndarray, knobs: dict[str, object]) -> np.ndarray:
    """float64, after silence with the first values of the knobs."""
    silence = SETTLING_SAMPLES if graph.is_recurrent else graph.receptive_field
    rows = [np.concatenate([np.zeros(silence), x.astype(np.float64)])]
    for knob in graph.knobs:
        scaled = knob.scaled(np.broadcast_to(knobs[knob.name], x.shape)).astype(np.float64)  # type: ignore[call-overload]
        rows.append(np.concatenate([np.full(silence, scaled[0]), scaled]))
    return forward(graph.root, np.stack(rows))[0, silence:]


# --- what they do -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("turned", [TURNED, curves(3000)], ids=["held", "curves"])
def test_plays_the_equations_from_the_settled_state(
    graph: ModelGraph, isa: str, mode: str, turned: dict[str, object]
) -> None:
    x = noise(3000)
    y = Player(graph, isa=isa, mode=mode).render(x, turned)  # type: ignore[arg-type]
    error = np.abs(y - reference(graph, x, turned)).max()
    assert error <= TOLERANCES["random_graph"].value


def test_a_knob_changes_the_sound_and_its_default_is_where_it_stands(graph: ModelGraph) -> None:
    x = noise(2000)
    player = Player(graph, mode="stream")
    plain = player.render(x)
    assert plain.tobytes() == player.render(x, {"gain": 5.0, "tone": 0.0}).tobytes()
    assert plain.tobytes() != player.render(x, {"gain": 6.0}).tobytes()
    moved = Player(graph, mode="stream", knobs={"gain": 6.0})
    assert moved.render(x).tobytes() == player.render(x, {"gain": 6.0}).tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_a_held_value_is_a_flat_curve(graph: ModelGraph, isa: str, mode: str) -> None:
    x = noise(2, 3333)
    player = Player(graph, isa=isa, mode=mode)
    flat = {name: np.full(3333, value) for name, value in TURNED.items()}
    assert player.render(x, TURNED).tobytes() == player.render(x, flat).tobytes()


# --- the promises -----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("threads", [1, 3])
def test_every_split_gives_the_same_bits(
    graph: ModelGraph, isa: str, mode: str, threads: int
) -> None:
    samples = 60_000 if threads > 1 else 9000  # long enough for segments
    if isa == "reference" and graph.macs_per_sample > 10_000:
        samples //= 10  # plain loops would take minutes
    x = noise(2, samples)
    turned = curves(samples)
    player = Player(graph, isa=isa, mode=mode, threads=threads)
    whole = player.render(x, turned)
    assert whole[0].tobytes() == player.render(x[0], turned).tobytes()
    grid = player.grid_samples
    for step in (1777, 4096):
        step = -(-step // grid) * grid
        cuts = [*range(0, samples, step), samples]
        stream = player.stream(2, {name: float(row[0]) for name, row in turned.items()})
        parts = [
            stream.process(x[:, a:b], {name: row[a:b] for name, row in turned.items()})
            for a, b in pairwise(cuts)
        ]
        assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_starts_settled_with_its_knobs_and_stays_silent(graph: ModelGraph, mode: str) -> None:
    stream = Player(graph, mode=mode).stream(1, TURNED)
    y = stream.process(np.zeros(4096, np.float32))
    assert np.abs(y - y[0]).max() <= TOLERANCES["settled_state"].value
    stream.reset()
    assert stream.process(np.zeros(4096, np.float32)).tobytes() == y.tobytes()


def test_a_turned_knob_stays_in_a_stream(graph: ModelGraph) -> None:
    x = noise(1000)
    player = Player(graph, mode="stream")
    stream = player.stream()
    parts = [stream.process(x[:400]), stream.process(x[400:600], {"gain": 9.0})]
    parts.append(stream.process(x[600:]))
    gain = np.concatenate([np.full(400, 5.0), np.full(600, 9.0)])
    assert np.concatenate(parts).tobytes() == player.render(x, {"gain": gain}).tobytes()


def test_streams_together_keep_knobs_of_their_own() -> None:
    player = Player(graph_of("lstm"), mode="stream")
    blocks = [noise(2, n, seed=n) for n in (700, 300, 700)]
    gains = [1.0, 5.0, 9.0]
    streams = [player.stream(2, {"gain": gain}) for gain in gains]
    outputs = player.process_together(streams, blocks)
    for block, gain, output in zip(blocks, gains, outputs, strict=True):
        assert output.tobytes() == player.render(block, {"gain": gain}).tobytes()


# --- files ------------------------------------------------------------------------


def test_the_native_file_keeps_knobs(graph: ModelGraph, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save(graph, path)
    back = load(path)
    assert back.knobs == KNOBS
    x = noise(500)
    assert Player(back).render(x, TURNED).tobytes() == Player(graph).render(x, TURNED).tobytes()


def test_formats_without_knobs_refuse_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"knobs: expected none in a \.nam file, got 2"):
        save(graph_of("wavenet"), tmp_path / "a.nam")


# --- torch ------------------------------------------------------------------------


def test_a_scripted_model_plays_the_same_bits(graph: ModelGraph, tmp_path: Path) -> None:
    """Settled with the first values, block by block, two files with knobs of their own."""
    samples = 3000
    export_torchscript(graph, tmp_path / "a.ts")
    model = torch.jit.load(tmp_path / "a.ts")
    assert model.knob_names == ["gain", "tone"]
    x, player = noise(2, 2, samples), Player(graph, threads=1, mode="stream")
    held, turned = {"gain": 9.25, "tone": 0.75}, curves(samples)
    expected = np.stack([player.render(x[0], held), player.render(x[1], turned)])
    rows = np.stack(
        [[np.broadcast_to(each[knob.name], samples) for knob in KNOBS] for each in (held, turned)]
    )
    knobs = torch.from_numpy(rows)
    state = model.initial_state(2, 2, knobs[:, :, 0])
    parts = []
    for start, end in pairwise([0, 1, 8, 8, 500, samples]):
        y, state = model(torch.from_numpy(x[..., start:end]), state, knobs[..., start:end])
        parts.append(y.numpy())
    assert np.concatenate(parts, axis=2).tobytes() == expected.tobytes()
    # Held values are (B, knobs); without any a stream settles with the defaults.
    y, _ = model(torch.from_numpy(x[:1]), model.initial_state(1, 2), torch.tensor([[5.0, 0.0]]))
    assert y.numpy().tobytes() == player.render(x[:1]).tobytes()


def test_a_scripted_model_refuses_what_a_player_does(tmp_path: Path) -> None:
    export_torchscript(graph_of("lstm"), tmp_path / "a.ts")
    model = torch.jit.load(tmp_path / "a.ts")
    state, x = model.initial_state(1, 1), torch.zeros(1, 1, 8)
    for knobs, message in (
        (torch.tensor([[10.5, 0.0]]), r"knob gain: expected values from 0\. to 10\., got others"),
        (torch.tensor([[float("nan"), 0.0]]), r"knob gain: expected values from 0\. to 10\."),
        (torch.zeros(1, 3), r"knobs: expected shape \(B, 2\) or \(B, 2, T\), got \[1, 3\]"),
        (torch.zeros(2, 2), r"knobs: expected shape \(1, 2\) or \(1, 2, 8\), got \(2, 2\)"),
        (torch.zeros(1, 2, 7), r"knobs: expected shape \(1, 2\) or \(1, 2, 8\), got \(1, 2, 7\)"),
        (torch.zeros(1, 2, requires_grad=True), "expected a tensor without gradient"),
    ):
        before = state.clone()
        with pytest.raises(Exception, match=message):
            model(x, state, knobs)
        assert torch.equal(state, before)
    with pytest.raises(RuntimeError, match="missing value for argument 'knobs'"):
        model(x, state)
    with pytest.raises(torch.jit.Error, match=r"knobs: expected shape \[3, 2\], got \[1, 2\]"):
        model.initial_state(3, 1, torch.zeros(1, 2))


def test_the_ops_take_knobs_and_refuse_others() -> None:
    graph = graph_of("gru-residual")
    plan, settled = ops.plan_tensor(graph), ops.settled_state(graph, TURNED)
    x, scaled = torch.from_numpy(noise(1, 1, 300)), torch.tensor([[0.75, 0.375]])
    state = settled.reshape(1, 1, -1).clone()
    y = ops.run(plan, state, x, scaled)
    assert y.numpy().tobytes() == Player(graph, mode="stream").render(x.numpy(), TURNED).tobytes()
    flat = ops.run(plan, settled.reshape(1, 1, -1).clone(), x, scaled[:, :, None].repeat(1, 1, 300))
    assert torch.equal(flat, y)
    with pytest.raises(InputError, match="knobs: expected gain, tone, got 'volume'"):
        ops.settled_state(graph, {"volume": 1.0})
    for message, arguments in {
        "expected a model without knobs, got one of 2": (plan, state, x),
        "knobs: expected finite values": (plan, state, x, scaled / 0),
        "knobs: expected dtype float32, got float64": (plan, state, x, scaled.double()),
        r"knobs: expected shape \(1, 2\) or \(1, 2, 300\), got": (plan, state, x, scaled[0]),
        "knobs: expected a tensor without gradient": (
            plan,
            state,
            x,
            scaled.clone().requires_grad_(),
        ),
    }.items():
        with pytest.raises(InputError, match=message):
            ops.run(*arguments)
        scaled = scaled.detach()
    plain = ModelGraph(random_stack(1, (1, 4, 1)), RATE)
    of_plain = ops.settled_state(plain).reshape(1, 1, -1).clone()
    with pytest.raises(InputError, match="plan: expected a model with knobs, got one of none"):
        ops.run(ops.plan_tensor(plain), of_plain, x, scaled)


# --- what is refused --------------------------------------------------------------


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ((Knob("gain"),), "expected 2 input channels"),
        ((Knob("a"), Knob("a")), "knobs: expected different names, got a, a"),
        ((Knob(""), Knob("b")), r"knobs\[0\].name: expected 1 to 64 printable"),
        ((Knob("a=b"), Knob("b")), r"knobs\[0\].name: expected no '='"),
        ((Knob("a"), Knob("b", 1.0, 0.0)), r"knobs\[1\]: expected minimum <= default <= maximum"),
        ((Knob("a", 0.0, float("inf")), Knob("b")), r"knobs\[0\].maximum: expected a number"),
        (("a", "b"), r"knobs\[0\]: expected a Knob, got str"),
    ],
)
def test_wrong_knobs_are_refused(knobs: tuple[Knob, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelGraph(FAMILIES["stack"], RATE, knobs=knobs)


@pytest.mark.parametrize(
    ("turned", "message"),
    [
        ({"volume": 1.0}, "knobs: expected gain, tone, got 'volume'"),
        ({"gain": 10.5}, "knob gain: expected values from 0 to 10, got 10.5"),
        ({"gain": float("nan")}, "knob gain: expected values from 0 to 10, got nan"),
        ({"gain": np.zeros(99)}, r"knob gain: expected 100 values, got \(99\)"),
        ({"tone": np.full(100, 2.0)}, "knob tone: expected values from -1 to 1, got 2"),
    ],
)
def test_wrong_values_are_refused(turned: dict[str, object], message: str) -> None:
    player = Player(graph_of("stack"))
    with pytest.raises(InputError, match=message):
        player.render(noise(100), turned)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        player.stream().process(noise(100), turned)  # type: ignore[arg-type]
    plain = Player(ModelGraph(random_stack(1, (1, 4, 1)), RATE))
    with pytest.raises(InputError, match="expected none: the model has no knobs, got 'gain'"):
        plain.render(noise(10), {"gain": 1.0})
