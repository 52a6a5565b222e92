"""The supervisor: the commands and answers of those who have children run.

The children's life is in `runner`, what several of them share in `groups`, how they begin in
`starting`, their end in `stopping`.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio

from ..errors import ChildNotFound, ChildRunning, SupervisorError, did_you_mean
from .child import STOPPED
from .spec import ChildCounts, ChildInfo
from .starting import start, start_new
from .stopping import stop_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from ..errors import RestartIntensityExceeded
    from .child import Child
    from .runner import Runner
    from .spec import ChildSpec


class Supervisor:
    """Starts, restarts and stops children. Made by `open_supervisor`.

    Semantics are Erlang/OTP's; where structured concurrency differs (no child can be abandoned),
    `ChildUnstopped` reports what cannot be done. All methods belong to the trio thread.

    Under `ONE_FOR_ALL` and `REST_FOR_ONE` commands and ends of children are handled one at a time,
    in the order in which they came: a command waits until a group's restart before it is done.
    Cancellation while it waits leaves everything as it is.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.name = runner.name

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
            SupervisorError: the supervisor is stopping, or the child is significant and the
                supervisor never shuts down by itself.

        Cancellation stops the child again and forgets it, though others restarted it meanwhile.
        """
        async with self._turn():
            [value] = await start_new(self._runner, [spec])
            return value

    async def start_children(self, specs: Iterable[ChildSpec]) -> tuple[Any, ...]:
        """Start children in order, each when the one before it has said `started`.

        With `ordered=False` they start together, a hundred at a time. All specs are checked before
        the first child starts, and each once more when it is its turn. If one fails to start, or
        is terminated before it is up, the others are stopped again, the last first or together:
        after an error nothing of the call is left. Until then one that was up and ends is
        restarted as ever, and counts.

        Returns:
            The values they passed to `task_status.started`.

        Raises:
            ChildStartFailed: names the one that failed.
            ChildAlreadyStarted, ChildAlreadyPresent, SupervisorError: as by `start_child`.

        Cancellation, too, stops them again and forgets them.
        """
        specs = tuple(specs)  # the caller's list may change meanwhile
        async with self._turn():
            if not specs:  # a checkpoint, as every function of trio's is
                self._runner.check_open()
                await trio.lowlevel.checkpoint()
                return ()
            return tuple(await start_new(self._runner, specs))

    def start_children_nowait(self, specs: Iterable[ChildSpec]) -> None:
        """Start many children together, without waiting for any (only with `ordered=False`).

        All specs are checked before the first child starts. One that ends before it says
        `started` is treated like one that ended later.

        Raises:
            ChildAlreadyStarted, ChildAlreadyPresent: an id is taken; nothing was started.
            SupervisorError: the supervisor is ordered, or stopping.
        """
        runner = self._runner
        specs = tuple(specs)  # it may be an iterator
        if runner.ordered:
            raise SupervisorError(f"supervisor {self.name!r} starts its children one by one")
        runner.check_admission(specs)
        for spec in specs:
            runner.spawn(runner.add(spec))

    async def terminate_child(self, id: str) -> None:  # noqa: A002 - the child spec's own word
        """Stop a child and wait for its end; its spec stays (a temporary one's is forgotten).

        One that waits to be restarted stays down; one that is being started is stopped, and its
        starter told; one that is down already is left as it is.

        Raises:
            ChildNotFound: no child has this id.

        Cancellation gives up the waiting; the child goes on stopping, is reported if it outlives
        its `shutdown`, and stays stopped if its group was to start it meanwhile.
        """
        child = self._find(id)
        if self._runner.group is not None:
            await self._runner.group.terminate(child)
            return
        await stop_one(self._runner, child)

    async def restart_child(self, id: str) -> Any:  # noqa: A002
        """Start a child that was terminated, or that ended; wait until it says `started`.

        A child that waits out its backoff is restarted now.

        Returns:
            The value it passed to `task_status.started`.

        Raises:
            ChildNotFound: no child has this id.
            ChildRunning: it is running, or about to be: terminate it first.
            ChildStartFailed: it ended before it said `started`; its spec stays, unless it came with
                a start that is taken back.
            SupervisorError: the supervisor is stopping.

        Cancellation stops the child again, unless another has started it since. A child that had
        waited out its backoff is not stopped: its policy goes on; if its start fails in the very
        instant of the cancellation, that error is raised.
        """
        async with self._turn():
            child = self._find(id)
            self._runner.check_open()
            if not child.is_waiting():
                self._check_idle(child)
                return await start(self._runner, child)
            alone = child.task is not None  # it rests in its own task, not in its group's restart
            starting = child.hurry()
        try:
            await starting.over.wait()
        except trio.Cancelled:
            starting.check()  # it failed in this instant, and trusts us to hear of it
            raise
        finally:
            if alone and child.starting is starting:
                child.starting = None  # nobody waits: a start that fails is the policy's again
            self._runner.significance.decide(starting)
        starting.check()
        return starting.values[child]

    def delete_child(self, id: str) -> None:  # noqa: A002
        """Forget the spec of a child that is not running.

        Raises:
            ChildNotFound: no child has this id.
            ChildRunning: it is running, or about to be: terminate it first.
        """
        child = self._find(id)
        self._check_idle(child)
        self._runner.forget(child)

    # -- answers ------------------------------------------------------------------------------

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Every child, in start order."""
        return tuple(
            ChildInfo(c.spec.id, c.state, c.spec.restart, c.spec.significant, c.restarts)
            for c in tuple(self._runner.children.values())  # metrics ask from other threads
        )

    def count_children(self) -> ChildCounts:
        """How many specs there are, and how many children run. Cheap."""
        runner = self._runner
        return ChildCounts(specs=len(runner.children), active=runner.active - runner.resting)

    @property
    def intensity(self) -> float:
        """How many restarts within the period this supervisor allows."""
        return self._runner.window.intensity

    @property
    def restarts(self) -> Mapping[str, int]:
        """How often a child was restarted, by reason; not counted are those stopped for another."""
        return MappingProxyType(self._runner.restarts)

    @property
    def before_escalation(self) -> Callable[[RestartIntensityExceeded], object] | None:
        """Called with the error before anything ends because of it; must not raise."""
        return self._runner.before_escalation

    @before_escalation.setter
    def before_escalation(self, told: Callable[[RestartIntensityExceeded], object] | None) -> None:
        self._runner.before_escalation = told

    # -- what commands have in common ---------------------------------------------------------

    def _turn(self) -> AbstractAsyncContextManager[None]:
        group = self._runner.group
        return nullcontext() if group is None else group.turns.take()

    def _find(self, id: str) -> Child:  # noqa: A002
        try:
            return self._runner.children[id]
        except KeyError:
            known = self._runner.children
            raise ChildNotFound(
                f"supervisor {self.name!r} has no child {id!r}. {did_you_mean(id, known)}"
            ) from None

    @staticmethod
    def _check_idle(child: Child) -> None:
        if child.state is not STOPPED:
            raise ChildRunning(f"child {child.spec.id!r} is {child.state}")
