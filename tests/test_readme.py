"""The README's examples run, and its tables are those of the result files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import random_graph

from fxfast import exchange
from fxfast.data import pack
from fxfast.exchange.torchscript import export_torchscript
from fxfast.native import torch_library
from fxfast.pairs.pair_set import Pair

ROOT = Path(__file__).resolve().parent.parent


def python_examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_python_example_runs(number: int, tmp_path: Path) -> None:
    graph = random_graph([(8, 9, 1, "relu"), (1, 4, 1, "none")])
    (tmp_path / "run").mkdir()
    exchange.save(graph, tmp_path / "run" / "model.safetensors")
    export_torchscript(graph, tmp_path / "model.ts")
    example = python_examples()[number].replace('"libfxfast_torch.so"', repr(str(torch_library())))
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 4])
def test_example_of_batches_runs(number: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=40_000).astype(np.float32)
    pack([Pair("a", noise, noise, 48_000)], tmp_path / "data.fxpack")
    done = subprocess.run(
        [sys.executable, "-c", python_examples()[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_as_many_python_examples_as_are_run() -> None:
    assert len(python_examples()) == 5
    assert len(python_examples()[0].splitlines()) <= 12


def test_tables_are_those_of_the_newest_results() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.readme", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_promises_of_a_library_run_name_tests_that_are_there() -> None:
    """Every case that a row names is tested in a file that it names, every file that it names
    tests one of them, and every case of the 48 is in some row."""
    text = (ROOT / "README.md").read_text()
    rows = re.findall(r"^\| (P\d): .* \| (`.*) \(cases (.*)\) \|$", text, flags=re.M)
    assert [name for name, _, _ in rows] == [f"P{n}" for n in range(1, 9)]
    covered: set[int] = set()
    for name, shown, told in rows:
        cases: set[int] = set()
        for part in told.split(", "):
            first, _, last = part.partition(" to ")
            cases.update(range(int(first), int(last or first) + 1))
        tested: dict[str, set[int]] = {}
        for file in re.findall(r"`(\w+\.py)`", shown):
            source = (ROOT / "tests" / file).read_text()
            tested[file] = {
                int(n) for n in re.findall(r"^def test_fault_case_(\d\d)_", source, re.M)
            }
            assert tested[file] & cases, f"{name}: {file} tests none of its cases"
        assert cases <= set().union(*tested.values()), f"{name}: {cases} beside {tested}"
        covered |= cases
    assert covered == set(range(1, 49))


def test_commands_in_the_readme_exist() -> None:
    from fxfast.cli import build_parser

    shell = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)
    commands = re.findall(r"^(fxfast .*?)\s*(?:#.*)?$", "\n".join(shell), flags=re.M)
    assert len(commands) >= 7
    for command in commands:
        build_parser().parse_args(command.split()[1:])
