"""Changes to a table of transitions, which cosmic-ray, made for expressions, does not see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STATES = ("INIT", "CONNECTING", "READY", "FAILED", "STOPPED")
_EDGE = re.compile(r"^ +Event\.(?P<event>\w+): State\.(?P<target>\w+),$")


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """What is changed, and the changed source: each edge taken away, and led to each other state.

    Edges that are too many need no mutants: the tests try all pairs of a state and an event.
    """
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if edge := _EDGE.match(line.rstrip("\n")):
            before, after = "".join(lines[:number]), "".join(lines[number + 1 :])
            what = f"line {number + 1}, {edge['event']}"
            yield f"{what}: taken away", before + after
            for state in _STATES:
                if state != edge["target"]:
                    other = line.replace(f"State.{edge['target']}", f"State.{state}")
                    yield f"{what}: leads to {state}", before + other + after
