"""Samples of files by the engine beside numpy: the same values and codes, to the last bit."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxfast import native
from fxfast.audio import sample_codings
from fxfast.audio.headers import Coding
from fxfast.audio.peak import peak_of
from fxfast.audio.sample_codings import (
    SAMPLE_BYTES,
    SampleDecoder,
    SampleEncoder,
    packed_24,
    to_rows,
)
from fxfast.errors import InputError

CODINGS = [Coding("int", 2, False), Coding("int", 3, False), Coding("float", 4, False)]
CHANNELS = [1, 2, 3, 7]


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """An open file without a byte."""
    found = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


def without_engine(codec: SampleDecoder | SampleEncoder) -> None:
    assert codec._native is not None
    codec._native = None


# The engine takes pieces of 64 kB: more than one, and one that is as long as its last frame.
@pytest.mark.parametrize("frames", [1, 4099, 1 << 16])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_samples_are_read_as_by_numpy(fd: int, coding: Coding, channels: int, frames: int) -> None:
    offset, wanted = 45, frames * channels * coding.sample_bytes
    raw = np.random.default_rng(1).integers(0, 256, offset + wanted, dtype=np.uint8)
    os.write(fd, raw)
    # The rows of a larger buffer, as a reader has it for the last block.
    found = np.full((2, channels, frames + 5), 7.0, np.float32)
    for out_ct, uses_engine in zip(found, (True, False), strict=True):
        decoder = SampleDecoder(coding, channels)
        if not uses_engine:
            without_engine(decoder)
        assert decoder.read(fd, out_ct[:, :frames], offset) == wanted
        assert decoder.read(fd, out_ct[:, :frames].copy(), offset + 1) == wanted - 1
        assert decoder.read(fd, out_ct[:, :0], offset) == 0
    assert np.array_equal(found[0].view(np.int32), found[1].view(np.int32))
    assert (found[0, :, frames:] == 7.0).all()


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_decoded_codes_become_rows_as_by_numpy(
    monkeypatch: pytest.MonkeyPatch, kind: type[np.signedinteger[Any]], channels: int
) -> None:
    ends = np.iinfo(kind)
    codes_tc = np.random.default_rng(5).integers(ends.min, ends.max, (1003, channels), kind)
    codes_tc[0], codes_tc[-1] = ends.min, ends.max
    found = np.full((2, channels, 1010), 7.0, np.float32)
    to_rows(codes_tc, found[0, :, :1003])
    monkeypatch.setattr(sample_codings, "engine_if_built", lambda: None)
    to_rows(codes_tc, found[1, :, :1003])
    assert np.array_equal(found[0], found[1])
    assert found[0, 0, 0] == -1.0


def test_every_code_of_16_bits_is_its_value(fd: int) -> None:
    codes = np.arange(-(1 << 15), 1 << 15, dtype="<i2")
    os.write(fd, codes)
    out_ct = np.empty((2, len(codes) // 2), np.float32)
    SampleDecoder(CODINGS[0], 2).read(fd, out_ct, 0)
    assert np.array_equal(out_ct.T.reshape(-1) * 32768, codes)
    assert np.array_equal(SampleEncoder("PCM_16").encode(out_ct).reshape(-1), codes)


def hard_values(full_scale: int) -> np.ndarray:
    """Ties between two codes, the ends of the range and beyond, very small and random ones."""
    steps = np.concatenate([np.arange(-9, 9), full_scale - np.arange(9), np.arange(9) - full_scale])
    ties = ((steps + 0.5) / full_scale).astype(np.float32)
    beyond = np.array([1.0, -1.0, 1.5, -1.5, 1e9, -1e9, 1e31, -1e31, -0.0, 1e-42], np.float32)
    noise = np.random.default_rng(3).standard_normal(5000).astype(np.float32) * 0.5
    near = [np.nextafter(ties, np.float32(side * np.inf)) for side in (-1, 1)]
    return np.concatenate([ties, *near, beyond, noise])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24), ("FLOAT", 16)])
def test_values_are_written_as_by_numpy(fd: int, subtype: str, bits: int, channels: int) -> None:
    hard = hard_values(1 << (bits - 1))
    values = np.resize(hard, (channels, 2**15 + 3))
    encoder, plain = SampleEncoder(subtype), SampleEncoder(subtype)
    if bits == 24 or subtype == "PCM_16":
        without_engine(plain)
    end = 0
    for frames in (0, 1, 3, 4, 7, 8, 9, 17, values.shape[1] - 1, values.shape[1]):
        found, expected = encoder.encode(values[:, :frames]), plain.encode(values[:, :frames])
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
        appends = encoder.appends(values[:, :frames])
        assert appends is not None
        assert appends(fd, values[:, :frames], end, frames % 2 == 0)
        raw = packed_24(expected).tobytes() if bits == 24 else expected.tobytes()
        assert len(raw) == frames * channels * SAMPLE_BYTES[subtype]
        assert os.pread(fd, 1 << 20, end) == raw
        end += len(raw)
    turned_ct = np.ascontiguousarray(values.T).T
    assert np.array_equal(encoder.encode(turned_ct), plain.encode(values))
    assert np.array_equal(encoder.encode(values.astype(np.float64)), plain.encode(values))
    if channels > 1:
        assert encoder.appends(turned_ct) is None
    assert encoder.appends(values.astype(np.float64)) is None


def test_frames_longer_than_a_piece_are_written_and_read(fd: int) -> None:
    """24 bits of more channels than are encoded at a time."""
    values = np.random.default_rng(3).uniform(-1.0, 1.0, (21_900, 2)).astype(np.float32)
    appends = SampleEncoder("PCM_24").appends(values)
    assert appends is not None
    assert appends(fd, values, 0, True)
    found_ct = np.empty_like(values)
    assert SampleDecoder(CODINGS[1], len(values)).read(fd, found_ct, 0) == 3 * values.size
    assert np.abs(found_ct - values).max() <= 2.0**-24


@pytest.mark.parametrize("count", [0, 1, 2, 1001])
def test_codes_of_24_bits_are_packed(count: int) -> None:
    codes = np.random.default_rng(2).integers(-(1 << 23), 1 << 23, (count, 1), dtype=np.int32)
    expected = b"".join(int(code).to_bytes(3, "little", signed=True) for code in codes[:, 0])
    assert packed_24(codes).tobytes() == expected


@pytest.mark.parametrize("frames", [0, 1, 31, 32, 33, 200])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_peak_is_the_largest_magnitude(channels: int, frames: int) -> None:
    x_ct = np.random.default_rng(4).standard_normal((channels, frames + 3)).astype(np.float32)
    x_ct = x_ct[:, :frames]
    if not frames:
        assert peak_of(x_ct) == 0.0
        return
    assert peak_of(x_ct) == np.abs(x_ct).max() == peak_of(x_ct.astype(np.float64))
    for value in (-9.0, 1e-44, np.inf, -np.inf, np.nan):
        for place in (0, frames - 1):
            changed_ct = x_ct.copy()
            changed_ct[-1, place] = value
            expected = np.abs(changed_ct).max()
            assert np.array_equal(peak_of(changed_ct), expected, equal_nan=True)


def test_memory_of_c_is_taken() -> None:
    rows = np.ctypeslib.as_array((ctypes.c_float * 16)()).reshape(2, 8)
    assert memoryview(rows).format in ("f", "<f")
    rows[:] = 0.5
    assert (SampleEncoder("PCM_16").encode(rows) == 1 << 14).all()


def test_dither_is_numpys() -> None:
    encoder = SampleEncoder("PCM_16", dither_seed=1)
    assert encoder._native is None
    assert encoder.appends(np.zeros((1, 8), np.float32)) is None


def test_wrong_arrays_are_refused(fd: int) -> None:
    engine = native.engine()
    rows = np.zeros((2, 8), np.float32)
    for samples in (np.zeros(15, np.int16), np.zeros((2, 32), np.int16)[:, ::2]):
        with pytest.raises(InputError, match="bytes in one piece"):
            engine.encode_int16(rows, samples)
    with pytest.raises(InputError, match="expected at least 32 bytes in one piece"):
        engine.decode_int16(np.zeros(15, np.int16), rows)
    for wrong in (rows.astype(np.float64), rows[0], rows[:, ::2]):
        for use in (engine.append_int24, engine.read_float):
            with pytest.raises(InputError, match=r"float32 \(C, n\)"):
                use(fd, wrong, 0)
    rows.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        engine.read_int16(fd, rows, 0)
    for use in (engine.append_int16, engine.read_int16):
        with pytest.raises(OSError, match="descriptor"):
            use(-1, np.zeros((2, 8), np.float32), 0)
