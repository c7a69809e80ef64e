"""The errors of fxfast: one family, each also a ``ValueError`` or a ``RuntimeError``.

Every message is one line that names the thing, what was expected and what came.
Every class carries a stable ``code`` for machine-readable reports, and every error ``details``
for them: numbers and names that are in the message too. Errors survive pickling.
"""

from __future__ import annotations

from typing import Any


class FxfastError(Exception):
    """Base of every error that fxfast raises on purpose; ``details`` are JSON values."""

    code = "E_FXFAST"

    def __init__(self, message: str = "", /, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class InputError(FxfastError, ValueError):
    """An argument or an audio array has a wrong shape, dtype or value."""

    code = "E_INPUT"


class ModelError(FxfastError, ValueError):
    """A model graph or a model file is not valid."""

    code = "E_MODEL"


class ModelShapeError(ModelError):
    """A size in a model file is out of range, or its weights are more or fewer than it needs."""

    code = "E_MODEL_DIM"


class ModelValueError(ModelError):
    """A weight or a setting of a model file is no finite number or not allowed."""

    code = "E_MODEL_VALUE"


class UnsupportedModelError(ModelError):
    """A model file is of a kind, version or architecture that cannot be run."""

    code = "E_UNSUPPORTED"


class PairError(FxfastError, ValueError):
    """A dry/wet pair or a folder of pairs cannot be used."""

    code = "E_PAIR"


class PackError(FxfastError, ValueError):
    """A packed dataset is damaged or not one."""

    code = "E_PACK"


class AudioFileError(FxfastError, RuntimeError):
    """An audio file cannot be read or written."""

    code = "E_AUDIO"


class NotFileError(AudioFileError):
    """A name is no regular file that can be opened: missing, a folder, a pipe, a device."""

    code = "E_NOTFILE"


class EmptyFileError(AudioFileError):
    """A file has no bytes, or no frames where frames are needed."""

    code = "E_EMPTY"


class FormatError(AudioFileError):
    """A file is not audio, or is of a kind or layout that cannot be decoded."""

    code = "E_FORMAT"


class TruncatedError(AudioFileError):
    """A file holds less than its header promises: ``promised``, ``present`` (frames or bytes)."""

    code = "E_TRUNCATED"


class SizeWrapError(AudioFileError):
    """A file over 4 GiB has a size field that wrapped: ``promised``, ``present`` in frames."""

    code = "E_SIZE_WRAP"


class ChannelsError(AudioFileError):
    """A file has no channels, or more than can be rendered or written: ``channels``, ``limit``."""

    code = "E_CHANNELS"


class RateError(AudioFileError):
    """A file's sample rate is out of range, or differs from the model's."""

    code = "E_RATE"


class NonfiniteError(AudioFileError):
    """Sound holds NaN or infinity: ``frame``, the first such frame."""

    code = "E_NONFINITE"


class DecodeError(AudioFileError):
    """Coded sound is damaged: ``promised``, ``delivered`` in frames."""

    code = "E_DECODE"


class ChecksumError(AudioFileError):
    """Decoded sound differs from the checksum that its file states."""

    code = "E_MD5"


class ChangedError(AudioFileError):
    """A file was changed or replaced while it was read."""

    code = "E_CHANGED"


class ReadError(AudioFileError):
    """The system cannot read a file: an input/output error."""

    code = "E_READ"


class WriteError(AudioFileError):
    """The system cannot write a file, or what is on the disk is not what was written."""

    code = "E_WRITE"


class SpaceError(AudioFileError):
    """The disk, the quota or the file size limit is used up."""

    code = "E_NOSPACE"


class TooBigError(AudioFileError):
    """Sound is too long for the file format it has to go to."""

    code = "E_TOO_BIG"


class OutputExistsError(FxfastError, RuntimeError):
    """An output is already there and may not be overwritten."""

    code = "E_EXISTS"


class CollisionError(InputError):
    """Two inputs have one output, or an output is an input: ``details`` name both."""

    code = "E_COLLISION"


class OutputFolderError(InputError):
    """The folder of the output cannot be made or written to."""

    code = "E_OUTDIR"


class OutsideError(InputError):
    """A path leads out of the folders that a run may use."""

    code = "E_OUTSIDE"


class RunError(FxfastError, RuntimeError):
    """A training run or a render run cannot be started, continued or read."""

    code = "E_RUN"


class BuildError(FxfastError, RuntimeError):
    """A native library or an optional dependency is missing or does not load."""

    code = "E_BUILD"


class RenderTimeoutError(RunError):
    """A file took longer than its time limit."""

    code = "E_TIMEOUT"


class WorkerCrashError(RunError):
    """A worker died while it worked on a file."""

    code = "E_CRASH"


class OutOfMemoryError(RunError):
    """Memory for a file could not be had, or would pass the budget."""

    code = "E_NOMEM"


class LockedError(RunError):
    """Another run is using the same output."""

    code = "E_LOCKED"


class StoppedError(RunError):
    """A file was not rendered because the run stopped before it."""

    code = "E_STOPPED"
