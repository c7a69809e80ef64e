"""The order of windows and lanes, written down plainly: what the sampler is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

M32, M64 = 2**32 - 1, 2**64 - 1
TABLE_SIZE = 4096


def hash32(x: int) -> int:
    x &= M32
    x ^= x >> 16
    x = x * 0x7FEB352D & M32
    x ^= x >> 15
    x = x * 0x846CA68B & M32
    return x ^ (x >> 16)


def key_stream(seed: int, epoch: int, count: int) -> list[int]:
    state = (seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03 + 1) & M64
    words = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & M64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & M64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
        words.append(z ^ (z >> 31))
    return words


def table(n: int, seed: int, epoch: int) -> list[int]:
    values = list(range(n))
    for left, word in zip(range(n, 1, -1), key_stream(seed, epoch, n), strict=False):
        chosen = (word >> 32) * left >> 32
        values[left - 1], values[chosen] = values[chosen], values[left - 1]
    return values


def permutation(n: int, seed: int, epoch: int, positions: Sequence[int]) -> list[int]:
    if n < TABLE_SIZE:
        values = table(n, seed, epoch)
        return [values[p] for p in positions]
    bits = (n - 1).bit_length()
    high_bits = bits // 2
    low_bits = bits - high_bits
    keys = [word & M32 for word in key_stream(seed, epoch, 6)]

    def once(i: int) -> int:
        high, low = i >> low_bits, i & ((1 << low_bits) - 1)
        for r in (0, 2, 4):
            high ^= hash32(low + keys[r]) & ((1 << high_bits) - 1)
            low ^= hash32(high + keys[r + 1]) & ((1 << low_bits) - 1)
        return high << low_bits | low

    def walked(i: int) -> int:
        i = once(i)
        while i >= n:
            i = once(i)
        return i

    return [walked(p) for p in positions]


def random_word(seed: int, epoch: int, position: int) -> int:
    """Philox4x32-10, its first two words."""
    c = [position & M32, position >> 32, epoch & M32, epoch >> 32]
    k0, k1 = seed & M32, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & M32, (p0 >> 32) ^ c[3] ^ k1, p0 & M32]
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return c[1] << 32 | c[0]


class WindowOracle:
    def __init__(
        self,
        lengths: Sequence[int],
        length: int,
        stride: int = 1,
        run: int = 1,
        seed: int = 0,
        replacement: bool = False,
    ) -> None:
        self.length, self.stride, self.run, self.seed = length, stride, run, seed
        self.replacement = replacement
        self.counts = [max(0, (t - length) // stride + 1) for t in lengths]
        self.windows = sum(self.counts)

    def ids(self, epoch: int) -> list[int]:
        """All ids of an epoch in order."""
        total, run = self.windows, self.run
        phase = permutation(run, self.seed ^ 0x5BD1E995, epoch, [0])[0] if run > 1 else 0
        full = total // run
        if self.replacement:
            runs = -(-total // run)
            starts = [random_word(self.seed, epoch, q) % total for q in range(runs)]
        else:
            order = permutation(full, self.seed, epoch, range(full))
            if total % run:
                order.append(full)
            starts = [phase + q * run for q in order]
        return [(starts[g // run] + g % run) % total for g in range(total)]

    def locate(self, window: int) -> tuple[int, int]:
        for file, count in enumerate(self.counts):
            if window < count:
                return file, window * self.stride
            window -= count
        raise IndexError(window)


LaneChunk = tuple[int, int, int, int, bool, int]


class LaneOracle:
    """Chunks are (lane, file, start, valid, reset, warm-up samples)."""

    def __init__(
        self,
        lengths: Sequence[int],
        lanes: int,
        segment: int,
        chunk: int,
        warmup: int,
        seed: int = 0,
        stagger: bool = False,
    ) -> None:
        self.lengths, self.lanes, self.segment, self.chunk = lengths, lanes, segment, chunk
        self.warmup, self.seed, self.stagger = warmup, seed, stagger

    def segments(self, epoch: int) -> list[tuple[int, int, int]]:
        out = []
        for file, length in enumerate(self.lengths):
            position = file % self.segment
            phase = permutation(self.segment, self.seed ^ 0x77, epoch, [position])[0]
            cuts = sorted({0, length, *range(min(phase, length), length, self.segment)})
            out += [(file, a, b) for a, b in pairwise(cuts)]
        return [out[i] for i in permutation(len(out), self.seed, epoch, range(len(out)))]

    def epoch(self, epoch: int) -> list[list[LaneChunk]]:
        if self.segment == 0:
            return self._whole()
        segments, per = self.segments(epoch), self.segment // self.chunk
        rounds = -(-len(segments) // self.lanes)
        later = [lane * per // self.lanes if self.stagger else 0 for lane in range(self.lanes)]
        steps = []
        for k in range(rounds * per + (max(later) if rounds else 0)):
            row: list[LaneChunk] = []
            for lane in range(self.lanes):
                turn, number = divmod(k - later[lane], per)
                j = turn * self.lanes + lane
                if k < later[lane] or j >= len(segments):
                    row.append((lane, -1, 0, 0, True, 0))
                else:
                    row.append(self._chunk(lane, *segments[j], number))
            steps.append(row)
        return steps

    def _chunk(self, lane: int, file: int, begin: int, end: int, number: int) -> LaneChunk:
        start = begin + number * self.chunk
        valid = max(0, min(self.chunk, end - start))
        warm = min(self.warmup, begin) if number == 0 else 0
        return lane, file, start, valid, number == 0, warm

    def _whole(self) -> list[list[LaneChunk]]:
        total, walks = sum(self.lengths), []
        for lane in range(self.lanes):
            begin, end = (total * i // self.lanes for i in (lane, lane + 1))
            walk: list[LaneChunk] = []
            first = 0
            for file, length in enumerate(self.lengths):
                a, b = max(begin, first) - first, min(end, first + length) - first
                first += length
                walk += [self._chunk(lane, file, a, b, n) for n in range(-(-(b - a) // self.chunk))]
            walks.append(walk)
        steps = max(map(len, walks))
        return [
            [
                walk[k] if k < len(walk) else (lane, -1, 0, 0, True, 0)
                for lane, walk in enumerate(walks)
            ]
            for k in range(steps)
        ]
