"""`python -m tests.simulation.planted`: does the simulation find the bugs in `bugs/`?

Each patch is applied to a temporary copy of what is simulated, and seeds are tried until a rule is
broken. The exit status is 1 if there is a bug that none of them finds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COPIED = ("__init__.py", "errors.py", "supervisors", "tests/simulation")
LONGEST = 300  # seconds: a bug may be one that never ends


def patches() -> dict[str, Path]:
    """The planted bugs by name."""
    return {patch.stem: patch for patch in sorted((HERE / "bugs").glob("*.patch"))}


def find(patch: Path, seeds: int) -> str | None:
    """What the simulation says about the bug; None: nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "moorings"
        copy.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, copy / name, ignore=ignored)
            else:
                shutil.copy(source, copy / name)
        subprocess.run(["git", "apply", str(patch)], cwd=copy, check=True)
        return _simulate(folder, copy, seeds)


def _simulate(folder: str, copy: Path, seeds: int) -> str | None:
    # The copy is `moorings` because its parent comes first on the path, before the installed one.
    command = [sys.executable, "-m", "tests.simulation", "--quiet", "--jobs", "1"]
    command += ["--seeds", str(seeds)]
    environment = os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"never came to an end ({LONGEST} s)"
    lines = done.stdout.strip().splitlines()
    if done.returncode == 0:
        return None
    if not lines or not lines[0].startswith("seed "):
        raise RuntimeError(f"the simulation itself failed:\n{done.stdout}")
    return lines[0]


def main(arguments: list[str]) -> int:
    """Look for all of them, or for those named."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted")
    parser.add_argument("names", nargs="*", help="of patches, without the suffix; none: all")
    parser.add_argument("--seeds", type=int, default=2000, help="how many to try for each")
    chosen = parser.parse_args(arguments)
    planted = patches()
    names = chosen.names or list(planted)
    missed = 0
    for name in names:
        found = find(planted[name], chosen.seeds)
        missed += found is None
        print(f"{name}: {found or 'NOT FOUND'}", flush=True)
    print(f"{len(names) - missed} of {len(names)} planted bugs found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
