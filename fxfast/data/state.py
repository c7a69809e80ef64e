"""The state of a sampler: 64 bytes that say exactly which batch comes next."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from fxfast.errors import InputError

STATE_BYTES = 64
_MAGIC = b"FXSS"
_VERSION = 1
# Of the order of an epoch: another one would be another number.
_ALGORITHM = 1
# Magic, version, mode, algorithm, flags, seed, epoch, lengths, position, five settings, names,
# audio; then the CRC-32 of all before.
_LAYOUT = struct.Struct("<4sBBBBQIIQ5III")
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True)
class SamplerState:
    """``settings`` are up to five numbers by name, ``flags`` a number below 256 by name each one
    bit or more, ``fingerprint`` that of the data. ``position`` counts the batches of ``epoch``
    that were handed out."""

    mode: int
    seed: int
    epoch: int
    position: int
    flags: int
    settings: Mapping[str, int]
    fingerprint: Mapping[str, int]

    def to_bytes(self) -> bytes:
        lengths, names, audio = self.fingerprint.values()
        numbers = [*self.settings.values(), 0, 0, 0, 0, 0][:5]
        head = _LAYOUT.pack(
            *(_MAGIC, _VERSION, self.mode, _ALGORITHM, self.flags),
            *(self.seed, self.epoch, lengths, self.position, *numbers, names, audio),
        )
        return head + _CHECKSUM.pack(zlib.crc32(head))


def next_batch(saved: object, expected: SamplerState) -> tuple[int, int]:
    """Epoch and position of a saved state that belongs to the sampler with the state ``expected``.

    Raises ``InputError`` when it is damaged, and when it belongs to another sampler or to other
    data: then the message names what differs.
    """
    if not isinstance(saved, bytes) or len(saved) != STATE_BYTES:
        size = len(saved) if isinstance(saved, bytes) else type(saved).__name__
        raise InputError(f"state: expected {STATE_BYTES} bytes, got {size}")
    head = saved[: _LAYOUT.size]
    magic, version, mode, algorithm, flags, seed, epoch, lengths, position, *rest = _LAYOUT.unpack(
        head
    )
    if magic != _MAGIC or _CHECKSUM.unpack(saved[_LAYOUT.size :])[0] != zlib.crc32(head):
        raise InputError("state: expected that of a sampler, got damaged or other bytes")
    if (version, algorithm) != (_VERSION, _ALGORITHM):
        raise InputError(
            f"state: expected version {_VERSION}.{_ALGORITHM}, got {version}.{algorithm}"
        )
    if mode != expected.mode:
        raise InputError("state: expected that of a sampler of the same kind, got another kind's")
    saved_settings = dict(zip(expected.settings, rest[:5], strict=False))
    pairs = {"seed": (expected.seed, seed), "options": (expected.flags, flags)}
    pairs |= {name: (value, saved_settings[name]) for name, value in expected.settings.items()}
    for name, (own, other) in pairs.items():
        if own != other:
            raise InputError(f"state: expected {name} {own} as this sampler has, got {other}")
    saved_data = (lengths, *rest[5:])
    for (name, own), other in zip(expected.fingerprint.items(), saved_data, strict=True):
        if own != other:
            raise InputError(f"data: expected that of the saved state, got other {name}")
    return epoch, position
