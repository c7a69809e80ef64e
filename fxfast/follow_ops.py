"""The recursions of level-dependent gains as differentiable torch functions.

Step by step in Python a minute of audio would take minutes; these run natively, forwards and
backwards, for float32 and float64 on the CPU. ``follow_reference`` and ``gate_reference`` are
their twins in plain torch.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fxfast import ops
from fxfast.errors import InputError

# As csrc/kernels/gain_task.h has it.
_ARRIVED = 0.999


def follow(
    x_bt: torch.Tensor, start_b: torch.Tensor, rise: torch.Tensor, fall: torch.Tensor
) -> torch.Tensor:
    """y[t] = y[t-1] + k (x[t] - y[t-1]), k = ``rise`` where x[t] > y[t-1], else ``fall``.

    (B, T) to (B, T), y[-1] = ``start_b`` (B); ``rise`` and ``fall`` are numbers from 0 to 1.
    Differentiable for all four. Raises ``InputError`` for other shapes.
    """
    if x_bt.ndim != 2 or start_b.shape != x_bt.shape[:1] or rise.numel() * fall.numel() != 1:
        raise InputError(
            f"follow: expected x (B, T), start (B) and two numbers, got {tuple(x_bt.shape)}, "
            f"{tuple(start_b.shape)}, {tuple(rise.shape)} and {tuple(fall.shape)}"
        )
    if x_bt.device.type != "cpu" or not ops.is_available():
        return follow_reference(x_bt, start_b, rise, fall)
    y_bt: torch.Tensor = _Follow.apply(x_bt, start_b, rise, fall)  # type: ignore[no-untyped-call]
    return y_bt


def follow_reference(
    x_bt: torch.Tensor, start_b: torch.Tensor, rise: torch.Tensor, fall: torch.Tensor
) -> torch.Tensor:
    """The twin of ``follow``, a step at a time."""
    y_b, outputs = start_b, []
    for x_b in x_bt.unbind(1):
        step = x_b - y_b
        y_b = y_b + torch.where(step > 0, rise, fall) * step
        outputs.append(y_b)
    return torch.stack(outputs, 1) if outputs else x_bt


class _Follow(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, start: torch.Tensor, rise: torch.Tensor, fall: torch.Tensor
    ) -> torch.Tensor:
        start = start.to(x.dtype)
        y: torch.Tensor = torch.ops.fxfast.follow(x, start, float(rise), float(fall))
        ctx.save_for_backward(x, y, start, rise, fall)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, y, start, rise, fall = ctx.saved_tensors
        grad_x, sums = torch.ops.fxfast.follow_grad(grads[0], x, y, start, float(rise), float(fall))
        of_rise, of_fall = (sums[:, i].sum().to(rise.dtype).reshape(rise.shape) for i in (1, 2))
        return grad_x, sums[:, 0], of_rise, of_fall


class GateSettings(NamedTuple):
    """The numbers of a gate that have no gradient; see ``fxfast.graph.Gate``."""

    open_level: float
    close_level: float
    hold_samples: int
    exponential: bool


def gate(
    levels_bt: torch.Tensor, rise: torch.Tensor, fall: torch.Tensor, settings: GateSettings
) -> torch.Tensor:
    """The g of ``fxfast.graph.Gate`` over detected levels (B, T), closed before them.

    Differentiable for ``rise`` and ``fall``; when it opens and closes is not.
    """
    if levels_bt.device.type != "cpu" or not ops.is_available():
        return gate_reference(levels_bt, rise, fall, settings)
    g_bt: torch.Tensor = _Gate.apply(levels_bt, rise, fall, settings)  # type: ignore[no-untyped-call]
    return g_bt


def gate_reference(
    levels_bt: torch.Tensor, rise: torch.Tensor, fall: torch.Tensor, settings: GateSettings
) -> torch.Tensor:
    """The twin of ``gate``, a step at a time."""
    rows = []
    for levels in levels_bt:
        g, phase, hold, outputs = torch.zeros_like(rise, dtype=levels.dtype), "closing", 0, []
        for level in levels.tolist():
            phase, hold = _next_phase(phase, hold, level, settings)
            left = g if phase == "closing" else 1.0 - g
            step = (fall if phase == "closing" else rise) * (left if settings.exponential else 1.0)
            step = torch.minimum(step, left)
            g = g - step if phase == "closing" else g + step
            if phase == "opening" and float(g) >= (_ARRIVED if settings.exponential else 1.0):
                phase, hold = "open", settings.hold_samples
            outputs.append(g.reshape(()))
        rows.append(torch.stack(outputs))
    return torch.stack(rows)


def _next_phase(phase: str, hold: int, level: float, settings: GateSettings) -> tuple[str, int]:
    if phase == "closing":
        return ("opening" if level >= settings.open_level else "closing"), hold
    if phase == "opening":
        return phase, hold
    if level >= settings.close_level:
        return phase, settings.hold_samples
    return ("open", hold - 1) if hold > 0 else ("closing", 0)


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        levels: torch.Tensor,
        rise: torch.Tensor,
        fall: torch.Tensor,
        settings: GateSettings,
    ) -> torch.Tensor:
        g: torch.Tensor
        g, way = torch.ops.fxfast.gate(
            levels,
            settings.open_level,
            settings.close_level,
            settings.hold_samples,
            float(rise),
            float(fall),
            settings.exponential,
        )
        ctx.save_for_backward(g, way, rise, fall)
        ctx.exponential = settings.exponential
        return g

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        g, way, rise, fall = ctx.saved_tensors
        sums = torch.ops.fxfast.gate_grad(
            grads[0], g, way, float(rise), float(fall), ctx.exponential
        )
        of_rise, of_fall = (sums[:, i].sum().to(rise.dtype).reshape(rise.shape) for i in (0, 1))
        return None, of_rise, of_fall, None
