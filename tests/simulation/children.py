"""Children that live as their scenario has it, and tell their supervisor's book what happens."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import TYPE_CHECKING

import trio

from moorings.supervisors import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    Strategy,
    Supervisor,
    SupervisorEvent,
    TaskStatus,
    open_supervisor,
)

from .ledger import Ledger
from .rules import Stray
from .world import STRAY, Tree, Worker, on_grid

if TYPE_CHECKING:
    from .run import Simulation
    from .world import Life


class Boom(Exception):
    """A child's crash."""


async def kept_cancelled() -> trio.Cancelled:
    """One whose scope is gone, as a cache has that keeps the error of whoever filled it."""
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled as cancelled:
            kept = cancelled
            raise
    return kept


KEPT = trio.run(kept_cancelled)
"""Its scope is gone: whoever raises it has crashed."""


class Draws(random.Random):
    """Delays on the grid of all other times, so that they add up exactly.

    What is drawn says how far into the range it is: whoever knows the range knows the delay.
    """

    part = 0.0

    def uniform(self, a: float, b: float) -> float:
        self.part = self.choice((0.0, 0.25, 0.5, 0.75, 1.0))
        return on_grid(a + self.part * (b - a))


class Fragile:
    """An observer that raises at an event, and is not to be called again."""

    def __init__(self, ledger: Ledger, breaks: int) -> None:
        self._ledger = ledger
        self._left = breaks

    def __call__(self, event: SupervisorEvent) -> None:
        self._left -= 1
        if self._left < 0:
            self._ledger.violated("an observer that raised is told once more")
        if self._left == 0:
            raise Boom(repr(event))


