"""Rendering on a GPU: where a run plays, and how its files share the device.

The files decode and encode in their own threads and hand their blocks to one desk. Whenever a
launch can begin, one of the threads that wait launches the blocks of all: few while the device
keeps up, many when it does not. The kernels are loaded in the process that renders, for a process
that has used a device cannot be forked.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from fxfast.cuda_engine import CudaEngine, is_recurrent
from fxfast.cuda_library import CudaLibrary, DeviceFacts, device_index
from fxfast.cuda_packed import LAUNCHES, Packed, PackedStream
from fxfast.errors import BuildError, FxfastError, InputError, ModelError
from fxfast.graph import ModelGraph
from fxfast.knob_rows import default_values, knob_rows, scaled, values_after
from fxfast.lowering import lower_for_device
from fxfast.native import engine
from fxfast.native_ops import native_ops
from fxfast.rendering.group import Request
from fxfast.rendering.pipeline import BlockStream
from fxfast.rendering.split import Cores
from fxfast.rendering.work import CPU, Placement

AUTO = "auto"
# Files that are open for each core, so that a launch finds many blocks.
OPEN_FILES = 16
# Files of a recurrent model for each core from which a GPU is faster. It plays each stream's
# samples one after the other, slower than a core does, and is fast by many streams side by side.
# Measured on an H200: as fast as one core with 3 streams, as 16 cores with 40 to 50.
_FILES_PER_CORE = 3
_LEAST_BLOCK_SAMPLES, _MOST_BLOCK_SAMPLES = 1 << 18, 1 << 22


def place(
    device: str, graphs: Sequence[ModelGraph], isolate: bool, files: int, cores: int
) -> Placement:
    """Decide where to play. ``isolate``: this process is going to fork, and must not use a GPU.

    "auto" and "cuda" are the CPU, with a note, where there is no GPU, and "auto" also where a
    model cannot be played there, or plays stream by stream and has fewer ``files`` than make a GPU
    faster than so many ``cores``: those of the whole run, so that one that goes on plays where it
    did. Raises ``InputError`` for an unknown device and for a numbered one that is not there,
    ``ModelError`` for a model that the kernels cannot play.
    """
    if device == CPU:
        return Placement(CPU)
    if device != AUTO:
        try:
            device_index(device)
        except InputError:
            expected = "expected cpu, auto, cuda or cuda:0, cuda:1, ..."
            raise InputError(f"device: {expected}, got {device!r}") from None
    try:
        asked = "cuda" if device == AUTO else device
        number, facts = _facts_in_child(asked) if isolate else device_facts(asked)
    except BuildError as error:
        if device not in (AUTO, "cuda"):
            raise InputError(str(error)) from error
        return Placement(CPU, note=f"device {device}: rendered on the CPU: {error}")
    try:
        by_streams = [check_plan(graph, facts) for graph in graphs]
    except ModelError as error:
        if device != AUTO:
            raise
        return Placement(CPU, note=f"device auto: rendered on the CPU: {error}")
    least = _FILES_PER_CORE * cores
    if device == AUTO and files < least and any(by_streams):
        gains = f"gains from {least} files on {cores} cores, got {files}"
        why = f"a model that plays stream by stream {gains}"
        return Placement(CPU, note=f"device auto: rendered on the CPU: {why}")
    return Placement(f"cuda:{number}", f"cuda {facts.major}.{facts.minor}")


def device_facts(device: str) -> tuple[int, DeviceFacts]:
    """The number of a device, and what it is. Raises ``BuildError`` where there is none."""
    library = CudaLibrary()
    count = library.device_count()
    if count == 0:
        raise BuildError(f"device {device}: expected a CUDA device, found none")
    index = device_index(device)
    index = library.used() if index is None else index
    if index >= count:
        raise BuildError(f"device: expected one of {count} CUDA devices, got {device}")
    return index, library.facts(index)


def _facts_in_child(device: str) -> tuple[int, DeviceFacts]:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            try:
                index, facts = device_facts(device)
                said: dict[str, object] = {"index": index, "facts": list(facts)}
            except FxfastError as error:
                said = {"error": str(error)}
            os.write(write, json.dumps(said).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    if not text:
        raise BuildError(f"device {device}: expected an answer of the driver, the process died")
    found = json.loads(text)
    if "error" in found:
        raise BuildError(found["error"])
    return int(found["index"]), DeviceFacts(*found["facts"])


def check_plan(graph: ModelGraph, facts: DeviceFacts) -> bool:
    """Whether a device plays the model's streams from one state to the next, and not parts of
    them at the same time. Raises ``ModelError`` for a model that its kernels cannot play."""
    program = lower_for_device(graph)
    plan: np.ndarray = engine().cuda_plan(
        list(program.lines),
        native_ops(program),
        program.output_line,
        facts.shared_bytes,
        facts.major,
    )
    return is_recurrent(plan)


class DevicePlayer:
    """A model for a device, before the process that plays it has begun to use it."""

    grid_samples = 1

    def __init__(self, graph: ModelGraph, device: str) -> None:
        self.graph, self.device = graph, device
        self._lock = threading.Lock()
        self._desk: _Desk | None = None

    def stream(self, channels: int = 1, knobs: dict[str, float] | None = None) -> BlockStream:
        return DeskStream(self, channels, knobs, None)

    def desk(self) -> _Desk:
        """Where blocks are handed in; made once. Raises as ``CudaEngine`` does."""
        with self._lock:
            if self._desk is None:
                program = lower_for_device(self.graph)
                self._desk = _Desk(Packed(CudaEngine(program, self.device)))
            return self._desk


class _Desk:
    """Takes blocks of all threads; one of those that wait launches them."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self._lock = threading.Lock()
        self._waiting: list[Request[PackedStream]] = []
        self._free_launches = LAUNCHES

    def process(self, stream: PackedStream, block_ct: np.ndarray) -> np.ndarray:
        """The block of one stream. Raises what playing it raised."""
        engine().require_finite(block_ct)  # here, where it is the file's own
        request = Request(stream, block_ct)
        with self._lock:
            self._waiting.append(request)
            self._appoint()
        request.ready.wait()
        if request.leads:
            self._lead(request)
        if request.error is not None:
            raise request.error
        assert request.output_ct is not None
        return request.output_ct

    def _appoint(self) -> None:
        """Let the first that waits lead, where a launch is free; called with the lock."""
        free = next((request for request in self._waiting if not request.leads), None)
        if self._free_launches > 0 and free is not None:
            self._free_launches -= 1
            self._waiting.remove(free)
            free.leads = True
            free.ready.set()

    def _take(self, leader: Request[PackedStream]) -> list[Request[PackedStream]]:
        taken, samples = [leader], leader.block_ct.size
        with self._lock:
            while self._waiting:
                samples += self._waiting[0].block_ct.size
                if samples > self.packed.most_samples:
                    break
                taken.append(self._waiting.pop(0))
        return taken

    def _lead(self, leader: Request[PackedStream]) -> None:
        group = self._take(leader)
        try:
            outputs = self.packed.play([(r.stream, r.block_ct) for r in group])
            for request, output_ct in zip(group, outputs, strict=True):
                request.output_ct = output_ct
        except Exception as error:
            for request in group:
                request.error = error
        finally:
            with self._lock:
                self._free_launches += 1
                self._appoint()
            for request in group:
                request.ready.set()


