"""Runs one path, on virtual time: every event is given, the rest settles, and all is compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from prometheus_client import CollectorRegistry
from trio.testing import MockClock, wait_all_tasks_blocked

from moorings.errors import ConnectionNotReady
from moorings.providers.contract import Signal
from moorings.runtime.opening import open_connections

from . import model as rules
from .alphabet import ANSWERS, tell
from .checks import compare, compare_end
from .fingerprint import fingerprint
from .model import Model
from .provider import Backend
from .setting import LowestRandom, deterministic, registry, settings, tasks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from moorings.runtime.connection import Connection
    from moorings.runtime.manager import ConnectionManager
    from moorings.runtime.status import Transition

BEGINNING = 2.0**20  # trio's clock at the start: told from durations by its size
FOREVER = 10_000.0  # virtual seconds: who still waits then was forgotten


@dataclass
class Result:
    """What came of one path."""

    path: tuple[str, ...]
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    model: Model | None = None
    fingerprint: Any = None
    steps: list[tuple[str, str, str]] = field(default_factory=list)


class Waiter:
    """Somebody who waits for the database."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.outcome: Any = None

    async def run(self, connection: Connection) -> None:
        try:
            with self.scope:
                self.outcome = await connection.get_database(timeout=float("inf"))
        except ConnectionNotReady:
            self.outcome = "told"
        if self.scope.cancelled_caught:
            self.outcome = "cancelled"


