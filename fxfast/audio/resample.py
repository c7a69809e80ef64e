"""Sample-rate conversion with the SoX resampler, whole or in blocks, always the same samples.

The length is exact, round(T * out_rate / in_rate), and the result is not delayed: soxr holds
back output until it has seen the input that its linear-phase filter needs.
Source: R. Sykes, "The SoX Resampler library" (libsoxr), quality VHQ.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import soxr

from fxfast.errors import InputError

_PIECE_FRAMES = 65536


def resampled_length(frames: int, in_rate: int, out_rate: int) -> int:
    """Frames after conversion: round(frames * out_rate / in_rate), halves to the even number."""
    return round(Fraction(frames * out_rate, in_rate))


class Resampler:
    """Converts one stream of blocks (C, n) from ``in_rate`` to ``out_rate`` in Hz.

    The concatenated output does not depend on how the input is cut. Raises InputError for rates
    or channels below 1, a wrong shape or dtype, non-finite input, or input after the last block.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int) -> None:
        for name, value in (("in_rate", in_rate), ("out_rate", out_rate), ("channels", channels)):
            if not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name}: expected a whole number of at least 1, got {value!r}")
        self.in_rate = int(in_rate)
        self.out_rate = int(out_rate)
        self.channels = int(channels)
        self._frames_in = 0
        self._frames_out = 0
        self._ended = False
        self._stream: soxr.ResampleStream | None = None
        if self.in_rate != self.out_rate:
            try:
                self._stream = soxr.ResampleStream(
                    self.in_rate, self.out_rate, self.channels, dtype="float32", quality="VHQ"
                )
            except (ValueError, RuntimeError) as error:
                raise InputError(
                    f"resampler: cannot convert {in_rate} Hz to {out_rate} Hz in {channels} "
                    f"channels: {error}"
                ) from error

    def process(self, x_ct: np.ndarray, last: bool = False) -> np.ndarray:
        """Take a float32 block (C, n), n may be 0; return what is ready as float32 (C, m).

        With ``last`` the stream ends and everything that is owed comes back.
        """
        self._check(x_ct)
        self._frames_in += x_ct.shape[1]
        self._ended = last
        if self._stream is None:
            y_ct = x_ct.copy()
        else:
            pieces_tc = [
                self._stream.resample_chunk(
                    np.ascontiguousarray(x_ct[:, start : start + _PIECE_FRAMES].T)
                )
                for start in range(0, x_ct.shape[1], _PIECE_FRAMES)
            ]
            if last:
                pieces_tc.append(self._stream.resample_chunk(self._silence_tc(0), last=True))
            pieces_tc.append(self._silence_tc(0))
            y_ct = np.ascontiguousarray(np.concatenate(pieces_tc).T)
        if last:
            y_ct = self._exact(y_ct)
        self._frames_out += y_ct.shape[1]
        return y_ct

    def _check(self, x_ct: np.ndarray) -> None:
        if self._ended:
            raise InputError("resampler: expected no block after the last one, got another")
        if not isinstance(x_ct, np.ndarray) or x_ct.dtype != np.float32:
            got = getattr(x_ct, "dtype", type(x_ct).__name__)
            raise InputError(f"x: expected a float32 array, got {got}")
        if x_ct.ndim != 2 or x_ct.shape[0] != self.channels:
            raise InputError(f"x: expected shape ({self.channels}, T), got {tuple(x_ct.shape)}")
        if not np.isfinite(x_ct).all():
            raise InputError("x: expected finite samples, got NaN or infinity")

    def _exact(self, y_ct: np.ndarray) -> np.ndarray:
        """Cut or extend the end to the exact length; soxr rounds it in its own way."""
        total = resampled_length(self._frames_in, self.in_rate, self.out_rate)
        owed = total - self._frames_out
        y_ct = y_ct[:, : max(0, owed)]
        missing = owed - y_ct.shape[1]
        return np.pad(y_ct, ((0, 0), (0, missing))) if missing > 0 else y_ct

    def _silence_tc(self, frames: int) -> np.ndarray:
        return np.zeros((frames, self.channels), np.float32)


def resample(x: np.ndarray, in_rate: int, out_rate: int) -> np.ndarray:
    """Convert a whole float32 array (T) or (C, T); same shape back with the new T.

    Errors as ``Resampler``.
    """
    if not isinstance(x, np.ndarray) or x.ndim not in (1, 2):
        shape = getattr(x, "shape", type(x).__name__)
        raise InputError(f"x: expected an array of shape (T) or (C, T), got {shape}")
    x_ct = x[np.newaxis] if x.ndim == 1 else x
    y_ct = Resampler(in_rate, out_rate, x_ct.shape[0]).process(x_ct, last=True)
    return y_ct[0] if x.ndim == 1 else y_ct
