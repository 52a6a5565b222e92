"""docs/faults.md, made of the table of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .cells import BOUNDS, CELLS, FAULTS
from .vocabulary import (
    ATTEMPTS,
    BACKOFF_MAX,
    FAILURES,
    HOOK_TIMEOUT,
    INTERVAL,
    RETRY_MAX,
    SET_ATTEMPTS,
    SHUTDOWN,
    TIMEOUT,
    At,
    Handle,
    Place,
    World,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .vocabulary import Cell, Count, Step

INTRODUCTION = f"""\
<!-- Made by `python -m tests.faults > docs/faults.md` from tests/faults/cells.py. -->
# What a connection does when something fails

Each row is a test: of a real server behind a proxy that fails, of a server that is killed or
frozen, or of a replica set of three members that reach each other through such proxies
(`make test-faults`). It asserts five things: the states that are entered, the reasons that they
show, how long each may take, how far the counters in `/metrics` move, and whether the database
object that a program holds is still the one that serves. The password of the servers that have
one is searched for in all that a row shows and logs.

The connections here are impatient: a ping every {INTERVAL:g} s with a timeout of {TIMEOUT:g} s,
lost after {FAILURES} misses; {ATTEMPTS} attempts an episode ({SET_ATTEMPTS} with a replica set),
at most {RETRY_MAX:g} s apart; a long backoff of {BACKOFF_MAX:g} s at most; hooks bounded by
{HOOK_TIMEOUT:g} s, closing by {SHUTDOWN:g} s. With your settings, the bounds are yours.
"""

STATES = f"""\
## When it strikes

| state | what is under way |
|---|---|
| `{At.STARTING}` | the fault is there before the connection is |
| `{At.CONNECTING}` | the first attempt, in a hook that uses the database |
| `{At.READY}` | nothing; it is in use |
| `{At.FAILED}` | the long backoff, after a failure of another kind |
| `{At.REPLACING}` | `restart()` of a ready connection: a hook runs on the second client |
"""


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "\n".join(_faults()), STATES, "\n".join(_bounds())]
    parts += ["\n".join(_table(place)) for place in Place]
    return "\n".join(f"{part.rstrip()}\n" for part in parts)


def _faults() -> Iterator[str]:
    yield "## What fails\n\n| fault | where | what happens |\n|---|---|---|"
    for fault in FAULTS:
        yield f"| {fault} | {fault.place} | {fault.what} |"


def _bounds() -> Iterator[str]:
    yield "## How long it may take\n\nTwo seconds for a busy machine are part of each.\n"
    yield "| bound | seconds | what takes so long |\n|---|---|---|"
    for name, (seconds, why) in BOUNDS.items():
        yield f"| {name} | {seconds:.2f} | {why} |"


def _table(place: Place) -> Iterator[str]:
    yield f"## {place[0].upper()}{place[1:]}\n"
    yield "Bounds in seconds, since the fault came or (after “**over:**”) since it was over."
    yield "Rounds of `connecting` and `failed` count once."
    yield "Counters that are not named do not move.\n"
    yield "| fault | strikes in | states (reason) ≤ bound | counters | handle | tried with |"
    yield "|---|---|---|---|---|---|"
    for cell in CELLS:
        if cell.fault.place is place:
            yield f"| {' | '.join(_row(cell))} |"


def _row(cell: Cell) -> Iterable[str]:
    yield str(cell.fault)
    yield f"`{cell.at}`"
    yield _steps(cell)
    yield ", ".join(f"{what} {_of(count)}" for what, count in cell.moved.items() if _counts(count))
    yield cell.handle if cell.at is not At.REPLACING else _replaced(cell.handle)
    yield "all three" if len(cell.worlds) == len(World) else ", ".join(cell.worlds)


def _steps(cell: Cell) -> str:
    during = " → ".join(map(_step, cell.during)) or "stays `ready`"
    after = " → ".join(map(_step, cell.after))
    return f"{during}; **over:** {after}" if after else during


def _step(step: Step) -> str:
    reasons = f" ({' or '.join(sorted(step.reasons))})" if step.reasons else ""
    return f"`{step.state}`{reasons} ≤ {step.within:.2f}"


def _counts(count: Count) -> bool:
    return count.high != 0


def _of(count: Count) -> str:
    return "any number" if (count.low, count.high) == (0, None) else str(count)


def _replaced(handle: Handle) -> str:
    match handle:
        case Handle.SAME:
            return "`restart()` fails, the old client stays"
        case Handle.NEW:
            return "`restart()` gives a new one"
        case Handle.EITHER:
            return "a new one if `restart()` returns, which depends on how soon a primary is found"
