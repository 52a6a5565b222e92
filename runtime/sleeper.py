"""How an actor waits, how its calls are bounded, and how others end either.

An actor does one thing at a time: it is parked, or in a call of its provider's. One cancel scope
bounds everything it does while all goes well; the shared timers wake a parked actor, and cut a
call off by cancelling that scope. A scope per call, or a deadline that moves with each of them,
would cost more than the calls' own bookkeeping.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import outcome
import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ..providers.contract import Signal
    from .client import Client
    from .kernel import Kernel


class Sleeper:
    """The waiting half of an actor. All of it belongs to the trio thread.

    Attributes:
        calling: what the provider is doing for us right now; None: nothing.
        client: the present client; None before the first attempt.
        due: when the timers wake or interrupt us, on trio's clock.
        looked_at: the timers' own.
        nudged: somebody wants the present backoff to end.
        signal: what the driver has told and nobody has looked at yet.
        stopping: somebody asked for the end.
        watching: bounds the sentinel's ping, which is part of its wait.
    """

    __slots__ = (
        "_bound",
        "_cut",
        "_injected",
        "_parked",
        "calling",
        "client",
        "due",
        "kernel",
        "looked_at",
        "nudged",
        "signal",
        "stopping",
        "watching",
    )

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.client: Client | None = None
        self.calling: str | None = None
        self.due = self.looked_at = math.inf
        self.nudged = self.stopping = False
        self.signal: Signal | None = None
        self.watching: trio.CancelScope | None = None
        self._bound: trio.CancelScope | None = None
        self._cut = False  # our scope is cancelled; a provider may have swallowed that
        self._injected: BaseException | None = None  # a hook's bug, to be raised in this task
        self._parked: trio.lowlevel.Task | None = None

    def limit(self, seconds: float) -> None:
        """Let the timers interrupt the next call after so many seconds; `math.inf`: do not."""
        kernel = self.kernel
        now = kernel.now()
        self.due = due = now + seconds
        if due < self.looked_at:  # `timers.set` at length: three times a start, once a ping
            kernel.timers.look(self, due, now)
        client = self.client
        self.calling = client.step if client is not None and seconds < math.inf else None

    def park(self, when: float) -> Awaitable[object]:
        """To be awaited: until `when` (trio's clock), a signal, a nudge or a stop."""
        # Not itself a coroutine function: a thousand parked actors would each keep its frame.
        if self.signal or self.nudged or self._injected or self.stopping:
            return _nothing()
        self.kernel.timers.set(self, when, self.kernel.now())
        self._parked = trio.lowlevel.current_task()
        return trio.lowlevel.wait_task_rescheduled(self._abort)  # noqa: ASYNC105 - by the caller

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._parked = None
        self.due = math.inf
        return trio.lowlevel.Abort.SUCCEEDED

    def rouse(self) -> None:
        """End the present wait; a call goes on, unless it is the sentinel's."""
        task, self._parked = self._parked, None
        if task is not None:
            self.due = math.inf  # else the wait's end would interrupt what follows it
            trio.lowlevel.reschedule(task)
        elif self.watching is not None:
            self.watching.cancel()

    def wake(self) -> None:
        """End the present wait, or interrupt the present call. The timers' way in, too."""
        if self._parked is not None:
            self.rouse()
        elif self._bound is not None:
            self._cut = True
            self._bound.cancel()

    def nudge(self) -> None:
        """End a backoff."""
        self.nudged = True
        self.rouse()

    def inject(self, error: BaseException) -> None:
        """Raise `error` in this task: a crash that was found elsewhere."""
        task, self._parked = self._parked, None
        if task is not None:
            self.due = math.inf
            trio.lowlevel.reschedule(task, outcome.Error(error))
        else:
            self._injected = error
            self.wake()


async def _nothing() -> None:
    """What there is to wait for when something has happened already."""
