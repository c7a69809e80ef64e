"""Shared set-up of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).resolve().parent))

# The same examples in every run: a test that fails for someone fails for everyone.
settings.register_profile("fxfast", derandomize=True, deadline=None, database=None)
settings.load_profile("fxfast")
