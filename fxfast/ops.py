"""The engine as torch operators: ``torch.ops.fxfast.*``, with meta kernels and gradients.

``run`` plays streams through a packed plan, its state an explicit tensor, so that scripted,
exported and compiled models can stream. ``conv1d`` is a convolution for training, through the
engine's kernels; ``conv1d_reference`` is its twin in plain torch. The native library is loaded
at the first use.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from fxfast import native
from fxfast.errors import BuildError, FxfastError, InputError
from fxfast.graph import ModelGraph
from fxfast.knob_rows import default_values, scaled
from fxfast.player import Player

NAMESPACE = "fxfast"


def load_library() -> None:
    """Load ``torch.ops.fxfast`` with its meta kernels and gradients; again does nothing.

    Raises ``BuildError`` where the library is not built or does not load.
    """
    if not is_available():
        native.torch_library()  # raises, and says what is missing


def conv1d(
    x_bit: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    dilation: int = 1,
) -> torch.Tensor:
    """Valid dilated convolution: (B, I, T) by (O, I, K) to (B, O, T - (K - 1) * dilation).

    ``y[o, t] = bias[o] + sum_ik weight[o, i, k] * x[i, t + k * dilation]``, ``dilation`` in
    samples. Differentiable, also twice. Native for float32 on the CPU where the library is
    built, else ``conv1d_reference``. Raises ``InputError`` for shapes that do not fit.
    """
    _check_conv1d(x_bit, weight, bias, dilation)
    is_native = x_bit.device.type == "cpu" and x_bit.dtype == torch.float32 and is_available()
    if not is_native:
        return conv1d_reference(x_bit, weight, bias, dilation)
    return _call("conv1d", x_bit, weight, bias, dilation)


def conv1d_reference(
    x_bit: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    dilation: int = 1,
) -> torch.Tensor:
    """The twin of ``conv1d``: torch's own convolution, on any device and dtype."""
    return F.conv1d(x_bit, weight, bias, dilation=dilation)


def run(
    plan: torch.Tensor,
    state: torch.Tensor,
    x_bct: torch.Tensor,
    knobs: torch.Tensor | None = None,
) -> torch.Tensor:
    """Play (B, C, T) float32 on the CPU through a plan; the streams go on from ``state``.

    ``plan`` comes from ``plan_tensor``; ``state`` is uint8 (B, C, state bytes), contiguous, one
    settled state (``settled_state``) or what an earlier call left for each stream, and is
    changed in place. Every split into calls gives the same samples, with no delay. ``knobs`` of a
    conditioned model, float32 from 0 to 1, are (B, knobs), or (B, knobs, T) where they turn.

    Raises ``InputError`` for what does not fit together and for NaN or infinity, before the
    state is changed, and when a gradient is asked for; ``BuildError`` without the library.
    """
    load_library()
    for name, tensor in (("plan", plan), ("state", state), ("x", x_bct), ("knobs", knobs)):
        if tensor is not None and tensor.device.type != "cpu":
            raise InputError(f"{name}: expected a tensor on the CPU, got one on {tensor.device}")
    if knobs is None:
        return _call("run", plan, state, x_bct)
    return _call("run_knobs", plan, state, x_bct, knobs)


def plan_tensor(graph: ModelGraph) -> torch.Tensor:
    """The packed plan of a graph: uint8 (plan bytes), for every instruction set."""
    return torch.from_numpy(Player(graph, threads=1, mode="stream").plan_bytes())


def settled_state(graph: ModelGraph, knobs: Mapping[str, float] | None = None) -> torch.Tensor:
    """The state of one stream that has heard silence for ever: uint8 (state bytes).

    For B times C streams: ``settled_state(graph).repeat(B, C, 1)``. ``knobs`` are where the knobs
    of a conditioned model stand, by name and in their own units; the others at their defaults.
    """
    standing = default_values(graph, knobs)
    if not graph.knobs:
        return torch.from_numpy(Player(graph, threads=1, mode="stream").settled_state())
    load_library()
    values = torch.from_numpy(scaled(graph, standing))
    return _call("settled", plan_tensor(graph), values[None], 1)[0, 0]


