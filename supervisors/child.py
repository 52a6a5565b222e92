"""A child: one spec and its present incarnation, as its supervisor keeps it."""

from __future__ import annotations

import logging
import traceback
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import trio

from .ends import StrayCancelled
from .policy import RestartWindow
from .spec import ChildState
from .starts import Starting

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .backoff import Backoff
    from .ends import End
    from .spec import ChildSpec

logger = logging.getLogger("moorings.supervisors")

NOT_STARTED: Any = object()
"""The value of a child that has not said `started` yet."""

# Names for what every start and stop asks many times: Python 3.11 looks a member up in its enum
# seven times as slowly.
STARTING, RUNNING = ChildState.STARTING, ChildState.RUNNING
RESTARTING = ChildState.RESTARTING
STOPPING, STOPPED = ChildState.STOPPING, ChildState.STOPPED

UNCANCELLED = nullcontext()
"""Stands where the scope would be of a child that is asked to end."""


class Child:
    """The bookkeeping of one child; and the `task_status` that its `run` is handed."""

    __slots__ = (
        "_ended",
        "_hurry",
        "_scope",
        "_scopes",
        "_told",
        "astray",
        "began_at",
        "delay",
        "end_pending",
        "error",
        "kept",
        "leaving",
        "lived",
        "reported",
        "restarts",
        "rests_until",
        "runs",
        "spec",
        "starter",
        "starting",
        "state",
        "task",
        "tried",
        "unwanted",
        "value",
        "was_stopped",
        "watched",
        "window",
    )

    def __init__(self, spec: ChildSpec, told: Callable[[Child], object] | None) -> None:
        self.spec = spec
        self.restarts = 0
        # Of the last incarnation, for its backoff: not from the restart before it, which may have
        # been a sibling's or a command's, or have waited for others.
        self.began_at = self.lived = 0.0
        self.delay = 0.0  # of the last backoff, in seconds
        self.rests_until = 0.0  # on trio's clock
        self.error: BaseException | None = None  # of the last incarnation
        self.window = (
            None
            if spec.intensity is None or spec.period is None
            else RestartWindow(spec.intensity, spec.period)
        )
        self.state = STOPPED
        self.value: Any = NOT_STARTED
        # Events are made for those who wait: a thousand children start without a single one.
        self.starting: Starting | None = None
        self.starter: Starting | None = None  # the last that started it again, up or not
        self.end_pending: End | None = None
        self.leaving = 0  # how many wait for a turn to terminate it
        self.kept = True  # its spec, when the task ends; not that of a start which comes to nothing
        self.unwanted = False  # its start is taken back: it stays down, and its spec goes with it
        self.tried = False  # by its group, which tries again if it fails to start
        self.was_stopped = False  # the last incarnation, rather than ended by itself
        self.astray = False  # its task is not as it was: the next incarnation has another one
        self.reported = False  # that it did not stop in time
        self.watched = False  # while it stops, by its supervisor, as those who had it stopped left
        self.runs = False  # its `run`, rather than what comes before, between and after
        self.task: trio.lowlevel.Task | None = None
        self._ended: trio.Event | None = None
        self._hurry: trio.Event | None = None  # while it waits for its restart
        self._scope: trio.CancelScope | None = None
        self._scopes: object = None  # the innermost around its `run`
        self._told = told  # the supervisor's ear for `started`, if anybody watches it

    def new_scope(self) -> AbstractContextManager[object]:
        """What cancels a new task: a scope can be used once. None for one that can be asked."""
        if self.spec.ask is not None:
            return UNCANCELLED
        self._scope = trio.CancelScope()
        if self.state is STOPPING:
            self._scope.cancel()
        return self._scope

    def is_cancelled(self) -> bool:
        """Whether its scope was cancelled; one that can be asked has none."""
        return self._scope is not None and self._scope.cancel_called

    def begin(self) -> bool:
        """Be about to run, unless it was stopped: before it ran, or between two incarnations."""
        if self.state is STOPPING or self.unwanted:
            return False
        self.error = None
        self.runs = True
        self._scopes = _innermost_scope(self.task)
        if self.spec.backoff is not None:
            self.began_at = trio.current_time()
        return True

    def started(self, value: Any = None, /) -> None:
        """Say that this incarnation is up (called by `run`; a second call changes nothing)."""
        if self.value is not NOT_STARTED or self.task is None:  # None: of a thread that outlived it
            return
        if self.state is STARTING:
            self.state = RUNNING
        self.value = value
        if self.starting is not None and not self.unwanted:  # else who waits is told of its end
            starting, self.starting = self.starting, None
            self.kept = True
            starting.came_up(self, value)
        if self._told is not None:
            self._told(self)

    def over(self) -> None:
        """Its `run` is over; its task may not be."""
        self.runs = False
        self.astray = type(self.error) is StrayCancelled
        if _innermost_scope(self.task) is not self._scopes and _runs(self.task):
            self.astray = True
            logger.error(
                "child %r left a cancel scope open: in a generator, most likely", self.spec.id
            )
        if self.spec.backoff is not None:
            self.lived = trio.current_time() - self.began_at

    def stop(self) -> None:
        """Make the task end: ask it if it can be asked, else cancel it. Once is enough."""
        if self.state is STOPPED or self.state is STOPPING:
            return
        resting = self.state is RESTARTING
        self.state = STOPPING
        if resting:
            self._wake()
            if self.task is None:  # its restart is the group's: nothing of it runs
                self.end()
        elif self.spec.ask is not None:
            self._ask(self.spec.ask)
        elif self._scope is not None:
            self._scope.cancel()

    def _ask(self, ask: Callable[[], object]) -> None:
        try:
            ask()
        except Exception:  # whoever stops it stops others, too
            logger.exception("child %r could not be asked to stop: its `ask` failed", self.spec.id)

    def end(self) -> None:
        """The task is over, or will not come."""
        self.was_stopped = self.state is STOPPING
        self.state = STOPPED
        self.task = None
        self.runs = self.reported = self.watched = False
        starting, self.starting = self.starting, None
        if starting is not None:
            starting.fail(self, self.error)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.set()

    def is_due(self) -> bool:
        """Whether it ended by itself, and a restart that its group has yet to decide on follows."""
        return self.end_pending is not None and self.end_pending.reason is not None

    def is_owed(self) -> bool:
        """Whether it was stopped for a sibling's sake, and is still to be started.

        One that rests in its own task (within its own budget) starts by itself.
        """
        resting = self.state is RESTARTING and self.task is None
        return resting and self.end_pending is None

    def is_waiting(self) -> bool:
        """Whether it waits out its backoff."""
        return self._hurry is not None and not self._hurry.is_set()

    def is_significant(self) -> bool:
        """Whether it is active, and its end may be its supervisor's."""
        active = self.state not in {STOPPED, STOPPING} and not self.unwanted
        return self.spec.significant and active

    def rest_before(self, backoff: Backoff, now: float) -> None:
        """Be about to rest before the restart that is decided `now`."""
        self.delay = backoff.delay(self.delay, self.lived)
        self.rests_until = now + self.delay
        self.state = RESTARTING

    async def rest(self) -> None:
        """Wait out the backoff, or until somebody is in a hurry.

        It began with the decision: what its siblings take to stop is part of it.
        """
        hurry = self._hurry = trio.Event()
        with trio.move_on_at(self.rests_until):
            await hurry.wait()
        self._hurry = None

    def hurry(self) -> Starting:
        """End the rest now; what is returned tells how the restart went."""
        self._wake()
        self.starting = Starting()
        return self.starting

    def detach_hurried(self) -> Starting | None:
        """What those wait for who hurried one that rests: its group's restart serves them, too."""
        if self.state is not RESTARTING or self.task is not None:
            return None
        starting, self.starting = self.starting, None
        return starting

    def _wake(self) -> None:
        if self._hurry is not None:
            self._hurry.set()

    def is_overdue(self) -> bool:
        """Whether its `run` should have ended and nobody has said so; True once per stop."""
        overdue = self.state is STOPPING and self.runs and not self.reported
        self.reported |= overdue
        return overdue

    async def wait_ended(self) -> None:
        """Wait until it has stopped; at once if it is not stopping.

        It has stopped then, and by the time we look another may have started it.
        """
        if self.state is STOPPING:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()

    def stack(self) -> str:
        """Where the task is suspended, innermost frame last."""
        if self.task is None:
            return ""
        frames = traceback.StackSummary.extract(iter(self.task.iter_await_frames()))
        return "".join(frames.format())


def _innermost_scope(task: trio.lowlevel.Task | None) -> object:
    """What cancels a task at present: trio's own, as nothing public tells of it."""
    return getattr(task, "_cancel_status", None)


def _runs(task: trio.lowlevel.Task | None) -> bool:
    """Whether it is a task that runs, and not what is left of a run that trio has given up."""
    return trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() is task
