"""Builds the two native libraries with CMake and Ninja; everything else is in pyproject.toml."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# CMake target -> file in the package. The torch library is not a Python module, so its name
# carries no Python version: C++ programs load it too.
NATIVE = "fxfast._native"
TORCH_OPS = "fxfast.libfxfast_torch"


class CMakeBuild(build_ext):  # type: ignore[misc]
    """One CMake build for both extensions, in a folder keyed by Python and torch."""

    def get_ext_filename(self, fullname: str) -> str:
        if fullname.split(".")[-1] == TORCH_OPS.split(".")[-1]:
            return os.path.join(*fullname.split(".")) + ".so"
        return str(super().get_ext_filename(fullname))

    def run(self) -> None:
        spec = importlib.util.find_spec("torch")
        if spec is None or spec.origin is None:
            raise SystemExit("torch: expected an installed torch, found none. pip install torch")
        torch_dir = Path(spec.origin).parent
        build = ROOT / "build" / f"cmake-{self._key(torch_dir)}"
        tool = [sys.executable, "-m", "cmake"] if importlib.util.find_spec("cmake") else ["cmake"]
        configure = [
            *tool,
            *("-S", str(ROOT), "-B", str(build), "-G", "Ninja"),
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DFXFAST_TORCH_DIR={torch_dir}",
        ]
        ninja = shutil.which("ninja", path=os.path.dirname(sys.executable)) or shutil.which("ninja")
        if ninja:
            configure.append(f"-DCMAKE_MAKE_PROGRAM={ninja}")
        environment = os.environ | self._unpacked_headers(configure)
        subprocess.run(configure, check=True, env=environment)
        subprocess.run([*tool, "--build", str(build)], check=True, env=environment)
        self._copy(build, NATIVE, "_native*.so")
        self._copy(build, TORCH_OPS, "libfxfast_torch.so")
        if self.inplace:
            self.copy_extensions_to_source()

    def _unpacked_headers(self, configure: list[str]) -> dict[str, str]:
        """Point CMake at headers that tools/python-headers unpacked, where Python has none."""
        installed = Path(sysconfig.get_path("include"))
        root = ROOT / "build/python-headers/usr/include"
        if (installed / "Python.h").exists() or not (root / installed.name / "Python.h").exists():
            return {}
        configure.append(f"-DPython_INCLUDE_DIR={root / installed.name}")
        # Debian's pyconfig.h includes one by the name of the architecture.
        return {"CPLUS_INCLUDE_PATH": str(root)}

    def _key(self, torch_dir: Path) -> str:
        text = f"{sys.executable} {sys.version} {torch_dir}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _copy(self, build: Path, name: str, pattern: str) -> None:
        source = next(iter(sorted(build.glob(pattern))))
        target = Path(self.build_lib) / self.get_ext_filename(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


setup(
    ext_modules=[Extension(NATIVE, []), Extension(TORCH_OPS, [])],
    cmdclass={"build_ext": CMakeBuild},
)