def is_available() -> bool:
    """Whether the native library is built; loads it. Raises ``BuildError`` if it does not load."""
    with _LOADING:
        return _load_once()


# torch.compile takes the answer as it is and does not trace how the library loads. The public
# torch.compiler.assume_constant_result sets the same mark, but imports all of the compiler.
is_available._dynamo_marked_constant = True  # type: ignore[attr-defined]

_LOADING = threading.Lock()


@functools.cache
def _load_once() -> bool:
    path = native.TORCH_LIBRARY
    if not path.is_file():
        return False
    try:
        torch.ops.load_library(path)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise BuildError(
            f"{path.name}: expected a library that this torch ({torch.__version__}) loads, "
            f"got: {error}"
        ) from error
    _register()
    return True


def _call(name: str, *arguments: Any) -> torch.Tensor:
    """The native op, its errors as those of fxfast."""
    try:
        result: torch.Tensor = getattr(torch.ops.fxfast, name)(*arguments)
    except FxfastError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from error
    except RuntimeError as error:
        # Of torch's own errors none begins so: the choice of kernels failed.
        if str(error).startswith("FXFAST_ISA:"):
            raise BuildError(str(error)) from error
        raise
    return result


def _check_conv1d(
    x_bit: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dilation: int
) -> None:
    if x_bit.ndim != 3:
        raise InputError(f"x: expected shape (B, I, T), got {tuple(x_bit.shape)}")
    if weight.ndim != 3 or weight.shape[1] != x_bit.shape[1]:
        raise InputError(
            f"weight: expected shape (O, {x_bit.shape[1]}, K) for x of shape "
            f"{tuple(x_bit.shape)}, got {tuple(weight.shape)}"
        )
    if bias is not None and (bias.ndim != 1 or bias.shape[0] != weight.shape[0]):
        raise InputError(f"bias: expected shape ({weight.shape[0]},), got {tuple(bias.shape)}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None and (tensor.dtype, tensor.device) != (x_bit.dtype, x_bit.device):
            raise InputError(
                f"{name}: expected {x_bit.dtype} on {x_bit.device} as x, "
                f"got {tensor.dtype} on {tensor.device}"
            )
    if dilation < 1:
        raise InputError(f"dilation: expected at least 1 sample, got {dilation}")
    needed = (weight.shape[2] - 1) * dilation + 1
    if x_bit.shape[2] < needed:
        raise InputError(
            f"x: expected at least {needed} samples for {weight.shape[2]} taps with dilation "
            f"{dilation}, got shape {tuple(x_bit.shape)}"
        )


# --- registration: meta kernels and gradients ------------------------------------------------


def _register() -> None:
    fake = torch.library.register_fake
    fake(f"{NAMESPACE}::run", _run_fake)
    fake(f"{NAMESPACE}::run_knobs", _run_knobs_fake)
    fake(f"{NAMESPACE}::settled", _settled_fake)
    fake(f"{NAMESPACE}::conv1d", _conv1d_fake)
    fake(f"{NAMESPACE}::conv1d_input_grad", _input_grad_fake)
    fake(f"{NAMESPACE}::conv1d_weight_grad", _weight_grad_fake)
    for name, backward, setup in (
        ("conv1d", _conv1d_backward, _save_conv1d),
        ("conv1d_input_grad", _input_grad_backward, _save_input_grad),
        ("conv1d_weight_grad", _weight_grad_backward, _save_weight_grad),
    ):
        torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup)
    library: Any = _registrations()
    library.impl("run", _run_autograd, "Autograd", with_keyset=True)
    library.impl("run_knobs", _run_knobs_autograd, "Autograd", with_keyset=True)


@functools.cache
def _registrations() -> torch.library.Library:
    """A library object must live as long as what is registered through it."""
    return torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def _refuse_gradient(name: str, tensor: torch.Tensor) -> None:
    if torch.is_grad_enabled() and tensor.requires_grad:
        raise InputError(
            f"{name}: expected a tensor without gradient, for fxfast::run has none, got "
            f"requires_grad=True; detach {name}, or train with fxfast.ops.conv1d"
        )


