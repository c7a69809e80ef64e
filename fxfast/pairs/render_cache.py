"""Wet sounds kept by the hash of the dry sound and of everything that made them.

One float WAV per result, in a folder of the user's cache; what cannot be read is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fxfast.audio.files import read_audio, write_audio
from fxfast.errors import FxfastError
from fxfast.pairs.hosts import Host, render_with_preroll
from fxfast.whole_file import whole_file


def default_cache_dir() -> Path:
    """``fxfast/pairs`` in $XDG_CACHE_HOME, or in ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "fxfast" / "pairs"


class RenderCache:
    """Results of hosts that say they are worth it; ``folder`` None keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def render(self, host: Host, x: np.ndarray, sample_rate: int) -> np.ndarray:
        """``render_with_preroll``, from the cache where it is there."""
        path = self._path(host, x, sample_rate, ".wav")
        if path is None:
            return render_with_preroll(host, x, sample_rate)
        with contextlib.suppress(FxfastError):
            y_ct, rate = read_audio(path)
            if y_ct.shape == (1, len(x)) and rate == sample_rate:
                return np.asarray(y_ct[0])
        wet = render_with_preroll(host, x, sample_rate)
        # A full disk or a folder that may not be written costs time only.
        with contextlib.suppress(FxfastError, OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_audio(path, wet, sample_rate, "FLOAT", overwrite=True)
        return wet

    def is_deterministic(self, host: Host, x: np.ndarray, sample_rate: int) -> bool:
        """Whether a second rendering has the same samples as the first, to the bit."""
        path = self._path(host, x, sample_rate, ".json")
        if path is not None:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                return bool(json.loads(path.read_text("utf-8"))["deterministic"])
        first = self.render(host, x, sample_rate)
        same = bool(np.array_equal(first, render_with_preroll(host, x, sample_rate)))
        if path is not None:
            with contextlib.suppress(OSError), whole_file(path) as temporary:
                temporary.write_text(json.dumps({"deterministic": same}), "utf-8")
        return same

    def _path(self, host: Host, x: np.ndarray, sample_rate: int, suffix: str) -> Path | None:
        if self.folder is None or not host.about.worth_caching:
            return None
        digest = hashlib.sha256(np.ascontiguousarray(x, np.float32).data)
        about = {**asdict(host.about), "sample_rate": sample_rate, "frames": len(x)}
        digest.update(json.dumps(about, sort_keys=True).encode("utf-8"))
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}{suffix}"