class Run:
    """One path as it is gone."""

    def __init__(self, path: Sequence[str], intensity: int, *, quiet: bool, remember: bool) -> None:
        self.path = tuple(path)
        self.result = Result(self.path)
        self.model = Model(intensity=intensity)
        self.backend = Backend()
        self.steps: list[tuple[str, str, str]] = []
        self.outcomes: dict[int, str] = {}
        self.callers: dict[int, trio.CancelScope] = {}
        self.waiters: list[Waiter] = []
        self.metrics = CollectorRegistry()
        self.quiet = quiet
        self.remember = remember
        self.clock = MockClock()
        self.manager: ConnectionManager
        self.connection: Connection
        self.nursery: trio.Nursery
        self.scope = trio.CancelScope()

    # -- what happens -------------------------------------------------------------------------

    def hear(self, transition: Transition) -> None:
        """The observer."""
        step = transition.source.value, transition.event.value, transition.target.value
        self.steps.append(step)
        self.log(" -> ".join(step))
        if transition.status.state.value != step[2]:
            self.violated(f"a transition to {step[2]} shows {transition.status.state}")

    def log(self, text: str) -> None:
        if not self.quiet:
            self.result.log.append(f"{trio.current_time() - BEGINNING:8.2f} {text}")

    def violated(self, text: str) -> None:
        self.result.violations.append(text)
        self.log(f"VIOLATION {text}")

    async def do(self, event: str) -> None:
        """Let one event happen, in the model as well, and settle."""
        self.log(f"[{event}]")
        if event == "time":
            await self.let_time_pass()
            return
        self._give(event, self.model.client, self.model.new, self.model.commands)
        await wait_all_tasks_blocked()
        self.model.seen = len(self.backend.clients)
        tell(self.model, event)

    def _give(self, event: str, client: Any, new: Any, commands: list[Any]) -> None:  # noqa: C901 - one for each event
        match event:
            case "begin":
                pass
            case "on_ready":
                self.connection.on_ready(self.backend.hook(self.model.hooks))
            case "suspect" | "lost" | "usable":
                self.backend.clients[client.number - 1].notify(Signal(event))
            case "stray":
                for native in self.backend.clients:
                    if client is None or native.number != client.number:
                        for signal in Signal:
                            native.notify(signal)
            case "start" | "stop" | "restart":
                self.nursery.start_soon(self.command, self.model.asked + 1, event)
            case "cancel" | "cancel2":
                self.callers[commands[event == "cancel2"].number].cancel()
            case "unwait":
                self.waiters[0].scope.cancel()
            case _:
                self._answer(event, new if event.startswith("new") else client)

    def _answer(self, event: str, client: Any) -> None:
        answer = ANSWERS[event[-1]]
        if event[:-1] in {"ping", "new"}:
            self.backend.pings[client.number].make(answer)
        else:
            hook = max(h for h, c in self.backend.hook_calls if c == client.number)
            self.backend.hooks[hook, client.number].make(answer)

    async def let_time_pass(self) -> None:
        """Until the next timer of the model's; just before, nothing may have happened."""
        model, target = self.model, self.model.due()[0][0]
        just_before = target - rules.HEARTBEAT
        while self._is_closing() and model.now + rules.CLOSE < just_before:
            await self._jump(model.now + rules.CLOSE)  # not past its end and its bound at once
        if just_before > model.now:
            await self._jump(just_before)
            self.check("just before")
        await self._jump(target)

    async def _jump(self, when: float) -> None:
        self.clock.jump(when - self.model.now)
        await wait_all_tasks_blocked()
        self.model.seen = len(self.backend.clients)
        self.model.advance(when)

    def _is_closing(self) -> bool:
        return any(native.closing and not native.closed for native in self.backend.clients)

    async def command(self, number: int, kind: str) -> None:
        """A command, and what its caller is told."""
        connection = self.connection
        self.callers[number] = scope = trio.CancelScope()
        try:
            with scope:
                await getattr(connection, kind)()
                self.outcomes[number] = "ok"
                self._check_return(kind)
        except ConnectionNotReady:
            self.outcomes[number] = "not ready"
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not be
            self.violated(f"{kind}() raised {error!r}")
        if scope.cancelled_caught:
            self.outcomes[number] = "cancelled"

    def _check_return(self, kind: str) -> None:
        state = self.connection.state.value
        legal = {"start": {"connecting", "ready", "failed"}, "stop": {"stopped"}}
        if state not in legal.get(kind, {"connecting", "ready"}):
            self.violated(f"{kind}() returned in {state}")

    # -- the run ------------------------------------------------------------------------------

    def check(self, when: str) -> None:
        """Everything that can be seen from outside, against the model."""
        for text in compare(self):
            self.violated(f"{when}: {text}")

    def wait(self) -> None:
        """Two wait for the database whenever it can be waited for."""
        self.model.meanwhile.clear()
        if self.model.served or self.model.state == "stopped":
            self.waiters = []
            return
        self.waiters = [w for w in self.waiters if w.outcome is None]
        while len(self.waiters) < 2:
            waiter = Waiter()
            self.waiters.append(waiter)
            self.nursery.start_soon(waiter.run, self.connection)

    async def walk(self) -> None:
        """All events of the path, then its end."""
        async with open_connections(
            settings(self.model.intensity),
            registry=registry(self.backend),
            metrics=self.metrics,
            observers=(self.hear,),
        ) as self.manager:
            self.manager.kernel.random = LowestRandom()  # type: ignore[assignment]
            self.connection = self.manager["db"]
            try:
                await self._follow()
            finally:
                self.clock.autojump_threshold = 0  # whatever is left comes to its end by itself
            self.log("[the block is left]")

    async def _follow(self) -> None:
        for place, event in enumerate(self.path):
            if event == "abort":
                self.log("[abort]")
                self.scope.cancel()
                await trio.lowlevel.checkpoint()
            await self.do(event)
            self.check(f"after {place + 1} ({event})")
            if self.result.violations:
                return
            self.wait()
            await wait_all_tasks_blocked()
        self._remember()

    def _remember(self) -> None:
        if self.remember and not self.result.violations:
            others = [task for task in tasks() if task not in self.first]
            self.result.fingerprint = fingerprint(self, others)

    def others(self) -> list[str]:
        """The tasks that were not there in the beginning."""
        return [task.name for task in tasks() if task not in self.first]

    async def main(self) -> None:
        self.first = set(tasks())
        self.clock.jump(BEGINNING)
        self.model.now = BEGINNING
        async with trio.open_nursery() as self.nursery:
            with self.scope:
                with trio.move_on_after(FOREVER) as forever:
                    await self.walk()
                if forever.cancelled_caught:
                    self.violated("closing waits for ever")
            await wait_all_tasks_blocked()
            for text in compare_end(self):
                self.violated(f"at the end: {text}")
            self.nursery.cancel_scope.cancel()


def go(
    path: Sequence[str],
    intensity: int = 1,
    *,
    seed: int = 0,
    quiet: bool = True,
    remember: bool = True,
) -> Result:
    """Go a path; the same one always goes the same way.

    Args:
        path: the events.
        intensity: how many crashes it may have.
        seed: of trio's order of tasks.
        quiet: no log is kept, and an error of the run's own is a violation.
        remember: whether the situation at the end is wanted: a third of the time.
    """
    return deterministically(Run(path, intensity, quiet=quiet, remember=remember), seed)


def deterministically(run: Run, seed: int) -> Result:
    """Let a run have its course, with trio's order of tasks by `seed`."""
    with deterministic(seed):
        try:
            trio.run(run.main, clock=run.clock)
        except (Exception, BaseExceptionGroup) as error:
            run.result.violations.append(f"the run itself broke: {error!r}")
            if not run.quiet:
                raise
    run.result.model, run.result.steps = run.model, run.steps
    return run.result
