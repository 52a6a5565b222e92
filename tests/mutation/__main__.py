"""`python -m tests.mutation`: does a test fail for every small change to what decides?

cosmic-ray (and `tables`, for the edges of the state machine) changes the state machine and the
supervisor's policy, one place at a time, in a temporary copy, and runs the tests that `plan.toml`
names. Changes that no test notices (survivors) have to be explained there. The exit status is 1 if
one is not, or if an explained one is noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.mutation.tables import mutants

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PLAN = HERE / "plan.toml"
SETTINGS = """\
[cosmic-ray]
module-path = {module}
timeout = {timeout}
excluded-modules = []
test-command = {command}
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = {excluded}
"""


@dataclass(frozen=True, order=True)
class Mutant:
    """One change: what was done to which line."""

    module: str
    line: str
    operator: str

    def __str__(self) -> str:
        return f"{self.module}: {self.operator}: {self.line}"


def main(arguments: list[str]) -> int:
    """Try the mutants of all modules of the plan, or of those named."""
    plan = tomllib.loads(PLAN.read_text())
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(plan['tests'])}; none: all")
    modules = parser.parse_args(arguments).modules or list(plan["tests"])
    explained = {
        Mutant(entry["module"], entry["line"], operator)
        for entry in plan["survivor"]
        for operator in entry["operators"]
        if entry["module"] in modules
    }
    survivors: set[Mutant] = set()
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(Path(folder))
        for module in modules:
            fates, survived = _tried(copy, module, plan)
            survivors |= survived
            found = f"{sum(fates.values())} mutants, {fates['survived']} survived"
            print(f"{module}: {found}", flush=True)
            for mutant in sorted(survived - explained):
                print(f"SURVIVED  {mutant}", flush=True)
        tables = [module for module in plan["tables"] if module in modules]
        unnoticed = sum(_tried_as_table(copy, module, plan) for module in tables)
    return max(_judged(survivors, explained), min(unnoticed, 1))


def _copied(folder: Path) -> Path:
    copy = folder / "moorings"
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in filter(None, names.stdout.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    return copy


def _tried(copy: Path, module: str, plan: dict[str, Any]) -> tuple[Counter[str], set[Mutant]]:
    tests = _command(copy, plan["tests"][module])
    settings = SETTINGS.format(
        module=json.dumps(module),
        timeout=plan["timeout"],
        command=json.dumps(tests),
        excluded=json.dumps(plan["excluded"]),
    )
    (copy.parent / "settings.toml").write_text(settings)
    session = copy.parent / f"{module.replace('/', '.')}.sqlite"
    _run(copy, "cosmic-ray", "init", "../settings.toml", str(session))
    _run(copy, "cr-filter-operators", str(session), "../settings.toml")
    _run(copy, "cosmic-ray", "baseline", "../settings.toml")  # the tests pass as things are
    _run(copy, "cosmic-ray", "exec", "../settings.toml", str(session))
    fates: Counter[str] = Counter()
    survivors = set()
    for item, result in _results(_run(copy, "cosmic-ray", "dump", str(session))):
        fate = result["test_outcome"] or result["worker_outcome"]
        if fate == "skipped":
            continue
        fates[fate] += 1
        if fate == "survived":
            for mutation in item["mutations"]:
                lines = (copy / module).read_text().splitlines()
                line = lines[mutation["start_pos"][0] - 1].strip()
                operator = mutation["operator_name"].removeprefix("core/")
                survivors.add(Mutant(module, line, operator))
    return fates, survivors


def _command(copy: Path, patterns: list[str]) -> str:
    files = [str(f.relative_to(copy)) for p in patterns for f in sorted(copy.glob(p))]
    # Each file once, in the order of the plan: what notices most comes first.
    return " ".join((sys.executable, "-m pytest -q -x -p no:randomly", *dict.fromkeys(files)))


def _tried_as_table(copy: Path, module: str, plan: dict[str, Any]) -> int:
    """Change each edge; how many changes no test noticed."""
    command, path = _command(copy, plan["tests"][module]).split(), copy / module
    source, tried, survived = path.read_text(), 0, 0
    for what, changed in mutants(source):
        path.write_text(changed)
        done = subprocess.run(
            command, cwd=copy, env=_environment(copy), check=False, capture_output=True
        )
        tried += 1
        if done.returncode == 0:
            survived += 1
            print(f"SURVIVED  {module}: {what}")
    path.write_text(source)
    print(f"{module}: {tried} mutants of its table, {survived} survived", flush=True)
    return survived


def _results(dump: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for line in dump.splitlines():
        item, result = json.loads(line)
        if result is None:
            raise RuntimeError(f"a mutant was not tried: {item}")
        yield item, result


def _environment(copy: Path) -> dict[str, str]:
    # The copy is `moorings` because its parent comes first on the path, before the installed one.
    return os.environ | {
        "PYTHONPATH": str(copy.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(copy.parent / "hypothesis"),
    }


def _run(copy: Path, command: str, *arguments: str) -> str:
    program = Path(sys.executable).parent / command
    done = subprocess.run(
        [program, *arguments],
        cwd=copy,
        env=_environment(copy),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _judged(survivors: set[Mutant], explained: set[Mutant]) -> int:
    for mutant in sorted(explained - survivors):
        print(f"NOTICED, though explained as a survivor  {mutant}")
    print(f"{len(survivors)} survivors, {len(survivors & explained)} of them explained")
    return 1 if survivors ^ explained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
