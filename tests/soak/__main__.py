"""`python -m tests.soak --minutes 30`: fifty connections to a replica set, and all that can fail.

Thirty through Motor on trio, ten through Motor on asyncio, ten through PyMongo, each with a worker
that writes numbered documents through the one handle that it holds, while members of the set are
killed, frozen, deposed and cut off in every way that the proxy knows. At the end all is healed:
every acknowledged document has to be there, every connection ready, on the same handle, and no
thread, socket, file or task more than after the warm-up, nor memory beyond the stated tolerance.
The seed is printed; `--seed` has the same faults happen again. Exit status 1: a promise is broken.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Soak, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of faults")
    parser.add_argument("--seed", type=int, help="default: a new one")
    chosen = parser.parse_args(arguments)
    seed = secrets.randbelow(2**32) if chosen.seed is None else chosen.seed
    sys.path.insert(0, str(Path(__file__).parents[1]))  # where what tests share is found
    from .conductor import soak
    from .crew import SoakFailed

    print(f"seed {seed}, {chosen.minutes:g} minutes", flush=True)
    try:
        soak(seed, chosen.minutes)
    except SoakFailed as failed:
        print(f"FAILED: {failed}")
        print(f"replay: python -m tests.soak --minutes {chosen.minutes:g} --seed {seed}")
        return 1
    print("every promise was kept")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
