"""Whether a cell went as its row of the table says: five things, each with its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .evidence import COUNTERS, PINGS
from .vocabulary import At, Handle, exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .evidence import Entered, Outcome
    from .vocabulary import Cell, Step

_EDGES = ("lost", "given up", "retried", "established", "crashed")


def judge(cell: Cell, outcome: Outcome) -> list[str]:
    """What is wrong; nothing, if all is as it should be."""
    return [
        *_sequence(cell, outcome),
        *_reasons_and_bounds(cell, outcome),
        *_metrics(cell, outcome),
        *_identity(cell, outcome),
    ]


def _sequence(cell: Cell, outcome: Outcome) -> Iterator[str]:
    expected = [step.state for step in (*cell.during, *cell.after)]
    found = [one.state for one in outcome.entered]
    if found != expected:
        yield f"states: {found} and not {expected}"


def _reasons_and_bounds(cell: Cell, outcome: Outcome) -> Iterator[str]:
    since = [(step, outcome.struck) for step in cell.during]
    since += [(step, outcome.healed) for step in cell.after]
    # Where the sequence is wrong, which is told already, what there is of it is still looked at.
    for (step, began), one in zip(since, outcome.entered, strict=False):
        yield from _reason(step, one)
        took = one.at - began
        if took > step.within:
            yield f"bound: {step.state} after {took:.2f} s and not within {step.within:.2f} s"


def _reason(step: Step, one: Entered) -> Iterator[str]:
    if step.reasons and not one.reasons <= step.reasons:
        yield f"reason: {one} and not {' or '.join(sorted(step.reasons))}"


def _metrics(cell: Cell, outcome: Outcome) -> Iterator[str]:
    for what in (*COUNTERS, PINGS):
        expected = cell.moved.get(what, exactly(0))
        if not expected.holds(outcome.moved[what]):
            yield f"metrics: {what} moved by {outcome.moved[what]:g} and not by {expected}"
    counted = sum(outcome.moved[edge] for edge in _EDGES)
    seen = outcome.transitions - (cell.at is At.STARTING)  # it begins with one from `init`
    if counted != seen:
        yield f"metrics: {counted:g} transitions and not {seen}, as observers saw"


def _identity(cell: Cell, outcome: Outcome) -> Iterator[str]:
    same = outcome.same if cell.handle is Handle.EITHER else cell.handle is Handle.SAME
    if outcome.same is not same:
        yield f"handle: not {cell.handle}"
    first = cell.at in {At.STARTING, At.CONNECTING, At.FAILED}
    generations = 1 if first or not same else 0
    if outcome.generations != generations:
        yield f"handle: {outcome.generations} generations more and not {generations}"
    if cell.at is At.REPLACING and outcome.restarted is same:
        yield f"handle: restart() {'returned' if outcome.restarted else 'failed'}"
