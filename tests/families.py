"""One small model of every family, and any model with its weights times a factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from nam_documents import document, new_array, parse, values, wavenet
from wavenets import Noise, Options, random_stack, random_wavenet

from fxfast.graph import (
    CELL_GATES,
    CYCLE,
    FILM_PLACES,
    Activation,
    Compressor,
    ConvLayer,
    ConvStack,
    Delay,
    DelayVoice,
    Gate,
    Linear,
    ModelGraph,
    Node,
    Recurrent,
    RecurrentLayer,
    Residual,
    Sequential,
)

RATE = 48_000
WEIGHTS = {"weight", "conv_weight", "mixin_weight", "head_weight", "rechannel", "taps"}
WEIGHTS |= {"weight_ih", "weight_hh"}


def recurrent(cell: str, units: int, layers: int, channels: int = 1, seed: int = 0) -> Recurrent:
    """Weights as PyTorch draws them."""
    random, built = np.random.default_rng(seed), []
    for _ in range(layers):
        rows = CELL_GATES[cell] * units
        shapes = ((rows, channels), (rows, units), (rows,), (rows,))
        bound = 1 / np.sqrt(units)
        arrays = (random.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes)
        built.append(RecurrentLayer(cell, *arrays, initial=np.zeros((2, units), np.float32)))
        channels = units
    return Recurrent(tuple(built))


def dense(*sizes: int, seed: int = 1) -> ConvStack:
    """Dense layers from the first size to the last, with tanh between them."""
    noise, layers = Noise(seed), []
    for index, (into, out) in enumerate(pairwise(sizes)):
        kind = "none" if index == len(sizes) - 2 else "tanh"
        layers.append(ConvLayer(noise.weight(out, into, 1), noise.bias(out), 1, Activation(kind)))
    return ConvStack(tuple(layers))


def convnet_document(channels: int, dilations: list[int], batchnorm: bool, seed: int = 0) -> Any:
    norm = 4 * channels + 1 if batchnorm else channels
    inputs = [1] + [channels] * (len(dilations) - 1)
    count = sum(2 * channels * into + norm for into in inputs) + channels + 1
    weights, start = values(count, seed), 0
    for into in inputs if batchnorm else ():
        start += 2 * channels * into + channels
        for index in range(start, start + channels):
            weights[index] = abs(weights[index]) + 0.25  # variances
        start += 3 * channels + 1
        weights[start - 1] = 1e-5
    config = {
        "channels": channels,
        "dilations": dilations,
        "batchnorm": batchnorm,
        "activation": "Tanh",
    }
    return document("ConvNet", config, weights)


def container() -> Any:
    models = [
        wavenet(new_array(channels=size, bottleneck=size, groups_input=size)) for size in (2, 3)
    ]
    entries = [{"max_value": m, "model": n} for m, n in zip((0.5, 1.0), models, strict=True)]
    return document("SlimmableContainer", {"submodels": entries}, [])


def slimmable() -> Any:
    return wavenet(
        new_array(
            channels=5,
            bottleneck=5,
            slimmable={"method": "slice_channels_uniform", "kwargs": {"allowed_channels": [3, 5]}},
        )
    )


def _everything() -> Node:
    options = Options(
        3, 2, (3, 2, 4), (1, 5, 2), ["none", "gated", "blended"], head1x1=3, films=FILM_PLACES,
        head_taps=3, head_dilation=4, head_out=3,
    )  # fmt: skip
    last = Options(5, 3, (2,), (3,), kinds=["prelu"], head_taps=2)
    condition = random_wavenet(2, [Options(2, head_out=2)])
    return random_wavenet(
        3, [options, last], head=[("softsign", 2, 3), ("tanh", 1, 1)], condition=condition
    )


def _linear() -> Node:
    return Linear((0.2 * np.random.default_rng(1).standard_normal(700)).astype(np.float32), 0.25)


SECTIONS = np.array([[0.02, 1.4, 1, -1.4, -1], [0.3, 1.1, 0, 0, 1]], np.float32)


def table(size: int, depth: float) -> np.ndarray:
    cycle = np.arange(size) / size
    return (depth * (1.4 + np.sin(2 * np.pi * cycle) + 0.3 * np.cos(4 * np.pi * cycle))).astype(
        "f4"
    )


def echo(factor: float = 1.0) -> Delay:
    """Two fixed voices, one of them between samples, and a filtered loop."""
    voices = (
        DelayVoice(0.5, 37, np.array([0.25], np.float32)),
        DelayVoice(-0.3 * factor, 5, np.array([0.0], np.float32)),
    )
    return Delay(voices, 0.9, 0.4, 0.3, 0.6, SECTIONS)


def chorus() -> Delay:
    voices = (
        DelayVoice(0.6, 3, table(64, 6.5), step=CYCLE // 1000, start=CYCLE // 3),
        DelayVoice(-0.4, 11, table(256, 2.5), step=CYCLE // 77 + 5),
    )
    return Delay(voices, 1.0, 0.7)


def flanger() -> Delay:
    voice = DelayVoice(1.0, 2, table(128, 4.0), step=CYCLE // 333, start=CYCLE - 1)
    return Delay((voice,), 0.7, 0.0, 0.5, -0.6, SECTIONS[1:], "cubic")


def compressor(detector: str = "peak", average: float = 1.0) -> Compressor:
    """4 to 1 above -30 dB, with a soft knee, by a fast detector."""
    levels = np.linspace(-12, 0, 97)
    over = np.logaddexp(0, 4 * (levels + 5)) / 4
    curve = (0.2 - 0.75 * over).astype(np.float32)
    smoothing = (0.05, 0.002, 0.004, 0.02)
    return Compressor(detector, *smoothing, -12.0, 8.0, curve, detector_average=average)


def gate(ramps: str = "linear") -> Gate:
    return Gate("peak", 0.5, 0.01, 0.02, 0.01, 0.25, 0.125, 20, 0.125, ramps)


def deep_head(seed: int) -> Node:
    return Sequential((recurrent("lstm", 5, 2, seed=seed), dense(5, 7, 3, 1, seed=seed + 1)))


FAMILIES: dict[str, Callable[[], Node]] = {
    "conv stack": lambda: random_stack(1, [1, 7, 5, 1]),
    "convnet": lambda: parse(convnet_document(5, [1, 2, 4], False)).root,
    "convnet with batch norm": lambda: parse(convnet_document(3, [1, 4], True)).root,
    "wavenet": lambda: random_wavenet(1, [Options(7, head_out=3), Options(3, head_bias=False)]),
    "wavenet with everything": _everything,
    "grouped wavenet": lambda: random_wavenet(4, [Options(12, groups=3, groups_1x1=2)]),
    "lstm": lambda: Sequential((recurrent("lstm", 12, 1), dense(12, 1))),
    "gru of two layers": lambda: Sequential((recurrent("gru", 7, 2), dense(7, 1))),
    "lstm with a deep head": lambda: deep_head(0),
    "gru with skip": lambda: Residual(Sequential((recurrent("gru", 3, 1), dense(3, 1)))),
    "conv and lstm": lambda: Sequential(
        (random_stack(5, [1, 3, 2]), recurrent("lstm", 5, 1, channels=2), dense(5, 1))
    ),
    "linear": _linear,
    "sequential": lambda: Sequential(
        (random_stack(6, [1, 2, 1]), random_wavenet(5, [Options(2)]), Linear(_ONE))
    ),
    "compressor": compressor,
    "compressor by an average": lambda: compressor("power", 0.001),
    "compressor of power into a net": lambda: Sequential(
        (compressor("power"), random_stack(7, [1, 4, 1]))
    ),
    "gate": gate,
    "gate with exponential ramps": lambda: gate("exponential"),
    "container": lambda: parse(container(), slim=0).root,
    "echo": echo,
    "chorus": chorus,
    "flanger": flanger,
    "net into echo": lambda: Sequential(
        (random_stack(7, [1, 3, 1], "leaky_relu"), echo(), random_stack(8, [1, 2, 1], "leaky_relu"))
    ),
    "flanger into filter": lambda: Sequential((flanger(), _linear())),
    "slimmable": lambda: parse(slimmable(), slim=0).root,
}
_ONE = np.array([0.5], np.float32)


def family(name: str, factor: float = 1.0) -> ModelGraph:
    return ModelGraph(times(FAMILIES[name](), factor), RATE)


def draws(name: str, factor: float) -> tuple[ModelGraph, ...]:
    """The nets whose median says how exact a family is: one, or five where numpy's own rounding
    is a matter of luck (tolerances.py, float32_ratio)."""
    if name != "lstm with a deep head":
        return (family(name, factor),)
    return tuple(ModelGraph(times(deep_head(seed), factor), RATE) for seed in range(5))


def times(found: Any, factor: float) -> Any:
    """The same node with every weight, not the biases, times ``factor``."""
    if isinstance(found, tuple) and hasattr(found, "_fields"):
        return found._replace(weight=found.weight * np.float32(factor))
    if isinstance(found, tuple):
        return tuple(times(each, factor) for each in found)
    if isinstance(found, dict):
        return {key: times(each, factor) for key, each in found.items()}
    if not is_dataclass(found) or isinstance(found, Activation):
        return found
    changed = {}
    for each in fields(found):
        value = getattr(found, each.name)
        is_weight = each.name in WEIGHTS
        changed[each.name] = value * np.float32(factor) if is_weight else times(value, factor)
    return type(found)(**changed)
