"""`make bench`: ratios side by side in one run. Prints a table, writes `results.json`.

Exit status 1 where a bound is exceeded by more than a quarter. `python -m tests.bench life idle`
runs only these sections, and then writes nothing.
"""

from __future__ import annotations

import json
import logging
import platform
import sys
from dataclasses import asdict
from pathlib import Path

import trio

from . import children, guest, handle, idle, isolation, life, real
from .clock import Report

SECTIONS = {
    "life": life,
    "children": children,
    "idle": idle,
    "handle": handle,
    "real": real,
    "guest": guest,
    "isolation": isolation,
}
RESULTS = Path(__file__).with_name("results.json")


def main(names: list[str]) -> int:
    """Run the sections called `names`; none: all."""
    unknown = set(names) - SECTIONS.keys()
    if unknown:
        print(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
        return 64
    _log_to_nowhere()
    report = Report()
    for name, section in SECTIONS.items():
        if not names or name in names:
            section.run(report)
    if not names:
        rows = [{**asdict(row), "verdict": row.verdict} for row in report.rows]
        machine = {"python": platform.python_version(), "trio": trio.__version__}
        RESULTS.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    failed = [row.what for row in report.rows if row.verdict == "FAIL"]
    for what in failed:
        print(f"exceeds its bound by more than a quarter: {what}")
    return 1 if failed else 0


def _log_to_nowhere() -> None:
    # INFO, formatted and written, as in production; only not onto this table.
    handler = logging.FileHandler("/dev/null")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("moorings")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
