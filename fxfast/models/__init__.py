"""Trainable models, selected by name."""

from fxfast.models.base import (
    AudioModel,
    create,
    describe,
    from_description,
    from_graph,
    presets,
    register,
    takes_knobs,
)

__all__ = [
    "AudioModel",
    "create",
    "describe",
    "from_description",
    "from_graph",
    "presets",
    "register",
    "takes_knobs",
]
