"""Two events that reach a connection in one instant: it comes back from any of them.

`python -m tests.exploration --together --depth 3` goes further.
"""

from __future__ import annotations

import pytest
from exploration.together import Pairs, go_together
from exploration.walk import Exploration


@pytest.mark.parametrize("seed", range(4))
def test_who_is_replaced_in_the_instant_of_its_recovery_serves_no_more(seed: int) -> None:
    """Lost during a restart, both clients answer at once: only the one that is kept may serve."""
    path = ("begin", "ping+", "restart", "lost")
    assert go_together(path, ("ping+", "new+"), 1, seed=seed).violations == []


@pytest.mark.slow
@pytest.mark.parametrize("root", ["init", "ready"])
def test_every_pair_is_come_back_from(root: str) -> None:
    exploration = Exploration(root, 1, 2)
    exploration.explore()
    pairs = Pairs(exploration)
    pairs.explore()
    assert pairs.violation is None, (pairs.violation.path, pairs.violation.violations)
    assert pairs.runs > 50
