"""A scripted streaming module: one file that plays a model with libtorch and the op library.

The file holds the packed plan and the state of a settled stream. A program that loads it needs
torch (Python or C++) and ``libfxfast_torch.so``, not this package:

    torch.ops.load_library("libfxfast_torch.so")
    model = torch.jit.load("model.ts")
    state = model.initial_state(1, 2)  # batch, channels
    y, state = model(x, state)  # (1, 2, T) float32, any T, block after block
"""

# TorchScript reads the annotations as objects, so their evaluation is not postponed here.
import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

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


def export_torchscript(graph: ModelGraph, path: str | os.PathLike[str]) -> None:
    """Write ``graph`` to ``path`` as a scripted streaming module, replacing it in one step.

    Before the file gets its name it is loaded again and has to play noise, block by block, bit
    for bit as a streaming ``Player`` does. Raises ``ModelError`` that names the path when it does
    not or when the file cannot be written, ``BuildError`` where the op library is not built.
    """
    if graph.knobs:
        raise ModelError(f"knobs: expected none in a scripted model, got {len(graph.knobs)}")
    ops.load_library()
    path = Path(path)
    try:
        with whole_file(path) as temporary:
            with _deprecation_of_torchscript_ignored(), open(temporary, "xb") as file:
                torch.jit.save(torch.jit.script(StreamingModel(graph).eval()), file)
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
    state = model.initial_state(1, 2)
    blocks = []
    start, turn = 0, 0
    with torch.no_grad():
        while start < samples:
            end = start + _PROOF_BLOCKS[turn % len(_PROOF_BLOCKS)]
            y_bct, state = model(torch.from_numpy(x_ct[None, :, start:end]), state)
            blocks.append(y_bct[0].numpy())
            start, turn = end, turn + 1
    expected = Player(graph, threads=1, mode="stream").render(x_ct)
    if not np.array_equal(np.concatenate(blocks, axis=1), expected, equal_nan=True):
        raise ModelError(
            f"{path}: expected the samples of Player from the scripted model, got others"
        )


@contextlib.contextmanager
def _deprecation_of_torchscript_ignored() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.", DeprecationWarning)
        yield
