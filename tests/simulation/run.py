"""Runs one scenario under trio on virtual time, and tells the ledgers what happens."""

from __future__ import annotations

import logging
import random
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio._core._run as trio_run  # its randomness is seeded here
import trio.testing
from trio.testing import MockClock

from moorings.supervisors import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    Strategy,
    Supervisor,
    SupervisorError,
    TaskStatus,
    open_supervisor,
)

from .ledger import Ledger
from .looking import compare
from .world import TICK, Scenario, Step, Tree, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .world import Life

FOREVER = 2_000.0  # virtual seconds: who still waits then was forgotten
MOST = 30_000  # facts: whoever tells more runs in circles
CHECK_EVERY = 1.0


class Boom(Exception):
    """A child's crash."""


class Livelock(BaseException):
    """Too much happened; no `except Exception` may keep it."""


class ExactRandom(random.Random):
    """Delays on the grid of all other times, so that they add up exactly."""

    def uniform(self, a: float, b: float) -> float:
        return round(super().uniform(a, b) / TICK) * TICK


@dataclass
class Result:
    """What came of one run."""

    scenario: Scenario
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    escalations: int = 0
    shutdowns: int = 0
    restarts: int = 0
    unstopped: int = 0
    commands: dict[str, int] = field(default_factory=dict)
    lives: dict[str, int] = field(default_factory=dict)


