"""fxfast learns an audio effect from a recording and renders audio libraries through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fxfast.exchange import load, save
    from fxfast.graph import Activation, ConvLayer, ModelGraph
    from fxfast.player import Player, Stream

__version__ = "0.1.0"

_HOMES = {
    "Activation": "fxfast.graph",
    "ConvLayer": "fxfast.graph",
    "ModelGraph": "fxfast.graph",
    "Player": "fxfast.player",
    "Stream": "fxfast.player",
    "load": "fxfast.exchange",
    "save": "fxfast.exchange",
}
__all__ = ["Activation", "ConvLayer", "ModelGraph", "Player", "Stream", "load", "save"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fxfast' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
