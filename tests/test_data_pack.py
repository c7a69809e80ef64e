"""Packed datasets: what goes in comes out, splits hold, damage is an error before use."""

from __future__ import annotations

import pickle
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from fxfast.cli import main
from fxfast.data import Data, Split, Windows, from_arrays, from_pairs, load, pack
from fxfast.errors import InputError, OutputExistsError, PackError, PairError
from fxfast.pairs.pair_set import Pair

RATE = 48_000


def make_pairs(lengths: list[int], dtype: Any = np.float32) -> list[Pair]:
    rng = np.random.default_rng(5)
    pairs = []
    for index, length in enumerate(lengths):
        dry = (rng.integers(-32768, 32768, length) / 32768).astype(np.float32)
        if dtype == np.int16:
            dry = (dry * 32768).astype(np.int16)
        pairs.append(Pair(f"dir/tåke {index}", dry, dry[::-1].copy(), RATE))
    return pairs


def audio_of(data: Data) -> list[tuple[str, int, bytes, bytes]]:
    return [(p.name, p.start_sample, p.dry.tobytes(), p.wet.tobytes()) for p in data.pieces()]


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_a_pack_holds_the_pairs(tmp_path: Path, dtype: str, in_memory: bool) -> None:
    pairs = make_pairs([1000, 1, 333, 64])
    pack(iter(pairs), tmp_path / "d.fxpack", dtype=dtype)
    data = load(tmp_path / "d.fxpack", in_memory=in_memory)
    assert data.is_int16 == (dtype == "int16")
    assert audio_of(data) == audio_of(from_pairs(pairs, Split()))
    assert [data.names[i] for i in range(len(data.names))] == [pair.name for pair in pairs]
    assert data.sample_rate == RATE
    for part in ("train", "validation", "test"):
        assert audio_of(data.part(part)) == audio_of(from_pairs(pairs, Split()).part(part))
    again = pickle.loads(pickle.dumps(data))
    assert audio_of(again) == audio_of(data)
    assert again.fingerprint == data.fingerprint
    windows = Windows(data.train, 32, batch_size=8, seed=1)
    same = Windows(from_pairs(pairs, Split()).train, 32, batch_size=8, seed=1)
    for (x, y), (ours_x, ours_y) in zip(windows, same, strict=True):
        assert np.array_equal(x, ours_x)
        assert np.array_equal(y, ours_y)


def test_knobs_rates_and_splits_are_kept(tmp_path: Path) -> None:
    pairs = make_pairs([100] * 8)
    knobs = {pair.name: [index / 8, 1.0] for index, pair in enumerate(pairs)}
    pack(
        pairs,
        tmp_path / "d.fxpack",
        split=Split(0.5, 0.25, 0.25, by="file"),
        knobs=knobs,
        knob_names=("gain", "tone"),
    )
    data = load(tmp_path / "d.fxpack")
    assert data.knob_names == ("gain", "tone")
    assert data.knobs.tolist() == [[index / 8, 1.0] for index in range(8)]
    assert [data.part(p).files for p in ("train", "validation", "test")] == [4, 2, 2]
    assert all(length == 100 for length in data.spans[:, 2])
    x, _, batch_knobs = next(iter(Windows(data, 9, batch_size=4)))
    assert (x.shape, batch_knobs.shape) == ((4, 1, 9), (4, 2))


@pytest.mark.parametrize("by", ["time", "file"])
@pytest.mark.parametrize("guard", [0, 7])
def test_no_sample_is_in_two_parts_and_no_window_crosses_a_border(by: str, guard: int) -> None:
    lengths = [100, 55, 3, 80, 64, 71]
    pairs = []
    for file, length in enumerate(lengths):
        ramp = (1000 * file + np.arange(length)).astype(np.float32)
        pairs.append(Pair(str(file), ramp, -ramp, RATE))
    data = from_pairs(pairs, Split(0.5, 0.25, 0.25, guard, by))
    seen: dict[str, set[int]] = {}
    for part in ("train", "validation", "test"):
        windows = Windows(data.part(part), 4, batch_size=1)
        seen[part] = {int(v) for x, _ in windows for v in x.flatten()}
    assert not seen["train"] & seen["validation"]
    assert not (seen["train"] | seen["validation"]) & seen["test"]
    every = {int(x[0, 0, 0]) for x, _ in Windows(data, 4, batch_size=1)}
    apart = [{int(x[0, 0, 0]) for x, _ in Windows(data.part(p), 4, batch_size=1)} for p in seen]
    assert every == set.union(*apart)
    if by == "time":
        first = {p: {v for v in seen[p] if v < 1000} for p in seen}
        assert max(first["train"]) + guard < min(first["validation"])
        assert max(first["validation"]) + guard < min(first["test"])


def test_impossible_splits_are_errors() -> None:
    with pytest.raises(InputError, match="split: expected positive fractions"):
        Split(0.9, 0.2, 0.1)
    with pytest.raises(InputError, match="guard_samples: expected 0 or more, got -1"):
        Split(guard_samples=-1)
    with pytest.raises(InputError, match="by: expected time or file, got 'name'"):
        Split(by="name")
    with pytest.raises(InputError, match="expected enough files for one in each"):
        from_pairs(make_pairs([50, 50]), Split(by="file"))


