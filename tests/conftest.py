"""Fixtures that every test may use.

Those for real servers are in `mongod_fixtures.py`, the scripted provider in `scripted.py`.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

# Tests are imported by path (import-mode=importlib), so nothing here is importable by name until
# its folder is. Only plugins are imported that way; test modules import fixtures, never each other.
sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["mongod_fixtures", "processes", "scripted"]


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """For tests of what configures the process's logging: everything back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
