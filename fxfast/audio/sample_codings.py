"""Samples that are plain numbers, to float32 and back; as libsndfile scales them.

Integers of n bits stand for value / 2^(n-1). Float32 holds every 24-bit value, so integers of up
to 24 bits come back as they were. 32-bit integers and 64-bit floats are rounded to the nearest.

The engine converts what most files hold, integers of 16 and 24 bits and 32-bit floats, on their
way from the file or into it. numpy converts all others, and those too where the tests hold the one
against the other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fxfast.audio.headers import Coding
from fxfast.audio.peak import has_rows
from fxfast.native import engine_if_built

SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4}
_PIECE_FRAMES = 65536
# Bytes behind the last sample: those of three bytes are read four at a time.
_SLACK_BYTES = 4


class SampleDecoder:
    """Decodes interleaved samples of one coding and channel count."""

    def __init__(self, coding: Coding, channels: int) -> None:
        self._coding, self._channels = coding, channels
        order = ">" if coding.big_endian else "<"
        letter = {"int": "i", "unsigned": "u", "float": "f"}[coding.kind]
        width = 4 if coding.sample_bytes == 3 else coding.sample_bytes
        self._dtype = np.dtype(f"{order}{letter}{width}")
        name = {("int", 2): "int16", ("int", 3): "int24", ("float", 4): "float"}.get(
            (coding.kind, coding.sample_bytes)
        )
        self._native = None if coding.big_endian else _native("read", name)
        self._raw = np.zeros(0, np.uint8)
        self._wide = np.zeros(0, np.int32)

    def read(self, fd: int, out_ct: np.ndarray, offset: int) -> int:
        """Fill ``out_ct``, float32 (C, n), from ``offset`` bytes into an open file.

        Returns how many bytes there were: fewer than wanted where the file ends, and ``out_ct`` is
        then of no use. Raises OSError.
        """
        if self._native is not None:
            return int(self._native(fd, out_ct, offset))
        wanted = out_ct.size * self._coding.sample_bytes
        if len(self._raw) < wanted + _SLACK_BYTES:
            self._raw = np.zeros(wanted + _SLACK_BYTES, np.uint8)
        view, got = self._raw.data[:wanted], 0
        while got < wanted:
            count = os.preadv(fd, [view[got:]], offset + got)
            if count == 0:
                return got
            got += count
        self._decode(self._raw, out_ct)
        return got

    def _decode(self, raw: np.ndarray, out_ct: np.ndarray) -> None:
        """The first bytes of ``raw`` (uint8, with slack behind)."""
        coding, samples = self._coding, out_ct.size
        if coding.sample_bytes == 3:
            x = self._widened(raw, samples)
        else:
            x = raw[: samples * coding.sample_bytes].view(self._dtype)
        x_ct = x.reshape(-1, self._channels).T
        if coding.kind == "float":
            with np.errstate(over="ignore", invalid="ignore"):
                np.copyto(out_ct, x_ct, casting="same_kind")
        elif coding.kind == "unsigned":
            np.subtract(x_ct, np.float32(128), out=out_ct, dtype=np.float32)
            np.multiply(out_ct, np.float32(1 / 128), out=out_ct)
        else:
            scale = np.float32(2.0 ** -(8 * self._dtype.itemsize - 1))
            np.multiply(x_ct, scale, out=out_ct, dtype=np.float32, casting="same_kind")

    def _widened(self, raw: np.ndarray, samples: int) -> np.ndarray:
        """24 bits at the top of 32. Every load takes a byte of the next sample, or of the slack."""
        if len(self._wide) < samples:
            self._wide = np.zeros(samples, np.int32)
        wide = self._wide[:samples]
        overlapping = np.ndarray((samples,), self._dtype, raw.data, 0, (3,))
        if self._coding.big_endian:
            np.bitwise_and(overlapping, -256, out=wide)
        else:
            np.left_shift(overlapping, 8, out=wide)
        return wide


class SampleEncoder:
    """Encodes float blocks as interleaved little-endian samples of one subtype.

    Integers are rounded to the nearest and clipped to their range. With a ``dither_seed``
    triangular noise of two steps' width is added before (TPDF; S. Lipshitz et al.,
    "Quantization and Dither: A Theoretical Survey", JAES 40(5), 1992): the error is then noise
    that does not depend on the sound. The noise is a function of the seed and of the position in
    the file, so the codes do not depend on how the sound is cut into blocks.
    """

    def __init__(self, subtype: str, dither_seed: int | None = None) -> None:
        self._bits = {"PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 0}[subtype]
        is_plain = dither_seed is None or not self._bits
        names = {16: ("int16", "int16"), 24: ("code24", "int24"), 0: (None, "float")}
        code, sample = names.get(self._bits, (None, None)) if is_plain else (None, None)
        self._native, self._appends = _native("encode", code), _native("append", sample)
        self._noise = None
        if dither_seed is not None and self._bits:
            self._noise = np.random.Generator(np.random.SFC64(dither_seed))

    def encode(self, x_ct: np.ndarray) -> np.ndarray:
        """``x_ct`` (C, n) as float32 or int16 or int32 (n, C); 24 bits are those at the bottom."""
        if self._native is not None and x_ct.dtype == np.float32 and has_rows(x_ct):
            x_tc = np.empty(x_ct.shape[::-1], _CODES[self._bits])
            self._native(x_ct, x_tc)
            return x_tc
        if not self._bits:
            return _interleaved(x_ct.astype(np.float32, copy=False))
        full_scale = float(1 << (self._bits - 1))
        # Float32 holds 24 bits, but not the noise below them.
        wide = self._bits == 32 or self._noise is not None or x_ct.dtype == np.float64
        scaled_ct = np.multiply(x_ct, full_scale, dtype=np.float64 if wide else np.float32)
        if self._noise is not None:
            uniform = self._noise.random((*x_ct.shape[::-1], 2), np.float32)
            scaled_ct += uniform[..., 0].T
            scaled_ct -= uniform[..., 1].T
        np.rint(scaled_ct, out=scaled_ct)
        np.clip(scaled_ct, -full_scale, full_scale - 1.0, out=scaled_ct)
        return _interleaved(scaled_ct.astype(np.int16 if self._bits == 16 else np.int32))

    def pieces(self, x_ct: np.ndarray) -> Iterator[np.ndarray]:
        """``encode`` of a block of any length, with flat memory."""
        for start in range(0, x_ct.shape[1], _PIECE_FRAMES):
            yield self.encode(x_ct[:, start : start + _PIECE_FRAMES])

    def appends(self, x_ct: np.ndarray) -> Callable[..., bool] | None:
        """What encodes ``x_ct`` right into a file: the engine's append_int16(fd, x_ct, offset,
        read_back) or the like. None where only ``encode`` can."""
        fits = x_ct.dtype == np.float32 and has_rows(x_ct)
        return self._appends if fits else None


_CODES = {16: np.int16, 24: np.int32}


def _native(way: str, name: str | None) -> Callable[..., Any] | None:
    """The engine's conversion, where it has one, is built and has samples in memory as in files."""
    found = engine_if_built() if sys.byteorder == "little" and name is not None else None
    return None if found is None else getattr(found, f"{way}_{name}")


