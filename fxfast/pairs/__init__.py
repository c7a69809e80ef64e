"""Dry/wet pairs: built-in effects, making pairs, loading pairs."""
