"""`python -m tests.exploration`: every interleaving of events that may reach a connection.

Prints the alphabet, the depth, and how much was covered. At the first path that goes wrong, what
happened on it and the command that replays it, and exits with 1; also when, from all roots, an edge
of the machine was never taken.
"""

from __future__ import annotations

import argparse
import sys
import time

from .alphabet import ALPHABET
from .model import TABLE
from .run import go
from .walk import ROOTS, Exploration


def main(arguments: list[str]) -> int:
    """Explore; the exit status says whether all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.exploration", description=__doc__)
    parser.add_argument("--depth", type=int, default=6, help="events after the root")
    parser.add_argument("--root", choices=ROOTS, action="append", help="default: all")
    parser.add_argument("--intensity", type=int, choices=(0, 1), action="append", help="of crashes")
    parser.add_argument("--seed", type=int, default=0, help="of trio's order of tasks")
    parser.add_argument("--no-merge", action="store_true", help="go every path to its end")
    parser.add_argument("--quiet", action="store_true", help="the first violation only")
    parser.add_argument("--replay", metavar="EVENTS", help="one path, with all that happens on it")
    chosen = parser.parse_args(arguments)
    intensities = chosen.intensity or [0, 1]
    if chosen.replay is not None:
        return _replay(chosen.replay.split(), intensities[0], chosen.seed)
    edges: set[tuple[str, str, str]] = set()
    for intensity in intensities:
        for root in chosen.root or ROOTS:
            exploration = Exploration(
                root, intensity, chosen.depth, merge=not chosen.no_merge, seed=chosen.seed
            )
            if not _explore(exploration, quiet=chosen.quiet):
                return 1
            edges |= exploration.edges
    missing = _report_edges(edges)
    return 1 if missing and chosen.root is None else 0  # from one root not all can be reached


def _replay(path: list[str], intensity: int, seed: int) -> int:
    result = go(path, intensity, seed=seed, quiet=False)
    print(*result.log, *result.violations, sep="\n")
    return 1 if result.violations else 0


def _explore(exploration: Exploration, *, quiet: bool) -> bool:
    began = time.monotonic()
    if not quiet:
        print(f"from {exploration.root}, budget {exploration.intensity} crashes:", flush=True)

    def told(length: int, so_far: Exploration) -> None:
        if not quiet:
            print(f"  depth {length}: {so_far.situations} situations", flush=True)

    exploration.explore(told)
    if exploration.violation is not None:
        _tell_violation(exploration, quiet=quiet)
        return False
    seconds = time.monotonic() - began
    print(
        f"depth {exploration.depth}: {exploration.interleavings()} interleavings of "
        f"{len(exploration.events)} events, by {exploration.runs} runs ({seconds:.0f} s); "
        f"{exploration.situations} situations, {len(exploration.edges)} edges",
        flush=True,
    )
    return True


def _tell_violation(exploration: Exploration, *, quiet: bool) -> None:
    result = exploration.violation
    assert result is not None
    path = " ".join(result.path)
    print(f"path {path}: {result.violations[0]}")
    if not quiet:
        again = go(result.path, exploration.intensity, seed=exploration.seed, quiet=False)
        print(*again.log, sep="\n")
        print(
            f"# Replay, from the repository's root:\npython -m tests.exploration --intensity "
            f'{exploration.intensity} --seed {exploration.seed} --replay "{path}"'
        )


def _report_edges(edges: set[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Print, and return, those that are missing."""
    print("alphabet:", *(f"  {name}: {text}" for name, text in ALPHABET.items()), sep="\n")
    missing = [(s, e, t) for (s, e), t in TABLE.items() if (s, e, t) not in edges]
    print(f"{len(TABLE) - len(missing)} of {len(TABLE)} edges of the machine were taken")
    for edge in missing:
        print("never taken:", *edge)
    return missing


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
