"""Supervision trees from random seeds: no rule of OTP's is broken, and a planted bug is found.

`make soak-supervision` runs many more of them, `python -m tests.planting simulation` all the bugs.
"""

from __future__ import annotations

import os

import pytest
from planting import SUITES
from simulation.drawing import scenario
from simulation.report import Distribution
from simulation.run import Result, simulate
from simulation.soak import soak
from simulation.world import Policy, Scenario, Tree, Worker

SHORT = 25_000  # trees: two minutes on two cores


def test_a_seed_always_runs_the_same_way() -> None:
    first, second = (simulate(scenario(4)) for _ in range(2))
    assert first.log == second.log
    assert len(first.log) > 10


def test_a_scenario_is_python_that_replays_it() -> None:
    """What is printed of a failing seed."""
    import simulation.world as names

    made = scenario(11)
    assert eval(repr(made), {"inf": float("inf"), **vars(names)}) == made


def test_it_is_made_of_the_same_with_any_number_of_processes() -> None:
    alone, together = Distribution(), Distribution()
    for jobs, distribution in ((1, alone), (2, together)):
        for part in soak(0, 50, jobs=jobs):
            distribution.update(part.distribution)
    assert vars(alone) == vars(together)
    assert len(alone.children) == 50


def test_the_first_violation_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate_badly(scenario: Scenario) -> Result:
        broken = ["broken"] if scenario.seed in {33, 35} else []
        return Result(scenario, violations=broken)

    monkeypatch.setattr("simulation.soak.simulate", simulate_badly)
    *whole, last = soak(0, 100, jobs=1)
    assert [part.failed for part in whole] == [None]
    assert last.failed is not None
    assert last.failed.scenario.seed == 33


def test_a_soak_that_covers_too_little_says_what_it_lacks() -> None:
    dull = Distribution()
    worker = Worker(Policy("a"))
    dull.add(Result(Scenario(0, Tree(Policy("root"), children=(worker,)))))
    lacks = dull.shortcomings()
    assert "a median of 8 children" in lacks
    assert "50% of the trees nested" in lacks
    assert "10% that escalate" in lacks
    assert "any restart_child" in lacks
    assert "any temporary" in lacks
    assert "any permanent" not in lacks


def test_a_planted_bug_is_found() -> None:
    suite = SUITES["simulation"]
    found = suite.find(suite.patches()["forward_stop_order"], 20)
    assert found is not None
    assert "is stopped before" in found


@pytest.mark.slow
def test_no_tree_breaks_a_rule_and_everything_is_covered() -> None:
    """The short form of `make soak-supervision`."""
    distribution = Distribution()
    for part in soak(1_000_000, SHORT, jobs=len(os.sched_getaffinity(0))):
        distribution.update(part.distribution)
        failed = part.failed
        assert failed is None, f"python -m tests.simulation --from {failed.scenario.seed} --seeds 1"
    print(distribution)
    assert distribution.shortcomings() == []