class DeskPlayer:
    """A ``DevicePlayer`` as the threads of a run see it: who waits for the device holds no core."""

    grid_samples = 1

    def __init__(self, player: DevicePlayer, cores: Cores, files: int) -> None:
        self._player, self._cores = player, cores
        # Few files have to give each launch more to do.
        share = self._samples_of(files)
        self.block_samples = max(_LEAST_BLOCK_SAMPLES, min(share, _MOST_BLOCK_SAMPLES))

    @staticmethod
    def _samples_of(files: int) -> int:
        return _MOST_BLOCK_SAMPLES * 4 // max(1, files)

    @property
    def graph(self) -> ModelGraph:
        return self._player.graph

    def stream(self, channels: int = 1, knobs: dict[str, float] | None = None) -> BlockStream:
        return DeskStream(self._player, channels, knobs, self._cores)

    def ahead(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """As ``Cores.ahead``."""
        return self._cores.ahead(blocks)


class DeskStream:
    """One file's stream."""

    def __init__(
        self,
        player: DevicePlayer,
        channels: int,
        knobs: dict[str, float] | None,
        cores: Cores | None,
    ) -> None:
        self._desk, self._graph, self._cores = player.desk(), player.graph, cores
        self._standing = default_values(self._graph, knobs)
        self._stream = self._desk.packed.stream(channels, scaled(self._graph, self._standing))

    def process(self, block: np.ndarray, knobs: dict[str, np.ndarray] | None = None) -> np.ndarray:
        block_ct = block.reshape(self._stream.channels, -1)
        if block_ct.shape[1] == 0:
            return np.zeros_like(block)
        if knobs:
            rows = knob_rows(self._graph, knobs, self._standing, block_ct.shape[1])
            assert rows is not None  # knob_rows has refused knobs that the model has not
            self._stream.turn(np.broadcast_to(rows.T, (block_ct.shape[1], len(rows))).T)
            self._standing = values_after(self._graph, self._standing, knobs)
        if self._cores is None:
            return self._desk.process(self._stream, block_ct).reshape(block.shape)
        with self._cores.none():
            return self._desk.process(self._stream, block_ct).reshape(block.shape)

    def flush(self) -> np.ndarray:
        return np.zeros((self._stream.channels, 0), np.float32)
