"""Shared set-up of the tests."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent))

# The same examples in every run: a test that fails for someone fails for everyone.
settings.register_profile("fxfast", derandomize=True, deadline=None, database=None)
settings.load_profile("fxfast")


@pytest.fixture(autouse=True)
def same_luck_and_threads_in_any_order() -> Iterator[None]:
    """No test draws other numbers, or sums in another order, because of those that ran before."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")  # the tests without it do not wait for it
    if torch is None:
        yield
        return
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def dry_dir(tmp_path: Path) -> Path:
    """Two short recordings, one in a folder of its own."""
    # Here, so that collecting the tests loads no audio library.
    from fxfast.audio.files import write_audio
    from fxfast.audio.signals import guitar_like

    folder = tmp_path / "dry recordings"
    (folder / "solo").mkdir(parents=True)
    write_audio(folder / "riff.1.wav", guitar_like(0.5, 48_000, 0), 48_000)
    write_audio(folder / "solo" / "lick.flac", guitar_like(0.7, 48_000, 1), 48_000)
    return folder


@pytest.fixture
def pairs_dir(tmp_path: Path, dry_dir: Path) -> Path:
    """Those recordings and what the default effect makes of them."""
    from fxfast.pairs.make_pairs import make_pairs

    make_pairs([dry_dir], tmp_path / "pairs")
    return tmp_path / "pairs"
