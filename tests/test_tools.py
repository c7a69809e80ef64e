"""The script that finds Python's headers where Debian's python3-dev is not installed."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "tools" / "python-headers"


def test_installed_headers_are_used(tmp_path: Path) -> None:
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("Python.h (python3-dev) is not installed")
    subprocess.run([SCRIPT, sys.executable, tmp_path / "headers"], check=True)
    assert list(tmp_path.iterdir()) == []


def test_unpacked_headers_are_used_again_and_missing_ones_are_named(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$2" in *Python.h*) exit 1 ;; *) echo 3.99 ;; esac\n')
    python.chmod(0o755)
    headers = tmp_path / "headers"
    command = [SCRIPT, python, headers]
    environment = {"PATH": str(tmp_path)}  # no apt-get here
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "expected the headers of" in done.stderr
    assert "apt-get install python3-dev" in done.stderr
    assert not headers.exists()

    unpacked = headers / "usr/include/python3.99"
    unpacked.mkdir(parents=True)
    (unpacked / "Python.h").touch()
    assert subprocess.run(command, env=environment).returncode == 0
