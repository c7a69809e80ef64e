"""The order of the house: a module may use only what stands to its left."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_ORDER = [
    *(
        "errors",
        "whole_file",
        "graph",
        "knob_rows",
        "program",
        "merging",
        "lowering",
        "native",
        "native_ops",
        "cuda_library",
        "cuda_slot",
        "cuda_engine",
        "cuda_packed",
        "player",
        "ops",
        "follow_ops",
    ),
    *("audio", "pairs", "identify", "data", "models", "exchange", "training", "rendering"),
    *("report", "demo", "cli"),
]
CPP_ORDER = ["base", "kernels", "engine", "sampler", "bindings"]
# Torch takes seconds to import and a render worker never needs it.
TORCH_ROOMS = {"ops", "follow_ops", "data", "models", "exchange", "training", "report", "demo"}
MAX_LINES = 400


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "fxfast").parts[0].removesuffix(".py")


def python_files() -> list[Path]:
    return sorted((ROOT / "fxfast").rglob("*.py"))


def imported_modules(source: str) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append("fxfast.<relative import>")
    return names


def wrong_python_imports(room: str, source: str) -> list[str]:
    wrong = []
    for name in imported_modules(source):
        parts = name.split(".")
        if parts[0] != "fxfast" or len(parts) < 2 or parts[1] in ("__version__", "_native"):
            continue
        target = parts[1]
        if target not in PYTHON_ORDER or PYTHON_ORDER.index(target) > PYTHON_ORDER.index(room):
            wrong.append(name)
    return wrong


def wrong_includes(room: str, source: str) -> list[str]:
    included = re.findall(r'#include "(\w+)/', source)
    return [name for name in included if CPP_ORDER.index(name) > CPP_ORDER.index(room)]


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_python_imports_point_left(path: Path) -> None:
    if path == ROOT / "fxfast" / "__init__.py":
        return  # the shop window: it resolves names lazily, see the next test
    assert wrong_python_imports(room_of(path), path.read_text()) == []


def test_package_imports_only_itself() -> None:
    tree = ast.parse((ROOT / "fxfast" / "__init__.py").read_text())
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [getattr(n, "module", None) for n in imports] == ["__future__", "typing"]


def cpp_files() -> list[Path]:
    return sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cpp", ".inl"))


@pytest.mark.parametrize("path", cpp_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_includes_point_left(path: Path) -> None:
    room = path.relative_to(ROOT / "csrc").parts[0]
    assert wrong_includes(room, path.read_text()) == []


def test_fused_kernels_include_nothing_that_could_leak() -> None:
    """An inline function of the standard library compiled for AVX-512 could reach everyone."""
    for path in [*(ROOT / "csrc/kernels").glob("*.inl"), ROOT / "csrc/kernels/simd.h"]:
        for include in re.findall(r"#include (.+)", path.read_text()):
            assert re.fullmatch(r'"kernels/(\w+\.inl|simd\.h)"', include), path


@pytest.mark.parametrize("path", python_files() + cpp_files(), ids=lambda p: p.name)
def test_files_stay_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_torch_stays_in_its_rooms() -> None:
    for path in python_files():
        tree = ast.parse(path.read_text())
        names = [
            alias.name if isinstance(node, ast.Import) else str(node.module)
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        if any(name.split(".")[0] == "torch" for name in names):
            assert room_of(path) in TORCH_ROOMS, path


def test_the_test_finds_wrong_arrows() -> None:
    assert wrong_python_imports("audio", "from fxfast.models import create") == [
        "fxfast.models.create"
    ]
    assert wrong_python_imports("audio", "from fxfast.errors import InputError") == []
    assert wrong_includes("kernels", '#include "engine/run_block.h"') == ["engine"]
