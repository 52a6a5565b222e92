"""Children that do what a test tells them, incarnation by incarnation, and keep one diary.

A fixture module: tests take the fixture `family`, they do not import from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from moorings.supervisors import ChildSpec

if TYPE_CHECKING:
    from moorings.supervisors import SupervisorEvent, TaskStatus

Step = Callable[["TaskStatus"], Awaitable[object]]


class Boom(Exception):
    """A child's own error."""


class Family:
    """Makes child specs; remembers who began (`+a`) and who ended (`-a`), in order."""

    Boom = Boom

    def __init__(self) -> None:
        self.diary: list[str] = []
        self.events: list[Any] = []
        self.runs: Counter[str] = Counter()
        self._steps: dict[str, list[Step]] = {}
        self._told: dict[str, trio.Event] = {}
        self._errors: dict[str, Exception | None] = {}

    def spec(self, name: str, *steps: Step, stubborn: float = 0.0, **options: Any) -> ChildSpec:
        """A child whose incarnations take one of `steps` each, and then live until told.

        `stubborn`: how many seconds it resists its cancellation.
        """
        self._steps[name] = list(steps)
        return ChildSpec(name, partial(self._live, name, stubborn), **options)

    def specs(self, names: str, **options: Any) -> list[ChildSpec]:
        return [self.spec(name, **options) for name in names]

    def then(self, name: str, *steps: Step) -> None:
        """What the next incarnations do."""
        self._steps[name].extend(steps)

    async def end(self, name: str, error: Exception | None = None) -> None:
        """Let a living child return, or raise; wait for what follows."""
        self.end_soon(name, error)
        await wait_all_tasks_blocked()

    async def crash(self, *names: str) -> None:
        """Let living children crash, all at once; wait for what follows."""
        for name in names:
            self.end_soon(name, Boom(name))
        await wait_all_tasks_blocked()

    def end_soon(self, name: str, error: Exception | None = None) -> None:
        self._errors[name] = error
        self._told[name].set()

    def news(self) -> str:
        """The diary since it was last read."""
        news = " ".join(self.diary)
        self.diary.clear()
        return news

    def watch(self, event: SupervisorEvent) -> None:
        """An observer."""
        self.events.append(event)

    def seen(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def _live(self, name: str, stubborn: float, *, task_status: TaskStatus) -> None:
        self.runs[name] += 1
        told = self._told[name] = trio.Event()
        self.diary.append(f"+{name}")
        try:
            if self._steps[name]:
                await self._steps[name].pop(0)(task_status)
                return
            task_status.started(f"{name}{self.runs[name]}")
            await told.wait()
            error = self._errors.pop(name, None)
            if error is not None:
                raise error
        finally:
            if stubborn:
                with trio.CancelScope(shield=True):
                    await trio.sleep(stubborn)
            self.diary.append(f"-{name}")

    # Steps.

    @staticmethod
    async def fail(_: TaskStatus) -> None:
        """End before `started`."""
        raise Boom("no start")

    @staticmethod
    def fail_after(seconds: float) -> Step:
        """Take a while to fail to start."""

        async def step(_: TaskStatus) -> None:
            await trio.sleep(seconds)
            raise Boom("no start")

        return step

    @staticmethod
    async def hang(_: TaskStatus) -> None:
        """Never say `started`."""
        await trio.sleep_forever()

    @staticmethod
    def start_after(seconds: float) -> Step:
        """Take a while to start, then live."""

        async def step(task_status: TaskStatus) -> None:
            await trio.sleep(seconds)
            task_status.started()
            await trio.sleep_forever()

        return step

    @staticmethod
    def start_anyway_after(seconds: float) -> Step:
        """Take a while to start, also if cancelled meanwhile, then live."""

        async def step(task_status: TaskStatus) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)
            task_status.started()
            await trio.sleep_forever()

        return step

    @staticmethod
    def crash_after(seconds: float) -> Step:
        async def step(task_status: TaskStatus) -> None:
            task_status.started()
            await trio.sleep(seconds)
            raise Boom("later")

        return step

    @staticmethod
    def leave_after(seconds: float) -> Step:
        async def step(task_status: TaskStatus) -> None:
            task_status.started()
            await trio.sleep(seconds)

        return step


@pytest.fixture
def family() -> Family:
    """Obedient children under one diary."""
    return Family()
