"""A scripted streaming module: one file that plays a model with libtorch and the op library.

The file holds the packed plan and the state of a settled stream. A program that loads it needs
torch (Python or C++) and ``libfxfast_torch.so``, not this package:

    torch.ops.load_library("libfxfast_torch.so")
    model = torch.jit.load("model.ts")
    state = model.initial_state(1, 2)  # batch, channels
    y, state = model(x, state)  # (1, 2, T) float32, any T, block after block

A conditioned model takes where its ``knob_names`` stand as well, in their own units, for each entry
of the batch: (B, knobs), or (B, knobs, T) where they turn.

    knobs = torch.tensor([[7.5, -0.25]])
    state = model.initial_state(1, 2, knobs)
    y, state = model(x, state, knobs)
"""

# TorchScript reads the annotations as objects, so their evaluation is not postponed here.
import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fxfast import ops
from fxfast.errors import ModelError
from fxfast.graph import ModelGraph
from fxfast.player import Player
from fxfast.whole_file import whole_file

# The proof plays this much noise after the receptive field, in blocks of these sizes.
_PROOF_SAMPLES = 2048
_PROOF_BLOCKS = (1, 7, 48, 64, 1000)


class StreamingModel(torch.nn.Module):
    """What is scripted. ``sample_rate`` is in Hz, ``receptive_field`` in samples."""

    plan: torch.Tensor
    settled: torch.Tensor

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        self.sample_rate = graph.sample_rate
        self.receptive_field = graph.receptive_field
        self.register_buffer("plan", ops.plan_tensor(graph))
        self.register_buffer("settled", ops.settled_state(graph))

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The next block, (B, C, T) float32 on the CPU; ``state`` is changed and returned."""
        if x.requires_grad and torch.is_grad_enabled():
            raise ValueError("x: expected a tensor without gradient, got requires_grad=True")
        y = torch.ops.fxfast.run(self.plan, state, x)
        return y, state

    @torch.jit.export
    def initial_state(self, batch: int, channels: int) -> torch.Tensor:
        """Settled streams: uint8 (batch, channels, state bytes)."""
        if batch < 0 or channels < 0:
            raise ValueError("batch and channels: expected at least 0, got less")
        return self.settled.repeat(batch, channels, 1)


class ConditionedStreamingModel(torch.nn.Module):
    """What is scripted of a model with knobs."""

    plan: torch.Tensor
    knob_minimum: torch.Tensor
    knob_maximum: torch.Tensor
    knob_default: torch.Tensor

    def __init__(self, graph: ModelGraph) -> None:
        super().__init__()
        self.sample_rate = graph.sample_rate
        self.receptive_field = graph.receptive_field
        self.knob_names = [knob.name for knob in graph.knobs]
        self.register_buffer("plan", ops.plan_tensor(graph))
        for name in ("minimum", "maximum", "default"):
            values = [getattr(knob, name) for knob in graph.knobs]
            self.register_buffer(f"knob_{name}", torch.tensor(values, dtype=torch.float64))

    def forward(
        self, x: torch.Tensor, state: torch.Tensor, knobs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The next block, (B, C, T) float32 on the CPU; ``state`` is changed and returned.
        ``knobs`` are (B, knobs) or (B, knobs, T)."""
        if (x.requires_grad or knobs.requires_grad) and torch.is_grad_enabled():
            raise ValueError("x: expected a tensor without gradient, got requires_grad=True")
        y = torch.ops.fxfast.run_knobs(self.plan, state, x, self.scaled(knobs))
        return y, state

    @torch.jit.export
    def initial_state(
        self, batch: int, channels: int, knobs: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Streams settled with ``knobs`` (batch, knobs), or with all of them at their defaults:
        uint8 (batch, channels, state bytes)."""
        if batch < 0 or channels < 0:
            raise ValueError("batch and channels: expected at least 0, got less")
        standing = self.knob_default.repeat(batch, 1)
        if knobs is not None:
            if knobs.dim() != 2 or knobs.size(0) != batch:
                shape = [batch, len(self.knob_names)]
                raise ValueError(f"knobs: expected shape {shape}, got {list(knobs.shape)}")
            standing = knobs
        state: torch.Tensor = torch.ops.fxfast.settled(self.plan, self.scaled(standing), channels)
        return state

    def scaled(self, knobs: torch.Tensor) -> torch.Tensor:
        """What the plan takes for values in the units of the knobs; in float64, as ``Knob``."""
        count = len(self.knob_names)
        if knobs.dim() < 2 or knobs.dim() > 3 or knobs.size(1) != count:
            raise ValueError(
                f"knobs: expected shape (B, {count}) or (B, {count}, T), got {list(knobs.shape)}"
            )
        values = knobs.to(torch.float64)
        for index, name in enumerate(self.knob_names):
            low, high = float(self.knob_minimum[index]), float(self.knob_maximum[index])
            of_knob = values.select(1, index)
            if not bool(((of_knob >= low) & (of_knob <= high)).all()):
                raise ValueError(f"knob {name}: expected values from {low} to {high}, got others")
        shape = [1, count] + [1] * (knobs.dim() - 2)
        minimum = self.knob_minimum.view(shape)
        return ((values - minimum) / (self.knob_maximum.view(shape) - minimum)).to(torch.float32)


def export_torchscript(graph: ModelGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to ``path`` as a scripted streaming module, replacing it in one step.

    Before the file gets its name it is loaded again and has to play noise, block by block, bit
    for bit as a streaming ``Player`` does. Raises ``ModelError`` that names the path when it does
    not or when the file cannot be written, ``BuildError`` where the op library is not built.
    """
    ops.load_library()
    path = Path(path)
    module = ConditionedStreamingModel if graph.knobs else StreamingModel
    try:
        with whole_file(path) as temporary:
            with _deprecation_of_torchscript_ignored(), open(temporary, "xb") as file:
                torch.jit.save(torch.jit.script(module(graph).eval()), file)
            _prove(graph, temporary, path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error


def _prove(graph: ModelGraph, temporary: Path, path: Path) -> None:
    """The saved file against ``Player``, two channels, to the bit."""
    samples = graph.receptive_field + _PROOF_SAMPLES
    x_ct = np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    x_ct *= np.float32(0.3)
    with _deprecation_of_torchscript_ignored():
        model = torch.jit.load(temporary)  # type: ignore[no-untyped-call]
    curves = {
        knob.name: np.random.default_rng(index + 1).uniform(knob.minimum, knob.maximum, samples)
        for index, knob in enumerate(graph.knobs)
    }
    player = Player(graph, threads=1, mode="stream")
    expected = player.render(x_ct, curves) if curves else player.render(x_ct)
    played = _played(model, torch.from_numpy(x_ct), [torch.from_numpy(c) for c in curves.values()])
    if not np.array_equal(played.numpy(), expected, equal_nan=True):
        raise ModelError(
            f"{path}: expected the samples of Player from the scripted model, got others"
        )


def _played(model: Any, x_ct: torch.Tensor, curves: list[torch.Tensor]) -> torch.Tensor:
    """Block by block, knobs turning with every sample."""
    turned_kt = torch.stack(curves) if curves else None
    state = (
        model.initial_state(1, len(x_ct))
        if turned_kt is None
        else model.initial_state(1, len(x_ct), turned_kt[None, :, 0])
    )
    blocks, start, turn = [], 0, 0
    with torch.no_grad():
        while start < x_ct.shape[1]:
            end = start + _PROOF_BLOCKS[turn % len(_PROOF_BLOCKS)]
            knobs = () if turned_kt is None else (turned_kt[None, :, start:end],)
            y_bct, state = model(x_ct[None, :, start:end], state, *knobs)
            blocks.append(y_bct[0])
            start, turn = end, turn + 1
    return torch.cat(blocks, dim=1)


@contextlib.contextmanager
def _deprecation_of_torchscript_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield
