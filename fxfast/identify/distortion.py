"""What no linear filter explains of the wet, against the level of the dry.

A static curve bends more where sound is louder (or, after a clipping stage, leaves the least
linear share there), while noise, a wrong pair or a modulation do not depend on level: the share
of the energy that a short response leaves, frame by frame, stands for harmonic distortion.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fxfast.identify.excerpt import Piece
from fxfast.identify.linear import SHORT_SECONDS, apply_response, fit_response

_FRAME_SECONDS = 0.02
_BIN_DB = 6.0
_MIN_FRAMES = 5
_LOWEST_DB = -72.0


def distortion_by_level(pieces: Sequence[Piece], rate: float) -> tuple[tuple[float, float], ...]:
    """Points (level of dry in dBFS, share of the energy of wet that is not linear).

    Each frame has a gain of its own, so that one that follows the level is not taken for
    distortion.
    """
    samples = round(_FRAME_SECONDS * rate)
    response = fit_response(pieces, round(SHORT_SECONDS * rate))
    parts = []
    for piece in pieces:
        count = len(piece.x) // samples
        linear = apply_response(piece.x, response)
        parts.append(
            [a[: count * samples].reshape(count, samples) for a in (piece.x, piece.y, linear)]
        )
    x, y, linear = (np.concatenate(side) for side in zip(*parts, strict=True))
    level_db = 10.0 * np.log10(np.square(x).mean(1) + 1e-12)
    yy, yl, ll = (y * y).sum(1), (y * linear).sum(1), (linear * linear).sum(1)
    found = []
    for low in np.arange(_LOWEST_DB, 0.0, _BIN_DB):
        inside = (level_db >= low) & (level_db < low + _BIN_DB)
        if np.count_nonzero(inside) >= _MIN_FRAMES and yy[inside].sum() > 0:
            rest = np.maximum(yy - np.square(yl) / (ll + 1e-20), 0.0)[inside].sum()
            found.append((float(low + _BIN_DB / 2), float(rest / yy[inside].sum())))
    return tuple(found)
