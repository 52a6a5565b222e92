"""Runs one scenario under trio on virtual time, and tells the ledgers what happens."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
import trio._core._run as trio_run  # its randomness is seeded here
from trio.testing import MockClock

from moorings.supervisors import Supervisor, SupervisorError, batches

from .children import Children
from .looking import compare
from .rules import told
from .world import TICK, Scenario, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ledger import Ledger

FOREVER = 2_000.0  # virtual seconds: who still waits then was forgotten
MOST = 30_000  # facts: whoever tells more runs in circles
CHECK_EVERY = 1.0


class Livelock(BaseException):
    """Too much happened; no `except Exception` may keep it."""


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
        self.children = Children(self)
        self.root_scope = trio.CancelScope()
        self.leave = trio.Event()
        self.root_up = False
        self.over = trio.Event()
        self.waiting: dict[int, str] = {}
        self.asleep: dict[int, trio.CancelScope] = {}  # steps whose time has not come

    # -- what is told -------------------------------------------------------------------------

    def log(self, text: str) -> None:
        if len(self.result.log) > MOST:
            # Kept here, as it may be lost on its way out.
            self.result.violations.append(f"more than {MOST} facts: it runs in circles")
            raise Livelock
        self.result.log.append(f"{trio.current_time():10.4f} {text}")

    def violated(self, text: str) -> None:
        self.result.violations.append(f"at {trio.current_time():.4f} s: {text}")
        self.log(f"VIOLATION {text}")

    # -- commands -----------------------------------------------------------------------------

    async def follow_script(self, nursery: trio.Nursery) -> None:
        for index, step in enumerate(self.scenario.steps):
            nursery.start_soon(self.do, index, step)
        await trio.sleep_until(self.scenario.end_at)
        self.log(f"end: {self.scenario.end}")
        # A block that has yet to start its children does not listen.
        if self.scenario.end == "cancel" or not self.root_up:
            self.root_scope.cancel()
        else:
            self.leave.set()

    async def do(self, index: int, step: Step) -> None:
        """In the very step of the scheduler in which children and deadlines of that instant are."""
        with trio.CancelScope() as self.asleep[index]:
            await trio.sleep_until(step.at)
        if self.asleep.pop(index).cancelled_caught:
            return
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
        specs = [self.children.spec(worker, ledger) for worker in step.workers]
        with ledger.commands.given(step.command, ids=step.ids, nodes=step.workers) as done:
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
        """Compare what supervisors say with what is, where nothing else happens.

        All else happens at multiples of a tick, and time goes on only when all tasks are blocked:
        in between, nobody but us can be awake.
        """
        at = TICK / 2
        while not self.over.is_set():
            at += CHECK_EVERY
            with trio.move_on_at(at):
                await self.over.wait()
            for supervisor, ledger in list(self.open.values()):
                compare(ledger, supervisor)

    async def watch(self) -> None:
        """Whoever sleeps for ever is woken by force, whatever shields it, and told on.

        Again and again: on its way out it may fall asleep behind another shield.
        """
        while not self.over.is_set():
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
                await self.children.supervise(
                    self.scenario.tree, "root", None, task_status=_Nobody()
                )
        except BaseException as error:
            if isinstance(error, (Livelock, KeyboardInterrupt)):
                raise
            self.log(f"root ended: {told(error)}")

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
                for scope in (script, *self.asleep.values()):
                    scope.cancel()
            self.over.set()


class _Nobody:
    def started(self, value: Any = None, /) -> None:
        """The root has no parent."""


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
        except (Exception, BaseExceptionGroup, Livelock, trio.Cancelled) as error:  # noqa: BLE001 - whatever it is, it is told
            if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
                raise KeyboardInterrupt from None
            simulation.result.violations.append(f"the run itself broke: {error!r}")
    return simulation.result


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seed trio's order of tasks, and keep the supervisors' reports out of the log.

    Also make the batches small in which children are started and stopped: trees have few of them.
    """
    batch, batches.BATCH = batches.BATCH, 1 + seed % 4
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio_run._r.getstate()
    logger = logging.getLogger("moorings.supervisors")
    disabled, logger.disabled = logger.disabled, True
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    try:
        yield
    finally:
        batches.BATCH = batch
        logger.disabled = disabled
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        trio_run._r.setstate(before[1])
