"""OTP's rules as a model, written from the documentation and not from the supervisor's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from .world import on_grid

if TYPE_CHECKING:
    from .commands import Command
    from .world import Policy


@dataclass
class Entry:
    """What is known of one child of one supervisor."""

    policy: Policy
    entered_at: float = 0.0
    entered_by: frozenset[Command] = frozenset()
    entered_since: int = 0  # how many facts there were
    alive: bool = False
    up: bool = False
    spawned: bool = False  # started without waiting; has yet to run
    starter: str | None = None  # who is told if it does not come up: "command", "group", "maybe"
    restarted_by: frozenset[Command] = frozenset()  # one of these, if the last time so
    begun: int = 0
    number: int = 0  # of the incarnation, as its value has it
    ended: int = 0
    cancelled_at: float | None = None
    overdue_told: bool = False
    dismissed: bool = False  # by a command that gave up waiting: it may be out, or not
    restarting: bool = False  # said to be restarted, and has not run since
    alone: bool = False  # that restart is within its own budget
    hurried: bool = False
    told_at: float = 0.0
    delay: float = 0.0
    due: bool = False  # its end waits for its turn, and is to be followed by a restart
    counts: bool = False  # its next restart counts upward
    finished: bool = False  # it ended for good, by itself
    fell: bool = False  # ... but a sibling's restart came before that end's turn
    owed: bool = False  # stopped for a sibling's sake
    unsure: bool = False  # ... or by a command
    own: list[float] = field(default_factory=list)
    kept: bool = True  # its spec
    restarts: int = 0  # as told
    began_at: float = 0.0
    over_at: float = 0.0
    wanted_since: int = 0  # how many facts there were when it last came up, and was wanted
    due_since: int | None = None  # and when its end took its turn
    rested: float = 0.0  # the delay of its last backoff
    raised: BaseException | None = None  # by its last incarnation
    why: str = ""  # the reason of the restart that its end is to have
    step: object = None  # of the scheduler, in which it began
    begun_in_step: int = 0

    def may_precede(self, other: Entry) -> bool:
        """Whether it may be first in the start order, though it was seen to begin later.

        Two commands of the same instant: who was entered first need not run first.
        """
        return self.entered_at == other.entered_at and not self.entered_by & other.entered_by

    def is_to_run(self) -> bool:
        """Whether it does not run yet, or no more, and will."""
        return self.restarting or self.spawned or self.owed or self.due

    def is_forgotten_at_its_end(self) -> bool:
        """Whether nothing is left of it now that it has ended."""
        came_to_nothing = self.begun == 1 and bool(self.entered_by) and not self.up
        return self.policy.restart == "temporary" or came_to_nothing

    def leave(self) -> None:
        """It is terminated: nothing is due any more."""
        self.restarting = self.due = self.finished = self.spawned = False
        self.owed = self.unsure = False


@dataclass
class Expected:
    """What must be the next thing that a supervisor says or does."""

    id: str
    event: str
    optional: bool = False
    own: list[float] | None = None
    upward: list[float] | None = None


def within(times: list[float], now: float, period: float) -> list[float]:
    """Those of the last `period` seconds, the edge included."""
    return [then for then in times if now - then <= period]


def runs_again(policy: Policy, error: BaseException | None) -> bool:
    """Who runs again after an end of its own."""
    return policy.restart == "permanent" or (policy.restart == "transient" and error is not None)


def delay(entry: Entry, part: float) -> float:
    """How long it rests before it runs again, if `part` is how far into the range is drawn."""
    if entry.policy.backoff is None:
        return 0.0
    initial, most = entry.policy.backoff
    lived = entry.over_at - entry.began_at
    floor = initial if lived > most else max(initial, entry.rested)
    return min(most, on_grid(initial + part * (3 * floor - initial)))


class Stray(BaseExceptionGroup[trio.Cancelled]):
    """A crash with a `Cancelled` that nobody had sent."""


def told_error(raised: BaseException | None) -> BaseException | None:
    """What is told of an end in which this was raised: all but the supervisor's cancellation."""
    if isinstance(raised, Stray):
        return raised
    if isinstance(raised, BaseExceptionGroup):
        return raised.split(trio.Cancelled)[1]
    return None if isinstance(raised, trio.Cancelled) else raised


def told(error: BaseException | None) -> str:
    """An error as a line of the log has it: without addresses, the same in every run."""
    return "Cancelled" if isinstance(error, trio.Cancelled) else repr(error)


def is_same_error(error: BaseException | None, other: BaseException | None) -> bool:
    """Whether they are one; groups are made anew when a part is taken out.

    A stray is told of as the cause of another error.
    """
    if isinstance(other, Stray):
        return error is not None and error.__cause__ is other
    if isinstance(error, BaseExceptionGroup) and isinstance(other, BaseExceptionGroup):
        pairs = zip(error.exceptions, other.exceptions, strict=False)
        same = all(is_same_error(one, another) for one, another in pairs)
        return same and len(error.exceptions) == len(other.exceptions)
    return error is other


def spend(entry: Entry, now: float) -> tuple[list[float], bool]:
    """Its own budget after one more restart, and whether that restart counts upward."""
    if entry.policy.budget is None:
        return [], True
    intensity, period = entry.policy.budget
    times = within([*entry.own, now], now, period)
    return ([], True) if len(times) > intensity else (times, False)
