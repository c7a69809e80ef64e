"""``.nam`` files read: the JSON of NeuralAmpModeler, versions 0.5.0 to 0.7.x.

WaveNet, LSTM, ConvNet, Linear, Sequential and SlimmableContainer become graph nodes. What a
file says beyond the graph is kept in ``metadata["nam"]`` of the graph and written back by
``fxfast.exchange.nam_write``: ``version``, ``sample_rate`` (null when the file has none),
``metadata``, and ``unknown``, a table from places to the keys that stood there.

Where readers of the format differ: the last weight of a WaveNet is its head scale and the
key ``head_scale`` is ignored; an inactive ``layer1x1`` passes the layer's input on, as NAM
Core does; ``layer1x1_post_film`` always acts; ``Linear`` has its newest tap first.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from fxfast.errors import InputError, ModelError, ModelShapeError, UnsupportedModelError
from fxfast.exchange import bounded_json, model_file
from fxfast.exchange.bounded_json import shown
from fxfast.exchange.nam_convnet import CONFIG_KEYS as CONVNET_KEYS
from fxfast.exchange.nam_convnet import build_convnet, convnet_tensors, parse_convnet
from fxfast.exchange.nam_fields import Section, checked_number
from fxfast.exchange.nam_layout import Tensor, WaveNetShape, take_tensors, wavenet_tensors
from fxfast.exchange.nam_lstm import CONFIG_KEYS as LSTM_KEYS
from fxfast.exchange.nam_lstm import build_lstm, lstm_tensors, parse_lstm
from fxfast.exchange.nam_slim import KEY as SLIM_KEY
from fxfast.exchange.nam_slim import is_slimmable, slim_shape, slim_tensors
from fxfast.exchange.nam_text import NamText, WeightText
from fxfast.exchange.nam_wavenet import (
    ARRAY_KEYS,
    CONFIG_KEYS,
    HEAD_KEYS,
    build_wavenet,
    parse_wavenet,
)
from fxfast.graph import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_NODE_DEPTH,
    MAX_RECEPTIVE_FIELD,
    MAX_SAMPLE_RATE,
    Linear,
    ModelGraph,
    Node,
    Sequential,
)

METADATA_KEY = "nam"
TAP_ORDERS = ("newest-first", "oldest-first")
# The documentation of the format: assume 48 kHz where a file does not say.
DEFAULT_SAMPLE_RATE = 48_000

_NEWEST_VERSION = (0, 7)
_OLDEST_VERSION = (0, 5)
_MODEL_KEYS = {"version", "architecture", "config", "weights", "sample_rate"}


@dataclass(frozen=True)
class _Reading:
    """The choices of the caller, and what is found on the way."""

    text: NamText
    slim: float | None
    newest_first: bool
    unknown: dict[str, dict[str, Any]] = field(default_factory=dict)
    sizes: list[float] = field(default_factory=list)

    def keep(self, section: Section, known: set[str]) -> None:
        """Keep the keys that no graph holds."""
        kept = {key: value for key, value in section.values.items() if key not in known}
        if kept:
            self.unknown.setdefault(section.name, {}).update(self.text.restored(kept))

    def at_full_size(self) -> _Reading:
        """For a model inside that ``slim`` does not choose from."""
        return replace(self, slim=None, sizes=[])

    def take(self, tensors: Iterable[Tensor], model: Section) -> dict[str, np.ndarray]:
        """The weights of a model, by name."""
        weights = model.values["weights"]
        return take_tensors(tensors, weights, model.where("weights"), self.text.read)


def load(
    path: str | os.PathLike[str],
    *,
    slim: float | None = None,
    linear_tap_order: str = "newest-first",
) -> ModelGraph:
    """Read a ``.nam`` file.

    ``slim`` from 0 to 1 chooses from a SlimmableContainer, or cuts a slimmable WaveNet; by
    default both have their full size.
    ``linear_tap_order`` is "oldest-first" for Linear files of trainers before August 2026.

    Raises ``ModelError`` that names the path and the field when the file is missing, not a
    regular file, damaged, hostile, or holds what fxfast does not play; ``InputError`` for a
    wrong argument.
    """
    with model_file.naming(path), model_file.open_regular(path) as file:
        return _read(file, slim, linear_tap_order)


def parse(
    content: bytes, *, slim: float | None = None, linear_tap_order: str = "newest-first"
) -> ModelGraph:
    """The graph of the text of a ``.nam`` file; see ``load``."""
    return _read(io.BytesIO(content), slim, linear_tap_order)


def _read(file: BinaryIO, slim: float | None, linear_tap_order: str) -> ModelGraph:
    if slim is not None and (type(slim) not in (int, float) or not 0 <= slim <= 1):
        raise InputError(f"slim: expected a number from 0 to 1, got {slim!r}")
    if linear_tap_order not in TAP_ORDERS:
        raise InputError(
            f"linear_tap_order: expected one of {', '.join(TAP_ORDERS)}, got {linear_tap_order!r}"
        )
    text = NamText(file)
    document = text.document
    reading = _Reading(text, slim, linear_tap_order == "newest-first")
    root, rate = _read_model(Section.of(document, ""), reading)
    if slim is not None and not reading.sizes:
        raise ModelError(f"slim: expected none for a model of one size, got {slim}")
    kept = reading.unknown.setdefault("", {})
    nam: dict[str, Any] = {"version": document["version"], "sample_rate": rate}
    if "metadata" in kept:
        nam["metadata"] = kept.pop("metadata")
    unknown = {place: values for place, values in reading.unknown.items() if values}
    if unknown:
        nam["unknown"] = unknown
    _check_kept(nam)
    return ModelGraph(root, rate or DEFAULT_SAMPLE_RATE, metadata={METADATA_KEY: nam})


def _check_kept(nam: dict[str, Any]) -> None:
    """What is kept has to be JSON that every reader accepts."""
    bounded_json.check(nam.get("metadata"), "metadata")
    for place, values in nam.get("unknown", {}).items():
        bounded_json.check(values, place or "file")
    try:
        json.dumps(nam, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise ModelError("file: expected Unicode text, got a lone surrogate") from None


def _read_model(model: Section, reading: _Reading, depth: int = 0) -> tuple[Node, int | None]:
    """One complete model, at the root or inside another, and its sample rate."""
    if depth >= MAX_NODE_DEPTH:
        place = model.name[:60]
        raise UnsupportedModelError(
            f"{place}: expected at most {MAX_NODE_DEPTH} nested models, got more"
        )
    _check_version(model)
    rate = _sample_rate(model)
    architecture = model.required("architecture")
    reader = _READERS.get(architecture) if isinstance(architecture, str) else None
    if reader is None:
        raise UnsupportedModelError(
            f"{model.where('architecture')}: expected one of {', '.join(_READERS)}, "
            f"got {shown(architecture)}"
        )
    if not isinstance(model.values.get("weights"), list | WeightText):
        got = shown(model.values.get("weights"))
        raise ModelError(f"{model.where('weights')}: expected a list, got {got}")
    reading.keep(model, _MODEL_KEYS)
    node, inner_rate = reader(model, model.section("config"), reading, depth)
    if None not in (rate, inner_rate) and rate != inner_rate:
        raise ModelError(f"{model.where('sample_rate')}: expected {inner_rate}, got {rate}")
    return node, rate or inner_rate


def _check_version(model: Section) -> None:
    """A higher patch is read, a higher minor refused, as NAM Core does."""
    version = model.required("version")
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", str(version), re.ASCII)
    minor = (int(match[1]), int(match[2])) if match and isinstance(version, str) else None
    if minor is None or not _OLDEST_VERSION <= minor <= _NEWEST_VERSION:
        raise UnsupportedModelError(
            f"{model.where('version')}: expected 0.5.0 to 0.7.x as text, got {shown(version)}"
        )


def _sample_rate(model: Section) -> int | None:
    if not model.has("sample_rate"):
        return None
    rate = checked_number(model.values["sample_rate"], model.where("sample_rate"))
    if not rate.is_integer() or not 1 <= rate <= MAX_SAMPLE_RATE:
        raise ModelError(
            f"{model.where('sample_rate')}: expected a whole number from 1 to {MAX_SAMPLE_RATE} "
            f"Hz, got {rate}"
        )
    return int(rate)


def _no_weights(model: Section) -> None:
    weights = model.values["weights"]
    count = weights.count if isinstance(weights, WeightText) else len(weights)
    if count:
        raise ModelShapeError(
            f"{model.where('weights')}: expected 0 values beside the models inside, got {count}"
        )


# --- architectures -----------------------------------------------------------------


def _read_wavenet(
    model: Section, config: Section, reading: _Reading, depth: int
) -> tuple[Node, int | None]:
    condition, rate = None, None
    if config.has("condition_dsp"):
        # NAM Core plays the condition at its full size, whatever the size of the net.
        inner = config.section("condition_dsp")
        condition, rate = _read_model(inner, reading.at_full_size(), depth + 1)
    shape = parse_wavenet(config, condition.out_channels if condition else 1)
    reading.keep(config, CONFIG_KEYS)
    places = [f"{config.where('layers')}[{index}]" for index in range(len(shape.arrays))]
    arrays = [Section(*pair) for pair in zip(config.values["layers"], places, strict=True)]
    used = shape
    if is_slimmable(arrays):
        reading.sizes.append(1.0)
        used = shape if reading.slim is None else slim_shape(shape, arrays, reading.slim)
    for array in arrays:
        # What has been cut is the whole model from now on.
        reading.keep(array, ARRAY_KEYS if used is shape else {*ARRAY_KEYS, SLIM_KEY})
    if config.has("head"):
        reading.keep(config.section("head"), HEAD_KEYS)
    _warn_inactive(shape, config)
    found = reading.take(wavenet_tensors(shape), model)
    if used is not shape:
        found = slim_tensors(used, found)
    return build_wavenet(used, found, condition), rate


def _warn_inactive(shape: WaveNetShape, config: Section) -> None:
    for index, array in enumerate(shape.arrays):
        if array.layer1x1 is None:
            warnings.warn(
                f"{config.where('layers')}[{index}].layer1x1: inactive; played as NAM Core and "
                f"plugins do, while the trainer adds the activation to the layer's input",
                stacklevel=2,
            )


def _read_lstm(
    model: Section, config: Section, reading: _Reading, depth: int
) -> tuple[Node, int | None]:
    layers, units = parse_lstm(config)
    reading.keep(config, LSTM_KEYS)
    return build_lstm(layers, units, reading.take(lstm_tensors(layers, units), model)), None


def _read_convnet(
    model: Section, config: Section, reading: _Reading, depth: int
) -> tuple[Node, int | None]:
    shape = parse_convnet(config)
    reading.keep(config, CONVNET_KEYS)
    return build_convnet(shape, reading.take(convnet_tensors(shape), model), model), None


def _read_linear(
    model: Section, config: Section, reading: _Reading, depth: int
) -> tuple[Node, int | None]:
    taps = config.integer("receptive_field", MAX_RECEPTIVE_FIELD)
    tensors = [Tensor("taps", (taps,))]
    if config.boolean("bias"):
        tensors.append(Tensor("bias", ()))
        # A graph cannot tell a bias of 0 from none.
        reading.unknown.setdefault(config.name, {})["bias"] = True
    for key in ("in_channels", "out_channels"):
        if config.integer(key, MAX_CHANNELS, 1) != 1:
            raise ModelShapeError(f"{config.where(key)}: expected 1, got {config.values[key]}")
    reading.keep(config, {"receptive_field", "bias", "in_channels", "out_channels"})
    found = reading.take(tensors, model)
    response = found["taps"] if reading.newest_first else found["taps"][::-1].copy()
    return Linear(response, float(found.get("bias", 0.0))), None


def _read_sequential(
    model: Section, config: Section, reading: _Reading, depth: int
) -> tuple[Node, int | None]:
    _no_weights(model)
    reading.keep(config, {"models"})
    children: list[Node] = []
    rate = None
    for index, value in enumerate(config.items("models", MAX_LAYERS)):
        section = Section.of(value, f"{config.where('models')}[{index}]")
        child, child_rate = _read_model(section, reading, depth + 1)
        if None not in (rate, child_rate) and rate != child_rate:
            raise ModelError(f"{section.where('sample_rate')}: expected {rate}, got {child_rate}")
        rate = rate or child_rate
        children.append(child)
    return Sequential(tuple(children)), rate


def _read_container(
    model: Section, config: Section, reading: _Reading, depth: int
) -> tuple[Node, int | None]:
    """The chosen model takes the container's place; the others are not looked at."""
    _no_weights(model)
    sizes, sections = [], []
    for index, value in enumerate(config.items("submodels", MAX_LAYERS)):
        entry = Section.of(value, f"{config.where('submodels')}[{index}]")
        sizes.append(checked_number(entry.required("max_value"), entry.where("max_value")))
        sections.append(entry.section("model"))
    if any(a >= b for a, b in itertools.pairwise(sizes)) or sizes[-1] < 1:
        raise ModelError(
            f"{config.where('submodels')}: expected max_value to rise to 1 or more, got {sizes[:4]}"
        )
    reading.sizes.extend(sizes)
    chosen = len(sizes) - 1
    if reading.slim is not None:
        chosen = next((i for i, size in enumerate(sizes) if reading.slim < size), chosen)
    section = sections[chosen]
    # The chosen model is of one size: NAM Core does not cut it further.
    node, rate = _read_model(section, reading.at_full_size(), depth + 1)
    for place in [p for p in reading.unknown if p.startswith(section.name)]:
        moved = model.name + place[len(section.name) :]
        if not model.name:
            moved = moved.removeprefix(".")
        values = reading.unknown.pop(place)
        reading.unknown[moved] = {**reading.unknown.get(moved, {}), **values}
    return node, rate


_READERS = {
    "WaveNet": _read_wavenet,
    "LSTM": _read_lstm,
    "ConvNet": _read_convnet,
    "Linear": _read_linear,
    "Sequential": _read_sequential,
    "SlimmableContainer": _read_container,
}
