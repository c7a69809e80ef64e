"""The CUDA kernels' stand-in on the CPU, built once for a run of the tests."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CUDA = ROOT / "csrc/kernels/cuda"


def built_stand_in() -> Path:
    """The shared library of the present sources; skips where there is no compiler."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        pytest.skip("no C++ compiler for the stand-in of the CUDA kernels")
    sources = sorted(path for path in CUDA.iterdir() if path.suffix != ".cu")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    library = ROOT / "build" / f"cuda-stand-in-{digest}.so"
    if not library.exists():
        library.parent.mkdir(exist_ok=True)
        # Another process may build it as well: each under its own name.
        part = library.with_suffix(f".{os.getpid()}.part")
        command = [
            *(compiler, "-std=c++20", "-O2", "-ffp-contract=off", "-fPIC", "-shared"),
            *("-Wno-unknown-pragmas", f"-I{ROOT / 'csrc'}"),
            *(str(CUDA / "stand_in.cpp"), "-o", str(part)),
        ]
        subprocess.run(command, check=True)
        part.replace(library)
    return library


def set_memory(library: Path, size: int) -> int:
    """Lets the stand-in allocate so many bytes more; returns what was left before."""
    stand_in = ctypes.CDLL(str(library))
    stand_in.fxfast_stand_in_memory.restype = ctypes.c_longlong
    before = int(stand_in.fxfast_stand_in_memory())
    stand_in.fxfast_stand_in_set_memory(ctypes.c_longlong(size))
    return before
