"""The supervisor: children in one nursery that nobody but the supervisor cancels.

A restart loops within the child's own task instead of spawning a new one: an incarnation costs no
more than the call of `run`. What follows an end is decided in one place, `_after_end`; strategies
that concern several children belong there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import trio

from ..errors import (
    ChildAlreadyPresent,
    ChildAlreadyStarted,
    ChildNotFound,
    ChildRunning,
    ChildStartFailed,
    RestartIntensityExceeded,
    SupervisorError,
    did_you_mean,
)
from .child import NOT_STARTED, Child, Starting
from .observers import Observers
from .policy import RestartWindow, runs_again
from .spec import (
    ChildCounts,
    ChildEnded,
    ChildInfo,
    ChildRestarting,
    ChildSpec,
    ChildStarted,
    ChildState,
    ChildUnstopped,
    Escalated,
    Restart,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .spec import SupervisorObserver

logger = logging.getLogger("moorings.supervisors")

HOT = 0.05
"""A child that was restarted twice within so many seconds lets the others run first."""


class Supervisor:
    """Starts, restarts and stops children. Made by `open_supervisor`.

    Semantics are Erlang/OTP's; where structured concurrency differs (no child can be abandoned),
    `ChildUnstopped` reports what cannot be done. All methods belong to the trio thread.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        name: str,
        intensity: int,
        period: float,
        ordered: bool,
        observers: Iterable[SupervisorObserver],
    ) -> None:
        self.name = name
        self._nursery = nursery
        self._ordered = ordered
        self._window = RestartWindow(intensity, period)
        self._observers = Observers(observers)
        # Nobody is told of starts that nobody watches.
        self._told = self._child_started if self._observers else None
        self._children: dict[str, Child] = {}
        self._stopping = False
        self._active = 0
        self._quiet: trio.Event | None = None
        self.body = trio.CancelScope()
        self.escalation: RestartIntensityExceeded | None = None
        self.before_escalation: Callable[[RestartIntensityExceeded], object] | None = None
        """Called with the error before anything ends because of it; must not raise."""
        self.restarts: dict[str, int] = {"crash": 0, "exit": 0, "start_failed": 0}
        """How often a child was restarted, by reason."""

    def __repr__(self) -> str:
        counts = self.count_children()
        return f"<Supervisor {self.name!r}: {counts.active} of {counts.specs} children active>"

    # -- commands -----------------------------------------------------------------------------

    async def start_child(self, spec: ChildSpec) -> Any:
        """Start a child and wait until it says `started`.

        Returns:
            The value it passed to `task_status.started`.

        Raises:
            ChildAlreadyStarted: a child with this id is running.
            ChildAlreadyPresent: a child with this id is there, not running.
            ChildStartFailed: it ended before it said `started`; its spec is not kept.
            SupervisorError: the supervisor is stopping.

        Cancellation stops the child again and forgets it.
        """
        child = self._admit(spec)
        try:
            return await self._start_and_wait(child)
        except BaseException:
            if self._children.get(spec.id) is child:
                del self._children[spec.id]
            raise

    def start_children_nowait(self, specs: Sequence[ChildSpec]) -> None:
        """Start many children together, without waiting for any (only with `ordered=False`).

        All specs are checked before the first child starts. One that ends before it says
        `started` is treated like one that ended later.

        Raises:
            ChildAlreadyStarted, ChildAlreadyPresent: an id is taken; nothing was started.
            SupervisorError: the supervisor is ordered, or stopping.
        """
        if self._ordered:
            raise SupervisorError(f"supervisor {self.name!r} starts its children one by one")
        admitted: list[Child] = []
        try:
            admitted.extend(self._admit(spec) for spec in specs)
        except SupervisorError:
            for child in admitted:
                del self._children[child.spec.id]
            raise
        for child in admitted:
            self._spawn(child)

    async def terminate_child(self, id: str) -> None:  # noqa: A002 - the child spec's own word
        """Stop a child and wait for its end; its spec stays (a temporary one's is forgotten).

        A no-op on a child that is not running.

        Raises:
            ChildNotFound: no child has this id.

        Cancellation gives up the waiting; the child goes on stopping.
        """
        child = self._find(id)
        child.stop()
        await self._wait_stopped([child])

    async def restart_child(self, id: str) -> Any:  # noqa: A002
        """Start a child that was terminated, or that ended; wait until it says `started`.

        Raises:
            ChildNotFound: no child has this id.
            ChildRunning: it is running: terminate it first.
            ChildStartFailed: it ended before it said `started`; its spec stays.
            SupervisorError: the supervisor is stopping.
        """
        child = self._find(id)
        self._check_open()
        if child.state is not ChildState.STOPPED:
            raise ChildRunning(f"child {id!r} is {child.state}")
        return await self._start_and_wait(child)

    def delete_child(self, id: str) -> None:  # noqa: A002
        """Forget the spec of a child that is not running.

        Raises:
            ChildNotFound: no child has this id.
            ChildRunning: it is running: terminate it first.
        """
        child = self._find(id)
        if child.state is not ChildState.STOPPED:
            raise ChildRunning(f"child {id!r} is {child.state}")
        del self._children[id]

    # -- answers ------------------------------------------------------------------------------

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Every child, in start order."""
        return tuple(
            ChildInfo(c.spec.id, c.state, c.spec.restart, c.spec.significant, c.restarts)
            for c in tuple(self._children.values())  # metrics ask from other threads
        )

    def count_children(self) -> ChildCounts:
        """How many specs there are, and how many have a running task. Cheap."""
        return ChildCounts(specs=len(self._children), active=self._active)

    @property
    def intensity(self) -> int:
        """How many restarts within the period this supervisor allows."""
        return self._window.intensity

    # -- the life of a child ------------------------------------------------------------------

    def _find(self, id: str) -> Child:  # noqa: A002
        try:
            return self._children[id]
        except KeyError:
            raise ChildNotFound(
                f"supervisor {self.name!r} has no child {id!r}. {did_you_mean(id, self._children)}"
            ) from None

    def _check_open(self) -> None:
        if self._stopping:
            raise SupervisorError(f"supervisor {self.name!r} is stopping")

    def _admit(self, spec: ChildSpec) -> Child:
        self._check_open()
        present = self._children.get(spec.id)
        if present is not None:
            if present.state is ChildState.STOPPED:
                raise ChildAlreadyPresent(f"child {spec.id!r} is present: restart or delete it")
            raise ChildAlreadyStarted(f"child {spec.id!r} is {present.state}")
        child = self._children[spec.id] = Child(spec, self._told)
        return child

    def _spawn(self, child: Child) -> None:
        child.state = ChildState.STARTING
        child.value = NOT_STARTED
        child.error = None
        self._active += 1
        run = self._run_cancellable if child.spec.ask is None else self._incarnations
        self._nursery.start_soon(run, child, name=child.spec.id)

    async def _start_and_wait(self, child: Child) -> Any:
        starting = child.starting = Starting()
        self._spawn(child)
        try:
            await starting.over.wait()
        except trio.Cancelled:
            child.stop()
            with trio.CancelScope(shield=True):
                await self._wait_stopped([child])
            raise
        if starting.value is NOT_STARTED:
            raise ChildStartFailed(child.spec.id) from child.error
        return starting.value

    async def _run_cancellable(self, child: Child) -> None:
        """The task of a child that cannot be asked to end."""
        try:
            with child.new_scope() as scope:
                await self._incarnations(child)
            if scope.cancelled_caught:
                self._tell_ended(child, stopping=True)
        except Exception as error:  # noqa: BLE001 - a child's nursery raised it beside our Cancelled
            child.error = error
            self._tell_ended(child, stopping=True)
        finally:
            self._gone(child)

    async def _incarnations(self, child: Child) -> None:
        """Incarnation after incarnation, until policy or a command ends them.

        The whole task of a child that ends when it is asked to: one frame less for each of many.
        """
        child.task = trio.lowlevel.current_task()
        run = child.spec.run
        try:
            while child.state is not ChildState.STOPPING:  # asked before it ran, or between two
                child.error = None
                try:
                    await run(task_status=child)
                except Exception as error:  # noqa: BLE001 - whatever escapes is the policy's
                    child.error = error
                if not self._after_end(child, child.error):
                    return
                if child.hot:
                    # One that fails without ever waiting must not starve the others.
                    await trio.lowlevel.cancel_shielded_checkpoint()
        finally:
            if child.spec.ask is not None:  # the others are gone once their scope is behind them
                self._gone(child)

    def _tell_ended(self, child: Child, *, stopping: bool) -> None:
        if self._observers:
            self._observers.tell(ChildEnded(self.name, child.spec.id, child.error, stopping))

    def _after_end(self, child: Child, error: BaseException | None) -> bool:
        """Decide what follows the end of an incarnation: True to run again."""
        stopping = child.state is ChildState.STOPPING
        self._tell_ended(child, stopping=stopping)
        if stopping or self._stopping:
            return False
        failed_start = child.value is NOT_STARTED
        if failed_start and child.starting is not None:
            return False  # the one who started it is told, and decides
        if not runs_again(child.spec.restart, abnormal=error is not None):
            return False
        child.restarts += 1
        if self._too_many(child):
            self._escalate(child, error)
            return False
        reason = "start_failed" if failed_start else "exit" if error is None else "crash"
        self.restarts[reason] += 1
        child.value = NOT_STARTED
        child.state = ChildState.STARTING
        if self._observers:
            self._observers.tell(ChildRestarting(self.name, child.spec.id, reason, child.restarts))
        return True

    def _too_many(self, child: Child) -> bool:
        now = trio.current_time()
        child.hot = now - child.restarted_at < HOT
        child.restarted_at = now
        if child.window is not None:
            if not child.window.add(now):
                return False
            # As if it were alone under a supervisor of its own, which now ends and is restarted.
            child.window.clear()
        return self._window.add(now)

    def _escalate(self, child: Child, error: BaseException | None) -> None:
        escalation = RestartIntensityExceeded(self.name, child.spec.id, len(self._window))
        escalation.__cause__ = error
        self.escalation = escalation
        if self.before_escalation is not None:
            self.before_escalation(escalation)
        self._observers.tell(Escalated(self.name, child.spec.id, escalation))
        self._stopping = True
        self._nursery.start_soon(self.stop_children, name=f"{self.name}: stop")
        self.body.cancel()

    def _child_started(self, child: Child) -> None:
        self._observers.tell(ChildStarted(self.name, child.spec.id, child.restarts))

    def _gone(self, child: Child) -> None:
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.spec.id, None)
        child.end()
        self._active -= 1
        if self._quiet is not None and self._active == 0:
            self._quiet.set()

    # -- stopping -----------------------------------------------------------------------------

    async def stop_children(self) -> None:
        """Stop every child: the last started first, or all together when unordered."""
        self._stopping = True
        with trio.CancelScope(shield=True):
            if self._ordered:
                for child in reversed(list(self._children.values())):
                    child.stop()
                    await self._wait_stopped([child])
            else:
                children = [c for c in self._children.values() if c.state is not ChildState.STOPPED]
                for child in children:
                    child.stop()
                await self._wait_stopped(children)

    async def _wait_stopped(self, children: Sequence[Child]) -> None:
        """Wait for the end of `children`, reporting each at the end of its own budget."""
        began = trio.current_time()
        for budget in sorted({c.spec.shutdown for c in children}):
            with trio.move_on_at(began + budget) as deadline:
                await self._wait_all_ended(children)
            if not deadline.cancelled_caught:
                return
            for child in children:
                if child.spec.shutdown == budget and child.is_overdue():
                    self._report_unstopped(child)
        await self._wait_all_ended(children)

    async def _wait_all_ended(self, children: Sequence[Child]) -> None:
        if len(children) > 1 and len(children) == self._active:
            if self._quiet is None:
                self._quiet = trio.Event()
            await self._quiet.wait()
            return
        for child in children:
            await child.wait_ended()

    def _report_unstopped(self, child: Child) -> None:
        shutdown = child.spec.shutdown
        stack = child.stack()
        logger.error(
            "child %r of supervisor %r did not stop within %g s; still waiting for it, at:\n%s",
            child.spec.id,
            self.name,
            shutdown,
            stack,
        )
        self._observers.tell(ChildUnstopped(self.name, child.spec.id, shutdown, stack))
