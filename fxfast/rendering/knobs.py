"""Where the knobs of a conditioned model stand while a file is rendered."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxfast.audio.paths import AnyPath, printable, reason
from fxfast.errors import InputError
from fxfast.graph import Knob

_MAX_ROWS = 1_000_000
_TIME = "time_s"


@dataclass(frozen=True)
class KnobCurve:
    """How knobs turn: straight lines between ``rows`` of a time in seconds and a value for each of
    ``names``; before the first row and after the last they stand still."""

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    def at(self, first_sample: int, samples: int, sample_rate: int) -> dict[str, np.ndarray]:
        """The values of every knob for ``samples`` samples (float64)."""
        times = (first_sample + np.arange(samples)) / sample_rate
        table = np.array(self.rows)
        return {
            name: np.interp(times, table[:, 0], table[:, 1 + index])
            for index, name in enumerate(self.names)
        }

    def start(self) -> dict[str, float]:
        """The values before the file."""
        values = self.at(0, 1, 1)
        return {name: float(value[0]) for name, value in values.items()}


def read_curve(path: AnyPath) -> KnobCurve:
    """Read a CSV file with the columns ``time_s`` and one for each knob, times growing.

    Raises ``InputError`` that names the file and the line for whatever is not that.
    """
    name = printable(path)
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            header = next(lines, [])
            if len(header) < 2 or header[0].strip() != _TIME:
                raise InputError(f"{name}: expected a first line {_TIME},KNOB[,KNOB...]")
            names = tuple(cell.strip() for cell in header[1:])
            rows: list[tuple[float, ...]] = []
            for line in lines:
                if not line:
                    continue
                rows.append(_row(line, len(header), f"{name}, line {lines.line_num}"))
                if len(rows) > 1 and rows[-1][0] <= rows[-2][0]:
                    raise InputError(
                        f"{name}, line {lines.line_num}: expected a time after "
                        f"{rows[-2][0]:g} s, got {rows[-1][0]:g} s"
                    )
                if len(rows) > _MAX_ROWS:
                    raise InputError(f"{name}: expected at most {_MAX_ROWS} rows, got more")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{name}: expected a CSV file: {reason(error)}") from error
    if not rows:
        raise InputError(f"{name}: expected at least one row of values, got none")
    return KnobCurve(names, tuple(rows))


def _row(line: list[str], columns: int, place: str) -> tuple[float, ...]:
    if len(line) != columns:
        raise InputError(f"{place}: expected {columns} columns, got {len(line)}")
    values = []
    for cell in line:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{place}: expected numbers, got {cell!r:.60}")
        values.append(value)
    return tuple(values)


def check_knobs(
    knobs: tuple[Knob, ...], held: tuple[tuple[str, float], ...], curve: KnobCurve | None
) -> None:
    """Raise ``InputError`` unless every name is that of one of a model's ``knobs``, once, and every
    value is in its range."""
    named = [name for name, _ in held] + list(curve.names if curve else ())
    known = {knob.name: knob for knob in knobs}
    for name in named:
        if name not in known:
            names = ", ".join(known) if known else "none: the model has no knobs"
            raise InputError(f"knob: expected {names}, got {name!r}")
        if named.count(name) > 1:
            raise InputError(f"knob {name}: expected one value or curve, got {named.count(name)}")
    for name, value in held:
        known[name].scaled(value)
    for index, name in enumerate(curve.names if curve else ()):
        assert curve is not None
        known[name].scaled(np.array([row[1 + index] for row in curve.rows]))
