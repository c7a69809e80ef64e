"""What kind of effect lies between dry and wet: found from the audio, before any training."""

from fxfast.identify.findings import FAMILIES, Findings, identify
from fxfast.identify.words import describe

__all__ = ["FAMILIES", "Findings", "describe", "identify"]
