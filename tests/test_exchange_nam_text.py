"""The text of ``.nam`` files in pieces: nothing lost at their borders, big files that are real."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nam_documents import document, old_array, parse, values, wavenet
from nam_documents import new_array as array

from fxfast import exchange
from fxfast.errors import ModelError
from fxfast.exchange import nam_text
from fxfast.exchange.nam_text import NamText, WeightText
from fxfast.graph import MAX_WEIGHT, Linear, WaveNet

MEBIBYTE = 1 << 20
NUMBERS = st.lists(st.floats(-1e5, 1e5, width=32) | st.integers(-9, 9), max_size=40)
JSON = st.recursive(
    NUMBERS | st.text(max_size=8) | st.none(),
    lambda inner: st.dictionaries(
        st.sampled_from(["weights", "weight", '"weights', "a", "x\\"]), inner, max_size=4
    ),
    max_leaves=8,
)


def whole(text: NamText, found: Any) -> Any:
    """The document with the numbers of every list that was set aside."""
    if isinstance(found, WeightText):
        numbers = text.read(found, "weights")
        assert numbers.dtype == np.float32
        return numbers.tolist()
    if isinstance(found, dict):
        return {key: whole(text, value) for key, value in found.items()}
    return found


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(found=JSON, piece=st.integers(1, 90), indent=st.sampled_from([None, 1]))
def test_pieces_of_any_size_give_the_document(found: Any, piece: int, indent: int | None) -> None:
    content = json.dumps(found, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nam_text, "_PIECE_BYTES", piece)
        text = NamText(io.BytesIO(content))
        assert whole(text, text.document) == found
        assert text.restored(text.document) == found


def test_a_list_of_weights_is_set_aside_wherever_it_stands() -> None:
    content = b'{"weights": [1, -2.5e-1,\n3], "a": {"weights": [ ]}, "b": {"weights": ["1"]}}'
    text = NamText(io.BytesIO(content))
    assert text.document["weights"] == WeightText(13, 13, 3)
    assert text.document["a"]["weights"].count == 0
    assert text.document["b"]["weights"] == ["1"]
    np.testing.assert_array_equal(text.read(text.document["weights"], "w"), [1, -0.25, 3])


def test_weights_of_nobody_are_kept_as_they_are() -> None:
    kept = {"weights": [1, 2.5], "names": [{"weights": "heavy"}]}
    found = wavenet(array()) | {"metadata": kept, "notes": kept}
    graph = parse(found)
    assert graph.metadata["nam"]["metadata"] == kept
    assert graph.metadata["nam"]["unknown"][""]["notes"] == kept


def test_a_mark_in_a_file_is_a_text_like_any_other() -> None:
    mark = "0123456789abcdef0123456789abcdef:0"
    with pytest.raises(ModelError, match="weights: expected a list, got '0123456789abcdef"):
        parse(wavenet(old_array()) | {"weights": mark})


def test_a_file_that_changes_while_it_is_read_is_refused() -> None:
    content = json.dumps(wavenet(old_array())).encode()
    file = io.BytesIO(content)
    text = NamText(file)
    file.truncate(len(content) - 40)
    with pytest.raises(ModelError, match="expected it to stay unchanged"):
        text.read(text.document["weights"], "weights")


# --- files that are big because the model is ------------------------------------------------


def write(path: Path, architecture: str, config: dict[str, Any], count: int) -> Path:
    text = json.dumps(document(architecture, config, ["@"]))
    numbers = ",".join(map(repr, values(1000))) + ","
    path.write_text(text.replace('"@"', numbers * (count // 1000) + "0.5," * (count % 1000))
                    .replace(",]", "]"))  # fmt: skip
    return path


@pytest.mark.parametrize(
    ("architecture", "config", "count"),
    [
        ("Linear", {"receptive_field": 960_000, "bias": False}, 960_000),
        ("LSTM", {"input_size": 1, "hidden_size": 512, "num_layers": 1}, 1_054_209),
    ],
)
def test_ten_seconds_of_taps_and_512_units_load(
    tmp_path: Path, architecture: str, config: dict[str, Any], count: int
) -> None:
    path = write(tmp_path / "big.nam", architecture, config, count)
    assert path.stat().st_size > 18_000_000
    graph = exchange.load(path)
    if isinstance(graph.root, Linear):
        np.testing.assert_array_equal(graph.root.taps[-1000:], np.float32(values(1000)))


def test_numbers_are_read_a_piece_at_a_time() -> None:
    content = b'{"weights": [' + b"0.123456789," * 400_000 + b"1]}"
    tracemalloc.start()
    try:
        text = NamText(io.BytesIO(content))
        values = text.read(text.document["weights"], "weights")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert values[-1] == 1
    assert peak < values.nbytes + 4 * MEBIBYTE


@pytest.mark.parametrize("value", [1.001 * MAX_WEIGHT, -1e38])
def test_a_weight_beyond_all_sense_is_named(value: float) -> None:
    found = wavenet(old_array())
    found["weights"][5] = value
    with pytest.raises(ModelError) as caught:
        parse(found)
    words = "weights[5]: expected a magnitude of at most 1e+06 in arrays[0].layers[0].conv_weight"
    assert str(caught.value).startswith(f"{words}[0, 0, 2], got {np.float32(value):g}")
    found["weights"][5] = MAX_WEIGHT
    root = parse(found).root
    assert isinstance(root, WaveNet)
    assert root.arrays[0].layers[0].conv_weight[0, 0, 2] == MAX_WEIGHT
