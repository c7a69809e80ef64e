"""The errors of fxfast: one family, each also a ``ValueError`` or a ``RuntimeError``.

Every message is one line that names the thing, what was expected and what came.
Every class carries a stable ``code`` for machine-readable reports.
"""

from __future__ import annotations


class FxfastError(Exception):
    """Base of every error that fxfast raises on purpose."""

    code = "E_FXFAST"


class InputError(FxfastError, ValueError):
    """An argument or an audio array has a wrong shape, dtype or value."""

    code = "E_INPUT"


class ModelError(FxfastError, ValueError):
    """A model graph or a model file is not valid."""

    code = "E_MODEL"


class PairError(FxfastError, ValueError):
    """A dry/wet pair or a folder of pairs cannot be used."""

    code = "E_PAIR"


class PackError(FxfastError, ValueError):
    """A packed dataset is damaged or not one."""

    code = "E_PACK"


class AudioFileError(FxfastError, RuntimeError):
    """An audio file cannot be read or written."""

    code = "E_AUDIO"


class RateError(AudioFileError):
    """A file's sample rate differs from the model's."""

    code = "E_RATE"


class OutputExistsError(FxfastError, RuntimeError):
    """An output is already there and may not be overwritten."""

    code = "E_EXISTS"


class RunError(FxfastError, RuntimeError):
    """A training run or a render run cannot be started, continued or read."""

    code = "E_RUN"


class BuildError(FxfastError, RuntimeError):
    """A native library or an optional dependency is missing or does not load."""

    code = "E_BUILD"
