"""The life of children: their tasks, incarnation after incarnation, and what follows an end.

A restart of one child loops within the child's own task instead of spawning a new one: an
incarnation costs no more than the call of `run`. What follows an end is decided in one place,
`_after_end`; what then concerns several children is `groups`' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    RestartIntensityExceeded,
    SupervisorError,
)
from .child import NOT_STARTED, RESTARTING, STARTING, STOPPED, STOPPING, Child, End
from .groups import Group
from .policy import RestartWindow, runs_again, shuts_down
from .spec import (
    AutoShutdown,
    ChildEnded,
    ChildRestarting,
    ChildStarted,
    Escalated,
    Restart,
    ShuttingDown,
    Strategy,
)
from .starts import Undecided
from .stopping import stop_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .observers import Observers
    from .spec import ChildSpec
    from .starts import Starting

HOT = 0.05
"""A child that was restarted twice within so many seconds lets the others run first."""

_TEMPORARY = Restart.TEMPORARY  # a name, as for the states: it is cheaper to look up


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
        self.calls: set[Starting] = set()  # that start new children, and are under way
        self.undecided: Undecided | None = None  # the last
        self.body = trio.CancelScope()
        self.escalation: RestartIntensityExceeded | None = None
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
        self.nursery.start_soon(self._run, child, name=child.spec.id)
        # Only now: a nursery that has failed takes nobody any more.
        child.state = STARTING
        child.value = NOT_STARTED
        child.error = None
        self.active += 1

    # -- tasks --------------------------------------------------------------------------------

    async def _run(self, child: Child) -> None:
        """The task of a child: incarnation after incarnation, until policy or a command ends them.

        One frame for both kinds of children: each more is paid for by every child.
        """
        try:
            child.task = trio.lowlevel.current_task()
            with child.new_scope():
                while not self.stopping and child.begin():
                    try:
                        await child.spec.run(task_status=child)
                    except Exception as error:  # noqa: BLE001 - whatever escapes is the policy's
                        child.error = error
                    child.over()
                    if not self._after_end(child, child.error):
                        break
                    if child.hot:
                        await self._let_others(child)
            if self.observers and child.was_cancelled():
                self._tell_ended(child, stopping=True)
        except Exception as error:
            if child.state is not STOPPING:
                raise  # not the child's: what decides about it has failed, and nobody would hear
            child.error = error  # its nursery raised it beside our Cancelled
            self._tell_ended(child, stopping=True)
        finally:
            self._gone(child)

    async def _let_others(self, child: Child) -> None:
        """Wait out the backoff; without one, let the others run.

        One that fails without ever waiting must not starve them.
        """
        if child.state is not RESTARTING:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self.resting += 1
        try:
            await child.rest()
        finally:
            self.resting -= 1
        if child.state is RESTARTING:
            child.state = STARTING

    def _gone(self, child: Child) -> None:
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
                self.ended_for_good(child)
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
        self.escalation = escalation
        if self.before_escalation is not None:
            self.before_escalation(escalation)
        self.observers.tell(Escalated(self.name, child.spec.id, escalation))
        self._end_all()
        return True

    def begin_restart(self, child: Child, reason: str, now: float) -> None:
        """Say that `child` is about to run again, and set how long it waits before."""
        self.restarts[reason] += 1
        backoff = child.spec.backoff
        if backoff is None:
            child.hot = now - child.restarted_at < HOT
            child.state = STARTING
        else:
            child.rest_before(backoff, now)
        child.restarted_at = now
        self.tell_restarting(child, reason, child.delay)

    def ended_for_good(self, child: Child) -> None:
        """A child ended by itself and does not run again: a significant one may end us all."""
        if child.spec.significant:
            self._judge(child, [other for other in self._significant() if other is not child])

    def wait_for(self, child: Child, starting: Starting) -> None:
        """`child` is started again: if its end is undecided, whether it comes up decides, too."""
        if self.undecided is not None and self.undecided.child is child:
            self.undecided.wait_for(starting)

    def decide(self, starting: Starting) -> None:
        """A start is over, well or not: judge the end that has waited for it."""
        undecided = self.undecided
        if undecided is None or starting not in undecided.starts or self.stopping:
            return
        self.undecided = None
        if not undecided.is_void:
            self._judge(undecided.child, self._significant())

    def _significant(self) -> list[Child]:
        return [child for child in self.children.values() if child.is_significant()]

    def _judge(self, child: Child, others: Sequence[Child]) -> None:
        """The end of a significant child, when these others are active."""
        coming = [call for call in self.calls if call.brings_significant()]
        if shuts_down(self.auto_shutdown, last=not (others or coming)):
            self.observers.tell(ShuttingDown(self.name, child.spec.id))
            self._end_all()
            return
        starts = [other.starting for other in others if other.starting is not None]
        if self.group is None and len(starts) == len(others):
            # They may fail to start. OTP would ask after that: it starts one at a time.
            self.undecided = Undecided(child, starts + coming)

    def _end_all(self) -> None:
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
