"""The checksum that outputs are held against: any change shows, no split does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxfast.errors import InputError
from fxfast.native import engine

CONTENT = np.random.default_rng(0).integers(0, 256, 1000, np.uint8).tobytes()


def value(*pieces: bytes | bytearray) -> int:
    total = engine().Checksum()
    for piece in pieces:
        total.update(piece)
    return int(total.value)


@given(cuts=st.lists(st.integers(0, len(CONTENT)), max_size=12), size=st.integers(0, len(CONTENT)))
def test_the_split_makes_no_difference(cuts: list[int], size: int) -> None:
    ends = [*sorted(min(cut, size) for cut in cuts), size]
    pieces = [CONTENT[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert value(*pieces) == value(CONTENT[:size])


def test_every_change_shows() -> None:
    found = {value(CONTENT)}
    for bit in range(8 * len(CONTENT)):
        changed = bytearray(CONTENT)
        changed[bit // 8] ^= 1 << bit % 8
        found.add(value(changed))
    assert len(found) == 1 + 8 * len(CONTENT)
    # Lengths, the order of stripes of 64 bytes and of words of 8, and zeros count.
    swapped = [
        value(CONTENT[b : b + n] + CONTENT[n:b] + CONTENT[:n] + CONTENT[b + n :])
        for n in (8, 64)
        for b in (n, 2 * n, 9 * n)
    ]
    zeros = [value(bytes(n)) for n in range(300)]
    lengths = [value(CONTENT[:n]) for n in range(1, len(CONTENT))]
    assert len(found.union(swapped, zeros, lengths)) == len(found) + 6 + 300 + 999


def test_what_is_not_in_one_piece_is_refused() -> None:
    total = engine().Checksum()
    total.update(np.frombuffer(CONTENT, "<i4").reshape(-1, 2))
    assert total.value == value(CONTENT)
    with pytest.raises(InputError, match="in one piece"):
        total.update(np.zeros(10, np.float32)[::2])
