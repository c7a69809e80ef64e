"""Integrated loudness, block by block: Recommendation ITU-R BS.1770-4 (10/2015), annex 1.

Each channel goes through the K-weighting (a shelf for the head, a high pass); the mean square of
400 ms that overlap by three quarters, summed over the channels with their weights, is the energy of
a gating block. Blocks below -70 LUFS do not count, nor do blocks more than 10 LU below the mean of
those that are left; the mean of the rest is the loudness.

The Recommendation gives the filters at 48 kHz. At other rates they are the same analogue filters
through the bilinear transform, whose parameters are those of the reference library libebur128
(J. Kokemüller, MIT licence), which give the Recommendation's coefficients at 48 kHz.
"""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Iterator

import numpy as np

from fxfast.errors import InputError

_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0
_OFFSET_LU = -0.691
_HOPS_PER_BLOCK = 4
# Energies in memory before they go to a file: an hour's are 288 kB.
_SPOOL_BYTES = 1 << 19
_READ_BYTES = 1 << 16
# Front and centre count 1, surround 1.41, low-frequency effects nothing (tables 3 and 4).
_WEIGHTS = {
    4: (1.0, 1.0, 1.41, 1.41),
    5: (1.0, 1.0, 1.0, 1.41, 1.41),
    6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
}


def channel_weights(channels: int) -> np.ndarray:
    """The weights of the channels of mono, stereo, L R C, quadro, 5.0 and 5.1 files.

    Of any other number every channel counts 1: nothing says where it stands.
    """
    return np.array(_WEIGHTS.get(channels, (1.0,) * channels))


def k_weighting(sample_rate: int) -> np.ndarray:
    """The shelf and the high pass as two second-order sections (2, 6), for ``sosfilt``."""
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    q = 0.7071752369554196
    high = 10.0 ** (3.999843853973347 / 20.0)
    band = high**0.4996667741545416
    a0 = 1.0 + k / q + k * k
    shelf = [
        (high + band * k / q + k * k) / a0,
        2.0 * (k * k - high) / a0,
        (high - band * k / q + k * k) / a0,
        1.0,
        2.0 * (k * k - 1.0) / a0,
        (1.0 - k / q + k * k) / a0,
    ]
    k = math.tan(math.pi * 38.13547087602444 / sample_rate)
    q = 0.5003270373238773
    a0 = 1.0 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / q + k * k) / a0]
    return np.array([shelf, high_pass])


class LoudnessMeter:
    """Measures a stream of blocks (C, n); memory does not grow with its length.

    The result does not depend on how the stream is cut. Raises ``InputError`` for a rate that is
    too low for the filters or fewer than one channel.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        if sample_rate < 4000:
            raise InputError(f"loudness: expected a rate of at least 4000 Hz, got {sample_rate}")
        if channels < 1:
            raise InputError(f"channels: expected at least 1, got {channels}")
        self._sections = k_weighting(sample_rate)
        self._weights = channel_weights(channels)
        self._memory = np.zeros((2, channels, 2))
        self._hop = round(sample_rate / 10)
        self._waiting_ct = np.zeros((channels, 0))
        self._hops: list[float] = []  # the newest mean squares of 100 ms, weighted
        self._energies = tempfile.SpooledTemporaryFile(_SPOOL_BYTES)  # noqa: SIM115, its own

    def add(self, x_ct: np.ndarray) -> None:
        """The next block, of any length."""
        from scipy.signal import sosfilt  # a second to import, and for loudness alone

        if x_ct.shape[1] == 0:
            return
        weighted_ct, self._memory = sosfilt(
            self._sections, x_ct.astype(np.float64), axis=1, zi=self._memory
        )
        self._waiting_ct = np.concatenate([self._waiting_ct, weighted_ct], axis=1)
        hops = self._waiting_ct.shape[1] // self._hop
        for index in range(hops):
            part_ct = self._waiting_ct[:, index * self._hop : (index + 1) * self._hop]
            # Row by row: a sum over both axes would round by the layout of the memory.
            squares = [float(np.dot(row, row)) for row in np.ascontiguousarray(part_ct)]
            self._end_hop(float(np.dot(self._weights, squares)) / self._hop)
        self._waiting_ct = self._waiting_ct[:, hops * self._hop :].copy()

    def _end_hop(self, energy: float) -> None:
        self._hops = [*self._hops[1 - _HOPS_PER_BLOCK :], energy]
        if len(self._hops) == _HOPS_PER_BLOCK:
            self._energies.write(array("d", [sum(self._hops) / _HOPS_PER_BLOCK]).tobytes())

    def integrated(self) -> float:
        """LUFS of what was added; minus infinity where no block passes the gate."""
        absolute = self._mean_above(_energy(_ABSOLUTE_GATE_LUFS))
        if absolute == 0.0:
            return -math.inf
        relative = _energy(_loudness(absolute) + _RELATIVE_GATE_LU)
        return _loudness(self._mean_above(max(relative, _energy(_ABSOLUTE_GATE_LUFS))))

    def close(self) -> None:
        """Let go of the file that holds the energies of a long stream."""
        self._energies.close()

    def _mean_above(self, gate: float) -> float:
        total, count = 0.0, 0
        for energies in self._read_energies():
            passing = energies[energies > gate]
            total += float(passing.sum())
            count += passing.size
        return total / count if count else 0.0

    def _read_energies(self) -> Iterator[np.ndarray]:
        self._energies.seek(0)
        while data := self._energies.read(_READ_BYTES):
            yield np.frombuffer(data, np.float64)
        self._energies.seek(0, 2)


def _energy(loudness_lufs: float) -> float:
    return float(10.0 ** ((loudness_lufs - _OFFSET_LU) / 10.0))


def _loudness(energy: float) -> float:
    return _OFFSET_LU + 10.0 * math.log10(energy) if energy > 0.0 else -math.inf
