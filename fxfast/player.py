"""Audio through a model: whole arrays and streams, on the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from fxfast.cuda_engine import CudaEngine
from fxfast.errors import InputError
from fxfast.graph import ModelGraph
from fxfast.knob_rows import Knobs, default_values, knob_rows, knob_values, scaled, values_after
from fxfast.lowering import lower, lower_for_device
from fxfast.native import engine
from fxfast.native_ops import native_ops

MODES = ("offline", "stream")

Audio = TypeVar("Audio")


class Player:
    """A model ready to play; immutable, and shared by threads.

    ``threads`` is for :meth:`render` (default: the cores this process may use).
    ``mode`` is "offline" (fastest for whole arrays) or "stream" (zero latency in blocks of any
    length). An offline player may use transforms on a fixed grid of time, ``grid_samples`` long:
    its samples differ from those of a streaming player by rounding, and its streams take whole
    grids. ``isa`` forces an instruction set, as the environment variable ``FXFAST_ISA`` does.
    ``knobs`` are where the knobs of a conditioned model stand until they are turned, by name; those
    that are not named stand at their defaults. ``device`` "cuda" (or "cuda:1", ...) plays on a GPU,
    long audio and many rows at once: the same bits for any split there, and those of the CPU to
    rounding.

    Raises ``InputError`` for an unknown mode, thread count, knob or device, ``BuildError`` for an
    instruction set that is unknown or that this machine lacks and for a device that is not there,
    and ``ModelError`` for a model that CUDA kernels cannot play.
    """

    def __init__(
        self,
        graph: ModelGraph,
        *,
        threads: int | None = None,
        mode: str = "offline",
        isa: str | None = None,
        knobs: Mapping[str, float] | None = None,
        device: str = "cpu",
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
        if threads is None:
            threads = len(os.sched_getaffinity(0))
        if type(threads) is not int or not 1 <= threads <= 1024:
            raise InputError(f"threads: expected an integer from 1 to 1024, got {threads!r}")
        self.graph = graph
        self.mode = mode
        self._start = default_values(graph, knobs)
        program = lower(graph, merge=True)
        self._engine = engine().Engine(
            list(program.lines),
            native_ops(program),
            program.output_line,
            isa or "",
            threads,
            mode == "offline",
        )

        self._cuda = None if device == "cpu" else CudaEngine(lower_for_device(graph), device)

    @property
    def device(self) -> str:
        """Where the player plays: "cpu", or "cuda:0" and so on."""
        return "cpu" if self._cuda is None else f"cuda:{self._cuda.device}"

    @property
    def isa(self) -> str:
        """The instruction set that the kernels use."""
        return str(self._engine.isa)

    @property
    def threads(self) -> int:
        return int(self._engine.threads)

    @property
    def grid_samples(self) -> int:
        """What every block of a stream but the last is a multiple of: 1 in mode "stream"."""
        return int(self._engine.grid_samples) if self._cuda is None else 1

    @property
    def warm_up_samples(self) -> int:
        """After so many samples a stream of a model that is not recurrent holds nothing of before:
        a whole number of :attr:`alignment_samples`."""
        return int(self._engine.warm_up_samples)

    @property
    def alignment_samples(self) -> int:
        """Streams that start a multiple of these samples apart give the same bits."""
        return int(self._engine.alignment_samples)

    def render(self, x: Audio, knobs: Knobs | None = None) -> Audio:
        """Render whole audio of shape (T), (C, T) or (B, C, T), float32, numpy or torch (CPU).

        Channels and batch entries are independent and each starts settled, as if silence had
        played for ever. The result has the kind and the shape of ``x``, sample for sample
        aligned. ``knobs`` gives a number or an array (T) for each knob that does not stand where
        the player has it; silence has played for ever with their first values. Raises
        ``InputError`` for another shape or dtype, for NaN or infinity, and for a wrong knob.
        """
        array = _as_float_array(x)
        if array.ndim not in (1, 2, 3):
            raise InputError(
                f"audio: expected shape (T), (C, T) or (B, C, T), got {_shape_text(array)}"
            )
        rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, 0)
        values = knob_rows(self.graph, knobs, self._start, rows.shape[1])
        played = (self._cuda or self._engine).render(rows, values)
        y: Audio = _as_kind_of(x, played.reshape(array.shape))
        return y

    def stream(self, channels: int = 1, knobs: Mapping[str, float] | None = None) -> Stream:
        """Start a stream of ``channels`` independent channels, settled on silence with ``knobs``
        (those that are not named: as the player has them)."""
        if type(channels) is not int or not 1 <= channels <= 65536:
            raise InputError(f"channels: expected an integer from 1 to 65536, got {channels!r}")
        return Stream(self, channels, knob_values(self.graph, self._start, knobs))

    @property
    def cuda(self) -> CudaEngine | None:
        """The engine on the GPU, of a player that plays there."""
        return self._cuda

    @property
    def native(self) -> Any:
        """The native engine."""
        return self._engine

    @staticmethod
    def process_together(
        streams: Sequence[Stream], blocks: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """The next block (C, T) of each of several streams of one player, of any lengths.

        The samples are those of :meth:`Stream.process`; recurrent models take much less time for
        many streams together. Raises ``InputError`` for a wrong block, and every stream is then
        unchanged.
        """
        arrays = [_as_float_array(block) for block in blocks]
        for array in arrays:
            if array.ndim != 2:
                raise InputError(f"audio: expected shape (C, T), got {_shape_text(array)}")
        if any(stream.is_on_cuda for stream in streams):
            return [s.process(block) for s, block in zip(streams, arrays, strict=True)]
        together = engine().Stream.process_together
        outputs: list[np.ndarray] = together([s.native for s in streams], arrays)
        return outputs

    def plan_bytes(self) -> np.ndarray:
        """The packed plan as uint8, the same for every instruction set."""
        plan: np.ndarray = self._engine.plan()
        return plan

    def settled_state(self) -> np.ndarray:
        """The state of one settled stream as uint8."""
        state: np.ndarray = self._engine.settled_state()
        return state


class Stream:
    """Channels that go through a model block by block; made by :meth:`Player.stream`.

    One thread at a time uses a stream. Every split into blocks gives the same samples. Where the
    player has a grid, a block that is no multiple of ``grid_samples`` is the last one.
    """

    def __init__(self, player: Player, channels: int, knobs: np.ndarray) -> None:
        self._player = player
        self._start = self._standing = knobs
        self.is_on_cuda = player.cuda is not None
        start = scaled(player.graph, knobs) if knobs.size else None
        self._stream: Any = (
            engine().Stream(player.native, channels, start)
            if player.cuda is None
            else player.cuda.stream(channels, start)
        )
        self._process: Any = self._stream.process

    @property
    def native(self) -> Any:
        """The stream of the native engine."""
        return self._stream

    @property
    def channels(self) -> int:
        return int(self._stream.channels)

    def process(self, block: Audio, knobs: Knobs | None = None) -> Audio:
        """The next block: (C, T), or (T) for one channel, float32; any T, 0 too.

        Returns the same shape, with no delay. ``knobs`` turns knobs: a number from here on, or an
        array (T) whose last value stays. Raises ``InputError`` for another shape or dtype,
        for NaN or infinity, and after a last block; the stream is then unchanged.
        """
        if not knobs and type(block) is np.ndarray:
            plain: Audio | None = self._process(block)
            if plain is not None:
                return plain
        array = _as_float_array(block)
        values = None
        if knobs:
            samples = array.shape[-1] if array.ndim else 0
            values = knob_rows(self._player.graph, knobs, self._standing, samples)
        y: np.ndarray | None = self._process(array, values)
        if y is None:
            raise InputError(
                f"audio: expected shape ({self.channels}, T)"
                f"{' or (T)' if self.channels == 1 else ''} in a stream, got {_shape_text(array)}"
            )
        if knobs and y.size:
            self._standing = values_after(self._player.graph, self._standing, knobs)
        found: Audio = _as_kind_of(block, y)
        return found

    def flush(self) -> np.ndarray:
        """What is still inside: nothing, shape (C, 0), for the engine has no latency."""
        return np.zeros((self.channels, 0), np.float32)

    def reset(self) -> None:
        """Back to the settled state, with the knobs as they were at the start."""
        self._standing = self._start
        self._stream.reset()

    def save(self) -> bytes:
        """The state of all channels, for :meth:`restore` in a stream of the same model; where its
        knobs stand is not part of it."""
        return bytes(self._stream.save())

    def restore(self, state: bytes) -> None:
        """Continue where :meth:`save` was called. Raises ``InputError`` for other bytes."""
        if not isinstance(state, bytes):
            raise InputError(f"state: expected bytes, got {type(state).__name__}")
        self._stream.restore(state)


def _is_torch(x: object) -> bool:
    return type(x).__module__.partition(".")[0] == "torch"


def _as_float_array(x: Any) -> np.ndarray:
    if _is_torch(x):
        if x.device.type != "cpu":
            raise InputError(f"audio: expected a tensor on the CPU, got one on {x.device}")
        x = x.detach().numpy()
    if not isinstance(x, np.ndarray):
        raise InputError(f"audio: expected a numpy array or a torch tensor, got {type(x).__name__}")
    if x.dtype != np.float32:
        raise InputError(f"audio: expected dtype float32, got {x.dtype}")
    return np.asarray(x, order="C")


def _as_kind_of(x: Any, array: np.ndarray) -> Any:
    if not _is_torch(x):
        return array
    import torch

    return torch.from_numpy(array)


def _shape_text(array: np.ndarray) -> str:
    return "(" + ", ".join(str(n) for n in array.shape) + ")"
