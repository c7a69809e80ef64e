"""Samples of files by the engine beside numpy: the same values and codes, to the last bit."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from fxfast import native
from fxfast.audio.headers import Coding
from fxfast.audio.sample_codings import (
    SLACK_BYTES,
    SampleDecoder,
    SampleEncoder,
    _lower_bytes,
    packed_24,
)
from fxfast.errors import InputError

CODINGS = [Coding("int", 2, False), Coding("int", 3, False), Coding("float", 4, False)]
CHANNELS = [1, 2, 3, 7]


def without_engine(codec: SampleDecoder | SampleEncoder) -> None:
    assert codec._native is not None
    codec._native = None


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("coding", CODINGS, ids=str)
def test_samples_are_read_as_by_numpy(coding: Coding, channels: int) -> None:
    frames = 4099
    wanted = frames * channels * coding.sample_bytes
    raw = np.random.default_rng(1).integers(0, 256, wanted + SLACK_BYTES, dtype=np.uint8)
    # The rows of a larger buffer, as a reader has it for the last block.
    found = np.full((2, channels, frames + 5), 7.0, np.float32)
    for out_ct, uses_engine in zip(found, (True, False), strict=True):
        decoder = SampleDecoder(coding, channels)
        if not uses_engine:
            without_engine(decoder)
        decoder.decode(raw, out_ct[:, :frames])
    assert np.array_equal(found[0].view(np.int32), found[1].view(np.int32))
    assert (found[0, :, frames:] == 7.0).all()


def test_every_code_of_16_bits_is_its_value() -> None:
    codes = np.arange(-(1 << 15), 1 << 15, dtype="<i2")
    raw = np.concatenate([codes.view(np.uint8), np.zeros(SLACK_BYTES, np.uint8)])
    out_ct = np.empty((2, len(codes) // 2), np.float32)
    SampleDecoder(CODINGS[0], 2).decode(raw, out_ct)
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
def test_values_are_written_as_by_numpy(subtype: str, bits: int, channels: int) -> None:
    hard = hard_values(1 << (bits - 1))
    values = np.resize(hard, (channels, len(hard) // 2 * 2 + 3))
    encoder, plain = SampleEncoder(subtype), SampleEncoder(subtype)
    without_engine(plain)
    for frames in (0, 1, 3, 4, 7, 8, 9, 17, values.shape[1] - 1):
        found, expected = encoder.encode(values[:, :frames]), plain.encode(values[:, :frames])
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)
    turned_ct = np.ascontiguousarray(values.T).T
    assert np.array_equal(encoder.encode(turned_ct), plain.encode(values))
    assert np.array_equal(encoder.encode(values.astype(np.float64)), plain.encode(values))


@pytest.mark.parametrize("count", [0, 1, 2, 1001])
def test_codes_of_24_bits_are_packed_as_by_numpy(count: int) -> None:
    codes = np.random.default_rng(2).integers(-(1 << 23), 1 << 23, (count, 1), dtype=np.int32)
    assert np.array_equal(packed_24(codes), _lower_bytes(codes, 0))


def test_memory_of_c_is_taken() -> None:
    rows = np.ctypeslib.as_array((ctypes.c_float * 16)()).reshape(2, 8)
    assert memoryview(rows).format in ("f", "<f")
    rows[:] = 0.5
    assert (SampleEncoder("PCM_16").encode(rows) == 1 << 14).all()


def test_dither_is_numpys() -> None:
    assert SampleEncoder("PCM_16", dither_seed=1)._native is None


def test_wrong_arrays_are_refused() -> None:
    engine = native.engine()
    rows = np.zeros((2, 8), np.float32)
    for samples in (np.zeros(15, np.int16), np.zeros((2, 32), np.int16)[:, ::2]):
        for use, arrays in (
            (engine.encode_int16, (rows, samples)),
            (engine.decode_int16, (samples, rows)),
        ):
            with pytest.raises(InputError, match="expected at least 32 bytes in one piece"):
                use(*arrays)
    with pytest.raises(InputError, match="expected at least 49 bytes"):
        engine.decode_int24(np.zeros(48, np.uint8), rows)  # without a byte behind the last
    with pytest.raises(InputError, match="expected at least 12 bytes"):
        engine.pack_code24(np.zeros(4, np.int32), np.zeros(11, np.uint8))
    for wrong in (rows.astype(np.float64), rows[0], rows[:, ::2]):
        with pytest.raises(InputError, match=r"float32 \(C, n\)"):
            engine.encode_int16(wrong, np.zeros(16, np.int16))
    rows.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        engine.decode_int16(np.zeros(16, np.int16), rows)
