"""From pairs to training batches."""

from fxfast.data.windows import (
    Batch,
    Piece,
    TimeSplit,
    WindowSet,
    block_of_windows,
    render_by_windows,
    split_by_time,
    windows_of_block,
)

__all__ = [
    "Batch",
    "Piece",
    "TimeSplit",
    "WindowSet",
    "block_of_windows",
    "render_by_windows",
    "split_by_time",
    "windows_of_block",
]
