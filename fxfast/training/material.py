"""What a run learns from: folders of pairs, or one packed file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fxfast.data import Data, load
from fxfast.errors import InputError
from fxfast.pairs.pair_set import Pair, load_pairs


def gather(paths: Sequence[Path], include: Sequence[Path] = ()) -> Data | list[Pair]:
    """The pairs of all folders, or the dataset of one packed file.

    Those of ``include`` are for training alone. The pairs of several folders are named
    FOLDER/NAME. Errors as ``load_pairs`` and ``load``; ``InputError`` for a packed file among
    others, and for two pairs of one name.
    """
    every = [*paths, *include]
    packed = [path for path in every if path.is_file()]
    if packed and len(every) > 1:
        raise InputError(f"pairs: expected folders beside each other, got the file {packed[0]}")
    if packed:
        return load(packed[0])
    pairs: list[Pair] = []
    for index, path in enumerate(every):
        for pair in load_pairs(path):
            name = f"{path.name}/{pair.name}" if len(every) > 1 else pair.name
            part = "train" if index >= len(paths) else pair.split
            pairs.append(replace(pair, name=name, split=part))
    names = [pair.name for pair in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"pairs: expected folders of different names, got {twice} twice")
    return pairs
