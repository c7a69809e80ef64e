"""A library with NeuralAudio's C interface in a process of its own.

It may crash, and one built with -ffast-math makes its whole process flush denormals. The process
is this file as a program; it answers commands on its standard input with JSON lines:
``seconds N`` plays N samples and tells the CPU seconds, ``first N PATH`` plays N samples from the
settled state into a .npy file, ``memory`` tells the peak memory in bytes.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from fxfast.report.ways import PeerError

_TIMEOUT_SECONDS = 60.0


class LibraryHost:
    """The parent's side. Raises ``PeerError`` with the reason whenever the process fails."""

    def __init__(self, library: Path, model: Path, block: int, audio: np.ndarray) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fxfast-host-")
        source = Path(self._folder.name) / "audio.npy"
        np.save(source, audio)
        command = [
            sys.executable,
            "-m",
            __name__,
            str(library),
            str(model),
            str(block),
            str(source),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True,
        )  # fmt: skip
        weakref.finalize(self, _end, self._process)
        self.is_static = bool(self._answer()["is_static"])

    def seconds(self, samples: int) -> float:
        return float(self._ask(f"seconds {samples}")["seconds"])

    def first(self, samples: int) -> np.ndarray:
        target = Path(self._folder.name) / "first.npy"
        self._ask(f"first {samples} {target}")
        rendered: np.ndarray = np.load(target)
        return rendered

    def peak_bytes(self) -> int:
        return int(self._ask("memory")["bytes"])

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except OSError:
            pass  # it has ended: the answer says how
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait(_TIMEOUT_SECONDS)
            raise PeerError(f"its process ended with exit code {code}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(str(answer["error"]))
        return answer


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.kill()
    process.wait()


class _Library:
    """The child's side: a model of the library, and the audio."""

    def __init__(self, library: str, model: str, block: int, audio: np.ndarray) -> None:
        self._library = ctypes.CDLL(library)
        for name in ("CreateLoader", "CreateModelFromFile"):
            getattr(self._library, name).restype = ctypes.c_void_p
        self._library.IsStatic.restype = ctypes.c_bool
        self._play = self._library.Process
        self._play.restype = None
        self._play.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t]
        self._model_path, self._block = model, block
        self._in = np.ascontiguousarray(audio, np.float32)
        self._out = np.zeros_like(self._in)
        self._model = self._load()

    def _load(self) -> ctypes.c_void_p:
        loader = ctypes.c_void_p(self._library.CreateLoader())
        self._library.SetDefaultMaxAudioBufferSize(loader, self._block)
        path = ctypes.c_wchar_p(self._model_path)
        model = ctypes.c_void_p(self._library.CreateModelFromFile(loader, path))
        self._library.DeleteLoader(loader)
        # The interface wraps a model that it could not load: the wrapped pointer is null.
        if not ctypes.cast(model, ctypes.POINTER(ctypes.c_void_p)).contents.value:
            raise RuntimeError("it does not load the model")
        return model

    @property
    def is_static(self) -> bool:
        return bool(self._library.IsStatic(self._model))

    def seconds(self, samples: int) -> float:
        starts = range(0, min(samples, len(self._in)), self._block)
        calls = [
            (self._in.ctypes.data + 4 * t, self._out.ctypes.data + 4 * t,
             min(self._block, samples - t, len(self._in) - t))
            for t in starts
        ]  # fmt: skip
        play, model = self._play, self._model
        started = time.thread_time()
        for source, target, count in calls:
            play(model, source, target, count)
        return time.thread_time() - started

    def first(self, samples: int) -> np.ndarray:
        self._model = self._load()
        self.seconds(samples)
        return self._out[:samples]


def _peak_bytes() -> int:
    """Of this process alone: the usage that the system counts includes the parent's before it."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(fields["VmHWM"].split()[0])


def main(library: str, model: str, block: str, source: str) -> int:
    # What the library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    try:
        played = _Library(library, model, int(block), np.load(source))
        answer(is_static=played.is_static)
    except (OSError, AttributeError, RuntimeError) as error:
        answer(error=str(error))
        return 1
    for line in sys.stdin:
        command, *arguments = line.split(maxsplit=2)
        if command == "seconds":
            answer(seconds=played.seconds(int(arguments[0])))
        elif command == "first":
            np.save(arguments[1].strip(), played.first(int(arguments[0])))
            answer(done=True)
        else:
            answer(bytes=_peak_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