BAD: dict[str, tuple[type[Exception], list[Pair], dict[str, Any]]] = {
    "pairs: expected at least one, got none": (PairError, [], {}),
    "pairs: expected names that differ": (PairError, make_pairs([9])[:1] * 2, {}),
    "expected dry within -1 to 1 for int16, got 2.0": (
        PairError,
        [Pair("a", np.full(9, 2, np.float32), np.zeros(9, np.float32), RATE)],
        {"dtype": "int16"},
    ),
    "expected finite samples in wet": (
        PairError,
        [Pair("a", np.zeros(9, np.float32), np.full(9, np.nan, np.float32), RATE)],
        {},
    ),
    "dtype: expected one of float32, int16": (InputError, make_pairs([9]), {"dtype": "int8"}),
    "knobs: expected values for the pair": (InputError, make_pairs([9]), {"knobs": {}}),
    "knobs: expected values from 0 to 1": (
        InputError,
        make_pairs([9]),
        {"knobs": {"dir/tåke 0": [1.5]}},
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_packed_is_an_error_and_leaves_no_file(tmp_path: Path, message: str) -> None:
    error, pairs, options = BAD[message]
    with pytest.raises(error, match=message):
        pack(pairs, tmp_path / "d.fxpack", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "d.fxpack"
    pack(make_pairs([90]), path)
    with pytest.raises(OutputExistsError, match="expected a new file"):
        pack(make_pairs([40]), path)
    pack(make_pairs([40]), path, overwrite=True)
    assert load(path).samples == 40


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("pack") / "d.fxpack"
    pairs = make_pairs([300, 5, 64])
    knobs = {pair.name: [0.5] for pair in pairs}
    pack(pairs, path, knobs=knobs)
    return path.with_name("damaged.fxpack"), path.read_bytes()


def refused(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        loaded = load(path)
        # Whatever is accepted can be used.
        for x, *_ in Windows(loaded, 5, batch_size=4):
            assert np.isfinite(x.numpy()).all()
    except PackError as error:
        return "\n" not in str(error)
    return False


def sealed(data: bytes) -> bytes:
    """With checksums that are right: what an attacker would send."""
    tables = struct.unpack_from("<Q", data, 40)[0]
    out = bytearray(data)
    if 64 <= tables <= len(data):
        struct.pack_into("<I", out, 56, zlib.crc32(data[tables:]))
    struct.pack_into("<I", out, 60, zlib.crc32(bytes(out[:60])))
    return bytes(out)


def test_every_flipped_byte_and_every_cut_is_an_error(packed: tuple[Path, bytes]) -> None:
    path, data = packed
    assert not refused(path, data)
    padding = 0
    for at in range(0, len(data), 3):
        damaged = bytearray(data)
        damaged[at] ^= 0x41
        padding += not refused(path, bytes(damaged))
    assert padding <= 60  # zeros between audio are nobody's
    for size in range(0, len(data), 97):
        assert refused(path, data[:size])
    assert refused(path, data + b"x")


@settings(max_examples=400)
@given(st.data())
def test_hostile_files_are_refused_or_harmless(
    packed: tuple[Path, bytes], draw: st.DataObject
) -> None:
    path, data = packed
    tables = struct.unpack_from("<Q", data, 40)[0]
    out = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.one_of(st.integers(8, 55), st.integers(tables, len(data) - 8)))
        value = draw.draw(
            st.one_of(
                st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(data), tables]),
                st.integers(0, 2**64 - 1),
            )
        )
        size = draw.draw(st.sampled_from([1, 4, 8]))
        out[at : at + size] = (value & (2 ** (8 * size) - 1)).to_bytes(size, "little")
    refused(path, sealed(bytes(out)))


HEADERS = {
    "magic: expected": ("<8s", 0, b"FXPACK\n\n"),
    "version: expected 1 to 2, got 3": ("<I", 8, 3),
    "samples: expected 0 or 1, got 7": ("<I", 12, 7),
    "files: expected at least 1": ("<Q", 16, 0),
    "tables: expected to end with the file": ("<Q", 24, 2**63),
    "size: expected": ("<Q", 48, 99),
}


@pytest.mark.parametrize("message", HEADERS)
def test_headers_are_checked_by_name(packed: tuple[Path, bytes], message: str) -> None:
    path, data = packed
    layout, at, value = HEADERS[message]
    out = bytearray(data)
    struct.pack_into(layout, out, at, value)
    path.write_bytes(sealed(bytes(out)))
    with pytest.raises(PackError, match=message):
        load(path)


def test_not_finite_audio_with_a_right_checksum_is_refused(tmp_path: Path) -> None:
    pack(make_pairs([50]), tmp_path / "d.fxpack")
    out = bytearray((tmp_path / "d.fxpack").read_bytes())
    struct.pack_into("<f", out, 64 + 40, float("nan"))
    tables = struct.unpack_from("<Q", out, 40)[0]
    struct.pack_into("<I", out, tables + 40, zlib.crc32(bytes(out[64 : 64 + 200])))
    (tmp_path / "d.fxpack").write_bytes(sealed(bytes(out)))
    with pytest.raises(PackError, match="expected finite samples"):
        load(tmp_path / "d.fxpack")


def turned_pairs() -> list[Pair]:
    """A drive from 2 to 10 and a switch that nobody turned."""
    return [
        replace(pair, knobs={"drive": drive, "bright": 1.0})
        for pair, drive in zip(make_pairs([50, 60, 70]), (2.0, 10.0, 4.0), strict=True)
    ]


def test_knobs_of_pairs_are_kept_in_their_units(tmp_path: Path) -> None:
    pack(turned_pairs(), tmp_path / "d.fxpack")
    data = load(tmp_path / "d.fxpack")
    assert data.controls == from_pairs(turned_pairs()).controls
    assert (data.knob_names, data.knob_ranges) == (("drive",), ((2.0, 10.0),))
    assert data.knobs.tolist() == [[0.0], [1.0], [0.25]]
    assert [piece.knobs["drive"] for piece in data.train.pieces()] == [2.0, 10.0, 4.0]


def test_a_pair_without_the_knob_of_another_is_refused(tmp_path: Path) -> None:
    pairs = turned_pairs()
    pairs[1] = replace(pairs[1], knobs={"bright": 0.0})
    with pytest.raises(PairError, match="expected where the knob drive stood"):
        pack(pairs, tmp_path / "d.fxpack")
    assert not list(tmp_path.iterdir())


def test_version_1_whose_knobs_have_no_range_is_read(packed: tuple[Path, bytes]) -> None:
    path, data = packed
    tables = struct.unpack_from("<Q", data, 40)[0]
    out = bytearray(data)
    files, spans = struct.unpack_from("<QQ", data, 16)
    range_at = tables + 48 * files + 32 * spans + 16
    del out[range_at : range_at + 16]
    struct.pack_into("<I", out, 8, 1)
    struct.pack_into("<Q", out, 48, len(out))
    path.write_bytes(sealed(bytes(out)))
    found = load(path)
    assert found.knobs.tolist() == [[0.5]] * 3
    assert [(knob.minimum, knob.maximum) for knob in found.controls] == [(0.0, 1.0)]


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0), (0.0, float("nan")), (-1e308, 1e308)])
def test_a_knob_without_a_range_is_refused(
    packed: tuple[Path, bytes], ends: tuple[float, float]
) -> None:
    path, data = packed
    tables = struct.unpack_from("<Q", data, 40)[0]
    files, spans = struct.unpack_from("<QQ", data, 16)
    out = bytearray(data)
    struct.pack_into("<dd", out, tables + 48 * files + 32 * spans + 16, *ends)
    path.write_bytes(sealed(bytes(out)))
    with pytest.raises(PackError, match="knobs: expected least below most, got"):
        load(path)


