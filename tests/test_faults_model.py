"""Faults 42 to 46: model files that are damaged, that lie, that would run code, that change."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cpu_time import assert_takes_less
from fake_player import one_layer_graph
from fault_checks import memory_below
from nam_documents import document, old_array, wavenet
from test_exchange_nam_hostile import GOOD, TEXTS, nested
from wave_bytes import codes, floats, wave

from fxfast import exchange
from fxfast.audio.files import read_audio
from fxfast.errors import ModelError, RunError
from fxfast.rendering import render_library
from fxfast.training.checkpoint import load_checkpoint

SECONDS = 0.2
MEMORY_MIB = 64


def code_of(path: Path) -> str:
    """The code of the refusal; it must come soon, in little memory, on one line."""
    refusals: list[ModelError] = []

    def refuse() -> None:
        with pytest.raises(ModelError) as raised:
            exchange.load(path)
        refusals.append(raised.value)

    with memory_below(MEMORY_MIB):
        assert_takes_less(SECONDS, refuse, path.name)
    error = refusals[0]
    assert "\n" not in str(error)
    assert path.name in str(error)
    return error.code


def code_of_document(folder: Path, found: Any) -> str:
    path = folder / "x.nam"
    path.write_text(json.dumps(found))
    return code_of(path)


# --- 42: the text --------------------------------------------------------------------------

VALUE_TEXTS = {"1e999", "1e38", "1e39", "300-digits", "5000-digits"}
SHAPE_TEXTS = {"50-megabytes-of-weights", "empty-weights"}


@pytest.mark.parametrize("name", TEXTS)
def test_fault_case_42_damaged_texts(tmp_path: Path, name: str) -> None:
    (tmp_path / "x.nam").write_bytes(TEXTS[name][0])
    wanted = {
        **dict.fromkeys(VALUE_TEXTS, "E_MODEL_VALUE"),
        **dict.fromkeys(SHAPE_TEXTS, "E_MODEL_DIM"),
    }
    assert code_of(tmp_path / "x.nam") == wanted.get(name, "E_MODEL")


def test_fault_case_42_no_text_and_endless_spaces(tmp_path: Path) -> None:
    (tmp_path / "empty.nam").touch()
    (tmp_path / "spaces.nam").write_bytes(b" " * 4096)
    os.truncate(tmp_path / "spaces.nam", 2 << 30)
    (tmp_path / "byte.nam").write_bytes(b"\xff")
    for name in ("empty.nam", "spaces.nam", "byte.nam"):
        assert code_of(tmp_path / name) == "E_MODEL"


# --- 43: the sizes -------------------------------------------------------------------------


def changed(change: Callable[[Any], Any]) -> Any:
    found = copy.deepcopy(GOOD)
    change(found)
    return found


def layer(**values: Any) -> Any:
    return changed(lambda d: d["config"]["layers"][0].update(values))


SIZES: dict[str, Any] = {
    "one weight less": changed(lambda d: d["weights"].pop()),
    "one weight more": changed(lambda d: d["weights"].append(0.5)),
    "other layout": layer(channels=GOOD["config"]["layers"][0]["channels"] + 1),
    "channels 2^31": layer(channels=1 << 31),
    "channels 0": layer(channels=0),
    "channels -3": layer(channels=-3),
    "channels 1.5": layer(channels=1.5),
    "channels as text": layer(channels="16"),
    "dilation 0": layer(dilations=[0, 1]),
    "dilation 2^40": layer(dilations=[1, 1 << 40]),
    "kernel 0": layer(kernel_size=0),
    "product overflows": wavenet(
        old_array(channels=4096, kernel_size=1 << 24, dilations=[1] * 1024), count=10
    ),
    "receptive field": wavenet(old_array(dilations=[1 << 23, 1 << 22])),
    "a million layers": changed(lambda d: d["config"].update(layers=[1] * 90_000)),
    "linear of 2^24": document("Linear", {"receptive_field": 1 << 24, "bias": False}, [1.0]),
}


@pytest.mark.parametrize("name", SIZES)
def test_fault_case_43_sizes_that_cannot_be(tmp_path: Path, name: str) -> None:
    assert code_of_document(tmp_path, SIZES[name]) == "E_MODEL_DIM"


def native(tmp_path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the weights of a native file."""
    path = tmp_path / "model.safetensors"
    exchange.save(one_layer_graph(0.5, 0.25), path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_native(path: Path, header: Any, weights: bytes) -> Path:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + weights)
    return path


def test_fault_case_43_native_sizes_that_cannot_be(tmp_path: Path) -> None:
    header, weights = native(tmp_path)
    (tensor,) = [name for name in header if name.endswith("weight")]
    for shape in ([1, 1, 1 << 40], [1, 1, 3], [1 << 31, 1 << 31, 4], [0, 1, 2], [-1, 1, 2], [2]):
        bad = copy.deepcopy(header)
        bad[tensor]["shape"] = shape
        assert code_of(write_native(tmp_path / "x.safetensors", bad, weights)) == "E_MODEL_DIM"
    assert (
        code_of(write_native(tmp_path / "x.safetensors", header, weights + b"abcd"))
        == "E_MODEL_DIM"
    )
    assert code_of(write_native(tmp_path / "x.safetensors", header, weights[:-4])) == "E_MODEL_DIM"
    claims = tmp_path / "length.safetensors"
    claims.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert code_of(claims) == "E_MODEL"


