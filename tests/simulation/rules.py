"""OTP's rules as a model, written from the documentation and not from the supervisor's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .commands import Command
    from .world import Policy


@dataclass
class Entry:
    """What is known of one child of one supervisor."""

    policy: Policy
    entered_at: float = 0.0
    entered_by: frozenset[Command] = frozenset()
    alive: bool = False
    up: bool = False
    spawned: bool = False  # started without waiting; has yet to run
    starter: str | None = None  # who is told if it does not come up: "command", "group", "maybe"
    begun: int = 0
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
    owed: bool = False  # stopped for a sibling's sake
    own: list[float] = field(default_factory=list)

    def may_precede(self, other: Entry) -> bool:
        """Whether it may be first in the start order, though it was seen to begin later.

        Two commands of the same instant: who was entered first need not run first.
        """
        return self.entered_at == other.entered_at and not self.entered_by & other.entered_by

    def is_to_run(self) -> bool:
        """Whether it does not run yet, or no more, and will."""
        return self.restarting or self.spawned or self.owed or self.due

    def leave(self) -> None:
        """It is terminated: nothing is due any more."""
        self.restarting = self.due = self.owed = self.finished = self.spawned = False


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


def spend(entry: Entry, now: float) -> tuple[list[float], bool]:
    """Its own budget after one more restart, and whether that restart counts upward."""
    if entry.policy.budget is None:
        return [], True
    intensity, period = entry.policy.budget
    times = within([*entry.own, now], now, period)
    return ([], True) if len(times) > intensity else (times, False)
