"""Configs of recurrent models, their presets, and the config of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fxfast.errors import ModelError
from fxfast.graph import (
    CELL_GATES,
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_RECEPTIVE_FIELD,
    ConvLayer,
    ConvStack,
    Knob,
    ModelGraph,
    Node,
    Recurrent,
    Residual,
    Sequential,
    check_knobs,
)
from fxfast.graph.checks import check_integer

# What a layer of the front or of the head may end with.
ACTIVATIONS = ("none", "relu", "tanh", "sigmoid")
# Where a graph's metadata keep what its weights do not say.
WARM_UP_KEY = "warm_up_samples"


@dataclass(frozen=True)
class FrontLayerConfig:
    """A causal convolution with bias before the recurrent layers, and one of ACTIVATIONS.

    ``kernel_size`` is in taps, ``dilation`` in samples.
    """

    channels: int
    kernel_size: int
    dilation: int = 1
    activation: str = "none"


@dataclass(frozen=True)
class RecurrentConfig:
    """``layers`` of ``units`` cells, "lstm" or "gru", then dense layers down to one channel.

    ``head_sizes`` are those of the dense layers before the last, each of which ends with
    ``head_activation``, one of ACTIVATIONS. ``front`` are convolutions before the cells.
    ``skip`` adds the input to the output. In training ``warm_up_samples`` before every stretch
    only bring the cells into their state. ``knobs`` are channels of the input after the audio: the
    first layer, of the front or of the cells, reads them.
    """

    cell: str
    units: int
    layers: int = 1
    head_sizes: tuple[int, ...] = ()
    head_activation: str = "relu"
    front: tuple[FrontLayerConfig, ...] = ()
    skip: bool = False
    warm_up_samples: int = 1024
    knobs: tuple[Knob, ...] = ()

    @property
    def history_samples(self) -> int:
        """Those of the convolutions."""
        return sum((layer.kernel_size - 1) * layer.dilation for layer in self.front)


def presets() -> dict[str, RecurrentConfig]:
    front = FrontLayerConfig(16, 12, 1, "tanh")
    return {
        "lstm-16": RecurrentConfig("lstm", 16),
        "lstm-2x8": RecurrentConfig("lstm", 8, 2),
        "lstm-40": RecurrentConfig("lstm", 40),
        "lstm-96": RecurrentConfig("lstm", 96),
        "lstm-6x800": RecurrentConfig("lstm", 800, 6, (800, 400, 200)),
        "gru-16": RecurrentConfig("gru", 16),
        "conv-lstm-24": RecurrentConfig("lstm", 24, front=(front, front), skip=True),
    }


def validate(config: RecurrentConfig) -> None:
    _one_of(config.cell, "cell", tuple(CELL_GATES))
    check_integer(config.units, "units", MAX_CHANNELS)
    check_integer(config.layers, "layers", MAX_LAYERS)
    for index, size in enumerate(config.head_sizes):
        check_integer(size, f"head_sizes[{index}]", MAX_CHANNELS)
    _one_of(config.head_activation, "head_activation", ACTIVATIONS)
    for index, layer in enumerate(config.front):
        name = f"front[{index}]"
        check_integer(layer.channels, f"{name}.channels", MAX_CHANNELS)
        check_integer(layer.kernel_size, f"{name}.kernel_size", MAX_RECEPTIVE_FIELD)
        check_integer(layer.dilation, f"{name}.dilation", MAX_RECEPTIVE_FIELD)
        _one_of(layer.activation, f"{name}.activation", ACTIVATIONS)
    if type(config.skip) is not bool:
        raise ModelError(f"skip: expected true or false, got {config.skip!r}")
    if not _is_warm_up(config.warm_up_samples):
        raise ModelError(
            f"warm_up_samples: expected an integer from 0 to {MAX_RECEPTIVE_FIELD}, "
            f"got {config.warm_up_samples!r}"
        )
    check_knobs(config.knobs)


def config_of(values: Mapping[str, Any]) -> RecurrentConfig:
    """The config that ``dataclasses.asdict`` turned into ``values``, with lists for tuples.

    Raises ``TypeError`` or ``KeyError`` for other fields.
    """
    front = tuple(FrontLayerConfig(**layer) for layer in values["front"])
    config = RecurrentConfig(
        **{
            **values,
            "head_sizes": tuple(values["head_sizes"]),
            "front": front,
            "knobs": tuple(Knob(**knob) for knob in values.get("knobs", ())),
        }
    )
    validate(config)
    return config


class Parts(NamedTuple):
    """The nodes of a recurrent model."""

    front: tuple[ConvLayer, ...]
    cells: Recurrent
    head: tuple[ConvLayer, ...]


def parts_of(graph: ModelGraph) -> Parts:
    """Raises ``ModelError`` unless the graph is made as a recurrent model is."""
    root, name = graph.root, "root"
    if isinstance(root, Residual):
        root, name = root.child, "root.child"
    children = root.children if isinstance(root, Sequential) else (root,)
    kinds = [child.kind for child in children]
    wanted = [Recurrent.kind, ConvStack.kind]
    if kinds not in (wanted, [ConvStack.kind, *wanted]):
        raise ModelError(
            f"{name}: expected recurrent and conv_stack one after the other, a conv_stack before "
            f"them or none, got {', '.join(kinds[:4])}"
        )
    cells = children[-2]
    assert isinstance(cells, Recurrent)
    _check_cells(cells, name, len(children) - 2)
    front = _layers_of(children[0], f"{name}.children[0]") if len(children) == 3 else ()
    head = _layers_of(children[-1], f"{name}.children[{len(children) - 1}]")
    return Parts(front, cells, head)


def config_of_graph(graph: ModelGraph) -> RecurrentConfig:
    """Raises ``ModelError`` when no config gives such a graph."""
    parts = parts_of(graph)
    first, hidden = parts.cells.layers[0], parts.head[:-1]
    _check_head(parts.head)
    said: Any = graph.metadata.get(WARM_UP_KEY)
    warm_up = said if _is_warm_up(said) else RecurrentConfig.warm_up_samples
    return RecurrentConfig(
        cell=first.cell,
        units=first.units,
        layers=len(parts.cells.layers),
        head_sizes=tuple(layer.out_channels for layer in hidden),
        head_activation=hidden[0].activation.kind if hidden else "relu",
        front=tuple(
            FrontLayerConfig(layer.out_channels, layer.taps, layer.dilation, layer.activation.kind)
            for layer in parts.front
        ),
        skip=isinstance(graph.root, Residual),
        warm_up_samples=warm_up,
        knobs=graph.knobs,
    )


def _check_cells(cells: Recurrent, name: str, index: int) -> None:
    first = cells.layers[0]
    for number, layer in enumerate(cells.layers):
        if (layer.cell, layer.units) != (first.cell, first.units):
            raise ModelError(
                f"{name}.children[{index}].layers[{number}]: expected {first.units} units of "
                f"{first.cell} as in layers[0], got {layer.units} of {layer.cell}"
            )


def _layers_of(stack: Node, name: str) -> tuple[ConvLayer, ...]:
    assert isinstance(stack, ConvStack)
    if stack.skip:
        raise ModelError(f"{name}.skip: expected no skip in a recurrent model, got one")
    for index, layer in enumerate(stack.layers):
        if layer.bias is None:
            raise ModelError(f"{name}.layers[{index}].bias: expected one, got none")
        _one_of(layer.activation.kind, f"{name}.layers[{index}].activation", ACTIVATIONS)
    return stack.layers


def _check_head(head: tuple[ConvLayer, ...]) -> None:
    for index, layer in enumerate(head):
        if (layer.taps, layer.dilation) != (1, 1):
            raise ModelError(
                f"head layers[{index}]: expected 1 tap and dilation 1, "
                f"got {layer.taps} and {layer.dilation}"
            )
        expected = "none" if index == len(head) - 1 else head[0].activation.kind
        if layer.activation.kind != expected:
            raise ModelError(
                f"head layers[{index}].activation: expected {expected}, got {layer.activation.kind}"
            )


def _is_warm_up(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_RECEPTIVE_FIELD


def _one_of(value: Any, name: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ModelError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")
