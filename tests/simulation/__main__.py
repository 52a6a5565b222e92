"""`python -m tests.simulation`: random supervision trees, each checked against OTP's rules.

Prints how the scenarios were distributed; at the first that breaks a rule, the script that replays
it. The exit status is 1 for that, and for scenarios that cover too little.
"""

from __future__ import annotations

import argparse
import os
import sys
from pprint import pformat
from typing import TYPE_CHECKING

from .report import Distribution
from .soak import Progress, soak

if TYPE_CHECKING:
    from .run import Result

ENOUGH = 1000  # trees: of fewer nobody asks what they cover


def main(arguments: list[str]) -> int:
    """Simulate; the exit status says whether every rule held, and whether that means much."""
    chosen = _parser().parse_args(arguments)
    distribution = Distribution()
    progress = Progress(chosen.seeds)
    jobs = 1 if chosen.log else chosen.jobs
    for part in soak(chosen.first, chosen.seeds, jobs=jobs, watch=_log if chosen.log else None):
        distribution.update(part.distribution)
        if not chosen.quiet:
            progress.tell(len(distribution.children))
        if part.failed is not None:
            progress.clear()
            _print_failure(part.failed, replay=not chosen.quiet)
            return 1
    progress.clear()
    print(f"{chosen.seeds} trees in {progress.seconds:.0f} s, no rule broken")
    print(distribution)
    lacks = distribution.shortcomings() if chosen.seeds >= ENOUGH else []
    for lack in lacks:
        print(f"not enough: {lack}")
    return 1 if lacks else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--jobs", type=int, default=cores, help="how many processes (all cores)")
    parser.add_argument("--log", action="store_true", help="print what happens (in one process)")
    parser.add_argument("--quiet", action="store_true", help="the first violation only")
    return parser


def _log(result: Result) -> None:
    print("\n".join(result.log))


def _print_failure(result: Result, *, replay: bool) -> None:
    print(f"seed {result.scenario.seed}: {result.violations[0]}")
    if replay:
        print(REPLAY.format(scenario=pformat(result.scenario, width=100)))


REPLAY = """
# Replay, from the repository's root:
from math import inf

from tests.simulation.run import simulate
from tests.simulation.world import Life, Policy, Scenario, Step, Tree, Worker

result = simulate({scenario})
print(*result.log, *result.violations, sep="\\n")
"""

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
