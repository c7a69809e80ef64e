"""Trainable models, selected by name."""

from fxfast.models.base import (
    AudioModel,
    config_of_description,
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
    "config_of_description",
    "create",
    "describe",
    "from_description",
    "from_graph",
    "presets",
    "register",
    "takes_knobs",
]