def _run_autograd(
    keys: Any, plan: torch.Tensor, state: torch.Tensor, x: torch.Tensor
) -> torch.Tensor:
    # register_autograd takes no op that changes an argument; without a kernel of its own torch
    # would drop the gradient silently.
    _refuse_gradient("x", x)
    with torch._C._AutoDispatchBelowAutograd():
        below = keys & torch._C._after_autograd_keyset
        y: torch.Tensor = torch.ops.fxfast.run.default.redispatch(below, plan, state, x)
    return y


def _run_knobs_autograd(
    keys: Any, plan: torch.Tensor, state: torch.Tensor, x: torch.Tensor, knobs: torch.Tensor
) -> torch.Tensor:
    _refuse_gradient("x", x)
    _refuse_gradient("knobs", knobs)
    with torch._C._AutoDispatchBelowAutograd():
        below = keys & torch._C._after_autograd_keyset
        op = torch.ops.fxfast.run_knobs.default
        y: torch.Tensor = op.redispatch(below, plan, state, x, knobs)
    return y


def _run_fake(plan: torch.Tensor, state: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return x.new_empty(x.shape)


def _run_knobs_fake(
    plan: torch.Tensor, state: torch.Tensor, x: torch.Tensor, knobs: torch.Tensor
) -> torch.Tensor:
    return x.new_empty(x.shape)


def _settled_fake(plan: torch.Tensor, knobs: torch.Tensor, channels: int) -> torch.Tensor:
    state_bytes = torch.library.get_ctx().new_dynamic_size()  # the plan says them
    return plan.new_empty((knobs.shape[0], channels, state_bytes))


def _conv1d_fake(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, dilation: int
) -> torch.Tensor:
    batch, _, samples = x.shape
    outs, _, taps = weight.shape
    return x.new_empty((batch, outs, samples - (taps - 1) * dilation))


def _input_grad_fake(grad_y: torch.Tensor, weight: torch.Tensor, dilation: int) -> torch.Tensor:
    batch, _, samples = grad_y.shape
    _, ins, taps = weight.shape
    return grad_y.new_empty((batch, ins, samples + (taps - 1) * dilation))


def _weight_grad_fake(
    x: torch.Tensor, grad_y: torch.Tensor, taps: int, dilation: int
) -> torch.Tensor:
    return x.new_empty((grad_y.shape[1], x.shape[1], taps))


# The three ops are each other's gradients: each is linear in both of its tensors, so the set is
# closed and every order of derivative exists.


def _save_conv1d(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, weight, _, ctx.dilation = inputs
    ctx.save_for_backward(x, weight)


def _conv1d_backward(ctx: Any, grad_y: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
    grad_x = _call("conv1d_input_grad", grad_y, weight, ctx.dilation) if needs_x else None
    grad_weight = (
        _call("conv1d_weight_grad", x, grad_y, weight.shape[2], ctx.dilation)
        if needs_weight
        else None
    )
    grad_bias = grad_y.sum((0, 2)) if needs_bias else None
    return grad_x, grad_weight, grad_bias, None


def _save_input_grad(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    grad_y, weight, ctx.dilation = inputs
    ctx.save_for_backward(grad_y, weight)


def _input_grad_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grad_y, weight = ctx.saved_tensors
    needs_grad_y, needs_weight, _ = ctx.needs_input_grad
    by_grad_y = _call("conv1d", grad, weight, None, ctx.dilation) if needs_grad_y else None
    by_weight = (
        _call("conv1d_weight_grad", grad, grad_y, weight.shape[2], ctx.dilation)
        if needs_weight
        else None
    )
    return by_grad_y, by_weight, None


def _save_weight_grad(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    x, grad_y, _, ctx.dilation = inputs
    ctx.save_for_backward(x, grad_y)


def _weight_grad_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, grad_y = ctx.saved_tensors
    needs_x, needs_grad_y, _, _ = ctx.needs_input_grad
    by_x = _call("conv1d_input_grad", grad_y, grad, ctx.dilation) if needs_x else None
    by_grad_y = _call("conv1d", x, grad, None, ctx.dilation) if needs_grad_y else None
    return by_x, by_grad_y, None, None
