"""What must hold after every fault, whatever the fault was (C1 to C7), and who runs the case.

C1  every visible output is complete and has the reference's samples, or is not there
C2  no temporary file is left
C3  the report has one line for each input
C4  the inputs are byte by byte what they were
C5  memory stays within a budget
C6  no sanitizer reports anything (the native tests run under them)
C7  the processor works no longer than a cap; the wall, which neighbours on the machine and slow
    disks stretch, has a cap too, wide enough for a hang alone to reach it
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from fake_player import one_layer_graph

from fxfast import exchange
from fxfast.cli import main
from fxfast.rendering import Processing, render_library

CPU_SECONDS = 10.0
WALL_SECONDS = 120.0
MEMORY_MIB = 96.0
JOBS = 2  # whatever the machine: each thread has memory of its own


@dataclass
class Line:
    """One line of a report."""

    status: str
    code: str | None
    message: str | None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass
class Fault:
    """A case: a folder of inputs, and what each file of it is expected to become.

    ``expect`` maps a file's name to the code of its error, or to the samples (C, T) that its
    output must have bit by bit; None stands for an output whose samples the caller looks at.
    """

    folder: Path
    expect: Mapping[str, str | np.ndarray | None]
    processing: Processing | None = None
    options: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    memory_mib: float = MEMORY_MIB

    @property
    def inputs(self) -> Path:
        (self.folder / "in").mkdir(exist_ok=True)
        return self.folder / "in"

    def run(self) -> dict[str, Line]:
        """Both ways into the renderer, the checks after each; the lines of the first by name."""
        lines = self.run_api()
        from_command = self.run_command()
        assert {n: x.code for n, x in from_command.items()} == {n: x.code for n, x in lines.items()}
        return lines

    def run_api(self) -> dict[str, Line]:
        out = self.folder / "out-api"
        with self._watched(out):
            report = render_library(
                one_layer_graph(1.0),
                [self.inputs],
                out,
                processing=self.processing,
                **{"jobs": JOBS, **self.settings},
            )
        document = report.to_json()
        return self._check_lines(document["files"], out)

    def run_command(self) -> dict[str, Line]:
        out, model = self.folder / "out-command", self.folder / "model.safetensors"
        exchange.save(one_layer_graph(1.0), model)
        printed = StringIO()
        with self._watched(out), redirect_stdout(printed):
            command = ["render", str(model), str(self.inputs), "--out", str(out), "--json"]
            code = main([*command, "--jobs", str(JOBS), *self.options])
        failures = [value for value in self.expect.values() if isinstance(value, str)]
        assert code == (1 if failures else 0)
        printed.getvalue().encode("utf-8")
        return self._check_lines(json.loads(printed.getvalue())["files"], out)

    def _check_lines(self, files: list[dict[str, Any]], out: Path) -> dict[str, Line]:
        lines = {
            Path(f["input"]).name: Line(f["status"], f["code"], f["message"], f) for f in files
        }
        assert len(files) == len(lines) == len(self.expect)  # C3
        for name, wanted in self.expect.items():
            line = lines[name]
            if isinstance(wanted, str):
                assert (line.status, line.code) == ("failed", wanted), (name, line)
                assert line.message is not None
                assert "\n" not in line.message
                assert name in line.message, line
            else:
                assert (line.status, line.code) == ("rendered", None), (name, line)
        check_outputs(out, {n: w for n, w in self.expect.items() if not isinstance(w, str)})
        return lines

    @contextmanager
    def _watched(self, out: Path) -> Iterator[None]:
        before = digests(self.inputs)
        started, worked = time.monotonic(), time.process_time()
        with memory_below(self.memory_mib):
            yield
        assert time.process_time() - worked < CPU_SECONDS  # C7
        assert time.monotonic() - started < WALL_SECONDS
        assert digests(self.inputs) == before  # C4
        check_no_parts(out)


def check_outputs(out: Path, expected: Mapping[str, np.ndarray | None]) -> None:
    """C1: under ``out`` is what is expected, by the names of the inputs, and nothing else."""
    visible = [path for path in out.rglob("*") if not path.name.startswith(".fxfast-")]
    found = {path.stem: path for path in visible if path.is_file()}
    assert set(found) == {Path(name).stem for name in expected}
    for name, x_ct in expected.items():
        if x_ct is not None and x_ct.shape[1]:
            y_tc, _ = soundfile.read(
                found[Path(name).stem].open("rb"), dtype="float32", always_2d=True
            )
            assert y_tc.shape == x_ct.T.shape, name
            assert np.array_equal(y_tc, x_ct.T), name


def check_no_parts(out: Path) -> None:
    """C2."""
    assert [path for path in out.rglob("*") if path.name.endswith(".part")] == []


def digests(folder: Path) -> dict[str, str]:
    """C4: what the files of a folder hold. Sparse files of gigabytes: their ends alone."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest = hashlib.sha256()
            size = path.stat().st_size
            with path.open("rb") as file:
                if size <= 1 << 26:
                    digest.update(file.read())
                else:
                    digest.update(file.read(1 << 20))
                    file.seek(size - (1 << 20))
                    digest.update(file.read())
            found[str(path)] = f"{size} {path.stat().st_mtime_ns} {digest.hexdigest()}"
    return found


@contextmanager
def memory_below(budget_mib: float) -> Iterator[None]:
    """C5: the high-water mark of the process grows by less than the budget."""
    reset_peak()
    before = status_mib("VmRSS")
    yield
    assert status_mib("VmHWM") - before < budget_mib


def reset_peak() -> None:
    """Let the high-water mark of the process begin at what it holds now."""
    Path("/proc/self/clear_refs").write_text("5")


def status_mib(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
