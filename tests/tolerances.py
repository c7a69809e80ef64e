"""Every tolerance of the tests, each with its reason."""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    value: float
    reason: str


TOLERANCES = {
    "float32_ratio": Tolerance(
        1.5,
        "promise 2: RMS error against numpy float32 on the same net; of an LSTM with a deep head "
        "numpy's error is a draw (at weights x3 ours is 0.8 to 2.1 times it): the median of nets",
    ),
    "float32_ratio_without_fma": Tolerance(
        2.0, "the portable tanh rounds every product, numpy's fuses them: 1.83 on nets of two tanhs"
    ),
    "random_graph": Tolerance(2e-6, "five layers of float32 rounding on values of order 1"),
    "lowered_float64": Tolerance(1e-12, "the same sums in another order, float64 rounding"),
    "offline_and_streaming": Tolerance(
        1e-6, "two roundings at 2.6e-7 each, and margin for channels of unequal size"
    ),
    "merged_weights": Tolerance(1e-6, "products of two float32 weights, rounded once to float32"),
    "between_isas": Tolerance(1e-6, "two roundings at 2e-7 each, and margin for saturating nets"),
    "amplified_rounding": Tolerance(
        10.0, "times numpy float32's error on a net that turns rounding into thousands of times it"
    ),
    "settled_state": Tolerance(2e-6, "a state found in double and one found in float32"),
    "large_recurrent": Tolerance(1e-5, "sums of 800 and 1024 products through up to nine layers"),
    "nam_parity": Tolerance(2e-6, "what the trainer and NAM Core round in float32, 6.3e-7 seen"),
    "conv1d_and_gradients": Tolerance(
        2e-6, "float32 sums of up to 4,000 products, relative to the largest value"
    ),
    "windows_and_blocks_float32": Tolerance(
        1e-4, "sums of 50 samples in another order, relative to the largest gradient"
    ),
    "windows_and_blocks_float64": Tolerance(1e-12, "the same sums with float64 rounding"),
    "finite_differences": Tolerance(
        1e-6, "of a float64 slope over a step of 1e-5, whose own error is near 1e-9"
    ),
    "windows_and_engine": Tolerance(5e-6, "float32 sums over up to 1,000 weights in another order"),
    "k_weighting": Tolerance(1e-12, "the Recommendation prints 14 digits"),
    "ebu_3341": Tolerance(0.1, "EBU Tech 3341 allows 0.1 LU"),
    "normalised_level_db": Tolerance(1e-4, "gain and samples in float32, over some gating blocks"),
    "mean_of_channels": Tolerance(1e-7, "one rounding to float32 of values below 1"),
    "chain": Tolerance(2e-6, "sums of 700 products in float32 against float64"),
    "before_a_turn": Tolerance(1e-6, "the filter of the rate conversion rings before a step"),
    "drift_esr": Tolerance(1e-9, "fault case 41: the energy of the error over that of the sound"),
}
