"""Any program that reads one audio file and writes another, as an effect.

The template is cut into arguments first and filled in afterwards, and no shell sees it: a file
name or a preset can hold any character. ``{in}``, ``{out}``, ``{sr}`` and ``{preset}`` stand for
the two files, the rate in Hz and the text of the preset; other names in braces for settings.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from fxfast.audio.files import read_audio, write_audio
from fxfast.errors import AudioFileError, InputError, PairError
from fxfast.pairs.hosts import HostInfo

DEFAULT_TIMEOUT_SECONDS = 300.0

_FIELD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_MESSAGE = 200


class CommandHost:
    """A command template with a preset and settings.

    Raises InputError for a template that cannot be cut into arguments, lacks ``{in}`` or
    ``{out}`` or has a field without a value, and when the program is not found.
    """

    def __init__(
        self,
        template: str,
        *,
        preset: str = "",
        preset_name: str = "",
        parameters: Mapping[str, float] | None = None,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        self.arguments = split_template(template)
        self.fields = {"preset": preset}
        for name, value in (parameters or {}).items():
            self.fields[name] = f"{value:.12g}"
        known = {"in", "out", "sr", *self.fields}
        for name in sorted(set(_FIELD.findall(template)) - known):
            raise InputError(f"command: expected a value for {{{name}}}, got none (--set {name}=)")
        if not timeout_seconds > 0:
            raise InputError(f"timeout: expected more than 0 seconds, got {timeout_seconds}")
        self.timeout_seconds = timeout_seconds
        self.program = find_program(self.arguments[0])
        self.about = HostInfo(
            host=Path(self.program).name,
            version=program_version(self.program),
            effect=preset_name or "command",
            preset=preset_name,
            parameters={"command": template, "preset": preset, **(parameters or {})},
            keeps_time=False,
            worth_caching=True,
        )

    def render(self, x: np.ndarray, sample_rate: int) -> np.ndarray:
        with tempfile.TemporaryDirectory(prefix="fxfast-") as folder:
            source, target = Path(folder, "in.wav"), Path(folder, "out.wav")
            write_audio(source, x, sample_rate, "FLOAT")
            values = {**self.fields, "in": str(source), "out": str(target), "sr": str(sample_rate)}
            arguments = [fill(argument, values) for argument in self.arguments[1:]]
            run_program([self.program, *arguments], self.timeout_seconds, folder)
            return self._read(target, len(x), sample_rate)

    def _read(self, target: Path, frames: int, sample_rate: int) -> np.ndarray:
        name = f"command {self.about.host}"
        if not target.exists():
            raise PairError(f"{name}: expected it to write {{out}}, found no file")
        try:
            y_ct, rate = read_audio(target)
        except AudioFileError as error:
            text = str(error).replace(str(target), "{out}")
            raise PairError(f"{name}: {text}") from error
        if rate != sample_rate:
            raise PairError(f"{name}: expected {sample_rate} Hz back, got {rate} Hz")
        if len(y_ct) != 1:
            raise PairError(f"{name}: expected 1 channel (mono) back, got {len(y_ct)}")
        if y_ct.shape[1] != frames:
            raise PairError(f"{name}: expected {frames} samples back, got {y_ct.shape[1]}")
        return np.asarray(y_ct[0])


def split_template(template: str) -> list[str]:
    """The arguments of a template; raises InputError when it is not one."""
    try:
        arguments = shlex.split(template)
    except ValueError as error:
        raise InputError(f"command: expected closed quotes: {error}") from error
    for name in ("{in}", "{out}"):
        if not any(name in argument for argument in arguments[1:]):
            raise InputError(f"command: expected {name} in its arguments, got {template!r}")
    return arguments


def fill(argument: str, values: Mapping[str, str]) -> str:
    """One argument with its fields filled in once; what is filled in is not looked at again."""
    return _FIELD.sub(lambda match: values.get(match[1], match[0]), argument)


def find_program(name: str) -> str:
    """The path of a program; raises InputError when there is none of that name."""
    found = shutil.which(name)
    if found is None:
        raise InputError(f"command: expected a program on the PATH, found none named {name!r}")
    return os.path.abspath(found)


@cache
def program_version(path: str) -> str:
    """What tells two versions of a program apart without running it: the hash of its file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"sha256:{digest.hexdigest()[:16]}"


def run_program(arguments: Sequence[str], timeout_seconds: float, folder: str) -> None:
    """Run a program to its end, in a process group of its own that ends with it.

    Raises PairError for a program that cannot be started, fails or takes too long.
    """
    name = f"command {Path(arguments[0]).name}"
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=folder,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise PairError(f"{name}: cannot be started: {error}") from error
    try:
        _, messages = process.communicate(timeout=timeout_seconds)
    except subprocess.TimeoutExpired as error:
        raise PairError(f"{name}: expected an end within {timeout_seconds:g} s") from error
    finally:
        _end_group(process)
    if process.returncode != 0:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        raise PairError(f"{name}: expected exit code 0, got {how}{_last_line(messages)}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Nothing that the program started outlives it."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
        process.communicate()


def _last_line(messages: bytes) -> str:
    lines = messages.decode("utf-8", "replace").split("\n")
    told = [" ".join(line.split()) for line in lines if line.strip()]
    text = "".join(c if c.isprintable() else "?" for c in told[-1]) if told else ""
    return f": {text[:_MAX_MESSAGE]}" if text else ""
