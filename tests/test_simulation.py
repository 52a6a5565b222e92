"""Supervision trees from random seeds: no rule of OTP's is broken, and a planted bug is found.

`make soak-supervision` runs many more of them, `python -m tests.simulation.planted` all the bugs.
"""

from __future__ import annotations

import pytest
from simulation.planted import find, patches
from simulation.report import Distribution
from simulation.run import simulate
from simulation.world import scenario

SHORT = 1000  # trees: half a minute


def test_a_seed_always_runs_the_same_way() -> None:
    first, second = (simulate(scenario(4)) for _ in range(2))
    assert first.log == second.log
    assert len(first.log) > 10


def test_a_scenario_is_python_that_replays_it() -> None:
    """What is printed of a failing seed."""
    import simulation.world as names

    made = scenario(11)
    assert eval(repr(made), {"inf": float("inf"), **vars(names)}) == made


def test_a_planted_bug_is_found() -> None:
    found = find(patches()["forward_stop_order"], seeds=20)
    assert found is not None
    assert "started later" in found


@pytest.mark.slow
def test_no_tree_breaks_a_rule_and_everything_is_covered() -> None:
    """The short form of `make soak-supervision`."""
    distribution = Distribution()
    for seed in range(1_000_000, 1_000_000 + SHORT):
        result = simulate(scenario(seed))
        assert result.violations == [], f"python -m tests.simulation --from {seed} --seeds 1"
        distribution.add(result)
    print(distribution)
    assert distribution.shortcomings() == []
