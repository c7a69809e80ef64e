"""The neutral model description: typed nodes with numpy weights.

Everything that reads or writes a model meets here: training modules become a
graph, file formats are read into one and written from one, and the engine packs
one into a plan. Weights follow PyTorch's order: ``(out, in, taps)``, tap 0 is the
oldest sample.
"""

from __future__ import annotations

from fxfast.graph.activation import (
    ACTIVATION_KINDS,
    ALL_ACTIVATION_KINDS,
    SLOPE_KINDS,
    Activation,
)
from fxfast.graph.chain import Linear, Residual, Sequential
from fxfast.graph.checks import (
    MAX_CHANNELS,
    MAX_LAYERS,
    MAX_NODE_DEPTH,
    MAX_PARAMETERS,
    MAX_RECEPTIVE_FIELD,
    MAX_SAMPLE_RATE,
    MAX_WEIGHT,
)
from fxfast.graph.conv_stack import ConvLayer, ConvStack
from fxfast.graph.delay import CYCLE, MAX_VOICES, POINTS, Delay, DelayVoice
from fxfast.graph.knob import MAX_KNOBS, Knob, check_knobs
from fxfast.graph.level_gain import DETECTORS, MAX_HOLD_SAMPLES, RAMPS, Compressor, Gate
from fxfast.graph.model_graph import ModelGraph
from fxfast.graph.node import Node
from fxfast.graph.recurrent import CELL_GATES, Recurrent, RecurrentLayer
from fxfast.graph.wavenet import (
    FILM_PLACES,
    MODES,
    Conv1x1,
    Film,
    HeadConv,
    LayerArray,
    WaveNet,
    WaveNetLayer,
)

__all__ = [
    "ACTIVATION_KINDS",
    "ALL_ACTIVATION_KINDS",
    "CELL_GATES",
    "CYCLE",
    "DETECTORS",
    "FILM_PLACES",
    "MAX_CHANNELS",
    "MAX_HOLD_SAMPLES",
    "MAX_KNOBS",
    "MAX_LAYERS",
    "MAX_NODE_DEPTH",
    "MAX_PARAMETERS",
    "MAX_RECEPTIVE_FIELD",
    "MAX_SAMPLE_RATE",
    "MAX_VOICES",
    "MAX_WEIGHT",
    "MODES",
    "POINTS",
    "RAMPS",
    "SLOPE_KINDS",
    "Activation",
    "Compressor",
    "Conv1x1",
    "ConvLayer",
    "ConvStack",
    "Delay",
    "DelayVoice",
    "Film",
    "Gate",
    "HeadConv",
    "Knob",
    "LayerArray",
    "Linear",
    "ModelGraph",
    "Node",
    "Recurrent",
    "RecurrentLayer",
    "Residual",
    "Sequential",
    "WaveNet",
    "WaveNetLayer",
    "check_knobs",
]
