"""From time to time, while nothing happens: is what the supervisor says what is?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from moorings.supervisors import ChildState

if TYPE_CHECKING:
    from moorings.supervisors import Supervisor

    from .commands import Command
    from .ledger import Ledger
    from .rules import Entry


def compare(book: Ledger, supervisor: Supervisor) -> None:
    """While nothing happens: is what the supervisor says what is; is nobody forgotten."""
    book.settle()
    _check_block(book)
    _check_commands(book)
    if book.ending:
        return
    _check_answers(book, supervisor)
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
    _check_shut_down(book)


def _check_block(book: Ledger) -> None:
    """Whoever ends by itself ends its block, and does not wait for it to stop its children."""
    if not book.ends_itself:
        return
    if book.block_began and not book.block_told:
        book.violated("it ends, and its block goes on")
    alive = [i for i, e in book.entries.items() if e.alive]
    if alive and not any(book.entries[i].cancelled_at is not None or book.below(i) for i in alive):
        book.violated(f"it ends, and nobody stops {', '.join(alive)}")


def _check_commands(book: Ledger) -> None:
    for command in book.commands.open:
        stops = command.stops
        if stops is not None and (stops.alive, stops.begun) == (True, command.stops_number):
            child = command.ids[0]
            if stops.cancelled_at is None and not book.below(child):
                book.violated(f"{child} starts, is to be terminated, and goes on")
        if command.name in {"restart_child", "terminate_child"} and not (book.group or book.ending):
            _check_lone(book, command)


def _check_lone(book: Ledger, command: Command) -> None:
    """Without turns, commands take effect at once."""
    child = command.ids[0]
    entry = book.entries.get(child)
    alive = entry is not None and entry.alive
    if command.name == "restart_child" and not alive:
        book.violated(f"{child} is to be restarted, and waits")
    stopping = alive and (entry.cancelled_at is not None or book.below(child))
    if command.name == "terminate_child" and not stopping:
        book.violated(f"{child} is to be terminated, and nobody stops it")


def _check_answers(book: Ledger, supervisor: Supervisor) -> None:
    """Every spec that is kept, no other, in start order, and what is said of each."""
    infos = {info.id: info for info in supervisor.which_children()}
    known = {i: e for i, e in book.entries.items() if not book.commands.naming(i)}
    extra = [i for i in infos if not (book.commands.naming(i) or (i in known and known[i].kept))]
    extra += [i for i in infos if _is_taken_back(book, i)]
    lost = [i for i, e in known.items() if e.kept and i not in infos]
    if extra or lost:
        book.violated(f"{extra} should have been forgotten, {lost} should not")
    for child, info in infos.items():
        entry = known.get(child)
        if entry is None or not entry.kept:
            continue
        policy = entry.policy
        said = (info.restart.value, info.significant, info.restarts)
        if said != (policy.restart, policy.significant, entry.restarts):
            book.violated(f"{child} is said to be {info}, after {entry.restarts} restarts")
        if not entry.alive and info.state not in _resting_states(book, entry):
            book.violated(f"{child} does not run, and is said to be {info.state}")
    entered = [known[i].entered_at for i in infos if i in known]
    if entered != sorted(entered):
        book.violated(f"{list(infos)} are said to be in start order")
    if supervisor.count_children().specs != len(infos):
        book.violated(f"{supervisor.count_children()}, and there are {list(infos)}")
    if supervisor.restarts != {"crash": 0, "exit": 0, "start_failed": 0} | book.reasons:
        book.violated(f"restarts are said to be {supervisor.restarts}, told were {book.reasons}")


def _is_taken_back(book: Ledger, child: str) -> bool:
    """Whether nothing is left of it, though others of its start have yet to end."""
    if book.group or not book.commands.was_to_be_taken_back(child):  # else once it is its turn
        return False
    return not (book.entries[child].alive or book.entries[child].is_to_run())


def _resting_states(book: Ledger, entry: Entry) -> set[ChildState]:
    if (
        entry.dismissed or entry.owed or entry.unsure or entry.starter == "maybe"
    ):  # its turn may not have come
        return {ChildState.STOPPED, ChildState.RESTARTING}
    rests = entry.restarting or entry.due
    return {ChildState.RESTARTING if rests else ChildState.STOPPED}


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


def _check_shut_down(book: Ledger) -> None:
    """An end has waited for whether others come up: they have not, and are no more."""
    significant = [e for e in book.entries.values() if e.policy.significant]
    if book.tree.auto_shutdown != "all_significant" or book.group or book.commands.open:
        return
    if any(e.alive or e.is_to_run() for e in significant):
        return
    for child, since in book.events.waits.items():
        if book.significant_up_since <= since:
            book.violated(f"{child} ended, the others never came up, and nothing shut down")
