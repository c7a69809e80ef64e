"""The last state of a training run, enough to go on as if it had never stopped."""

from __future__ import annotations

import json
import pickle
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from fxfast.errors import RunError
from fxfast.whole_file import whole_file

FORMAT_VERSION = 2


@dataclass(frozen=True)
class Checkpoint:
    """``epoch`` counts finished epochs; ``elapsed_seconds`` is training time so far.

    ``best_epoch`` is 0 before the first validation. ``model``, ``optimizer`` and ``feed`` are
    state dicts: the last one says which batch is next. ``losses`` are those of the steps of an
    epoch that is not finished, ``samples`` its targets, ``waited`` the seconds it waited for data
    and ``trained`` those it took.
    """

    model: dict[str, Any]
    optimizer: dict[str, Any]
    epoch: int
    step: int
    seed: int
    best_esr: float
    best_epoch: int
    elapsed_seconds: float
    feed: dict[str, Any]
    losses: torch.Tensor
    samples: int
    waited: float
    trained: float


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Writes the checkpoint; the old one stays whole until the new one is complete."""
    values = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    with whole_file(path) as temporary:
        torch.save({"format_version": FORMAT_VERSION, **values}, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint, tensors on the CPU. Only plain tensors and values are accepted.

    Raises ``RunError`` when it is missing, damaged or of another format version.
    """
    if not path.is_file():
        raise RunError(f"{path}: expected a checkpoint to resume from, got no such file")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise RunError(
            f"{path}: expected a readable checkpoint, got a damaged one ({reason[:80]})"
        ) from error
    _refuse_unbacked(values, path)
    expected = {field.name for field in fields(Checkpoint)} | {"format_version"}
    if not isinstance(values, dict) or set(values) != expected:
        raise RunError(f"{path}: expected a checkpoint of fxfast, got other contents")
    version = values.pop("format_version")
    if version != FORMAT_VERSION:
        raise RunError(f"{path}: expected format version {FORMAT_VERSION}, got {version}")
    return Checkpoint(**values)


def _refuse_unbacked(values: Any, path: Path) -> None:
    """A tensor of a kilobyte can claim terabytes by a stride of 0; the first copy asks for them."""
    if isinstance(values, torch.Tensor):
        held, claimed = values.untyped_storage().nbytes(), values.numel() * values.element_size()
        if claimed > held:
            raise RunError(f"{path}: expected tensors of at most {held} bytes, got {claimed}")
    elif isinstance(values, dict):
        for value in values.values():
            _refuse_unbacked(value, path)
    elif isinstance(values, list | tuple):
        for value in values:
            _refuse_unbacked(value, path)


def write_json(path: Path, values: Any) -> None:
    """Writes JSON under a temporary name and renames it when complete."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text under a temporary name and renames it when complete."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
