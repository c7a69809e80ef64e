"""Fuzzing of everything that reads files: ``python -m tests.fuzz TARGET --seconds N``."""