# --- 44: the values and the kinds ----------------------------------------------------------

UNSUPPORTED: dict[str, Any] = {
    "activation": layer(activation="Sinus"),
    "architecture": changed(lambda d: d.update(architecture="CatWaveNet")),
    "version 9.0.0": changed(lambda d: d.update(version="9.0.0")),
    "version 0.4.0": changed(lambda d: d.update(version="0.4.0")),
    "Sequential of 20": nested("Sequential", 20),
    "container of 20": nested("SlimmableContainer", 20),
    "condition of 20": nested("WaveNet", 20),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_fault_case_44_what_is_not_known_is_not_replaced(tmp_path: Path, name: str) -> None:
    assert code_of_document(tmp_path, UNSUPPORTED[name]) == "E_UNSUPPORTED"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
def test_fault_case_44_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    header, weights = native(tmp_path)
    bad = np.frombuffer(weights, "<f4").copy()
    bad[0] = value
    path = write_native(tmp_path / "x.safetensors", header, bad.tobytes())
    assert code_of(path) == "E_MODEL_VALUE"


def test_fault_case_44_nested_a_thousand_deep(tmp_path: Path) -> None:
    text = b'{"config": {"models": [' * 1000 + b"]}}" * 1000
    (tmp_path / "x.nam").write_bytes(text)
    assert code_of(tmp_path / "x.nam") == "E_MODEL"


# --- 45: files that would run code ---------------------------------------------------------


class Harm:
    """Unpickled, it makes a file: the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def test_fault_case_45_no_pickle_is_ever_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for protocol in range(6):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps(Harm(canary), protocol))
    torch.save({"weights": Harm(canary)}, tmp_path / "archive.pt")
    torch.save(Harm(canary), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "script.pt"))
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", b"\0" * (64 << 20))
    for suffix in ("pt", "pkl"):
        for path in sorted(tmp_path.glob(f"*.{suffix}")):
            renamed = [
                path,
                tmp_path / f"{path.stem}-as.safetensors",
                tmp_path / f"{path.stem}-as.nam",
            ]
            for name in renamed[1:]:
                name.write_bytes(path.read_bytes())
            kind = code_of(path)
            # Protocols 0 and 1 are text, which says nothing of its kind.
            assert kind == ("E_MODEL" if path.stem in "01" else "E_UNSUPPORTED"), path
            for name in renamed[1:]:
                assert code_of(name) in ("E_MODEL", "E_UNSUPPORTED")
    for name in ("archive.pt", "old.pt", "5.pkl"):
        with pytest.raises(RunError):
            load_checkpoint(tmp_path / name)
    assert not canary.exists()
    # The canary sings: what is loaded without care does run.
    pickle.loads((tmp_path / "5.pkl").read_bytes())
    assert canary.exists()


def test_fault_case_45_tensors_without_memory_behind_them(tmp_path: Path) -> None:
    claims = torch.zeros(1).expand(1000, 1000, 1000, 1000)
    torch.save({"model": {"weight": [claims]}}, tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").stat().st_size < 4096
    with pytest.raises(RunError, match="expected tensors of at most 4 bytes, got 4000000000000"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_fault_case_45_loading_a_model_imports_no_torch(tmp_path: Path) -> None:
    exchange.save(one_layer_graph(0.5), tmp_path / "model.safetensors")
    program = (
        "import sys; from fxfast.exchange import load; load(sys.argv[1]); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.safetensors")], check=True)


# --- 46: a model that is replaced ----------------------------------------------------------


def test_fault_case_46_a_run_has_one_model(tmp_path: Path) -> None:
    """The model is read once: what is written to its file afterwards is for the next run."""
    (tmp_path / "in").mkdir()
    x_ct = codes(1, 4000)
    for index in range(6):
        (tmp_path / "in" / f"{index}.wav").write_bytes(wave(x_ct // 2))
    path = tmp_path / "model.safetensors"
    exchange.save(one_layer_graph(0.5), path)
    graph = exchange.load(path)
    exchange.save(one_layer_graph(0.25), path)
    first = render_library(graph, [tmp_path / "in"], tmp_path / "out", subtype="float")
    second = render_library(
        exchange.load(path), [tmp_path / "in"], tmp_path / "out2", subtype="float"
    )
    assert first.models != second.models
    assert all(len(digest) >= 16 for digest in [*first.models.values(), *second.models.values()])
    wanted = floats(x_ct // 2, 16)
    for index in range(6):
        assert np.array_equal(read_audio(tmp_path / "out" / f"{index}.wav")[0], wanted / 2)
        assert np.array_equal(read_audio(tmp_path / "out2" / f"{index}.wav")[0], wanted / 4)
    again = render_library(graph, [tmp_path / "in"], tmp_path / "out", subtype="float")
    assert again.models == first.models
    assert again.count("done") == 6
