"""The findings in words and figures, a line for each look."""

from __future__ import annotations

from fxfast.identify.findings import Findings
from fxfast.identify.level import GainFinding

_KINDS = {
    "linear": "linear and time-invariant (reverb, cabinet, equaliser)",
    "feedback-delay": "a delay: echoes of the dry",
    "modulated-delay": "a delay that swings (chorus, flanger, vibrato)",
    "gate": "a gain that closes for quiet sound (noise gate, expander)",
    "compressor": "a gain that yields to loud sound (compressor, limiter)",
    "nonlinear": "a distortion with a short memory (overdrive, fuzz, amplifier)",
    "modulated-gain": "a gain that swings (tremolo)",
    "nonlinear+modulated-delay": "a distortion into a delay that swings",
    "modulated-delay+nonlinear": "a delay that swings into a distortion",
    "compressor+modulated-delay": "a compressor into a delay that swings",
    "modulated-delay+compressor": "a delay that swings into a compressor",
    "unrelated": "no effect: the wet does not follow from the dry",
}


def describe(findings: Findings) -> str:
    """Several lines for a person to read."""
    linear, modulation, gain = findings.linear, findings.modulation, findings.gain
    lines = [
        f"{findings.family}: {_KINDS[findings.family]}",
        *(f"  because {reason}" for reason in findings.reasons),
        *(f"  note: {note}" for note in findings.notes),
        f"looked at {findings.seconds:.1f} s; shares are of the energy of the wet, "
        f"held out from the fits",
        f"  linear       best gain leaves {linear.gain_esr:.4f}, 16 ms of response "
        f"{linear.short_esr:.4f}, a long one {linear.long_esr:.4f}; "
        f"coherence {linear.coherence:.3f}",
        f"  memory       {linear.memory_seconds:.3f} s of response are needed{_echoes(findings)}",
        f"  modulation   {_modulation(findings)} (leaves {modulation.esr:.4f})",
        f"  gain         one per 5 ms leaves {gain.esr:.4f}; {_gain(gain)}",
        f"  distortion   {_distortion(findings)}",
    ]
    return "\n".join(lines)


def _echoes(findings: Findings) -> str:
    linear = findings.linear
    if findings.family != "feedback-delay":
        return ""
    places = ", ".join(f"{place:.0f}" for place in linear.echo_ms)
    return f"; echoes after {places} ms"


def _modulation(findings: Findings) -> str:
    found = findings.modulation
    if "modulated-delay" in findings.family:
        return (
            f"delay {found.centre_ms:.2f} ms, swinging by {found.depth_ms:.2f} ms "
            f"{found.rate_hz:.2f} times a second"
        )
    if findings.family == "modulated-gain":
        swing = findings.gain.swing
        return f"gain swinging by {swing.depth:.1f} dB {swing.rate_hz:.2f} times a second"
    return "none"


def _gain(gain: GainFinding) -> str:
    if not gain.curve or gain.range_db < 0.1:
        return "it does not change"
    step = max(1, len(gain.curve) // 8)
    points = ", ".join(f"{level:.0f}: {db:+.1f}" for level, db in gain.curve[::step])
    return (
        f"it ranges over {gain.range_db:.1f} dB, of which the level explains "
        f"{max(gain.explained, 0.0):.0%} with attack {gain.attack_ms:.0f} ms and release "
        f"{gain.release_ms:.0f} ms (dB at level in dBFS: {points})"
    )


def _distortion(findings: Findings) -> str:
    if not findings.distortion:
        return "too little sound to say"
    points = ", ".join(f"{level:.0f}: {share:.1%}" for level, share in findings.distortion)
    return f"share that is not linear, at level of the dry in dBFS: {points}"
