"""Trainable models, selected by name."""

from fxfast.models.base import (
    AudioModel,
    create,
    describe,
    from_description,
    from_graph,
    presets,
    register,
)

__all__ = [
    "AudioModel",
    "create",
    "describe",
    "from_description",
    "from_graph",
    "presets",
    "register",
]
