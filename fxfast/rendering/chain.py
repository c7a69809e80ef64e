"""A chain of models, with impulse responses of cabinets or rooms in it, as one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fxfast.audio.paths import AUDIO_SUFFIXES, AnyPath, printable
from fxfast.errors import AudioFileError, ModelError
from fxfast.graph import MAX_RECEPTIVE_FIELD, Linear, ModelGraph, Node, Sequential


def load_chain(
    paths: Sequence[AnyPath],
    load_model: Callable[[AnyPath], ModelGraph],
    *,
    resample_responses: bool = False,
) -> ModelGraph:
    """The models at ``paths`` one after the other; an audio file is an impulse response.

    The chain has the rate of its models, or of its responses where it has no model. A response of
    another rate is converted where ``resample_responses`` says so.

    Raises ``ModelError`` for an empty chain, different rates, a model with knobs that is not the
    first, or a response that is not of one channel, empty, silent or too long; ``AudioFileError``
    for one that cannot be read.
    """
    if not paths:
        raise ModelError("chain: expected at least one model or impulse response, got none")
    models = {i: load_model(path) for i, path in enumerate(paths) if not _is_audio(path)}
    responses = {i: _read(path) for i, path in enumerate(paths) if i not in models}
    rates = [graph.sample_rate for graph in models.values()] or [r for _, r in responses.values()]
    nodes: list[Node] = []
    for index, path in enumerate(paths):
        name = printable(path)
        if index in models:
            nodes.append(_node_of(models[index], name, index, rates[0]))
        else:
            nodes.append(_filter_of(responses[index], name, rates[0], resample_responses))
    knobs = models[0].knobs if 0 in models else ()
    if len(nodes) == 1 and 0 in models:
        return models[0]
    return ModelGraph(Sequential(tuple(nodes)), rates[0], knobs=knobs)


def _is_audio(path: AnyPath) -> bool:
    return Path(path).suffix.lower() in AUDIO_SUFFIXES


def _node_of(graph: ModelGraph, name: str, index: int, rate: int) -> Node:
    if graph.sample_rate != rate:
        raise ModelError(
            f"{name}: expected a model of {rate} Hz, as the first in the chain, "
            f"got {graph.sample_rate} Hz"
        )
    if graph.knobs and index > 0:
        raise ModelError(f"{name}: expected a model without knobs after the first in a chain")
    return graph.root


def _read(path: AnyPath) -> tuple[np.ndarray, int]:
    from fxfast.audio.files import read_audio  # a plain model should not wait for it

    try:
        taps_ct, rate = read_audio(path)
    except AudioFileError as error:
        raise type(error)(f"impulse response {error}") from error
    if len(taps_ct) != 1:
        raise ModelError(
            f"{printable(path)}: expected an impulse response of 1 channel, got {len(taps_ct)}"
        )
    return taps_ct[0], rate


def _filter_of(
    response: tuple[np.ndarray, int], name: str, rate: int, resample_responses: bool
) -> Linear:
    taps, own_rate = response
    if own_rate != rate:
        if not resample_responses:
            raise ModelError(
                f"{name}: expected an impulse response of {rate} Hz, got {own_rate} Hz "
                f"(resampling was not asked for)"
            )
        from fxfast.audio.resample import resample

        # A filter sums over samples: of another number of them, each counts so much more.
        taps = resample(taps, own_rate, rate) * np.float32(own_rate / rate)
    if not taps.any():
        raise ModelError(f"{name}: expected an impulse response, got silence")
    taps = taps[: int(np.flatnonzero(taps)[-1]) + 1]
    if taps.size > MAX_RECEPTIVE_FIELD:
        raise ModelError(
            f"{name}: expected an impulse response of at most {MAX_RECEPTIVE_FIELD} samples, "
            f"got {taps.size}"
        )
    return Linear(np.ascontiguousarray(taps, np.float32))
