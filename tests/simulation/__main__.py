"""`python -m tests.simulation`: random supervision trees, each checked against OTP's rules.

Prints how the scenarios were distributed; at the first that breaks a rule, the script that replays
it, and exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pprint import pformat

from .report import Distribution
from .run import simulate
from .world import scenario


def main(arguments: list[str]) -> int:
    """Simulate; the exit status says whether every rule held."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--log", action="store_true", help="print what happens")
    parser.add_argument("--quiet", action="store_true", help="the first violation only")
    chosen = parser.parse_args(arguments)
    distribution = Distribution()
    began = time.monotonic()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        result = simulate(scenario(seed))
        distribution.add(result)
        if chosen.log:
            print("\n".join(result.log))
        if result.violations:
            print(f"seed {seed}: {result.violations[0]}")
            if not chosen.quiet:
                print(REPLAY.format(scenario=pformat(result.scenario, width=100)))
            return 1
    print(f"{chosen.seeds} trees in {time.monotonic() - began:.0f} s, no rule broken")
    print(distribution)
    return 0


REPLAY = """
# Replay, from the repository's root:
from math import inf

from tests.simulation.run import simulate
from tests.simulation.world import Life, Policy, Scenario, Step, Tree, Worker

result = simulate({scenario})
print(*result.log, *result.violations, sep="\\n")
"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
