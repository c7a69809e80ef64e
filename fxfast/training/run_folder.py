"""The folder of a training run: what is in it, how it starts and how it goes on.

config.json        TrainConfig, model description, rate and fingerprint of the data
log.jsonl          one line per epoch (EpochRecord)
checkpoint.pt      the state after the last epoch, or within a long one
model.safetensors  the model with the best validation ESR
result.json        the figures of that model on the test part
bad_batch.pt       the batch and the weights that gave a loss that is not finite
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fxfast.data import Data
from fxfast.errors import FxfastError, OutputExistsError, RunError
from fxfast.models import AudioModel, config_of_description, describe
from fxfast.training.checkpoint import write_json, write_text
from fxfast.training.config import TrainConfig
from fxfast.training.observers import EpochRecord
from fxfast.whole_file import PARTIAL_NAMES, is_taken

FORMAT_VERSION = 2
FREE_AT_RESUME = ("seconds", "epochs", "patience", "device")


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def model(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def bad_batch(self) -> Path:
        return self.path / "bad_batch.pt"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def was_killed_at_start(self) -> bool:
        """Whether there is a run that did not come to its first checkpoint."""
        return self.config.is_file() and not self.checkpoint.exists() and not self.log.exists()


@dataclass(frozen=True)
class RunDescription:
    """What RUN/config.json holds."""

    train: TrainConfig
    model: dict[str, Any]
    sample_rate: int
    data: dict[str, Any]


def describe_run(config: TrainConfig, model: AudioModel, data: Data) -> RunDescription:
    """The description of a run with these parts; JSON values only."""
    described = {"files": data.files, "samples": data.samples, "checksums": data.fingerprint}
    plain_model = json.loads(json.dumps(describe(model)))
    return RunDescription(config, plain_model, data.sample_rate, described)


def read_description(run_dir: Path) -> RunDescription:
    """Reads RUN/config.json. Raises ``RunError`` when it is missing or not valid."""
    path = RunFolder(Path(run_dir)).config
    if not path.is_file():
        raise RunError(f"{path}: expected a training run to resume, got no such file")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise RunError(f"{path}: expected format version {FORMAT_VERSION}, got {version}")
        train = TrainConfig(**values.pop("train"))
        return RunDescription(train=train, **values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, FxfastError):
            raise
        raise RunError(f"{path}: expected the configuration of a run, got {error}") from error


def _remove_leftovers(folder: RunFolder) -> None:
    """What a run that was killed had begun to write."""
    for path in folder.path.glob(PARTIAL_NAMES):
        path.unlink(missing_ok=True)


def start_run(run_dir: Path, description: RunDescription) -> RunFolder:
    """Makes the folder of a new run. Raises ``OutputExistsError`` when something is there."""
    folder = RunFolder(Path(run_dir))
    if is_taken(folder.path):
        raise OutputExistsError(
            f"{folder.path}: expected a new folder for the run, got one that exists "
            f"(resume it or name another)"
        )
    folder.path.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    write_json(folder.config, {"format_version": FORMAT_VERSION, **asdict(description)})
    return folder


def continue_run(run_dir: Path, description: RunDescription) -> RunFolder:
    """The folder of a run to go on with: same model, data and settings, other budget.

    Raises ``RunError`` that names what differs.
    """
    folder = RunFolder(Path(run_dir))
    before, now = asdict(read_description(folder.path)), asdict(description)
    for name in now["train"]:
        if name not in FREE_AT_RESUME:
            _require_same(folder, name, before["train"][name], now["train"][name])
    _require_same(folder, "sample_rate", before["sample_rate"], now["sample_rate"])
    if not _is_same_model(before["model"], now["model"]):
        raise RunError(f"{folder.path}: expected the model of the run to resume, got another one")
    if before["data"] != now["data"]:
        raise RunError(f"{folder.path}: expected the pairs of the run to resume, got other audio")
    _remove_leftovers(folder)
    write_json(folder.config, {"format_version": FORMAT_VERSION, **now})
    return folder


def _is_same_model(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """A run of a version that knew fewer fields has the same config, but not the same JSON."""
    return before == now or config_of_description(before) == config_of_description(now)


def _require_same(folder: RunFolder, name: str, before: Any, now: Any) -> None:
    if before != now:
        raise RunError(
            f"{name}: expected {before!r} as in the run to resume ({folder.path}), got {now!r}"
        )


def append_log(folder: RunFolder, record: EpochRecord) -> None:
    """Adds one line to RUN/log.jsonl, on disk when this returns."""
    with folder.log.open("a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(record)) + "\n")
        log.flush()
        os.fsync(log.fileno())


def read_log(folder: RunFolder) -> list[Mapping[str, Any]]:
    """The epochs of RUN/log.jsonl; a last line that was cut by a crash is left out."""
    if not folder.log.is_file():
        return []
    records = []
    for line in folder.log.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def cut_log(folder: RunFolder, epochs: int) -> None:
    """Removes epochs that a crash logged after the last checkpoint."""
    lines = [json.dumps(r) + "\n" for r in read_log(folder) if r["epoch"] <= epochs]
    write_text(folder.log, "".join(lines))
