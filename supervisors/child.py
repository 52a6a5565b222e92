"""A child: one spec and its present incarnation, as its supervisor keeps it."""

from __future__ import annotations

import math
import traceback
from typing import TYPE_CHECKING, Any

import trio

from .policy import RestartWindow
from .spec import ChildState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .spec import ChildSpec

NOT_STARTED: Any = object()
"""The value of a child that has not said `started` yet."""


class Starting:
    """What the one who starts a child waits for: its first value, or its end without one."""

    __slots__ = ("over", "value")

    def __init__(self) -> None:
        self.over = trio.Event()
        self.value: Any = NOT_STARTED


class Child:
    """The bookkeeping of one child; and the `task_status` that its `run` is handed."""

    __slots__ = (
        "_ended",
        "_scope",
        "_told",
        "error",
        "hot",
        "reported",
        "restarted_at",
        "restarts",
        "spec",
        "starting",
        "state",
        "task",
        "value",
        "window",
    )

    def __init__(self, spec: ChildSpec, told: Callable[[Child], object] | None) -> None:
        self.spec = spec
        self.restarts = 0
        self.restarted_at = -math.inf  # on trio's clock
        self.hot = False  # restarted twice at short intervals
        self.error: BaseException | None = None  # of the last incarnation
        self.window = (
            None
            if spec.intensity is None or spec.period is None
            else RestartWindow(spec.intensity, spec.period)
        )
        self.state = ChildState.STOPPED
        self.value: Any = NOT_STARTED
        # Events are made for those who wait: a thousand children start without a single one.
        self.starting: Starting | None = None
        self.reported = False  # that it did not stop in time
        self.task: trio.lowlevel.Task | None = None
        self._ended: trio.Event | None = None
        self._scope: trio.CancelScope | None = None
        self._told = told  # the supervisor's ear for `started`, if anybody watches it

    def new_scope(self) -> trio.CancelScope:
        """The scope of a new task: a cancelled one cannot be used again."""
        self._scope = trio.CancelScope()
        if self.state is ChildState.STOPPING:
            self._scope.cancel()
        return self._scope

    def started(self, value: Any = None, /) -> None:
        """Say that this incarnation is up (called by `run`; a second call changes nothing)."""
        if self.value is not NOT_STARTED:
            return
        if self.state is ChildState.STARTING:
            self.state = ChildState.RUNNING
        self.value = value
        starting, self.starting = self.starting, None
        if starting is not None:
            # Kept for the starter: by the time it runs we may have crashed and begun anew.
            starting.value = value
            starting.over.set()
        if self._told is not None:
            self._told(self)

    def stop(self) -> None:
        """Make the task end: ask it if it can be asked, else cancel it."""
        if self.state is ChildState.STOPPED:
            return
        self.state = ChildState.STOPPING
        if self.spec.ask is not None:
            self.spec.ask()
        elif self._scope is not None:
            self._scope.cancel()

    def end(self) -> None:
        """The task is over."""
        self.state = ChildState.STOPPED
        self.task = None
        self.reported = False
        starting, self.starting = self.starting, None
        if starting is not None:
            starting.over.set()
        ended, self._ended = self._ended, None
        if ended is not None:
            ended.set()

    def is_overdue(self) -> bool:
        """Whether it should have ended and nobody has said so; True once per stop."""
        overdue = self.state is not ChildState.STOPPED and not self.reported
        self.reported |= overdue
        return overdue

    async def wait_ended(self) -> None:
        """Wait until the task is over; at once without one."""
        if self.state is not ChildState.STOPPED:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()

    def stack(self) -> str:
        """Where the task is suspended, innermost frame last."""
        if self.task is None:
            return ""
        frames = traceback.StackSummary.extract(iter(self.task.iter_await_frames()))
        return "".join(frames.format())
