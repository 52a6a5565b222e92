"""`python -m tests.planting simulation` (or `exploration`): are the bugs in its `bugs/` found?

Each patch is applied to a temporary copy of what is checked, which then looks until a rule is
broken. The exit status is 1 if there is a bug that is not found, or one where none was planted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
LONGEST = 300  # seconds: a bug may be one that never ends


@dataclass(frozen=True)
class Suite:
    """Something that finds bugs.

    Attributes:
        name: of its folder in `tests/`; run as a module.
        copied: what is checked, and whatever that imports.
        effort: the option that says how much is tried, and its default.
        enough: the effort that shows whether it finds "bugs" where none was planted.
        begins: how the line begins that tells of a broken rule.
        options: what else it is told.
    """

    name: str
    copied: tuple[str, ...]
    effort: tuple[str, int]
    enough: int
    begins: str
    options: tuple[str, ...] = ()

    def patches(self) -> dict[str, Path]:
        """The planted bugs by name."""
        return {p.stem: p for p in sorted((HERE / self.name / "bugs").glob("*.patch"))}

    def find(self, patch: Path | None, effort: int) -> str | None:
        """What it says about the bug, or without one; None: nothing."""
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "moorings"
            copy.mkdir()
            for name in (*self.copied, f"tests/{self.name}"):
                source = ROOT / name
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, copy / name, ignore=ignored)
                else:
                    shutil.copy(source, copy / name)
            if patch is not None:
                subprocess.run(["git", "apply", str(patch)], cwd=copy, check=True)
            return self._look(folder, copy, effort)

    def _look(self, folder: str, copy: Path, effort: int) -> str | None:
        # The copy is `moorings` because its parent comes first on the path, before the installed.
        module = f"tests.{self.name}"
        command = [sys.executable, "-m", module, "--quiet", *self.options]
        command += [self.effort[0], str(effort)]
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
        told = [line for line in lines if line.startswith(self.begins)]
        if not told:
            raise RuntimeError(f"{module} itself failed:\n{done.stdout}")
        return told[0]


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "simulation",
            ("__init__.py", "errors.py", "supervisors"),
            ("--seeds", 2000),
            200,
            "seed ",
            ("--jobs", "1"),
        ),
        Suite(
            "exploration",
            ("__init__.py", "errors.py", "supervisors", "providers", "runtime"),
            ("--depth", 5),
            3,
            "path ",
        ),
    )
}


def main(arguments: list[str]) -> int:
    """Look for all of them, or for those named."""
    parser = argparse.ArgumentParser(prog="python -m tests.planting")
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("names", nargs="*", help="of patches, without the suffix; none: all")
    parser.add_argument("--effort", type=int, help="seeds for each, or the depth")
    chosen = parser.parse_args(arguments)
    suite = SUITES[chosen.suite]
    planted = suite.patches()
    names = chosen.names or list(planted)
    wrong = suite.find(None, suite.enough)
    if wrong is not None:
        print(f"without any planted bug: {wrong}")
        return 1
    missed = 0
    for name in names:
        found = suite.find(planted[name], chosen.effort or suite.effort[1])
        missed += found is None
        print(f"{name}: {found or 'NOT FOUND'}", flush=True)
    print(f"{len(names) - missed} of {len(names)} planted bugs found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
