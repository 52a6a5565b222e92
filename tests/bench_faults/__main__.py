"""`make bench-faults`: faults for real, and when they are noticed. See README.md beside.

Exit status 1 where a bound is exceeded by more than a quarter. `--quick` does everything a few
times only; names of sections run only these. Either writes nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import pymongo
import trio

sys.path.insert(0, str(Path(__file__).parents[1]))  # mongod.py

from ..bench.clock import Report
from . import elections, standalone, storm
from .scene import QUICK, Effort

SECTIONS = {"standalone": standalone, "elections": elections, "storm": storm}
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Run the sections that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench_faults", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="about a minute")
    asked = parser.parse_args()
    if unknown := set(asked.sections) - SECTIONS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    report = Report()
    for name, section in SECTIONS.items():
        if name in (asked.sections or SECTIONS):
            section.run(report, QUICK if asked.quick else Effort())
    if not asked.quick and not asked.sections:
        _write(report)
    failed = [row.what for row in report.rows if row.verdict == "FAIL"]
    for what in failed:
        print(f"exceeds its bound by more than a quarter: {what}")
    return 1 if failed else 0


def _write(report: Report) -> None:
    rows = [{**asdict(row), "verdict": row.verdict} for row in report.rows]
    machine = {
        "python": platform.python_version(),
        "trio": trio.__version__,
        "pymongo": pymongo.version,
    }
    RESULTS.write_text(
        json.dumps({"machine": machine, "rows": rows}, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
