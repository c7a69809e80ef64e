"""``.nam`` files that are damaged or made to harm: one clear error, soon and small."""

from __future__ import annotations

import copy
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cpu_time import assert_takes_less
from hypothesis import given, settings
from hypothesis import strategies as st
from nam_documents import document, new_array, old_array, wavenet

from fxfast import exchange
from fxfast.errors import ModelError
from fxfast.exchange import nam
from fxfast.exchange.nam_text import MAX_FILE_BYTES
from fxfast.graph import MAX_LAYERS, MAX_NODE_DEPTH, ModelGraph

MEBIBYTE = 1 << 20
GOOD = wavenet(old_array())
TEXT = json.dumps(GOOD)


def refused(content: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        nam.parse(content)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isascii()
    assert len(message) < 400
    return message


def with_weight(literal: str) -> bytes:
    head, _, tail = TEXT.partition('"weights": [')
    return f'{head}"weights": [{literal}, {tail.partition(", ")[2]}'.encode()


def nested(architecture: str, depth: int) -> Any:
    found = GOOD
    for _ in range(depth):
        if architecture == "Sequential":
            found = document("Sequential", {"models": [found]}, [])
        elif architecture == "WaveNet":
            found = {**GOOD, "config": {**GOOD["config"], "condition_dsp": found}}
        else:
            entry = {"max_value": 1.0, "model": found}
            found = document("SlimmableContainer", {"submodels": [entry]}, [])
    return found


# --- the text ----------------------------------------------------------------------------

BEYOND = "weights[0]: expected a magnitude of at most 1e+06 in arrays[0].rechannel[0, 0], got "
TEXTS: dict[str, tuple[bytes, str]] = {
    "one-byte": (b"{", "expected JSON"),
    "truncated": (TEXT[: len(TEXT) // 2].encode(), "expected JSON"),
    "bom": (b"\xef\xbb\xbf" + TEXT.encode(), "expected JSON"),
    "utf-16": (TEXT.encode("utf-16"), "expected UTF-8 JSON"),
    "trailing-garbage": (TEXT.encode() + b"x", "expected JSON"),
    "two-documents": (TEXT.encode() * 2, "expected JSON"),
    "duplicate-key": (b'{"version": "0.7.0", ' + TEXT.encode()[1:], "got 'version' twice"),
    "lists-200k-deep": (b"[" * 200_000, "expected at most 100000 commas and brackets"),
    "lists-90k-deep": (b"[" * 90_000, "expected at most 64 levels"),
    "a-list": (b"[1, 2]", "file: expected an object, got a list"),
    "1e999": (
        with_weight("1e999"),
        BEYOND + "inf",
    ),
    "NaN": (with_weight("NaN"), "expected finite numbers, got NaN"),
    "Infinity": (with_weight("-Infinity"), "expected finite numbers, got -Infinity"),
    "1e39": (
        with_weight("1e39"),
        BEYOND + "inf",
    ),
    "1e38": (
        with_weight("-1e38"),
        BEYOND + "-1e+38",
    ),
    "300-digits": (
        with_weight("9" * 300),
        BEYOND + "inf",
    ),
    "5000-digits": (
        with_weight("9" * 5000),
        BEYOND + "inf",
    ),
    "true": (with_weight("true"), "weights[0]: expected a number, got bool"),
    "null": (with_weight("null"), "weights[0]: expected a number, got NoneType"),
    "text-weight": (with_weight('"1"'), "weights[0]: expected a number, got str"),
    "list-weight": (with_weight("[]"), "weights[0]: expected a number, got list"),
    "surrogate": (
        json.dumps({**GOOD, "metadata": {"name": "\ud800"}}).encode(),
        "expected Unicode text, got a lone surrogate",
    ),
    "surrogate-key": (
        json.dumps({**GOOD, "\udfff": 1}).encode(),
        "expected Unicode text, got a lone surrogate",
    ),
    "infinite-metadata": (
        TEXT.replace('"sample_rate"', '"metadata": {"gain": 1e999}, "sample_rate"').encode(),
        "metadata.gain: expected finite numbers, got inf",
    ),
    "too-many-weights": (
        b'{"weights": [' + b"0," * 600_000 + b"0]}",
        "version: expected a value, got none",
    ),
    "50-megabytes-of-weights": (
        TEXT.replace('"weights": [', '"weights": [' + "0.5," * (12 << 20)).encode(),
        "weights: expected 98 values, got 12583010; 12582912 are left after head_scale",
    ),
    "50-megabytes-for-one-number": (
        TEXT.replace('"weights": [', '"weights": [' + " " * (50 << 20)).encode(),
        "weights: expected at most 128 bytes a number, got 52430",
    ),
    "weights-without-end": (b'{"weights": [' + b"1," * (20 << 20), "got an end inside weights"),
    "a-word-far-inside": (
        b'{"weights": [' + b"1," * (20 << 20) + b"NaN]}",
        "weights[20971520]: expected a number at byte 41943053, got 'NaN]}'",
    ),
    "two-commas": (with_weight(""), "weights[0]: expected a number, got 'nothing'"),
    "two-points": (with_weight("1.2.3"), "weights[0]: expected a number, got "),
    "leading-zeros": (with_weight("007"), "weights[0]: expected a number, got "),
    "empty-weights": (TEXT.partition('"weights": [')[0].encode() + b'"weights": [ ]}', "got 0;"),
    "weights-of-nobody": (
        TEXT.replace(
            '"sample_rate"',
            '"weights2": 1, "x": {"weights": [%s1]}, "sample_rate"' % ("1," * 40_000),
        ).encode(),
        "weights: expected at most 65536 bytes outside a model, got 80001",
    ),
    "too-many-objects": (
        b"[" + b"{}," * 300_000 + b"{}]",
        "expected at most 100000 commas and brackets",
    ),
    "too-many-keys": (
        b"{" + b",".join(b'"%d":1' % n for n in range(200_000)) + b"}",
        "expected at most 100000 commas and brackets",
    ),
    "many-texts": (b"[" + b'"abcdefgh",' * 490_000 + b'""]', "expected at most 4194304 bytes"),
    "spaces": (b" " * MAX_FILE_BYTES, "expected at most 4194304 bytes beside the weights"),
    "sequential-1000-deep": (
        b'{"config": {"models": [' * 1000 + b"]}}" * 1000,
        "expected at most 64 levels",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_texts_are_refused(name: str) -> None:
    content, words = TEXTS[name]
    assert words in refused(content)


@pytest.mark.parametrize("name", TEXTS)
def test_a_refusal_is_soon_and_small(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.nam"
    path.write_bytes(TEXTS[name][0])

    def refuse() -> None:
        with pytest.raises(ModelError):
            exchange.load(path)

    assert_takes_less(0.2, refuse, name)
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            exchange.load(path)
        assert tracemalloc.get_traced_memory()[1] < 64 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_files_that_are_none(tmp_path: Path) -> None:
    empty, huge, pipe = tmp_path / "e.nam", tmp_path / "h.nam", tmp_path / "p.nam"
    empty.touch()
    with open(huge, "wb") as file:
        file.truncate(2 << 30)
    os.mkfifo(pipe)
    for path, words in (
        (empty, "file size: expected 1 to 100663296 bytes, got 0"),
        (huge, "file size: expected 1 to 100663296 bytes, got 2147483648"),
        (pipe, "file: expected a regular file, got a directory, pipe or device"),
    ):
        with pytest.raises(ModelError) as caught:
            exchange.load(path)
        assert str(caught.value) == f"{path}: {words}"


# --- the sizes -----------------------------------------------------------------------------

WRONG_INTEGERS = [0, -3, 1.5, 16.0, 16.0000001, "16", True, [], {}, 1 << 31, 10**300]
COUNTS = ["channels", "input_size", "condition_size", "head_size", "kernel_size", "bottleneck"]
COUNTS += ["groups_input", "groups_input_mixin"]


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize("value", WRONG_INTEGERS, ids=lambda value: repr(value)[:12])
def test_wrong_sizes_name_the_key(key: str, value: Any) -> None:
    found = copy.deepcopy(GOOD)
    found["config"]["layers"][0][key] = value
    message = refused(json.dumps(found).encode())
    assert message.startswith(f"config.layers[0].{key}: expected an integer from 1 to ")


@pytest.mark.parametrize("value", [0, -1, 1 << 40, 1.0, None])
def test_wrong_dilations_name_the_place(value: Any) -> None:
    found = copy.deepcopy(GOOD)
    found["config"]["layers"][0]["dilations"][1] = value
    message = refused(json.dumps(found).encode())
    assert message.startswith("config.layers[0].dilations[1]: expected an integer from 1 to ")


def refused_without_memory(found: Any) -> str:
    content = json.dumps(found).encode()
    tracemalloc.start()
    try:
        message = refused(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * MEBIBYTE + 8 * len(content)
    return message


def test_claimed_sizes_are_not_allocated() -> None:
    for array in (
        old_array(channels=4096, dilations=[1] * MAX_LAYERS),
        old_array(kernel_size=1 << 24),
        old_array(head_size=4096, channels=4096, kernel_size=1 << 24),
        new_array(head={"out_channels": 4096, "kernel_size": 1 << 24, "bias": True}),
    ):
        message = refused_without_memory(wavenet(array, count=10))
        assert message.startswith("weights: expected ")
        assert "values, got 10" in message or "at most 67108864 values" in message
    linear = document("Linear", {"receptive_field": 1 << 24, "bias": False}, [1.0])
    assert "taps (16777216,) needs 16777216, 1 are left" in refused_without_memory(linear)
    convnet = {"channels": 4096, "dilations": [1] * 1000, "batchnorm": False, "activation": "Tanh"}
    message = refused_without_memory(document("ConvNet", convnet, []))
    assert message.startswith("weights: expected at most 67108864 values, got 335")


def test_too_many_layers_are_refused() -> None:
    many = old_array(dilations=[1] * (MAX_LAYERS + 1))
    message = refused(json.dumps(wavenet(many, count=1)).encode())
    assert message.startswith("config.layers[0].dilations: expected a list of 1 to 1024")
    half = old_array(head_size=3, dilations=[1] * 600)
    message = refused(json.dumps(wavenet(half, {**half, "input_size": 3}, count=1)).encode())
    assert message == "config.layers: expected at most 1024, got 1200"
    million = wavenet(old_array(), count=1)
    million["config"]["layers"] = [1] * 90_000
    assert "expected a list of 1 to 1024, got 90000" in refused(json.dumps(million).encode())


def test_a_receptive_field_beyond_the_limit_is_refused() -> None:
    found = wavenet(old_array(dilations=[1 << 23, 1 << 22]))
    assert "receptive field: expected at most 16777216" in refused(json.dumps(found).encode())


@pytest.mark.parametrize("architecture", ["Sequential", "WaveNet", "SlimmableContainer"])
def test_models_inside_models_end(architecture: str) -> None:
    def content(depth: int) -> bytes:
        return json.dumps(nested(architecture, depth)).encode()

    assert nam.parse(content(MAX_NODE_DEPTH - 1)).parameters
    message = refused(content(MAX_NODE_DEPTH))
    assert f"expected at most {MAX_NODE_DEPTH} nested models, got more" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("version"), "version: expected a value, got none"),
        (lambda d: d.pop("architecture"), "architecture: expected a value, got none"),
        (lambda d: d.pop("config"), "config: expected a value, got none"),
        (lambda d: d.pop("weights"), "weights: expected a list, got None"),
        (lambda d: d.update(weights={}), "weights: expected a list, got an object"),
        (lambda d: d.update(config=[]), "config: expected an object, got a list"),
        (lambda d: d.update(architecture=["WaveNet"]), "architecture: expected one of WaveNet"),
        (lambda d: d.update(architecture="CatWaveNet"), "got 'CatWaveNet'"),
        (lambda d: d.update(sample_rate="48k"), "sample_rate: expected a finite float32 number"),
        (lambda d: d.update(sample_rate=-1), "sample_rate: expected a whole number from 1 to"),
        (lambda d: d.update(sample_rate=44100.5), "sample_rate: expected a whole number"),
        (lambda d: d.update(sample_rate=True), "sample_rate: expected a finite float32 number"),
        (lambda d: d["config"].update(layers=[]), "layers: expected a list of 1 to 1024, got 0"),
        (lambda d: d["config"].update(layers=[3]), "layers[0]: expected an object, got 3"),
        (lambda d: d["config"].update(in_channels=2), "in_channels: expected 1, got 2"),
        (lambda d: d["config"].update(head=[]), "head: expected an object, got a list"),
        (lambda d: d["config"].update(head_scale="x"), "head_scale: expected a finite float32"),
        (lambda d: d["config"].update(condition_dsp=1), "condition_dsp: expected an object"),
        (lambda d: d["config"]["layers"][0].update(gated=1), "gated: expected true or false"),
    ],
)
def test_wrong_keys_name_the_place(change: Callable[[Any], Any], words: str) -> None:
    found = copy.deepcopy(GOOD)
    change(found)
    assert words in refused(json.dumps(found).encode())


# --- anything ------------------------------------------------------------------------------

RICH = json.dumps(
    wavenet(
        new_array(
            gating_mode=["gated", "blended"],
            head1x1={"active": True, "out_channels": 2, "groups": 2},
            conv_post_film={"active": True},
            condition_size=1,
        ),
        condition_dsp=wavenet(new_array()),
    )
).encode()


def loads_or_is_refused(content: bytes) -> None:
    """A valid graph, or one line of ``ModelError``; every other error fails the test."""
    message = ""
    try:
        assert isinstance(nam.parse(content), ModelGraph)
    except ModelError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 400


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_changed_bytes_raise_model_error_or_load_a_valid_graph(data: st.DataObject) -> None:
    content = bytearray(RICH)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.sampled_from(b'0123456789-.,:[]{}"eEtn \xff'))
    loads_or_is_refused(bytes(content))


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_any_value_in_any_place_raises_model_error_or_loads(data: st.DataObject) -> None:
    found = json.loads(RICH)
    place = found
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict)
                                        else range(len(place))))  # fmt: skip
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(
        st.sampled_from([None, True, 0, -1, 2, 1.5, 1e300, 10**300, "", "Tanh", [], [[]], {}, 4097])
    )
    loads_or_is_refused(json.dumps(found).encode())
