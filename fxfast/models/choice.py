"""Which model suits a kind of effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fxfast.errors import PairError
from fxfast.identify import Findings

# By the families of ``fxfast.identify.FAMILIES``. What distorts is learnt by a WaveNet, a gain that
# swings by a recurrent net, one thing into another by a chain. Sides that do not belong together
# have no model.
PRESET_OF_FAMILY: Mapping[str, str] = {
    "linear": "linear-10s",
    "feedback-delay": "delay",
    "modulated-delay": "chorus",
    "gate": "gate",
    "compressor": "compressor",
    "modulated-gain": "lstm-16",
    "nonlinear": "a1-standard",
    "nonlinear+modulated-delay": "a1-feather+chorus",
    "modulated-delay+nonlinear": "chorus+a1-feather",
    "compressor+modulated-delay": "compressor+chorus",
    "modulated-delay+compressor": "chorus+compressor",
}

# What learns an effect at all settings of its knobs together: nets alone take knobs.
CONDITIONED_PRESET_OF_FAMILY: Mapping[str, str] = {
    "linear": "a1-standard",
    "nonlinear": "a1-standard",
    "gate": "a1-standard",
    "compressor": "a1-standard",
    "modulated-gain": "lstm-16",
}
# A net learns these, but far from as well as the model of one setting.
ROUGHLY_CONDITIONED = ("gate", "compressor")

# Filters in the loop move an echo by so much a round.
_ROUND_MS, _ROUND_SHARE = 1.0, 0.005


def preset_for(findings: Findings) -> str:
    """The preset that suits what was found: of echoes, one delay where all are rounds of the
    first, and an impulse response where they are not.

    Raises ``PairError`` where dry and wet do not belong together."""
    preset = PRESET_OF_FAMILY.get(findings.family)
    if preset == "delay" and not _comes_round(findings.linear.echo_ms):
        return PRESET_OF_FAMILY["linear"]
    if preset is None:
        raise PairError(
            "pairs: expected wet made from dry, got sides that do not belong together: "
            + "; ".join(findings.reasons)
        )
    return preset


def conditioned_preset_for(settings: Mapping[str, Findings], hears_seconds: float) -> str:
    """The preset that takes knobs and suits what was found at each of several settings of them; a
    setting is named as a person would. ``hears_seconds`` is how far back a WaveNet hears.

    Raises ``PairError`` where dry and wet of a setting do not belong together, and where what was
    found is learnt by models without knobs alone."""
    chosen = []
    for setting, findings in settings.items():
        alone = preset_for(findings)
        preset = CONDITIONED_PRESET_OF_FAMILY.get(findings.family)
        is_long = findings.family == "linear" and findings.linear.memory_seconds > hears_seconds
        if preset is None or is_long:
            memory = f" with a memory of {findings.linear.memory_seconds:.2f} s" if is_long else ""
            raise PairError(
                f"pairs: expected an effect that a model with knobs can learn, got "
                f"{findings.family}{memory} at {setting}: train each setting alone, from a folder "
                f"with its pairs and `--model {alone}`, or name a model for what the settings have "
                f"in common"
            )
        chosen.append(preset)
    # A gain that swings may stand still at one setting; what it starts from is a state.
    swinging = CONDITIONED_PRESET_OF_FAMILY["modulated-gain"]
    return swinging if swinging in chosen else chosen[0]


def _comes_round(echo_ms: Sequence[float]) -> bool:
    """Whether all echoes come after multiples of the time of the first."""
    first = echo_ms[0]
    rounds = [max(1, round(each / first)) for each in echo_ms]
    late = [abs(each - n * first) / n for each, n in zip(echo_ms, rounds, strict=True)]
    return max(late) < max(_ROUND_MS, _ROUND_SHARE * first)
