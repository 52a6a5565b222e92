"""Which error a command ends with, and from which other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorings.supervisors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRunning,
    ChildStartFailed,
    SupervisorError,
)

from .rules import is_same_error, told, told_error

if TYPE_CHECKING:
    from .commands import Command
    from .ledger import Ledger


def check_error(book: Ledger, command: Command, error: BaseException) -> None:
    """At the moment in which it is raised."""
    match error:
        case ChildStartFailed():
            _check_start_failed(book, command, error)
        case ChildNotFound():
            _check(
                book, command, error, [_how(book, command, i) in {"", "gone"} for i in command.ids]
            )
        case ChildRunning():
            _check(
                book,
                command,
                error,
                [_how(book, command, i) in {"", "active"} for i in command.ids],
            )
        case ChildAlreadyStarted() | ChildAlreadyPresent():
            _check(book, command, error, [type(error) in _refusals(book, command)])
        case SupervisorError():
            deaf = book.tree.ordered and command.name == "start_children_nowait"
            _check(book, command, error, [book.ending or deaf])


def _check(book: Ledger, command: Command, error: BaseException, may_be: list[bool]) -> None:
    if not all(may_be):
        book.violated(f"{command.name} {', '.join(command.ids)} is refused: {error!r}")


def _check_start_failed(book: Ledger, command: Command, error: ChildStartFailed) -> None:
    if error.id not in command.ids:
        book.violated(f"{command.name} {command.ids} failed because of {error.id}")
        return
    entry = book.entries.get(error.id)
    # One that was hurried and taken out has not run again: its error is the one before.
    before = [None, None if entry is None else told_error(entry.raised)]
    causes = command.errors.get(error.id, before)
    if not any(is_same_error(error.__cause__, cause) for cause in causes):
        book.violated(f"{error.id} failed to start from {told(error.__cause__)}, not {causes!r}")


def _refusals(book: Ledger, command: Command) -> set[type[SupervisorError]]:
    """For whichever id is taken first."""
    seen: set[str] = set()
    for child in command.ids:
        how = _how(book, command, child)
        if child in seen:
            return {ChildAlreadyPresent}
        if how == "":
            return {ChildAlreadyPresent, ChildAlreadyStarted}
        if how != "gone":
            return {ChildAlreadyStarted if how == "active" else ChildAlreadyPresent}
        seen.add(child)
    return set()


def _how(book: Ledger, command: Command, child: str) -> str:
    """How it is there: "active", "present", "gone"; "" where that cannot be told."""
    entry = book.entries.get(child)
    others = [c for c in book.commands.naming(child) if c is not command]
    if others or child in command.begun or book.commands.has_just_stopped(child):
        return ""
    if entry is None:
        return "gone"
    ended_unrun = entry.spawned and book.ending  # a temporary one is gone
    open_ = entry.starter == "maybe" or entry.owed or entry.unsure or ended_unrun
    if entry.dismissed or (not entry.alive and open_):
        return ""
    if entry.alive or entry.is_to_run():
        return "active"
    return "present" if entry.kept else "gone"
