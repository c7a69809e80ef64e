"""torch.ops.fxfast: the same numbers as the twin and the player, and no way to crash them."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import random_graph
from tolerances import TOLERANCES

from fxfast import native, ops
from fxfast.errors import BuildError, InputError
from fxfast.player import Player

ROOT = Path(__file__).resolve().parent.parent
GRAPH = random_graph([(9, 5, 3, "tanh"), (4, 8, 1, "prelu"), (1, 3, 2, "none")], skip=True)
# (B, I, O, K, dilation, T): around vector, tile and block widths, short rows, long histories.
SHAPES = [
    (2, 1, 1, 1, 1, 1),
    (2, 3, 5, 4, 2, 7),
    (1, 7, 9, 2, 1, 17),
    (2, 8, 8, 1, 1, 65),
    (1, 64, 32, 17, 1, 209),
    (3, 2, 9, 3, 100, 501),
    (1, 1, 64, 33, 1, 1000),
    (2, 32, 1, 16, 1, 431),
    (1, 17, 18, 7, 3, 2100),
]
ISAS = [name for name, is_here in native.engine().isas() if is_here]
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def conv_tensors(shape: tuple[int, ...], seed: int = 0) -> Tensors:
    batch, ins, outs, taps, _, samples = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = ((batch, ins, samples), (outs, ins, taps), (outs,))
    x, weight, bias = (torch.randn(size, generator=generator).requires_grad_() for size in sizes)
    return x, weight, bias


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    scale = float(expected.detach().abs().max()) or 1.0
    worst = float((got.detach().double() - expected.detach()).abs().max()) / scale
    assert got.shape == expected.shape
    assert worst <= TOLERANCES["conv1d_and_gradients"].value


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_conv1d_and_gradients_equal_the_twin(
    isa: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FXFAST_ISA", isa)
    tensors = conv_tensors(shape)
    wide = [t.detach().double().requires_grad_() for t in tensors]
    y = ops.conv1d(*tensors, dilation=shape[4])
    expected = ops.conv1d_reference(*wide, dilation=shape[4])
    grad_y = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    y.backward(grad_y)
    expected.backward(grad_y.double())
    assert_close(y, expected)
    for tensor, twin in zip(tensors, wide, strict=True):
        assert tensor.grad is not None
        assert twin.grad is not None
        assert_close(tensor.grad, twin.grad)


def second_order(conv: Callable[..., torch.Tensor], tensors: Tensors) -> list[torch.Tensor]:
    y = conv(*tensors, dilation=2)
    first = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
    return list(torch.autograd.grad(sum(g.square().sum() for g in first), tensors))


def test_second_derivatives_equal_the_twin() -> None:
    tensors = conv_tensors((2, 3, 5, 4, 2, 40))
    wide = tuple(t.detach().double().requires_grad_() for t in tensors)
    got = second_order(ops.conv1d, tensors)
    expected = second_order(ops.conv1d_reference, wide)
    for one, other in zip(got, expected, strict=True):
        assert_close(one, other)


def test_views_and_missing_parts() -> None:
    x, weight, _ = (t.detach() for t in conv_tensors((2, 6, 4, 3, 1, 50)))
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    turned = weight.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(ops.conv1d(strided, turned), ops.conv1d(x, weight))
    assert ops.conv1d(x[:0], weight).shape == (0, 4, 48)
    only_weight = weight.clone().requires_grad_()
    ops.conv1d(x, only_weight).sum().backward()
    assert only_weight.grad is not None


def test_a_wrong_choice_of_kernels_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = conv_tensors((1, 2, 3, 4, 1, 20))
    y = ops.conv1d(x, weight, bias)
    plan, state, audio = ops.plan_tensor(GRAPH), streams(1, 1), torch.zeros(1, 1, 9)
    monkeypatch.setenv("FXFAST_ISA", "mmx")
    for call in (
        lambda: ops.conv1d(x, weight, bias),
        lambda: y.sum().backward(),
        lambda: ops.run(plan, state, audio),
    ):
        with pytest.raises(BuildError, match=r"^FXFAST_ISA: expected one of .*, got 'mmx'$"):
            call()


def test_results_do_not_depend_on_threads() -> None:
    x, weight, bias = conv_tensors((3, 16, 40, 9, 2, 1500))
    results = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        y = ops.conv1d(x, weight, bias, 2)
        results.append([y, *torch.autograd.grad(y.square().sum(), (x, weight, bias))])
    for result in results[1:]:
        # The bias gradient is torch's own sum.
        assert all(torch.equal(a, b) for a, b in zip(result[:3], results[0][:3], strict=True))


def test_other_dtypes_and_missing_library_use_the_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = (t.detach() for t in conv_tensors((2, 3, 5, 4, 2, 40)))
    wide = x.double(), weight.double(), bias.double()
    assert torch.equal(ops.conv1d(*wide), ops.conv1d_reference(*wide))
    monkeypatch.setattr(ops, "is_available", lambda: False)
    assert torch.equal(ops.conv1d(x, weight), ops.conv1d_reference(x, weight))
    monkeypatch.setattr(native, "TORCH_LIBRARY", Path("/nowhere/libfxfast_torch.so"))
    with pytest.raises(BuildError, match=r"libfxfast_torch.so: expected the built torch library"):
        ops.load_library()


@pytest.mark.parametrize(
    ("x", "weight", "bias", "dilation", "message"),
    [
        ((3, 9), (4, 3, 2), None, 1, r"x: expected shape \(B, I, T\), got \(3, 9\)"),
        ((1, 2, 9), (4, 3, 2), None, 1, r"weight: expected shape \(O, 2, K\) .* got \(4, 3, 2\)"),
        ((1, 3, 9), (4, 3, 2), (3,), 1, r"bias: expected shape \(4,\), got \(3,\)"),
        ((1, 3, 9), (4, 3, 2), None, 0, r"dilation: expected at least 1 sample, got 0"),
        ((1, 3, 9), (4, 3, 4), None, 3, r"x: expected at least 10 samples .* got shape"),
    ],
)
def test_conv1d_refuses_wrong_shapes(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    dilation: int,
    message: str,
) -> None:
    tensors = (torch.zeros(x), torch.zeros(weight), None if bias is None else torch.zeros(bias))
    with pytest.raises(InputError, match=message):
        ops.conv1d(*tensors, dilation=dilation)
    ops.load_library()
    with pytest.raises(ValueError, match="expected"):
        torch.ops.fxfast.conv1d(*tensors, dilation)


def test_conv1d_refuses_mixed_dtypes() -> None:
    x, weight, _ = (t.detach() for t in conv_tensors((2, 3, 5, 4, 2, 40)))
    with pytest.raises(InputError, match=r"weight: expected torch.float32 on cpu as x, got"):
        ops.conv1d(x, weight.double())


@pytest.mark.parametrize(
    "call",
    [
        lambda o, x: o.conv1d_input_grad(x, torch.zeros(2, 3, 4), 1),
        lambda o, x: o.conv1d_input_grad(x, torch.zeros(3, 2, 0), 1),
        lambda o, x: o.conv1d_input_grad(x, torch.zeros(3, 2, 4), 2**62),
        lambda o, x: o.conv1d_weight_grad(x, torch.zeros(1, 4, 9), 3, 1),
        lambda o, x: o.conv1d_weight_grad(x, torch.zeros(1, 4, 9), 2**40, 2**40),
        lambda o, x: o.conv1d(x, torch.zeros(4, 3, 2), None, 2**62),
        lambda o, x: o.conv1d(x, torch.zeros(4, 3, 0), None, 1),
    ],
)
def test_ops_refuse_what_does_not_fit(call: Callable[..., torch.Tensor]) -> None:
    ops.load_library()
    with pytest.raises(ValueError, match="expected"):
        call(torch.ops.fxfast, torch.zeros(1, 3, 9))


# --- run -------------------------------------------------------------------------------------


def noise(*shape: int) -> torch.Tensor:
    return 0.3 * torch.randn(shape, generator=torch.Generator().manual_seed(2))


def streams(batch: int, channels: int) -> torch.Tensor:
    return ops.settled_state(GRAPH).repeat(batch, channels, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_run_equals_player_in_every_split(threads: int) -> None:
    torch.set_num_threads(threads)
    x = noise(2, 3, 1400)
    expected = Player(GRAPH, threads=1).render(x)
    plan, state, blocks, start = ops.plan_tensor(GRAPH), streams(2, 3), [], 0
    for size in (1, 7, 48, 0, 64, 1000, 280):
        blocks.append(ops.run(plan, state, x[:, :, start : start + size]))
        start += size
    assert torch.equal(torch.cat(blocks, dim=2), expected)


def test_run_refuses_a_gradient_and_keeps_the_state() -> None:
    plan, state = ops.plan_tensor(GRAPH), streams(1, 1)
    x = noise(1, 1, 8).requires_grad_()
    for run in (ops.run, torch.ops.fxfast.run):
        with pytest.raises(InputError, match=r"fxfast::run has none, got requires_grad=True"):
            run(plan, state, x)
    assert torch.equal(state, streams(1, 1))
    with torch.no_grad():
        ops.run(plan, state, x)


@pytest.mark.parametrize(
    ("plan", "state", "x", "message"),
    [
        ("float", "good", (1, 2, 4), r"plan: expected dtype uint8, got float32"),
        ("good", "float", (1, 2, 4), r"state: expected dtype uint8, got float32"),
        ("good", "good", (2, 4), r"x: expected shape \(B, C, T\), got \(2, 4\)"),
        ("good", "good", (1, 3, 4), r"state: expected shape \(1, 3, state bytes\) .* got \(1, 2,"),
        ("good", "short", (1, 2, 4), r"state: expected \d+ bytes a stream, got 100"),
        ("good", "zero", (1, 2, 4), r"state: expected the state of this plan"),
        ("good", "strided", (1, 2, 4), r"state: expected a contiguous tensor, got strides"),
        ("good", "odd", (1, 2, 4), r"state: expected memory aligned to 8 bytes"),
        ("good", "plan", (1, 1, 4), r"expected"),
        ("empty", "good", (1, 2, 4), r"plan: expected a whole and consistent plan"),
        ("short", "good", (1, 2, 4), r"plan: expected a whole and consistent plan"),
    ],
)
def test_run_refuses_wrong_tensors(plan: str, state: str, x: tuple[int, ...], message: str) -> None:
    good_plan, good_state = ops.plan_tensor(GRAPH), streams(1, 2)
    size = good_state.shape[2]
    plans = {
        "good": good_plan,
        "float": good_plan.float(),
        "empty": good_plan[:0],
        "short": good_plan[:-64],
    }
    states = {
        "good": good_state,
        "float": good_state.float(),
        "short": good_state[:, :, :100].contiguous(),
        "zero": torch.zeros_like(good_state),
        "strided": good_state.repeat(1, 1, 2)[:, :, :size],
        "odd": torch.cat([torch.zeros(1, dtype=torch.uint8), good_state.flatten()])[1:].view(
            1, 2, size
        ),
        "plan": good_plan.view(1, 1, -1),
    }
    with pytest.raises(InputError, match=message) as error:
        ops.run(plans[plan], states[state], torch.zeros(x))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_run_refuses_values_that_are_not_finite(bad: float) -> None:
    x, state = noise(1, 2, 2000), streams(1, 2)
    x[0, 1, 1999] = bad
    with pytest.raises(InputError, match=r"x: expected finite samples, .* at sample 1999"):
        ops.run(ops.plan_tensor(GRAPH), state, x)
    assert torch.equal(state, streams(1, 2))


def test_damaged_plans_and_states_never_crash() -> None:
    rng = np.random.default_rng(3)
    plan, state, x = ops.plan_tensor(GRAPH), streams(1, 1), noise(1, 1, 300)
    refused = 0
    for attempt in range(600):
        damaged_plan, damaged_state = plan.clone(), state.clone()
        target = damaged_state.view(-1) if attempt % 3 == 0 else damaged_plan
        # The header and the layer table come first; weights and history are only numbers.
        for position in rng.integers(0, min(300, len(target)), rng.integers(1, 4)):
            target[position] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
        try:
            y = ops.run(damaged_plan, damaged_state, x)
            assert y.shape == x.shape
        except InputError:
            refused += 1
    assert refused > 300


# --- the compilers ---------------------------------------------------------------------------


class ConvModule(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = (
            torch.nn.Parameter(t.detach()) for t in conv_tensors((1, 3, 5, 4, 2, 40))[1:]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ops.conv1d(x, self.weight, self.bias, dilation=2).relu()


class RunModule(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("plan", ops.plan_tensor(GRAPH))

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        return ops.run(self.plan, state, x)


def test_opcheck_passes() -> None:
    x, weight, bias = conv_tensors((2, 3, 5, 4, 2, 40))
    grad_y = noise(2, 5, 34).requires_grad_()
    ops.load_library()
    torch.library.opcheck(
        torch.ops.fxfast.run, (ops.plan_tensor(GRAPH), streams(2, 1), noise(2, 1, 30))
    )
    torch.library.opcheck(torch.ops.fxfast.conv1d, (x, weight, bias, 2))
    torch.library.opcheck(torch.ops.fxfast.conv1d, (x, weight, None, 1))
    torch.library.opcheck(torch.ops.fxfast.conv1d_input_grad, (grad_y, weight, 2))
    torch.library.opcheck(torch.ops.fxfast.conv1d_weight_grad, (x, grad_y, 4, 2))


@pytest.fixture(params=["aot_eager", "inductor"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A compiler backend; what inductor writes includes Python.h, wherever that is."""
    include = Path(sysconfig.get_path("include"))
    unpacked = ROOT / "build/python-headers/usr/include"
    if request.param == "inductor" and not (include / "Python.h").exists():
        if not (unpacked / include.name / "Python.h").exists():
            pytest.skip("Python.h (python3-dev), which torch's inductor needs, is not installed")
        monkeypatch.setenv("CPLUS_INCLUDE_PATH", f"{unpacked / include.name}:{unpacked}")
    return str(request.param)


