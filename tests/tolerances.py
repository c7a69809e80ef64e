"""Every tolerance of the tests, each with its reason."""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    value: float
    reason: str


TOLERANCES = {
    "float32_ratio": Tolerance(1.5, "promise 2: RMS error against numpy float32 on the same net"),
    "random_graph": Tolerance(2e-6, "five layers of float32 rounding on values of order 1"),
    "between_isas": Tolerance(1e-6, "two roundings at 2e-7 each, and margin for saturating nets"),
}
