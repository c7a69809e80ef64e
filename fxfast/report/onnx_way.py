"""ONNX Runtime beside the engine: the torch module exported, on one thread of the CPU provider."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import numpy as np
import torch

from fxfast.report.measure import peak_growth_bytes, thread_seconds
from fxfast.report.torch_ways import Twin
from fxfast.report.ways import Budget, PeerError, Way, with_streams

ENGINE = "ONNX Runtime"
INSTALL = "pip install onnxruntime onnx"
CHUNKS = (32768,)
_RECURRENT_CHUNKS = (512, 8192)
_OPSET = 17


def onnx_way(
    twin: Twin, audio: np.ndarray, streams: int, truth_samples: int, budget: Budget
) -> Way:
    """ONNX Runtime on long chunks. Raises ``PeerError`` where it is missing or refuses."""
    sessions: dict[int, Any] = {}

    def run(samples: int) -> float:
        x_bct = twin.input_of(audio, streams, samples)
        if samples not in sessions:
            sessions[samples] = _session(twin.timed, x_bct)
        feed = {"x": x_bct.numpy()}
        return thread_seconds(lambda: sessions[samples].run(None, feed))

    samples = budget.one_of(_RECURRENT_CHUNKS if twin.is_recurrent else CHUNKS, run)
    if streams == 1 and not twin.is_recurrent:
        # To export such a net takes long: the session that is timed renders for the error, too.
        x_bct = twin.after_silence(np.resize(audio, samples))
        session = sessions[samples]
    else:
        x_bct = twin.after_silence(audio[:truth_samples])
        session = _session(twin.net, x_bct)
    first = session.run(None, {"x": x_bct.numpy()})[0][0, 0, : min(truth_samples, len(audio))]
    growth = peak_growth_bytes(lambda: run(samples))
    return Way(
        with_streams(ENGINE, streams),
        ENGINE,
        run,
        samples,
        first=first,
        streams=streams,
        memory={} if growth is None else {"peak_growth_bytes": growth},
        note=f"{'pieces' if twin.is_recurrent else 'chunks'} of {samples}",
    )


def _session(net: torch.nn.Module, x_bct: torch.Tensor) -> Any:
    """The module for one shape: with free shapes the runtime plans its memory worse."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError as error:
        raise PeerError(f"{error.name} is not installed ({INSTALL})") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = f"{folder}/model.onnx"
            torch.onnx.export(
                net, (x_bct,), path, dynamo=False, opset_version=_OPSET,
                input_names=["x"], output_names=["y"],
            )  # fmt: skip
            return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # an operation that one of the two does not have
        line = (str(error).splitlines() or ["no message"])[0][:200]
        raise PeerError(f"{type(error).__name__}: {line}") from None