class Simulation:
    """One scenario as it runs."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.result = Result(scenario)
        self.open: dict[str, tuple[Supervisor, Ledger]] = {}
        self.incarnations: dict[str, int] = {}
        self.backoff_random = ExactRandom(scenario.seed)
        self.root_scope = trio.CancelScope()
        self.leave = trio.Event()
        self.root_up = False
        self.over = trio.Event()
        self.waiting: dict[int, str] = {}

    # -- what is told -------------------------------------------------------------------------

    def log(self, text: str) -> None:
        if len(self.result.log) > MOST:
            raise Livelock(f"more than {MOST} facts")
        self.result.log.append(f"{trio.current_time():10.4f} {text}")

    def violated(self, text: str) -> None:
        self.result.violations.append(f"at {trio.current_time():.4f} s: {text}")
        self.log(f"VIOLATION {text}")

    # -- children -----------------------------------------------------------------------------

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
            backoff=Backoff(*policy.backoff, random=self.backoff_random)
            if policy.backoff
            else None,
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
        number = self.incarnations[path] = self.incarnations.get(path, -1) + 1
        life = worker.lives[min(number, len(worker.lives) - 1)]
        self.result.lives[life.kind] = self.result.lives.get(life.kind, 0) + 1
        name = worker.policy.id
        ledger.began(name, number, worker.policy)
        asked[:] = [trio.Event()]
        how = "cancelled"
        try:
            if worker.ask:
                how = await self._live_asked(life, asked[0], name, number, ledger, task_status)
            else:
                try:
                    how = await self._live(life, name, number, ledger, task_status)
                except trio.Cancelled:
                    ledger.cancelled(name)
                    how = await self._stop(life)
                    if how == "cancelled":
                        raise
            if how.startswith("crash"):
                raise Boom(f"{path} #{number}")
        finally:
            ledger.over(name, how)

    async def _live(
        self, life: Life, name: str, number: int, ledger: Ledger, task_status: TaskStatus
    ) -> str:
        if life.up:
            await trio.sleep(life.up)
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
        number = self.incarnations[path] = self.incarnations.get(path, -1) + 1
        name = tree.policy.id
        ledger = Ledger(self, path, tree)
        if parent is not None:
            parent.began(name, number, tree.policy)
        how = "return"
        try:
            await self._block(tree, path, ledger, parent, task_status)
        except trio.Cancelled:
            how = "cancelled"
            raise
        except BaseException as error:
            how = "crash"
            ledger.outcome(error)
            raise
        else:
            ledger.outcome(None)
        finally:
            if self.open.get(path, (None, None))[1] is ledger:
                del self.open[path]
            ledger.closed()
            if parent is not None:
                parent.over(name, how)

    async def _block(
        self,
        tree: Tree,
        path: str,
        ledger: Ledger,
        parent: Ledger | None,
        task_status: TaskStatus,
    ) -> None:
        number = self.incarnations[path]
        async with open_supervisor(
            name=path,
            strategy=Strategy(tree.strategy),
            intensity=tree.intensity,
            period=tree.period,
            auto_shutdown=AutoShutdown(tree.auto_shutdown),
            ordered=tree.ordered,
            observers=[ledger.saw],
        ) as supervisor:
            self.open[path] = supervisor, ledger
            try:
                await self._start(tree, supervisor, ledger)
                if parent is not None:
                    parent.came_up(tree.policy.id)
                task_status.started((tree.policy.id, number))
                if parent is not None:
                    await trio.sleep_forever()
                self.root_up = True
                await self.leave.wait()
                if self.scenario.end == "raise":
                    raise Boom("the block")
            except trio.Cancelled:
                if parent is not None and not ledger.ending:
                    parent.cancelled(tree.policy.id)
                raise
            finally:
                ledger.block_over()

    async def _start(self, tree: Tree, supervisor: Supervisor, ledger: Ledger) -> None:
        specs = [self.spec(node, ledger) for node in tree.children]
        nodes = tree.children
        if tree.nowait:
            with ledger.command("start_children_nowait", nodes=nodes) as done:
                done(supervisor.start_children_nowait(specs))
        else:
            with ledger.command("start_children", nodes=nodes) as done:
                done(await supervisor.start_children(specs))

    # -- commands -----------------------------------------------------------------------------

    async def follow_script(self, nursery: trio.Nursery) -> None:
        for index, step in enumerate(self.scenario.steps):
            await trio.sleep_until(step.at)
            nursery.start_soon(self.do, index, step)
        await trio.sleep_until(self.scenario.end_at)
        self.log(f"end: {self.scenario.end}")
        # A block that has yet to start its children does not listen.
        if self.scenario.end == "cancel" or not self.root_up:
            self.root_scope.cancel()
        else:
            self.leave.set()

    async def do(self, index: int, step: Step) -> None:
        found = self.open.get(step.path)
        if found is None:
            self._count(f"{step.command} (supervisor gone)")
            return
        supervisor, ledger = found
        self.waiting[index] = f"{step.command} {step.path} {step.ids}"
        outcome = "cancelled"
        scope = trio.CancelScope()
        if step.patience is not None:
            scope.deadline = trio.current_time() + step.patience
        try:
            with scope:
                await self._ask(supervisor, ledger, step)
                outcome = "done"
        except SupervisorError as error:
            outcome = type(error).__name__
        finally:
            del self.waiting[index]
        self._count(f"{step.command}: {outcome}")

    async def _ask(self, supervisor: Supervisor, ledger: Ledger, step: Step) -> None:
        specs = [self.spec(worker, ledger) for worker in step.workers]
        with ledger.command(step.command, ids=step.ids, nodes=step.workers) as done:
            given: Any
            match step.command:
                case "start_child":
                    given = (await supervisor.start_child(specs[0]),)
                case "start_children":
                    given = await supervisor.start_children(specs)
                case "start_children_nowait":
                    given = supervisor.start_children_nowait(specs)
                case "terminate_child":
                    given = await supervisor.terminate_child(step.ids[0])
                case "restart_child":
                    given = (await supervisor.restart_child(step.ids[0]),)
                case _:
                    given = supervisor.delete_child(step.ids[0])
            done(given)

    def _count(self, what: str) -> None:
        self.result.commands[what] = self.result.commands.get(what, 0) + 1

    # -- the run ------------------------------------------------------------------------------

    async def look(self) -> None:
        """Compare what supervisors say with what is, where nothing else happens."""
        while not self.over.is_set():
            with trio.move_on_after(CHECK_EVERY + TICK / 4):  # never at a time of the script's
                await self.over.wait()
            await trio.testing.wait_all_tasks_blocked()
            for supervisor, ledger in list(self.open.values()):
                compare(ledger, supervisor)

    async def watch(self) -> None:
        """Whoever sleeps for ever is woken by force, whatever shields it, and told on."""
        with trio.move_on_after(FOREVER):
            await self.over.wait()
            return
        asleep = ", ".join(self.waiting.values()) or "no command"
        self.violated(f"somebody waits for ever; commands that wait: {asleep}")
        for task in _tasks(trio.lowlevel.current_root_task()):
            status = task._cancel_status
            while status is not None:
                status._scope.shield = False
                status = status._parent
        self.root_scope.cancel()
        self.commands.cancel_scope.cancel()

    async def root(self) -> None:
        try:
            with self.root_scope:
                await self.supervise(self.scenario.tree, "root", None, task_status=_Nobody())
        except BaseException as error:
            if isinstance(error, Livelock):
                raise
            self.log(f"root ended: {error!r}")

    async def main(self) -> None:
        async with trio.open_nursery() as outer:
            outer.start_soon(self.watch)
            outer.start_soon(self.look)
            async with trio.open_nursery() as self.commands:
                script = trio.CancelScope()

                async def follow() -> None:
                    with script:
                        await self.follow_script(self.commands)

                self.commands.start_soon(follow)
                await self.root()
                script.cancel()
            self.over.set()


class _Nobody:
    def started(self, value: Any = None, /) -> None:
        """The root has no parent."""


def _set_last(events: list[trio.Event]) -> None:
    if events:
        events[0].set()


def _tasks(task: trio.lowlevel.Task | None) -> list[trio.lowlevel.Task]:
    if task is None:
        return []
    children = [c for nursery in task.child_nurseries for c in nursery.child_tasks]
    return [task] + [found for child in children for found in _tasks(child)]


def simulate(scenario: Scenario) -> Result:
    """Run a scenario; the same one always runs the same way."""
    simulation = Simulation(scenario)
    with _deterministic(scenario.seed):
        try:
            trio.run(simulation.main, clock=MockClock(autojump_threshold=0))
        except (Exception, Livelock, trio.Cancelled) as error:  # noqa: BLE001 - whatever it is, it is told
            simulation.result.violations.append(f"the run itself broke: {error!r}")
    return simulation.result


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seed trio's order of tasks, and keep the supervisors' reports out of the log."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    logger = logging.getLogger("moorings.supervisors")
    disabled, logger.disabled = logger.disabled, True
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        logger.disabled = disabled
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        trio_run._r.setstate(before[1])