def _interleaved(x_ct: np.ndarray) -> np.ndarray:
    """(n, C): row by row, which is several times as fast as a transposed copy."""
    x_tc = np.empty(x_ct.shape[::-1], x_ct.dtype)
    for channel, x_t in enumerate(x_ct):
        x_tc[:, channel] = x_t
    return x_tc


def to_rows(codes_tc: np.ndarray, out_ct: np.ndarray) -> None:
    """Integers (n, C), int16 or int32 from one end of their range to the other, as float32 (C, n)
    from -1 to 1."""
    bits = 8 * codes_tc.itemsize
    decode = _native("decode", f"int{bits}")
    if decode is not None:
        decode(codes_tc, out_ct)
        return
    scale = np.float32(2.0 ** (1 - bits))
    np.multiply(codes_tc.T, scale, out=out_ct, casting="same_kind")


def packed_24(codes: np.ndarray) -> np.ndarray:
    """The lower 24 bits of int32 codes as bytes, three for each."""
    return _lower_bytes(codes, 0)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """int16 codes, or the upper 8 or 24 bits of int32 codes, as little-endian bytes."""
    if codes.dtype == np.int16:
        return codes.astype("<i2", copy=False)
    return _lower_bytes(codes, 1) if bits == 24 else codes.reshape(-1).view(np.uint8)[3::4].copy()


def _lower_bytes(codes: np.ndarray, first: int) -> np.ndarray:
    """Three bytes of each code; one at a time is four times as fast as three."""
    as_bytes = np.ascontiguousarray(codes, "<i4").reshape(-1).view(np.uint8)
    packed = np.empty(3 * codes.size, np.uint8)
    for index in range(3):
        packed[index::3] = as_bytes[first + index :: 4]
    return packed
