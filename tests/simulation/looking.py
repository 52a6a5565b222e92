"""From time to time, while nothing happens: is what the supervisor says what is?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from moorings.supervisors import ChildState

if TYPE_CHECKING:
    from moorings.supervisors import Supervisor

    from .ledger import Ledger
    from .rules import Entry


def compare(book: Ledger, supervisor: Supervisor) -> None:
    """While nothing happens: is what the supervisor says what is; is nobody forgotten."""
    book.settle()
    if book.ending:
        return
    infos = {info.id: info.state for info in supervisor.which_children()}
    for child, entry in book.entries.items():
        if entry.alive and infos.get(child) not in _states(entry):
            book.violated(f"{child} runs, and is said to be {infos.get(child)}")
    for child, state in infos.items():
        runs = child in book.entries and book.entries[child].alive
        if not runs and state not in {ChildState.STOPPED, ChildState.RESTARTING}:
            book.violated(f"{child} does not run, and is said to be {state}")
    active, alive = (
        supervisor.count_children().active,
        sum(entry.alive for entry in book.entries.values()),
    )
    if active != alive:
        book.violated(f"{active} children are said to be active, {alive} are")
    _check_forgotten(book)


def _states(entry: Entry) -> set[ChildState]:
    if entry.cancelled_at is not None:
        return {ChildState.STOPPING}
    # A supervisor that ends by itself takes no notice of being stopped as well.
    return {ChildState.RUNNING if entry.up else ChildState.STARTING, ChildState.STOPPING}


def _check_forgotten(book: Ledger) -> None:
    now = trio.current_time()
    rests = [e for e in book.entries.values() if e.restarting and now <= e.told_at + e.delay]
    busy = [i for i, e in book.entries.items() if e.alive and book.is_busy(i, e)]
    if book.group and (rests or busy or book.commands.open):
        return
    for child, entry in book.entries.items():
        if book.commands.naming(child) or entry in rests or entry.dismissed:
            continue
        if entry.restarting or entry.spawned:
            book.violated(f"{child} was to run again, and does not")
        if book.group and (entry.due or entry.owed):
            book.violated(f"{child} was to run again with its group, and does not")
        if book.group and entry.finished:
            book.violated(f"{child} is significant, ended, and nothing shut down")
