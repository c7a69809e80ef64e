"""Mutations of known files, the same in every run; for where no coverage guides."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

_NUMBERS = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
_MAX_BYTES = 1 << 16


def mutations(corpus: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Endless: one to four changes of a file, or a join of two."""
    chance = random.Random(seed)
    while True:
        data = bytearray(chance.choice(corpus))
        for _ in range(chance.randint(1, 4)):
            _change(data, corpus, chance)
        yield bytes(data[:_MAX_BYTES])


def _change(data: bytearray, corpus: Sequence[bytes], chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    # Headers are where it matters.
    at = min(at, chance.randrange(256)) if chance.random() < 0.7 else at
    kind = chance.randrange(7)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << chance.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = chance.randrange(256)
    elif kind == 2:
        size = chance.choice((1, 2, 4, 8))
        order = chance.choice(("little", "big"))
        value = chance.choice(_NUMBERS) + chance.choice((-1, 0, 1))
        data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)  # type: ignore[arg-type]
    elif kind == 3:
        del data[at:]
    elif kind == 4:
        del data[at : at + chance.randrange(64)]
    elif kind == 5:
        other = chance.choice(corpus)
        start = chance.randrange(len(other) + 1)
        data[at:at] = other[start : start + chance.randrange(128)]
    else:
        piece = data[at : at + chance.randrange(64)]
        data[at:at] = piece
