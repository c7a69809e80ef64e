"""Which container and which sample format an output gets.

Outputs are WAV (16-bit, 24-bit, float) or FLAC (16-bit, 24-bit). What is not asked for is
kept as near to the input as these allow:

    container   wav -> wav, flac -> flac, aiff -> wav, ogg -> flac (any other -> wav)
    16 bit      from integers of up to 16 bits and the 16-bit telephone codings
    24 bit      from integers of 24 and 32 bits and from lossy codings such as Vorbis
    float       from 32- and 64-bit floats; in FLAC, which has no floats, 24 bit
"""

from __future__ import annotations

from fxfast.errors import InputError

FORMATS = ("keep", "wav", "flac")
SUBTYPES = ("keep", "pcm_16", "pcm_24", "float")

_KEPT_FORMAT = {".wav": "wav", ".flac": "flac", ".ogg": "flac", ".aif": "wav", ".aiff": "wav"}
_SIXTEEN_BIT = frozenset(
    {"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610", "ALAC_16"}
)
_FLOATS = frozenset({"FLOAT", "DOUBLE"})


def check_choice(format: str, subtype: str) -> None:
    """Raise ``InputError`` unless both are known and go together."""
    if format not in FORMATS:
        raise InputError(f"format: expected one of {', '.join(FORMATS)}, got {format!r}")
    if subtype not in SUBTYPES:
        raise InputError(f"subtype: expected one of {', '.join(SUBTYPES)}, got {subtype!r}")
    if (format, subtype) == ("flac", "float"):
        raise InputError("subtype: expected keep, pcm_16 or pcm_24 for flac, got 'float'")


def output_suffix(in_suffix: str, format: str) -> str:
    """The suffix of the output of a file with ``in_suffix``; letter case is kept if it can be."""
    kept = _KEPT_FORMAT.get(in_suffix.lower(), "wav")
    chosen = kept if format == "keep" else format
    return in_suffix if in_suffix.lower() == f".{chosen}" else f".{chosen}"


def output_subtype(in_subtype: str, out_suffix: str, subtype: str) -> str:
    """libsndfile's name of the sample format for an input of libsndfile's ``in_subtype``."""
    if subtype != "keep":
        return subtype.upper()
    if in_subtype in _FLOATS and out_suffix.lower() == ".wav":
        return "FLOAT"
    return "PCM_16" if in_subtype in _SIXTEEN_BIT else "PCM_24"
