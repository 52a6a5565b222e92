"""Every interleaving of events that may reach a connection goes as DESIGN 2 and 3 say.

`make explore-actor DEPTH=6` goes further, `python -m tests.planting exploration` plants all bugs.
"""

from __future__ import annotations

import pytest
from exploration.model import TABLE
from exploration.run import go
from exploration.walk import Exploration
from planting import SUITES

pytestmark = pytest.mark.slow  # thousands of paths


def test_a_path_always_goes_the_same_way() -> None:
    path = [
        "begin",
        "ping+",
        "on_ready",
        "restart",
        "lost",
        "ping-",
        "new+",
        "stop",
        "time",
        "start",
        "ping!",
    ]
    first, second = (go(path, quiet=False) for _ in range(2))
    assert first.violations == []
    assert first.log == second.log
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(("root", "depth"), [("init", 3), ("ready", 2)])
def test_every_path_goes_as_designed(root: str, depth: int) -> None:
    exploration = Exploration(root, 1, depth)
    exploration.explore()
    assert exploration.violation is None


def test_merging_loses_nothing() -> None:
    """Gone in full, the paths reach the same situations and take the same edges."""
    merged, full = (Exploration("ready", 1, 2, merge=merge) for merge in (True, False))
    for exploration in (merged, full):
        exploration.explore()
    assert merged.edges == full.edges
    assert merged.fingerprints == full.fingerprints
    assert merged.interleavings() == full.interleavings() == full.runs - 1


def test_a_planted_bug_is_found() -> None:
    suite = SUITES["exploration"]
    found = suite.find(suite.patches()["generation_at_every_return"], 2)
    assert found is not None
    assert "generation 2 instead of 1" in found


@pytest.mark.slow
def test_every_path_goes_as_designed_at_length() -> None:
    """And every edge of the machine is taken."""
    edges = set()
    for root in ("init", "ready"):
        exploration = Exploration(root, 1, 4)
        exploration.explore()
        assert exploration.violation is None, exploration.violation
        edges |= exploration.edges
    assert edges == {(source, event, target) for (source, event), target in TABLE.items()}