class Children:
    """The children of one simulation, leaves and supervisors."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.backoffs = Draws(simulation.scenario.seed)

    def spec(self, node: Worker | Tree, ledger: Ledger) -> ChildSpec:
        policy = node.policy
        path = f"{ledger.path}/{policy.id}"
        asked: list[trio.Event] = []  # of the present incarnation
        ask = None
        if isinstance(node, Tree):
            run = partial(self.supervise, node, path, ledger)
        else:
            run = partial(self.work, node, path, ledger, asked)
            ask = partial(_set_last, asked) if node.ask else None
        budget = policy.budget or (None, None)
        return ChildSpec(
            policy.id,
            run,
            restart=Restart(policy.restart),
            shutdown=policy.shutdown,
            significant=policy.significant,
            intensity=budget[0],
            period=budget[1],
            ask=ask,
            backoff=Backoff(*policy.backoff, random=self.backoffs) if policy.backoff else None,
        )

    async def work(
        self,
        worker: Worker,
        path: str,
        ledger: Ledger,
        asked: list[trio.Event],
        *,
        task_status: TaskStatus,
    ) -> None:
        """A leaf."""
        number = self.simulation.incarnations[path] = self.simulation.incarnations.get(path, -1) + 1
        life = worker.lives[min(number, len(worker.lives) - 1)]
        self._count(life.kind)
        name = worker.policy.id
        ledger.began(name, number, worker.policy)
        asked[:] = [trio.Event()]
        how, raised = "cancelled", None
        try:
            if worker.ask:
                how = await self._live_asked(life, asked[0], name, number, ledger, task_status)
            else:
                try:
                    how = await self._live(life, name, number, ledger, task_status)
                except trio.Cancelled as cancelled:
                    ledger.cancelled(name)
                    how = await self._stop(life)
                    if how == "cancelled":
                        raise
                    if how == "crash_beside":  # as from a nursery of its own
                        crash = Boom(f"{path} #{number}")
                        raise BaseExceptionGroup("", [cancelled, crash]) from None
            if how.startswith("crash"):
                self._crash(path, number)
        except BaseException as error:
            raised = error
            raise
        finally:
            ledger.over(name, how, raised)

    def _count(self, kind: str) -> None:
        lives = self.simulation.result.lives
        lives[kind] = lives.get(kind, 0) + 1

    def _crash(self, path: str, number: int) -> None:
        """Now and then with a stray `Cancelled`, unless it might be the one that is on its way."""
        odd = (self.simulation.scenario.seed + len(path) + number) % 8 == 0
        if odd and trio.current_effective_deadline() > -math.inf:
            self._count(STRAY)
            raise Stray("", [KEPT])
        raise Boom(f"{path} #{number}")

    async def _live(
        self, life: Life, name: str, number: int, ledger: Ledger, task_status: TaskStatus
    ) -> str:
        if life.up:
            await self._come_up(life, name, ledger)
        if life.kind == "never_starts":
            await trio.sleep_forever()
        if life.kind in {"crash_at_start", "exit_at_start"}:
            return life.kind
        ledger.came_up(name)
        task_status.started((name, number))
        if life.kind == "steady":
            await trio.sleep_forever()
        if life.after:
            await trio.sleep(life.after)
        return life.kind

    async def _come_up(self, life: Life, name: str, ledger: Ledger) -> None:
        until = trio.current_time() + life.up
        try:
            await trio.sleep_until(until)
        except trio.Cancelled:
            if not life.careful:
                raise
            ledger.cancelled(name)
            with trio.CancelScope(shield=True):
                await trio.sleep_until(until)  # and then it says that it is up, all the same

    async def _live_asked(
        self,
        life: Life,
        asked: trio.Event,
        name: str,
        number: int,
        ledger: Ledger,
        task_status: TaskStatus,
    ) -> str:
        how = ""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def obey() -> None:
                    await asked.wait()
                    scope.cancel()

                nursery.start_soon(obey)
                how = await self._live(life, name, number, ledger, task_status)
                nursery.cancel_scope.cancel()
        if how:
            return how
        ledger.cancelled(name)
        how = await self._stop(life)
        return "return" if how == "cancelled" else how

    async def _stop(self, life: Life) -> str:
        with trio.CancelScope(shield=True):
            if life.linger:
                await trio.sleep(life.linger)
        return life.at_stop

    async def supervise(
        self, tree: Tree, path: str, parent: Ledger | None, *, task_status: TaskStatus
    ) -> None:
        """A supervisor, as the root or as a child."""
        number = self.simulation.incarnations[path] = self.simulation.incarnations.get(path, -1) + 1
        name = tree.policy.id
        ledger = Ledger(self.simulation, path, tree)
        if parent is not None:
            parent.began(name, number, tree.policy)
        how, raised = "return", None
        try:
            await self._block(tree, path, ledger, parent, task_status)
        except trio.Cancelled as cancelled:
            how, raised = "cancelled", cancelled
            raise
        except BaseException as error:
            how, raised = "crash", error
            ledger.outcome(error)
            raise
        else:
            ledger.outcome(None)
        finally:
            if self.simulation.open.get(path, (None, None))[1] is ledger:
                del self.simulation.open[path]
            ledger.closed()
            if parent is not None:
                parent.over(name, how, raised)

    async def _block(
        self,
        tree: Tree,
        path: str,
        ledger: Ledger,
        parent: Ledger | None,
        task_status: TaskStatus,
    ) -> None:
        number = self.simulation.incarnations[path]
        async with open_supervisor(
            name=path,
            strategy=Strategy(tree.strategy),
            intensity=tree.intensity,
            period=tree.period,
            auto_shutdown=AutoShutdown(tree.auto_shutdown),
            ordered=tree.ordered,
            observers=[ledger.saw, Fragile(ledger, tree.breaks), ledger.heard.append]
            if tree.breaks
            else [ledger.saw, ledger.heard.append],
        ) as supervisor:
            self.simulation.open[path] = supervisor, ledger
            try:
                await self._start(tree, supervisor, ledger)
                ledger.block_began = True
                if parent is not None:
                    parent.came_up(tree.policy.id)
                task_status.started((tree.policy.id, number))
                if parent is not None:
                    await trio.sleep_forever()
                self.simulation.root_up = True
                await self.simulation.leave.wait()
                if self.simulation.scenario.end == "raise":
                    raise Boom("the block")
            except trio.Cancelled:
                if parent is not None and not ledger.ending:
                    parent.cancelled(tree.policy.id)
                ledger.block_told = True
                with trio.CancelScope(shield=True):
                    await trio.sleep(tree.linger)
                raise
            finally:
                ledger.block_over()

    async def _start(self, tree: Tree, supervisor: Supervisor, ledger: Ledger) -> None:
        specs = [self.spec(node, ledger) for node in tree.children]
        nodes = tree.children
        if tree.nowait:
            with ledger.commands.given("start_children_nowait", nodes=nodes) as done:
                done(supervisor.start_children_nowait(specs))
        else:
            with ledger.commands.given("start_children", nodes=nodes) as done:
                done(await supervisor.start_children(specs))


def _set_last(events: list[trio.Event]) -> None:
    if events:
        events[0].set()
