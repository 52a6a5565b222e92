"""docs/supervision.md promises nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from moorings.supervisors import open_supervisor

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "supervision.md").read_text()
NAMED = sorted(set(re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", PAGE)))
ROWS = [
    row
    for row in PAGE.splitlines()
    if row.startswith("| ") and not row.startswith(("| OTP |", "| Code change"))
]


def _functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize(("name", "link"), NAMED)
def test_each_named_test_exists_where_the_link_leads(name: str, link: str) -> None:
    assert name in _functions((DOCS / link).resolve())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_each_row_names_a_test(row: str) -> None:
    assert "](../tests/test_" in row


def test_the_table_is_read() -> None:
    assert len(ROWS) > 40
    assert len(NAMED) > 50


async def test_the_examples_run(autojump_clock: object) -> None:
    example, nested = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    with trio.move_on_after(1):
        await names["main"]()
    exec(nested, names)
    async with open_supervisor(name="root") as root:
        await root.start_child(names["subtree"])
        assert root.count_children().active == 1