def test_a_file_that_changed_is_not_opened_again(tmp_path: Path) -> None:
    pack(make_pairs([50]), tmp_path / "d.fxpack")
    saved = pickle.dumps(load(tmp_path / "d.fxpack"))
    pack(make_pairs([51]), tmp_path / "d.fxpack", overwrite=True)
    with pytest.raises(PackError, match="expected what it was when it was loaded"):
        pickle.loads(saved)
    with pytest.raises(PackError, match="expected a packed dataset, got no such file"):
        load(tmp_path / "none.fxpack")


def test_command_packs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("dry", "wet"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        for name in ("a", "b"):
            audio = np.linspace(-0.5, 0.5, 8000, dtype=np.float32)
            sf.write(tmp_path / "pairs" / side / f"{name}.wav", audio, RATE, subtype="PCM_16")
    out = tmp_path / "data.fxpack"
    words = [str(tmp_path / "pairs"), "-o", str(out), "--dtype", "int16"]
    assert main(["pack", *words, "--split", "0.5", "0.25", "0.25", "--guard", "10"]) == 0
    assert "2 pairs" in capsys.readouterr().out
    data = load(out)
    assert data.is_int16
    assert data.train.samples == 8000
    assert main(["pack", *words]) == 1
    assert "expected a new file" in capsys.readouterr().err
    (tmp_path / "knobs.json").write_text('{"gain": {"a": 0.25, "b": 1}}')
    knobs = ["--knobs", str(tmp_path / "knobs.json"), "--overwrite"]
    assert main(["pack", *words, *knobs]) == 0
    assert load(out).knob_names == ("gain",)
    assert load(out).knobs.tolist() == [[0.25], [1.0]]


def test_arrays_and_packs_of_the_same_audio_have_the_same_fingerprint(tmp_path: Path) -> None:
    pairs = make_pairs([100, 80])
    pack(pairs, tmp_path / "d.fxpack")
    assert load(tmp_path / "d.fxpack").fingerprint == from_pairs(pairs, Split()).fingerprint
    arrays = from_arrays([(p.dry, p.wet) for p in pairs], RATE)
    assert (
        arrays.fingerprint["audio or knobs"]
        == load(tmp_path / "d.fxpack").fingerprint["audio or knobs"]
    )
