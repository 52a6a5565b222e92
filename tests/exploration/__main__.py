"""`python -m tests.exploration`: every interleaving of events that may reach a connection.

Prints the alphabet, the depth, and how much was covered. At the first path that goes wrong, what
happened on it and the command that replays it, and exits with 1; also when, from all roots, an edge
of the machine was never taken.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from .alphabet import ALPHABET
from .model import TABLE
from .run import go
from .together import Pairs, go_together
from .walk import ROOTS, Exploration

if TYPE_CHECKING:
    from .run import Result


def main(arguments: list[str]) -> int:
    """Explore; the exit status says whether all is as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.exploration", description=__doc__)
    parser.add_argument("--depth", type=int, default=6, help="events after the root")
    parser.add_argument("--root", choices=ROOTS, action="append", help="default: all")
    parser.add_argument("--intensity", type=int, choices=(0, 1), action="append", help="of crashes")
    parser.add_argument("--seed", type=int, default=0, help="of trio's order of tasks")
    parser.add_argument(
        "--together", action="store_true", help="then two events in one instant, wherever it came"
    )
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
            if chosen.together and not _explore_together(Pairs(exploration), quiet=chosen.quiet):
                return 1
            edges |= exploration.edges
    missing = _report_edges(edges)
    return 1 if missing and chosen.root is None else 0  # from one root not all can be reached


def _replay(path: list[str], intensity: int, seed: int) -> int:
    if "&" in path[-1]:
        first, _, second = path.pop().partition("&")
        result = go_together(path, (first, second), intensity, seed=seed, quiet=False)
    else:
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
        _tell(exploration.violation, exploration.intensity, exploration.seed, quiet=quiet)
        return False
    seconds = time.monotonic() - began
    print(
        f"depth {exploration.depth}: {exploration.interleavings()} interleavings of "
        f"{len(exploration.events)} events, by {exploration.runs} runs ({seconds:.0f} s); "
        f"{exploration.situations} situations, {len(exploration.edges)} edges",
        flush=True,
    )
    return True


def _explore_together(pairs: Pairs, *, quiet: bool) -> bool:
    began = time.monotonic()
    pairs.explore()
    if pairs.violation is not None:
        _tell(pairs.violation, pairs.explored.intensity, pairs.seed, quiet=quiet)
        return False
    print(
        f"together: {pairs.given} pairs of events in one instant, after {len(pairs.explored.paths)}"
        f" situations, by {pairs.runs} runs ({time.monotonic() - began:.0f} s)",
        flush=True,
    )
    return True


def _tell(result: Result, intensity: int, seed: int, *, quiet: bool) -> None:
    path = " ".join(result.path)
    print(f"path {path}: {result.violations[0]}")
    if not quiet:
        print("# Replay, with all that happens, from the repository's root:")
        print(
            f'python -m tests.exploration --intensity {intensity} --seed {seed} --replay "{path}"',
            flush=True,
        )
        _replay(list(result.path), intensity, seed)


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
