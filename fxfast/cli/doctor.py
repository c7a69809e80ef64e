"""``fxfast doctor``: what is installed, what this machine can run, and why not."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import metadata
from typing import Any

from fxfast import __version__
from fxfast.errors import BuildError
from fxfast.native import engine, torch_library

PACKAGES = ("torch", "numpy", "scipy", "soundfile", "soxr", "safetensors", "rich")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("doctor", help="show what is installed and what can run")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings = examine()
    if args.json:
        print(json.dumps(findings, indent=2))
    else:
        for name, value in findings.items():
            print(f"{name:18} {_text(value)}")
    return 0 if findings["engine"] == "built" else 1


def examine() -> dict[str, Any]:
    """The state of the installation, as JSON-ready values."""
    findings: dict[str, Any] = {
        "fxfast": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores usable",
        "packages": {name: _version(name) for name in PACKAGES},
    }
    findings.update(_examine_engine())
    try:
        findings["torch library"] = str(torch_library())
    except BuildError as error:
        findings["torch library"] = f"missing: {error}"
    findings["cuda"] = _examine_cuda()
    return findings


def _examine_engine() -> dict[str, Any]:
    try:
        native = engine()
    except BuildError as error:
        return {"engine": f"missing: {error}"}
    found: dict[str, Any] = {"engine": "built"}
    found["instruction sets"] = {
        name: "yes" if supported else "not on this machine" for name, supported in native.isas()
    }
    try:
        found["chosen"] = native.chosen_isa()
    except BuildError as error:
        found["chosen"] = f"none: {error}"
    return found


def _examine_cuda() -> str:
    try:
        import torch
    except ImportError as error:
        return f"no: torch does not import ({error})"
    if torch.version.cuda is None:
        return f"no: torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return f"no: torch has CUDA {torch.version.cuda}, but no GPU or driver is found"
    return f"yes: {torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda} (for training)"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    return str(value)
