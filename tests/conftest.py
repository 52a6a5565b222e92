"""Fixtures that every test may use.

Those for real servers are in `mongod_fixtures.py`, the scripted provider in `scripted.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Tests are imported by path (import-mode=importlib), so nothing here is importable by name until
# its folder is. Only plugins are imported that way; test modules import fixtures, never each other.
sys.path.insert(0, str(Path(__file__).parent))

pytest_plugins = ["mongod_fixtures", "processes", "scripted"]