@pytest.mark.slow
def test_conv1d_compiles_whole(backend: str) -> None:
    module, x = ConvModule(), noise(2, 3, 40).requires_grad_()
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    expected = torch.autograd.grad(module(x).square().sum(), [x, *module.parameters()])
    y = compiled(x)
    got = torch.autograd.grad(y.square().sum(), [x, *module.parameters()])
    assert torch.equal(y, module(x))
    for one, other in zip(got, expected, strict=True):
        assert_close(one, other.double())


@pytest.mark.slow
def test_run_compiles_whole(backend: str) -> None:
    module, x = RunModule(), noise(1, 2, 100)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    state, expected_state = streams(1, 2), streams(1, 2)
    for part in x.split(50, dim=2):
        assert torch.equal(compiled(part, state), module(part, expected_state))
        assert torch.equal(state, expected_state)


@pytest.mark.slow
def test_both_export() -> None:
    samples = torch.export.Dim("samples", min=8)
    x = noise(2, 3, 40)
    conv = torch.export.export(ConvModule(), (x,), dynamic_shapes=({2: samples},))
    longer = noise(2, 3, 77)
    assert torch.equal(conv.module()(longer), ConvModule()(longer))
    run = torch.export.export(
        RunModule(), (torch.zeros(1, 2, 16), streams(1, 2)), dynamic_shapes=({2: samples}, {})
    )
    audio, state, expected_state = noise(1, 2, 50), streams(1, 2), streams(1, 2)
    assert torch.equal(run.module()(audio, state), RunModule()(audio, expected_state))
    assert torch.equal(state, expected_state)
