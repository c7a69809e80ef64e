"""Slimmable WaveNets cut to a size, against a walk over the flat weights as NAM Core does it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nam_documents import PARITY_FILES, document, new_array, old_array, parse, values, wavenet
from nets import rms
from tolerances import TOLERANCES
from wavenet_reference import reference_graph

from fxfast import exchange
from fxfast.cli import main
from fxfast.errors import ModelError
from fxfast.exchange import nam_write
from fxfast.graph import FILM_PLACES, ModelGraph, WaveNet
from fxfast.native import engine
from fxfast.player import Player

ISAS = [name for name, supported in engine().isas() if supported]


def slimmable(allowed: list[int] | None) -> dict[str, Any]:
    kwargs = {} if allowed is None else {"kwargs": {"allowed_channels": allowed}}
    return {"slimmable": {"method": "slice_channels_uniform", **kwargs}}


def noise(samples: int = 150) -> np.ndarray:
    return np.random.default_rng(3).uniform(-1, 1, samples).astype(np.float32)


# --- the twin ------------------------------------------------------------------------------


class Walk:
    """Goes through the flat list as ``extract_slimmed_weights`` of NAM Core does."""

    def __init__(self, weights: list[float]) -> None:
        self.source, self.kept = iter(weights), list[float]()

    def conv(
        self, full: tuple[int, int], slim: tuple[int, int], taps: int = 1, bias: bool = True
    ) -> None:
        """(out, in) of the full and of the cut convolution."""
        for out in range(full[0]):
            for channel in range(full[1]):
                for _ in range(taps):
                    self.number(out < slim[0] and channel < slim[1])
        for out in range(full[0] if bias else 0):
            self.number(out < slim[0])

    def number(self, keep: bool) -> None:
        value = next(self.source)
        if keep:
            self.kept.append(value)


def twin(found: Any, ratio: float) -> Any:
    """The document of a model of the cut size, which knows nothing of cutting."""
    arrays, walk = found["config"]["layers"], Walk(found["weights"])
    sizes = []
    for array in arrays:
        kwargs = array.get("slimmable", {}).get("kwargs", {"allowed_channels": None})
        allowed = kwargs["allowed_channels"] or list(range(1, array["channels"] + 1))
        chosen = allowed[min(int(ratio * len(allowed)), len(allowed) - 1)]
        sizes.append(chosen if "slimmable" in array else array["channels"])
    layers = []
    for index, array in enumerate(arrays):
        channels, slim = array["channels"], sizes[index]
        middle = array["bottleneck"]
        slim_middle = max(1, middle * slim // channels)
        into = (array["input_size"], sizes[index - 1] if index else array["input_size"])
        head = (array["head"]["out_channels"],) * 2
        if index < len(arrays) - 1:
            head = (head[0], sizes[index + 1])
        walk.conv((channels, into[0]), (slim, into[1]), bias=False)
        for taps, mode in zip(array["kernel_sizes"], array["gating_mode"], strict=True):
            factor = 1 if mode == "none" else 2
            rows, slim_rows = factor * middle, factor * slim_middle
            condition = array["condition_size"]
            walk.conv((rows, channels), (slim_rows, slim), taps)
            walk.conv((rows, condition), (slim_rows, condition), bias=False)
            walk.conv((channels, middle), (slim, slim_middle))
            for place, full_size, slim_size in (
                ("conv_pre_film", channels, slim),
                ("conv_post_film", rows, slim_rows),
                ("input_mixin_pre_film", condition, condition),
                ("input_mixin_post_film", rows, slim_rows),
                ("activation_pre_film", rows, slim_rows),
                ("activation_post_film", middle, slim_middle),
                ("layer1x1_post_film", channels, slim),
            ):
                if place in array:
                    walk.conv((2 * full_size, condition), (2 * slim_size, condition))
        walk.conv((head[0], middle), (head[1], slim_middle), bias=array["head"]["bias"])
        layers.append(
            {
                **{key: value for key, value in array.items() if key != "slimmable"},
                "input_size": into[1],
                "channels": slim,
                "bottleneck": slim_middle,
                "head": {**array["head"], "out_channels": head[1]},
            }
        )
    walk.number(True)  # the head scale
    assert next(walk.source, None) is None
    return document("WaveNet", {"layers": layers, "head": None, "head_scale": 0.1}, walk.kept)


def outputs_equal(found: Any, ratio: float) -> None:
    cut, other = parse(found, slim=ratio), parse(twin(found, ratio))
    x = noise()
    expected = reference_graph(other, x.astype(np.float64))
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(reference_graph(cut, x.astype(np.float64)), expected)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data(), ratio=st.sampled_from([0.0, 0.3, 0.5, 0.99]))
def test_any_slimmable_wavenet_equals_the_twin(data: st.DataObject, ratio: float) -> None:
    arrays: list[dict[str, Any]] = []
    channels = [data.draw(st.sampled_from([2, 3, 5, 7, 12])) for _ in range(2)]
    channels = channels[: data.draw(st.integers(1, 2))]
    for index, size in enumerate(channels):
        last = index == len(channels) - 1
        allowed = sorted({*data.draw(st.lists(st.integers(1, size), max_size=3)), size})
        places = [place for place in FILM_PLACES if place != "head1x1_post_film"]
        films = {
            place: {"active": True, "shift": True}
            for place in data.draw(st.lists(st.sampled_from(places), unique=True, max_size=3))
        }
        alone = len(channels) == 1
        arrays.append(
            new_array(
                input_size=channels[index - 1] if index else 1,
                channels=size,
                bottleneck=data.draw(st.integers(1, 8)) if alone else size,
                gating_mode=data.draw(
                    st.lists(st.sampled_from(["none", "gated", "blended"]), min_size=2, max_size=2)
                ),
                head={
                    "out_channels": 1 if last else channels[index + 1],
                    "kernel_size": 1,
                    "bias": data.draw(st.booleans()),
                },
                **films,
                **slimmable(data.draw(st.sampled_from([None, allowed]))),
            )
        )
    outputs_equal(wavenet(*arrays, seed=data.draw(st.integers(0, 99))), ratio)


def test_an_array_that_is_not_slimmable_keeps_its_channels() -> None:
    head = {"out_channels": 5, "kernel_size": 1, "bias": False}
    first = new_array(channels=4, head=head, **slimmable([2, 4]))
    found = wavenet(first, new_array(input_size=4, channels=5, bottleneck=5))
    root = parse(found, slim=0).root
    assert isinstance(root, WaveNet)
    assert [array.channels for array in root.arrays] == [2, 5]
    outputs_equal(found, 0)


def test_slopes_for_each_channel_are_cut_too() -> None:
    prelu = {"type": "PReLU", "negative_slopes": [0.1, 0.2, 0.3, 0.4]}
    found = wavenet(new_array(activation=prelu, **slimmable(None)))
    root = parse(found, slim=0.5).root
    assert isinstance(root, WaveNet)
    slopes = root.arrays[0].layers[1].activation.slopes
    assert slopes is not None
    np.testing.assert_array_equal(slopes, np.float32([0.1, 0.2, 0.3]))


def test_the_full_size_is_the_default_and_stays_slimmable() -> None:
    found = wavenet(new_array(**slimmable([1, 4])))
    for options in ({}, {"slim": 1.0}, {"slim": 0.5}):
        graph = parse(found, **options)
        assert graph.parameters == len(found["weights"])
        written = json.loads(nam_write.dumps(graph))
        assert written["config"]["layers"][0]["slimmable"]["kwargs"] == {"allowed_channels": [1, 4]}
    cut = json.loads(nam_write.dumps(parse(found, slim=0.4)))
    assert cut["config"]["layers"][0]["channels"] == 1
    assert "slimmable" not in cut["config"]["layers"][0]
    np.testing.assert_array_equal(cut["weights"], twin(found, 0.4)["weights"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"slimmable": {"method": "x"}}, "slimmable.method: expected slice_channels_uniform"),
        ({"slimmable": {"kwargs": {}}}, "slimmable.method: expected a value, got none"),
        (slimmable([2, 1, 4]), "allowed_channels: expected sizes that rise to 4, got [2, 1, 4]"),
        (slimmable([1, 2]), "allowed_channels: expected sizes that rise to 4, got [1, 2]"),
        (slimmable([0, 4]), "allowed_channels[0]: expected an integer from 1 to 4"),
        ({"groups_input": 2, **slimmable(None)}, "groups_input: expected 1 in a WaveNet that is"),
        ({"head": {"out_channels": 1, "kernel_size": 2, "bias": False}, **slimmable(None)},
         "head.kernel_size: expected 1 in a WaveNet that is cut, got 2"),
    ],
)  # fmt: skip
def test_what_nam_core_cannot_cut_is_refused(changes: dict[str, Any], words: str) -> None:
    found = wavenet(new_array(**changes))
    assert parse(found).kind == "wavenet"
    with pytest.raises(ModelError) as caught:
        parse(found, slim=0)
    assert words in str(caught.value)


def test_a_head_after_the_stack_or_of_another_size_is_refused() -> None:
    head = {"channels": 2, "out_channels": 1, "kernel_sizes": [2], "activation": "ReLU"}
    with pytest.raises(ModelError, match=r"config\.head: expected none in a WaveNet that is cut"):
        parse(wavenet(new_array(**slimmable(None)), head=head), slim=0)
    first = new_array(head={"out_channels": 2, "kernel_size": 1, "bias": False}, **slimmable(None))
    second = new_array(
        input_size=4, head1x1={"active": True, "out_channels": 2, "groups": 1}, **slimmable(None)
    )
    with pytest.raises(ModelError, match="expected 1 channels for the head of the array before"):
        parse(wavenet(first, second), slim=0)


def test_only_the_model_that_is_played_is_cut() -> None:
    """NAM Core plays a condition, and a model out of a container, at full size."""
    inner = wavenet(new_array(**slimmable(None)))
    entries = [{"max_value": 0.5, "model": inner}, {"max_value": 1.0, "model": inner}]
    container = document("SlimmableContainer", {"submodels": entries}, [])
    assert parse(container, slim=0).parameters == len(inner["weights"])
    outer = wavenet(new_array(**slimmable(None)), condition_dsp=inner)
    root = parse(outer, slim=0).root
    assert isinstance(root, WaveNet)
    assert isinstance(root.condition, WaveNet)
    assert (root.arrays[0].channels, root.condition.arrays[0].channels) == (1, 4)
    with pytest.raises(ModelError, match="slim: expected none for a model of one size"):
        parse(wavenet(old_array(), condition_dsp=inner), slim=0)


# --- the file of the fixtures ----------------------------------------------------------------

FIXTURE = PARITY_FILES / "slimmable_wavenet.nam"


@pytest.mark.skipif(not FIXTURE.exists(), reason=f"no parity files in {PARITY_FILES}")
def test_the_shared_model_in_every_size_on_the_engine(tmp_path: Path) -> None:
    found = json.loads(FIXTURE.read_text())
    array = found["config"]["layers"][0]
    array.update(bottleneck=3, kernel_sizes=[array.pop("kernel_size")] * 10)
    array.update(gating_mode=["none"] * 10, head={"out_channels": 1, "kernel_size": 1,
                                                  "bias": array.pop("head_bias")})  # fmt: skip
    del array["gated"], array["head_size"]
    x = noise(3000)
    for ratio, channels in ((0.0, 1), (0.34, 2), (0.5, 2), (0.7, 3)):
        graph = exchange.load(FIXTURE, slim=ratio)
        assert isinstance(graph.root, WaveNet)
        assert graph.root.arrays[0].channels == channels
        expected = reference_graph(parse(twin(found, ratio)), x.astype(np.float64))
        assert np.abs(reference_graph(graph, x.astype(np.float64)) - expected).max() == 0
        for isa in ISAS:
            played = Player(graph, isa=isa).render(x)
            assert rms(played - expected) <= TOLERANCES["random_graph"].value * rms(expected)
    target = tmp_path / "cut.nam"
    command = ["export", str(FIXTURE), "--slim", "0.4", "--format", "nam", "-o", str(target)]
    assert main(command) == 0
    assert isinstance(exchange.load(target), ModelGraph)
    assert json.loads(target.read_text())["config"]["layers"][0]["channels"] == 2
    assert main(["inspect", str(FIXTURE), "--slim", "0"]) == 0
    assert main(["inspect", str(target), "--slim", "0"]) == 1


def test_the_twin_knows_the_sizes() -> None:
    """A count by hand: 2 of 4 channels, one layer of 3 taps and one of 2."""
    found = wavenet(new_array(**slimmable([2, 4])), seed=1)
    assert found["weights"] == values(len(found["weights"]), 1)
    per_layer = [2 * 2 * taps + 2 + 2 + 2 * 2 + 2 for taps in (3, 2)]
    assert len(twin(found, 0)["weights"]) == 2 + sum(per_layer) + 2 + 1
