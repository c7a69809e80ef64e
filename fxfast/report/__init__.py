"""Figures: what a machine can do, what the engine and its peers reach on it."""
