"""JSON from files that nobody vouches for: bounded in size and depth, and strict.

Python's own reader accepts NaN, infinities and duplicate keys, and it spends memory
in proportion to the values; here each of these is an error, and the number of values
is bounded before the text is parsed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

from fxfast.errors import ModelError

MAX_ITEMS = 100_000
MAX_DEPTH = 64
MAX_INTEGER_BITS = 1024
_MAX_DIGITS = 310
_SHOWN_CHARACTERS = 60


def parse(text: bytes | str, name: str, replace: Callable[[str, Any], Any] | None = None) -> Any:
    """Return the value that ``text`` holds.

    Raises ``ModelError`` that begins with ``name`` when the text is not UTF-8, not
    JSON, has more than ``MAX_ITEMS`` commas and brackets (also inside strings), has a
    key twice in one object, or holds NaN or an infinity. ``replace`` gets every key of an
    object with its value and gives the value to keep.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"{name}: expected UTF-8 JSON, got {error.reason}") from None
    items = text.count(",") + text.count("[") + text.count("{")
    if items > MAX_ITEMS:
        raise ModelError(f"{name}: expected at most {MAX_ITEMS} commas and brackets, got {items}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise ModelError(f"{name}: expected each key once, got {shown(twice)} twice")
        return {k: replace(k, value) for k, value in found.items()} if replace else found

    def refuse(literal: str) -> Any:
        raise ModelError(f"{name}: expected finite numbers, got {literal}")

    def integer(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise ModelError(
                f"{name}: expected integers of at most {_MAX_DIGITS} digits, got {len(digits)}"
            )
        return int(digits)

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_int=integer)
    except ModelError:
        raise
    except RecursionError:
        raise ModelError(f"{name}: expected at most {MAX_DEPTH} levels, got deeper") from None
    except ValueError as error:
        raise ModelError(f"{name}: expected JSON, got an error: {error}") from None


def check(value: Any, name: str, depth: int = 0) -> None:
    """Raise ``ModelError`` unless ``value`` is JSON that ``parse`` gives back.

    Objects need text keys, numbers must be finite, integers have at most
    ``MAX_INTEGER_BITS`` bits, and the nesting ends within ``MAX_DEPTH`` levels.
    """
    if depth > MAX_DEPTH:
        start = name[:_SHOWN_CHARACTERS]
        raise ModelError(f"{start}: expected at most {MAX_DEPTH} levels of JSON, got more")
    if value is None or type(value) in (bool, str):
        return
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise ModelError(
                f"{name}: expected integers of at most {MAX_INTEGER_BITS} bits, got {shown(value)}"
            )
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ModelError(f"{name}: expected finite numbers, got {value}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            check(item, f"{name}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ModelError(f"{name}: expected text keys, got {shown(key)}")
            check(item, f"{name}.{key if key.isidentifier() else shown(key)}", depth + 1)
    else:
        raise ModelError(f"{name}: expected JSON values, got {type(value).__name__}")


def shown(value: Any) -> str:
    """A value as one short line for an error message."""
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN_CHARACTERS else value[:_SHOWN_CHARACTERS] + "..."
        return ascii(cut)
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        huge = value.bit_length() > 3 * _SHOWN_CHARACTERS
        return f"an integer of {value.bit_length()} bits" if huge else str(value)
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else type(value).__name__
