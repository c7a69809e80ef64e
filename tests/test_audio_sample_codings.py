"""16-bit integers by the engine beside numpy: the same samples, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from fxfast import native
from fxfast.audio.headers import Coding
from fxfast.audio.sample_codings import SLACK_BYTES, SampleDecoder, SampleEncoder
from fxfast.errors import InputError

INT16 = Coding("int", 2, False)


def without_engine(codec: SampleDecoder | SampleEncoder) -> None:
    assert codec._engine is not None
    codec._engine = None


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_every_code_is_read_as_by_numpy(channels: int) -> None:
    codes = np.arange(-(1 << 15), 1 << 15, dtype="<i2").repeat(channels)
    raw = np.concatenate([codes.view(np.uint8), np.zeros(SLACK_BYTES, np.uint8)])
    frames = len(codes) // channels
    # The rows of a larger buffer, as a reader has it for the last block.
    found = np.full((2, channels, frames + 5), np.nan, np.float32)
    for out_ct, uses_engine in zip(found, (True, False), strict=True):
        decoder = SampleDecoder(INT16, channels)
        if not uses_engine:
            without_engine(decoder)
        decoder.decode(raw, out_ct[:, :frames])
    assert np.array_equal(found[0], found[1], equal_nan=True)
    assert np.isnan(found[0, :, frames:]).all()
    assert np.array_equal(found[0, 0, :frames] * 32768, np.arange(-(1 << 15), 1 << 15))


def hard_values() -> np.ndarray:
    """Ties between two codes, the ends of the range and beyond, very small and random ones."""
    ties = (np.arange(-32770, 32771, 1, np.float32) + np.float32(0.5)) / np.float32(32768)
    beyond = np.array([1.0, -1.0, 1.5, -1.5, 1e9, -1e9, 1e33, -1e33, -0.0, 1e-42], np.float32)
    noise = np.random.default_rng(3).standard_normal(5000).astype(np.float32) * 0.5
    nearby = np.nextafter(ties, np.float32(np.inf))
    return np.concatenate([ties, nearby, beyond, noise])


@pytest.mark.parametrize("channels", [1, 2, 3, 7])
def test_every_value_is_written_as_by_numpy(channels: int) -> None:
    values = np.resize(hard_values(), (channels, len(hard_values()) // 2 * 2 + 3))
    for frames in (0, 1, 7, 8, 9, 17, values.shape[1] - 1):
        encoder, plain = SampleEncoder("PCM_16"), SampleEncoder("PCM_16")
        without_engine(plain)
        block_ct = values[:, :frames]
        assert np.array_equal(encoder.encode(block_ct), plain.encode(block_ct))
    turned_ct = np.ascontiguousarray(values.T).T
    assert np.array_equal(encoder.encode(turned_ct), plain.encode(values))
    assert np.array_equal(encoder.encode(values.astype(np.float64)), plain.encode(values))


def test_dither_is_numpys() -> None:
    assert SampleEncoder("PCM_16", dither_seed=1)._engine is None


def test_wrong_arrays_are_refused() -> None:
    engine = native.engine()
    rows = np.zeros((2, 8), np.float32)
    for samples in (np.zeros(15, np.int16), np.zeros((2, 32), np.int16)[:, ::2]):
        with pytest.raises(InputError, match="expected at least 32 bytes in one piece"):
            engine.encode_int16(rows, samples)
        with pytest.raises(InputError, match="expected at least 32 bytes in one piece"):
            engine.decode_int16(samples, rows)
    for wrong in (rows.astype(np.float64), rows[0], rows[:, ::2]):
        with pytest.raises(InputError, match=r"float32 \(C, n\)"):
            engine.encode_int16(wrong, np.zeros(16, np.int16))
    rows.setflags(write=False)
    with pytest.raises((ValueError, BufferError)):
        engine.decode_int16(np.zeros(16, np.int16), rows)
