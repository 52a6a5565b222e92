"""The history of transitions: what is kept, how much of it, and that it costs those who look."""

from __future__ import annotations

from served import connection

from moorings.errors import FailureReason
from moorings.runtime import history
from moorings.runtime.history import History
from moorings.runtime.opening import open_connections
from moorings.runtime.state import Event, State
from moorings.runtime.status import Transition

LOCAL = {
    "default": {
        "database": {"documents": {"main": {"backend": "local"}}},
        "runtime": {"exporter": {"enabled": False}},
    }
}


def note(kept: History, name: str, at: float, error: str | None = None) -> None:
    reason = FailureReason.REFUSED if error else None
    status = connection(name, State.FAILED, since=at, reason=reason, error=error)
    kept.note(Transition(name, State.CONNECTING, Event.GAVE_UP, State.FAILED, status))


def test_the_last_steps_are_kept_oldest_first() -> None:
    kept = History(lambda: ["a"])
    for at in range(history.DEPTH + 5):
        note(kept, "a", at)
    assert [step.at for step in kept.of("a")] == list(range(5, history.DEPTH + 5))
    assert kept.total("a") == history.DEPTH + 5


def test_those_who_know_some_are_told_the_others() -> None:
    kept = History(lambda: ["a"])
    for at in range(30):
        note(kept, "a", at)
    assert [step.at for step in kept.of("a", after=28)] == [28, 29]
    assert kept.of("a", after=30) == ()
    assert len(kept.of("a", after=2)) == history.DEPTH  # more than are kept


def test_of_a_connection_that_took_no_step_there_is_nothing() -> None:
    assert (History(list).of("a"), History(list).total("a")) == ((), 0)


def test_a_step_keeps_the_beginning_of_a_text_and_each_text_once() -> None:
    kept = History(lambda: ["a"])
    for at in range(2):
        note(kept, "a", at, "x" * 10_000)
    first, second = kept.of("a")
    assert (first.reason, len(first.error or "")) == (FailureReason.REFUSED, history.MAX_TEXT)
    assert first.error is second.error


def test_of_many_connections_fewer_steps_are_kept_but_never_none() -> None:
    names = [f"c{n}" for n in range(1000)]
    kept = History(lambda: names)
    for at in range(history.DEPTH):
        note(kept, "c0", at)
    assert len(kept.of("c0")) == history.BUDGET // 1000
    names.extend(f"d{n}" for n in range(100_000))
    note(kept, "c0", 99)
    assert len(kept.of("c0")) == history.SHALLOW


def test_what_a_reload_removed_is_forgotten() -> None:
    """Names that come and go for months leave nothing behind."""
    kept = History(lambda: ["main"])
    note(kept, "main", 0)
    for number in range(1000):
        note(kept, f"passing{number}", number)
    assert kept.of("main")
    assert sum(bool(kept.of(f"passing{number}")) for number in range(1000)) <= history.DEPTH + 2


async def test_a_manager_keeps_it_from_the_first_time_that_somebody_asks() -> None:
    async with open_connections(LOCAL) as manager:
        await manager.wait_ready("main")
        kept = manager.keep_history()
        assert kept.of("main") == ()
        assert manager.keep_history() is kept
        await manager.stop("main")
        [step] = kept.of("main")
        assert (step.source, step.event, step.target) == ("ready", "stop", "stopped")
