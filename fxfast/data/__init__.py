"""From pairs to training batches: datasets, and the samplers that hand them out."""

from fxfast.data.dataset import Data, Piece, from_arrays, from_pairs
from fxfast.data.lane_sampler import LaneBatch, Lanes, Replay
from fxfast.data.pack_file import pack
from fxfast.data.pack_load import load
from fxfast.data.split import PARTS, Split
from fxfast.data.window_sampler import Blocks, Windows
from fxfast.data.windows import block_of_windows, render_by_windows, windows_of_block

__all__ = [
    "PARTS",
    "Blocks",
    "Data",
    "LaneBatch",
    "Lanes",
    "Piece",
    "Replay",
    "Split",
    "Windows",
    "block_of_windows",
    "from_arrays",
    "from_pairs",
    "load",
    "pack",
    "render_by_windows",
    "windows_of_block",
]
