"""Compares what can be seen from outside with what the model says, and checks what always holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moorings.errors import ConnectionNotReady

from . import model as rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .run import Run


def compare(run: Run) -> Iterator[str]:
    """What is not as it should be, now."""
    model, connection = run.model, run.connection
    yield from run.backend.breaches
    status = connection.status
    if run.steps != model.steps:
        yield f"steps {_news(run.steps, model.steps)} instead of {_news(model.steps, run.steps)}"
    if status.state.value != model.state:
        yield f"{status.state.value} instead of {model.state}"
    if status.generation != model.generation:
        yield f"generation {status.generation} instead of {model.generation}"
    if run.outcomes != model.outcomes:
        yield f"commands came to {run.outcomes} instead of {model.outcomes}"
    if run.backend.hook_calls != model.hook_calls:
        yield f"hooks ran {run.backend.hook_calls} instead of {model.hook_calls}"
    yield from _compare_database(run)
    yield from _compare_clients(run)
    yield from _compare_waiters(run)
    yield from _compare_counts(run)


def _news(steps: list[tuple[str, str, str]], others: list[tuple[str, str, str]]) -> str:
    common = 0
    while steps[common : common + 1] == others[common : common + 1] != []:
        common += 1
    return ", ".join(f"{s}-{e}" for s, e, _ in steps[common:]) or "none"


def _compare_database(run: Run) -> Iterator[str]:
    model, connection = run.model, run.connection
    expected = ("database", model.client.number) if model.served and model.client else None
    for what in (connection.database, lambda: run.manager.database("db")):
        try:
            given = what()
        except ConnectionNotReady:
            given = None
        if given != expected:
            yield f"database() gives {given} instead of {expected}"
    if connection.is_ready() != (expected is not None):
        yield f"is_ready() is {connection.is_ready()}, while {model.state}"
    if expected is None:
        return
    done = [hook for hook, client in run.backend.hooks_done if client == expected[1]]
    if done != list(range(model.hooks)):
        yield f"ready, and of {model.hooks} hooks {done} have run"
    if model.now > model.proof + rules.STALE:
        yield f"ready without proof of life for {model.now - model.proof} s"


def _compare_clients(run: Run) -> Iterator[str]:  # noqa: C901 - a client's stations, in order
    model, backend = run.model, run.backend
    if len(backend.clients) != model.opened:
        yield f"{len(backend.clients)} clients were opened instead of {model.opened}"
    if set(backend.pings) != model.waiting_pings:
        yield f"pings of clients {set(backend.pings)} instead of {model.waiting_pings}"
    dropped = model.new if model.commands and model.commands[0].phase == "dropping" else None
    for native in backend.clients:
        if native.number in {c.number for c in (model.client, model.new) if c and c is not dropped}:
            if native.closing:
                yield f"client {native.number} is closed and still needed"
        elif native.number == model.closing or (dropped and native.number == dropped.number):
            if not native.closing or native.closed:
                yield f"client {native.number} should be closing"
        else:
            due = model.retired.get(native.number, 0.0)
            if native.closing and model.now < due:
                yield f"client {native.number} is closed before those who hold a handle are done"
            if not native.closed and model.now >= due + rules.HEARTBEAT + rules.CLOSE:
                yield f"client {native.number} is left open"
        if native.closed > 1:
            yield f"client {native.number} was closed {native.closed} times"


def _compare_waiters(run: Run) -> Iterator[str]:
    model = run.model
    for waiter in run.waiters:
        match waiter.outcome:
            case None if model.served:
                yield "somebody is not woken, though it is ready"
            case None if model.state == "stopped":
                yield "somebody is not woken, though it is stopped"
            case "told" if model.state != "stopped":
                yield f"somebody is told not to wait, while {model.state}"
            case ("database", number) if model.served and model.client:
                if number != model.client.number:
                    yield f"somebody was given client {number}, and not {model.client.number}"
            case ("database", number) if number not in model.meanwhile:
                yield f"somebody was given a database, while {model.state}"
            case _:
                pass


def _compare_counts(run: Run) -> Iterator[str]:
    counted = sum(run.connection.measurements.transitions)
    if counted != len(run.steps):
        yield f"{counted} transitions are counted, {len(run.steps)} were told"
    restarts = sum(child.restarts for child in run.manager.kernel.supervisor.which_children())
    if restarts != run.model.restarts:
        yield f"{restarts} restarts are counted instead of {run.model.restarts}"


def compare_end(run: Run) -> Iterator[str]:  # noqa: C901 - a list of what must not be left
    """What is left when the block has been left."""
    yield from run.backend.breaches
    for native in run.backend.clients:
        if native.closed != 1:
            yield f"client {native.number} was closed {native.closed} times"
    if run.backend.pings or run.backend.hooks:
        yield "calls are left behind"
    state = run.connection.state.value
    if state != "stopped":
        yield f"{state} instead of stopped"
    if any(waiter.outcome is None for waiter in run.waiters):
        yield "somebody still waits for the database"
    for number in run.callers:
        if number not in run.outcomes:
            yield f"the caller of command {number} was never told"
    for source, event, target in run.steps:
        if rules.TABLE.get((source, event)) != target:
            yield f"{source} {event} {target} is no edge"
    path = [s for step in run.steps for s in (step[0], step[2])]
    if path[1:-1:2] != path[2::2]:
        yield f"steps that do not follow each other: {run.steps}"
    waiting = "tests.exploration.run.Waiter.run"
    others = [name for name in run.others() if not name.endswith(waiting.partition("run.")[2])]
    if others:
        yield f"tasks are left behind: {others}"
