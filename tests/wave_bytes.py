"""WAV files made byte by byte, right and wrong; noise, and what libsndfile makes of it."""

from __future__ import annotations

import io
import struct

import numpy as np
import soundfile

RATE = 48_000


def chunk(name: bytes, body: bytes, size: int | None = None, pad: bool = True) -> bytes:
    claimed = len(body) if size is None else size
    return name + struct.pack("<I", claimed) + body + b"\0" * (len(body) % 2 if pad else 0)


def fmt(
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    rate: int = RATE,
    frame_bytes: int | None = None,
    extensible: tuple[int, int] | None = None,
) -> bytes:
    """A fmt chunk; ``extensible`` is the valid bits and the channel mask."""
    frame = channels * ((bits + 7) // 8) if frame_bytes is None else frame_bytes
    real_tag = tag if extensible is None else 0xFFFE
    body = struct.pack(
        *("<HHIIHH", real_tag, channels, rate, min(rate * frame, 0xFFFFFFFF), frame, bits)
    )
    if extensible is not None:
        body += struct.pack("<HHIH", 22, *extensible, tag)
        body += bytes.fromhex("000000001000800000aa00389b71")
    return chunk(b"fmt ", body)


def riff(*chunks: bytes, size: int | None = None, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def wave(x_ct: np.ndarray, bits: int = 16, **format: int) -> bytes:
    """A plain file of integer codes (C, T)."""
    return riff(fmt(len(x_ct), bits, **format), chunk(b"data", pack(x_ct, bits)))


def pack(codes_ct: np.ndarray, bits: int) -> bytes:
    """Codes (C, T) as interleaved little-endian bytes, unsigned for 8 bits."""
    width = (bits + 7) // 8
    codes = np.ascontiguousarray(codes_ct.T, np.int64).reshape(-1)
    if width == 1:
        codes = codes + 128
    return codes.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :width].tobytes()


def floats(codes_ct: np.ndarray, bits: int) -> np.ndarray:
    """What integer codes stand for."""
    return (codes_ct / float(1 << (bits - 1))).astype(np.float32)


def codes(channels: int, frames: int, bits: int = 16, seed: int = 0) -> np.ndarray:
    half = 1 << (bits - 1)
    return np.random.default_rng(seed).integers(-half, half, (channels, frames))


def encoded(x_ct: np.ndarray, format: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, x_ct.T, RATE, subtype, format=format)
    return file.getvalue()


def sound(channels: int, frames: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)
