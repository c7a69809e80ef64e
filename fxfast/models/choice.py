"""Which model suits a kind of effect."""

from __future__ import annotations

from collections.abc import Mapping

from fxfast.errors import PairError
from fxfast.identify import Findings

# By the families of ``fxfast.identify.FAMILIES``. Linear responses and echoes alike are one impulse
# response; what distorts is learnt by a WaveNet, a gain that swings by a recurrent net. Sides that
# do not belong together have no model.
PRESET_OF_FAMILY: Mapping[str, str] = {
    "linear": "linear-10s",
    "feedback-delay": "linear-10s",
    "modulated-delay": "chorus",
    "gate": "gate",
    "compressor": "compressor",
    "modulated-gain": "lstm-16",
    "nonlinear": "a1-standard",
}


def preset_for(findings: Findings) -> str:
    """The preset that suits what was found.

    Raises ``PairError`` where dry and wet do not belong together."""
    preset = PRESET_OF_FAMILY.get(findings.family)
    if preset is None:
        raise PairError(
            "pairs: expected wet made from dry, got sides that do not belong together: "
            + "; ".join(findings.reasons)
        )
    return preset
