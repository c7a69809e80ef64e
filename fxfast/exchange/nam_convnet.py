"""The ConvNet of ``.nam``: blocks of two taps, then one tap to the output.

Batch norm is folded into the blocks. Groups divide the one input channel of the first block,
so there is only one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from fxfast.errors import ModelShapeError, ModelValueError
from fxfast.exchange.nam_activation import parse_activation
from fxfast.exchange.nam_fields import Section
from fxfast.exchange.nam_layout import Tensor
from fxfast.graph import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_RECEPTIVE_FIELD,
    Activation,
    ConvLayer,
    ConvStack,
)

CONFIG_KEYS = {"channels", "dilations", "batchnorm", "activation"}
CONFIG_KEYS |= {"groups", "in_channels", "out_channels"}


@dataclass(frozen=True)
class ConvNetShape:
    channels: int
    dilations: tuple[int, ...]
    batchnorm: bool
    activation: Activation


def parse_convnet(config: Section) -> ConvNetShape:
    for key in ("in_channels", "out_channels", "groups"):
        if config.integer(key, MAX_CHANNELS, 1) != 1:
            raise ModelShapeError(f"{config.where(key)}: expected 1, got {config.values[key]}")
    channels = config.integer("channels", MAX_CHANNELS)
    activation = config.required("activation")
    return ConvNetShape(
        channels,
        config.integers("dilations", MAX_LAYERS - 1, MAX_RECEPTIVE_FIELD),
        config.boolean("batchnorm"),
        parse_activation(activation, config.where("activation"), channels),
    )


def convnet_tensors(shape: ConvNetShape) -> Iterator[Tensor]:
    """Every array of the flat list, in its order."""
    channels, in_channels = shape.channels, 1
    for index in range(len(shape.dilations)):
        yield Tensor(f"layers[{index}].weight", (channels, in_channels, 2))
        names = ("mean", "variance", "scale", "shift") if shape.batchnorm else ("bias",)
        for name in names:
            yield Tensor(f"layers[{index}].{name}", (channels,))
        if shape.batchnorm:
            yield Tensor(f"layers[{index}].epsilon", ())
        in_channels = channels
    yield Tensor("head.weight", (1, channels, 1))
    yield Tensor("head.bias", (1,))


def build_convnet(
    shape: ConvNetShape, found: Mapping[str, np.ndarray], model: Section
) -> ConvStack:
    where = model.where("weights")
    layers = [
        _convnet_layer(found, f"layers[{index}]", dilation, shape.activation, where)
        for index, dilation in enumerate(shape.dilations)
    ]
    return ConvStack((*layers, ConvLayer(found["head.weight"], found["head.bias"])))


def _convnet_layer(
    found: Mapping[str, np.ndarray],
    name: str,
    dilation: int,
    activation: Activation,
    where: str,
) -> ConvLayer:
    weight = found[f"{name}.weight"]
    if f"{name}.bias" in found:
        return ConvLayer(weight, found[f"{name}.bias"], dilation, activation)
    mean, variance, scale, shift, epsilon = (
        found[f"{name}.{key}"].astype(np.float64)
        for key in ("mean", "variance", "scale", "shift", "epsilon")
    )
    if not (variance + epsilon > 0).all():
        raise ModelValueError(
            f"{where}: expected variances above 0 in {name}, got {variance.min():g}"
        )
    factor = scale / np.sqrt(variance + epsilon)
    with np.errstate(over="ignore"):
        folded = (weight * factor[:, None, None]).astype(np.float32)
        bias = (shift - mean * factor).astype(np.float32)
    return ConvLayer(folded, bias, dilation, activation)
