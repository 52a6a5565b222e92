"""The life of children: their tasks, incarnation after incarnation, and what follows an end.

A restart of one child loops within the child's own task instead of spawning a new one: an
incarnation costs no more than the call of `run`. What follows an end is decided in one place,
`_after_end`; what then concerns several children is `groups`' business. Longer than most modules:
the loop of `_run` and all that it asks on its way are read as one.
"""

from __future__ import annotations

import logging
from contextvars import copy_context
from typing import TYPE_CHECKING

import trio

from ..errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    RestartIntensityExceeded,
    SupervisorError,
)
from .child import NOT_STARTED, RESTARTING, STARTING, STOPPED, STOPPING, Child
from .ends import End, StrayCancelled, without_cancelled
from .groups import Group
from .policy import RestartWindow, runs_again
from .significance import Significance
from .spec import (
    AutoShutdown,
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    Escalated,
    Restart,
    Strategy,
)
from .stopping import stop_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .observers import Observers
    from .spec import ChildSpec

logger = logging.getLogger("moorings.supervisors")

# Names, as for the states: they are cheaper to look up.
_CANCELLED = trio.Cancelled
_TEMPORARY = Restart.TEMPORARY


class Runner:
    """Runs the children of one supervisor in a nursery that nobody else cancels."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        name: str,
        strategy: Strategy,
        intensity: float,
        period: float,
        auto_shutdown: AutoShutdown,
        ordered: bool,
        observers: Observers,
    ) -> None:
        self.name = name
        self.nursery = nursery
        self._start_soon: Callable[..., None] = nursery.start_soon
        self.context = copy_context()
        self.ordered = ordered
        self.window = RestartWindow(intensity, period)
        self.auto_shutdown = auto_shutdown
        self.observers = observers
        # Nobody is told of starts that nobody watches.
        self._told = self._child_started if self.observers else None
        self.children: dict[str, Child] = {}
        self.group = None if strategy is Strategy.ONE_FOR_ONE else Group(self, strategy)
        self.stopping = False
        self.active = 0  # tasks
        self.resting = 0  # of these, how many wait out their backoff
        self.significance = Significance(self)
        self.body = trio.CancelScope()
        self.escalation: RestartIntensityExceeded | None = None
        self.fatal: BaseException | None = None  # what a child raised that no policy is for
        self.before_escalation: Callable[[RestartIntensityExceeded], object] | None = None
        self.restarts: dict[str, int] = {"crash": 0, "exit": 0, "start_failed": 0}

    # -- who there is -------------------------------------------------------------------------

    def add(self, spec: ChildSpec) -> Child:
        """Keep a child for this spec, whose id must be free."""
        child = self.children[spec.id] = Child(spec, self._told)
        return child

    def forget(self, child: Child) -> None:
        """Keep it no longer, unless its id has another child by now."""
        if self.children.get(child.spec.id) is child:
            del self.children[child.spec.id]

    def check_open(self) -> None:
        """Refuse to start anybody once all are being stopped."""
        if self.stopping:
            raise SupervisorError(f"supervisor {self.name!r} is stopping")

    def check_admission(self, specs: Sequence[ChildSpec]) -> None:
        """Refuse specs of which one cannot be added, all of them."""
        self.check_open()
        seen: set[str] = set()
        for spec in specs:
            present = self.children.get(spec.id)
            if spec.id in seen:
                raise ChildAlreadyPresent(f"child {spec.id!r} is in the list twice")
            if present is not None and present.state is STOPPED:
                raise ChildAlreadyPresent(f"child {spec.id!r} is present: restart or delete it")
            if present is not None:
                raise ChildAlreadyStarted(f"child {spec.id!r} is {present.state}")
            if spec.significant and self.auto_shutdown is AutoShutdown.NEVER:
                raise SupervisorError(
                    f"child {spec.id!r} is significant, but supervisor {self.name!r} never shuts "
                    "down by itself: give it an auto_shutdown"
                )
            seen.add(spec.id)

    def spawn(self, child: Child) -> None:
        """Run a child that is not running."""
        self._start_task(child)
        # Only now: a nursery that has failed takes nobody any more.
        child.state = STARTING
        child.value = NOT_STARTED
        child.error = None
        self.active += 1

    # -- tasks --------------------------------------------------------------------------------

    def _start_task(self, child: Child) -> None:
        # In a copy of ours: not of whoever asked for it, nor of the sibling that has crashed.
        self.context.run(self._start_soon, self._run, child, name=child.spec.id)

    async def _run(self, child: Child) -> None:
        """The task of a child: incarnation after incarnation, until policy or a command ends them.

        One frame for both kinds of children: each more is paid for by every child.
        """
        again = False
        try:
            child.task = trio.lowlevel.current_task()
            with child.new_scope():
                if child.state is RESTARTING:
                    await self._rest(child)
                while not self.stopping and child.begin():
                    try:
                        await child.spec.run(task_status=child)
                    except BaseException as error:
                        if type(error) is _CANCELLED and child.is_cancelled():
                            break  # nearly always; cheaper than to have it raised on
                        child.error = self._blame(child, error)
                        if child.error is None:
                            raise
                    child.over()
                    again = False  # nor if deciding fails
                    again = self._after_end(child, child.error)
                    if child.astray or not again:
                        break
                    await self._pause(child)
            if child.runs:  # it was not over by itself: it let our cancellation through
                self._tell_ended(child, stopping=True)
        except Exception as error:
            if not self._is_childs(child, error):
                raise
        finally:
            self._task_over(child, again=again)

    def _blame(self, child: Child, error: BaseException) -> BaseException | None:
        """What counts as the error of a child whose `run` has raised.

        None is for what is raised on as it is: an end that we wanted, beside others or by way of
        the nursery, and what is to end the program a second time.

        What is to end the program ends all children, in their order, and is then raised by the
        block; a second one waits for no order.
        """
        if isinstance(error, Exception):
            return error
        rest = without_cancelled(error)
        if rest is None or isinstance(rest, Exception):
            return None if self._is_cancelled(child) else StrayCancelled.made_of(error)
        if self.fatal is not None or isinstance(rest, GeneratorExit):
            return None
        self.fatal = rest
        if not self.stopping:
            self.end_all()
        return rest

    def _is_cancelled(self, child: Child) -> bool:
        return child.is_cancelled() or self.nursery.cancel_scope.cancel_called

    def _is_childs(self, child: Child, error: Exception) -> bool:
        """Whether an error is the child's that has left its scope.

        Else what decides about it has failed, and nobody would hear.
        """
        if child.runs:
            child.error = error  # its nursery raised it beside our Cancelled
            self._tell_ended(child, stopping=True)
        elif child.astray:
            logger.debug("of what child %r left open trio says:", child.spec.id, exc_info=error)
        return child.runs or child.astray

    async def _pause(self, child: Child) -> None:
        """Wait out the backoff, or let the others run: one that never waits must not starve them.

        What an incarnation has set in its context is gone by the next.
        """
        clean = self._is_clean()
        if not clean:
            trio.lowlevel.current_task().context = self.context.copy()  # from the next step on
        if child.state is RESTARTING:
            await self._rest(child)
        elif child.restarts > 1 or not clean:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _is_clean(self) -> bool:
        """Whether the context is as it was: the same values, as equal ones may be anything."""
        now, base = copy_context(), self.context
        if len(now) != len(base):
            return False
        return not now or all(var in base and value is base[var] for var, value in now.items())

    async def _rest(self, child: Child) -> None:
        self.resting += 1
        try:
            await child.rest()
        finally:
            self.resting -= 1
        if child.state is RESTARTING:
            child.state = STARTING

    @trio.lowlevel.enable_ki_protection  # else a Ctrl-C here leaves who waits for it asleep
    def _task_over(self, child: Child, *, again: bool) -> None:
        """A task of a child ends, and with it the child, unless it is to run `again` in another."""
        if again and child.astray:
            self._start_task(child)  # whatever the old one has left open is left behind
            return
        if child.spec.restart is _TEMPORARY or not child.kept:
            self.forget(child)  # in the instant of its end: nobody may find it, and start it
        failed_again = child.tried and child.starting is not None
        child.end()
        self.active -= 1
        if (failed_again and not child.was_stopped) or child.is_due():
            child.state = RESTARTING

    # -- what follows an end ------------------------------------------------------------------

    def _after_end(self, child: Child, error: BaseException | None) -> bool:
        """Decide what follows the end of an incarnation: True to run again in the same task."""
        stopping = child.state is STOPPING
        self._tell_ended(child, stopping=stopping)
        if stopping or self.stopping or child.unwanted:
            return False
        failed_start = child.value is NOT_STARTED
        if failed_start and child.starting is not None:
            return False  # the one who started it is told, and decides
        if not runs_again(child.spec.restart, abnormal=error is not None):
            if self.group is not None:
                self.group.ended(child, End(None, error))
            else:
                self.significance.ended(child)
            return False
        reason = "start_failed" if failed_start else "exit" if error is None else "crash"
        now = trio.current_time()
        own = child.window
        if own is None or own.add(now):
            if own is not None:
                # As if alone under a supervisor of its own, which now ends and is restarted.
                own.clear()
            if self.group is not None:
                self.group.ended(child, End(reason, error))
                return False
            if self.is_too_many(child, error, now):
                return False
        self.begin_restart(child, reason, now)
        return True

    def is_too_many(self, child: Child, error: BaseException | None, now: float) -> bool:
        """Count a restart of `child` upward; True if that ends the supervisor."""
        if not self.window.add(now):
            return False
        escalation = RestartIntensityExceeded(self.name, child.spec.id, len(self.window))
        escalation.__cause__ = error
        if self.before_escalation is not None:
            self.before_escalation(escalation)
        self.escalation = escalation
        self.observers.tell(Escalated(self.name, child.spec.id, escalation))
        self.end_all()
        return True

    def begin_restart(self, child: Child, reason: str, now: float) -> None:
        """Say that `child` is about to run again, and set how long it waits before."""
        self.restarts[reason] += 1
        backoff = child.spec.backoff
        if backoff is None:
            child.state = STARTING
        else:
            child.rest_before(backoff, now)
        self.tell_restarting(child, reason, child.delay)

    def end_all(self) -> None:
        """Stop every child, and cancel the block."""
        self.stopping = True
        self.nursery.start_soon(stop_all, self, name=f"{self.name}: stop")
        self.body.cancel()

    # -- what is told -------------------------------------------------------------------------

    def _child_started(self, child: Child) -> None:
        self.observers.tell(ChildStarted(self.name, child.spec.id, child.restarts))

    def _tell_ended(self, child: Child, *, stopping: bool) -> None:
        if self.observers:
            self.observers.tell(ChildEnded(self.name, child.spec.id, child.error, stopping))

    def tell_restarting(self, child: Child, reason: str, delay: float = 0.0) -> None:
        """Count a restart of `child`, and say that it is near."""
        child.restarts += 1
        child.value = NOT_STARTED
        if self.observers:
            event = ChildRestarting(self.name, child.spec.id, reason, child.restarts, delay)
            self.observers.tell(event)
