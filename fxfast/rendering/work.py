"""What a run is going to do: the plan with everything that its threads and processes share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fxfast.rendering.processing import BLOCK_FRAMES, Processing
from fxfast.rendering.resume import STALE, UNKNOWN

if TYPE_CHECKING:
    from fxfast.rendering.journal import Journal
    from fxfast.rendering.pipeline import StreamPlayer
    from fxfast.rendering.plan import Plan

PROBE, RENDER = "p", "r"
Command = tuple[str, int]
REFUSE, REPLACE, COMPARE = range(3)  # what to do where the output is there already


CPU = "cpu"


class Placement(NamedTuple):
    """Where a run plays: ``device`` "cpu" or "cuda:0" and so on; ``key`` names what else decides
    about the bits of its outputs, and ``note`` says why it is not where it was asked to be."""

    device: str
    key: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Work:
    """What the threads and processes of a run share."""

    plan: Plan
    players: tuple[StreamPlayer, ...]
    runs: tuple[str, ...]
    todo: np.ndarray
    journal: Journal | None
    jobs: int  # threads that work at once
    open_jobs: int  # files that may be open at once
    processing: Processing = field(default_factory=Processing)
    subtype: str = "keep"
    overwrite: bool = False
    by_hash: bool = False
    sync: bool = True
    timeout_s: float | None = None
    block_frames: int = BLOCK_FRAMES

    def mode(self, job: int) -> int:
        """What to do where the output of a job is there."""
        if self.overwrite or self.todo[job] == STALE:
            return REPLACE
        return COMPARE if self.todo[job] == UNKNOWN else REFUSE
