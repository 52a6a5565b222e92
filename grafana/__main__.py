"""`python -m moorings.grafana`: write the rules, the dashboards and docs/metrics.md.

With `--runbook-url`, alerts link to where the runbook is published; with `--out`, all of it goes
somewhere else than the repository.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .products import products
from .rules import RUNBOOK

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Write every file that has changed, and say which."""
    parser = argparse.ArgumentParser(prog="python -m moorings.grafana", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="where to write to")
    parser.add_argument(
        "--runbook-url",
        default=RUNBOOK,
        help="the address of the page that docs/runbook.md has become where you publish it",
    )
    arguments = parser.parse_args()
    for name, text in products(runbook=arguments.runbook_url).items():
        file = arguments.out / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(file)  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
