"""What a WaveNet is built from, and the WaveNets that have a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fxfast.graph import Knob


@dataclass(frozen=True)
class ActivationConfig:
    """An element-wise function, one of ``fxfast.graph.ALL_ACTIVATION_KINDS``.

    ``slopes`` are the factors for negative values: the fixed factor of ``leaky_relu`` (one
    value), the initial ones of ``prelu`` (one value, or one per channel). ``limits`` are
    those of ``leaky_hardtanh``: min_val, max_val, min_slope, max_slope. Both have no
    meaning for other kinds.
    """

    kind: str = "none"
    slopes: tuple[float, ...] = (0.01,)
    limits: tuple[float, float, float, float] = (-1.0, 1.0, 0.01, 0.01)


@dataclass(frozen=True)
class Conv1x1Config:
    """A convolution of one tap with ``channels`` out."""

    channels: int
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True)
class FilmConfig:
    """A scale, and a shift, made from the condition, at one of ``fxfast.graph.FILM_PLACES``."""

    place: str
    shift: bool = True
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True)
class WaveNetLayerConfig:
    """One layer; ``bottleneck`` are the channels after the activation.

    ``mode`` is one of ``fxfast.graph.MODES``; "gated" and "blended" need ``secondary``, and
    their convolution has twice the channels. ``layer1x1`` has the channels of the array;
    without it the next layer reads what this one read.
    """

    bottleneck: int
    kernel_size: int
    dilation: int = 1
    activation: ActivationConfig = ActivationConfig("tanh")
    mode: str = "none"
    secondary: ActivationConfig | None = None
    bias: bool = True
    groups: int = 1
    groups_mixin: int = 1
    layer1x1: Conv1x1Config | None = None
    head1x1: Conv1x1Config | None = None
    films: tuple[FilmConfig, ...] = ()

    @property
    def rows(self) -> int:
        """Channels of the convolution."""
        return self.bottleneck if self.mode == "none" else 2 * self.bottleneck

    @property
    def head_channels(self) -> int:
        """Channels that the layer adds to the sum of the array."""
        return self.bottleneck if self.head1x1 is None else self.head1x1.channels

    def film_rows(self, film: FilmConfig, channels: int, condition_channels: int) -> int:
        """Scales and shifts of a FiLM in an array of so many channels; 0 for no such place."""
        places: dict[str, int] = {
            "conv_pre_film": channels,
            "conv_post_film": self.rows,
            "input_mixin_pre_film": condition_channels,
            "input_mixin_post_film": self.rows,
            "activation_pre_film": self.rows,
            "activation_post_film": self.bottleneck,
            "layer1x1_post_film": channels,
            "head1x1_post_film": self.head_channels,
        }
        return (2 if film.shift else 1) * places.get(film.place, 0)


@dataclass(frozen=True)
class LayerArrayConfig:
    """Layers of ``channels``, and the convolution of their sum to ``head_channels``."""

    channels: int
    layers: tuple[WaveNetLayerConfig, ...]
    head_channels: int
    head_kernel_size: int = 1
    head_bias: bool = True
    head_dilation: int = 1


@dataclass(frozen=True)
class HeadConvConfig:
    """After the stack: the activation first, then a convolution."""

    channels: int
    kernel_size: int
    activation: ActivationConfig = ActivationConfig("tanh")
    bias: bool = True


@dataclass(frozen=True)
class WaveNetConfig:
    """Layer arrays, the head after them, and the net that makes the condition.

    ``head_scale`` is a constant, not trained. Without ``condition`` the input is the
    condition. ``knobs`` are channels of the input after the audio: so they reach every layer.
    ``skip`` adds the audio to the output.
    """

    arrays: tuple[LayerArrayConfig, ...]
    head: tuple[HeadConvConfig, ...] = ()
    head_scale: float = 1.0
    condition: WaveNetConfig | None = None
    knobs: tuple[Knob, ...] = ()
    skip: bool = False

    @property
    def out_channels(self) -> int:
        return self.head[-1].channels if self.head else self.arrays[-1].head_channels


def plain_array(
    channels: int,
    kernel_sizes: Sequence[int],
    dilations: Sequence[int],
    activation: ActivationConfig,
    *,
    head_channels: int = 1,
    head_kernel_size: int = 1,
    head_bias: bool = True,
) -> LayerArrayConfig:
    """An array without bottleneck, gates, groups or FiLM."""
    layers = tuple(
        WaveNetLayerConfig(channels, taps, dilation, activation, layer1x1=Conv1x1Config(channels))
        for taps, dilation in zip(kernel_sizes, dilations, strict=True)
    )
    return LayerArrayConfig(channels, layers, head_channels, head_kernel_size, head_bias)


def _a1(first: int, second: int, dilations: Sequence[Sequence[int]]) -> WaveNetConfig:
    tanh = ActivationConfig("tanh")
    one, two = dilations
    return WaveNetConfig(
        (
            plain_array(first, [3] * len(one), one, tanh, head_channels=second, head_bias=False),
            plain_array(second, [3] * len(two), two, tanh),
        ),
        head_scale=0.02,
    )


def _a2(channels: int) -> WaveNetConfig:
    run = (1, 3, 7, 17, 41, 101, 239)
    kernel_sizes = (*[6] * 14, 15, 15, *[6] * 7)
    leaky = ActivationConfig("leaky_relu", (0.01,))
    array = plain_array(
        channels, kernel_sizes, (*run, *run, 1, 13, *run), leaky, head_kernel_size=16
    )
    return WaveNetConfig((array,), head_scale=0.01)


def wavenet_presets() -> dict[str, WaveNetConfig]:
    """The two generations of nets of the neural amp modeler, by size."""
    octaves = [2**n for n in range(10)]
    whole = (octaves, octaves)
    split = (octaves[:7], octaves[7:] + octaves)
    return {
        "a1-standard": _a1(16, 8, whole),
        "a1-lite": _a1(12, 6, split),
        "a1-feather": _a1(8, 4, split),
        "a1-nano": _a1(4, 2, split),
        "a2-full": _a2(8),
        "a2-lite": _a2(3),
    }


# --- from plain values -------------------------------------------------------------


def config_of(values: Mapping[str, Any]) -> WaveNetConfig:
    """The config that ``dataclasses.asdict`` turned into ``values``, with lists for tuples.

    Raises ``KeyError`` or ``TypeError`` for other fields.
    """
    condition = values["condition"]
    return WaveNetConfig(
        **{
            **values,
            "arrays": tuple(_array(array) for array in values["arrays"]),
            "head": tuple(_with_activation(HeadConvConfig, conv) for conv in values["head"]),
            "condition": None if condition is None else config_of(condition),
            "knobs": tuple(Knob(**knob) for knob in values.get("knobs", ())),
        }
    )


def _array(values: Mapping[str, Any]) -> LayerArrayConfig:
    layers = tuple(_layer(layer) for layer in values["layers"])
    return LayerArrayConfig(**{**values, "layers": layers})


def _layer(values: Mapping[str, Any]) -> WaveNetLayerConfig:
    found: dict[str, Any] = dict(values)
    for name, cls in (("layer1x1", Conv1x1Config), ("head1x1", Conv1x1Config)):
        found[name] = None if values[name] is None else cls(**values[name])
    if values["secondary"] is not None:
        found["secondary"] = _activation(values["secondary"])
    found["films"] = tuple(FilmConfig(**film) for film in values["films"])
    layer: WaveNetLayerConfig = _with_activation(WaveNetLayerConfig, found)
    return layer


def _with_activation(cls: Any, values: Mapping[str, Any]) -> Any:
    return cls(**{**values, "activation": _activation(values["activation"])})


def _activation(values: Mapping[str, Any]) -> ActivationConfig:
    slopes, limits = tuple(values["slopes"]), tuple(values["limits"])
    return ActivationConfig(**{**values, "slopes": slopes, "limits": limits})
