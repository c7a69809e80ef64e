"""The text of a ``.nam`` file: its long lists of weights aside, everything else parsed.

The file is gone through once, piece by piece: each list ``"weights": [...]`` of plain numbers
is only counted and remembered as a place in the file, and what is left is small and goes
through the strict reader of JSON. So a file is refused before its weights are read, whatever
it claims, and no list of numbers ever is in memory as text.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from fxfast.errors import ModelError
from fxfast.exchange import bounded_json
from fxfast.exchange.bounded_json import shown

# An LSTM of 1024 units takes 90 MB; to look through so much takes a tenth of a second.
MAX_FILE_BYTES = 96 << 20
MAX_OTHER_BYTES = 4 << 20
# More text than this for a number is not written by anyone.
_MAX_NUMBER_BYTES = 128
# Lists up to here that are no plain numbers are left to the reader of JSON and its messages.
_SHORT_BYTES = 64 << 10
_PIECE_BYTES = 256 << 10
_KEY = re.compile(rb'(?<!\\)"weights"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}\[')
_KEY_BYTES = 64
_NUMBERS = b"0123456789+-.eE, \t\r\n"
_SPACES = b" \t\r\n"


@dataclass(frozen=True)
class WeightText:
    """A list of numbers that has not been read: its place in the file, and how many."""

    start: int
    size: int
    count: int


class NamText:
    """The parsed file; ``document`` has a ``WeightText`` where a list of weights stood."""

    def __init__(self, file: BinaryIO) -> None:
        size = file.seek(0, os.SEEK_END)
        if not 1 <= size <= MAX_FILE_BYTES:
            raise ModelError(f"file size: expected 1 to {MAX_FILE_BYTES} bytes, got {size}")
        self._file = file
        scan = _Scan(secrets.token_hex(16))
        for piece in self._pieces(0, size):
            scan.take(piece)
        scan.finish()

        def place(key: str, value: Any) -> Any:
            is_place = key == "weights" and type(value) is str and value.startswith(scan.token)
            return scan.lists[int(value.rpartition(":")[2])] if is_place else value

        self.document = bounded_json.parse(bytes(scan.others), "file", place)

    def read(self, text: WeightText, name: str) -> np.ndarray:
        """The float32 values; beyond float32 they are infinite."""
        if text.size > _SHORT_BYTES + _MAX_NUMBER_BYTES * text.count:
            raise ModelError(
                f"{name}: expected at most {_MAX_NUMBER_BYTES} bytes a number, "
                f"got {text.size} bytes for {text.count}"
            )
        values, end = np.empty(text.count, np.float32), 0
        for numbers in self._numbers(text, name):
            with np.errstate(over="ignore"):
                values[end : end + len(numbers)] = numbers
            end += len(numbers)
        if end != text.count:
            raise ModelError("file: expected it to stay unchanged while it is read")
        return values

    def restored(self, value: Any) -> Any:
        """``value`` with lists again: what is kept of a file but is no weight of ours."""
        if isinstance(value, WeightText):
            if value.size > _SHORT_BYTES:
                raise ModelError(
                    f"weights: expected at most {_SHORT_BYTES} bytes outside a model, "
                    f"got {value.size}"
                )
            text = b"".join(self._pieces(value.start, value.size))
            return bounded_json.parse(b"[" + text + b"]", "weights")
        if isinstance(value, dict):
            return {key: self.restored(inner) for key, inner in value.items()}
        return [self.restored(inner) for inner in value] if isinstance(value, list) else value

    def _numbers(self, text: WeightText, name: str) -> Iterator[list[float]]:
        done, carried = 0, b""
        for piece in self._pieces(text.start, text.size):
            whole, comma, rest = piece.rpartition(b",")
            if not comma:
                carried += piece
                continue
            found = _parse_numbers(carried + whole, name, done)
            done += len(found)
            carried = rest
            yield found
        if text.count:
            yield _parse_numbers(carried, name, done)

    def _pieces(self, start: int, size: int) -> Iterator[bytes]:
        self._file.seek(start)
        while size:
            piece = self._file.read(min(size, _PIECE_BYTES))
            if not piece:
                raise ModelError("file: expected it to stay unchanged while it is read")
            size -= len(piece)
            yield piece


def _parse_numbers(text: bytes, name: str, first: int) -> list[float]:
    """Numbers between commas, as JSON writes them; the first is number ``first`` of the list."""
    try:
        found: list[float] = json.loads(f"[{text.decode('ascii')}]", parse_int=float)
    except ValueError as error:
        position = max(getattr(error, "pos", 1) - 1, 0)
        index = first + text.count(b",", 0, position)
        got = text[position : position + 40].partition(b",")[0].strip(_SPACES) or b"nothing"
        raise ModelError(
            f"{name}[{index}]: expected a number, got {shown(got.decode('ascii', 'replace'))}"
        ) from None
    return found


@dataclass
class _Scan:
    """Tells lists of weights from the rest of the text, which it keeps with a mark for each."""

    token: str
    others: bytearray = field(default_factory=bytearray)
    lists: list[WeightText] = field(default_factory=list)
    _outside: bytes = b" "  # a byte that has been kept, and what may be the beginning of a key
    _start: int = -1  # where the present list begins; -1 outside of one
    _position: int = 0  # of the next byte of the file
    _short: bytearray = field(default_factory=bytearray)
    _commas: int = 0
    _blank: bool = True

    def take(self, piece: bytes) -> None:
        while piece:
            piece = self._take_inside(piece) if self._start >= 0 else self._take_outside(piece)

    def finish(self) -> None:
        if self._start >= 0:
            raise ModelError("file: expected JSON, got an end inside weights")
        self._keep(self._outside[1:])

    def _keep(self, text: bytes) -> None:
        self.others += text
        if len(self.others) > MAX_OTHER_BYTES:
            raise ModelError(
                f"file: expected at most {MAX_OTHER_BYTES} bytes beside the weights, got more"
            )

    def _take_outside(self, piece: bytes) -> bytes:
        """Look for the next list; what comes after its bracket is left over."""
        text = self._outside + piece
        self._position += len(piece)
        match = _KEY.search(text, 1)
        if match is None:
            cut = max(len(text) - _KEY_BYTES, 1)
            self._keep(text[1:cut])
            self._outside = text[cut - 1 :]
            return b""
        self._keep(text[1 : match.end() - 1])
        rest = text[match.end() :]
        self._position -= len(rest)
        self._start = self._position
        self._short.clear()
        self._commas, self._blank = 0, True
        return rest

    def _take_inside(self, piece: bytes) -> bytes:
        """Count numbers up to what is none."""
        other = piece.translate(None, _NUMBERS)[:1]
        cut = piece.index(other) if other else len(piece)
        numbers = piece[:cut]
        self._commas += numbers.count(b",")
        self._blank = self._blank and not numbers.translate(None, _SPACES)
        self._position += cut
        size = self._position - self._start
        if size <= _SHORT_BYTES:
            self._short += numbers
        if other == b"]":
            self._end_list(size)
            self._position += 1
            return piece[cut + 1 :]
        if other:
            self._leave(piece[cut : cut + 20], size)
        return piece[cut:]

    def _end_list(self, size: int) -> None:
        count = 0 if self._blank else self._commas + 1
        self._keep(f'"{self.token}:{len(self.lists)}"'.encode())
        self.lists.append(WeightText(self._start, size, count))
        self._outside, self._start = b"]", -1

    def _leave(self, got: bytes, size: int) -> None:
        """No list of plain numbers after all."""
        if size > _SHORT_BYTES:
            raise ModelError(
                f"weights[{self._commas}]: expected a number at byte {self._position}, "
                f"got {shown(got.decode('ascii', 'replace'))}"
            )
        text = b"[" + bytes(self._short)
        self._keep(text)
        self._outside, self._start = text[-1:], -1
