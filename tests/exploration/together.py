"""Two events in one instant: whichever comes first, the connection has to come back from them.

No model is asked, for what comes of a pair may depend on the order of tasks. From then on all goes
well, and a minute later there is one client, which serves; nobody waits, and nothing was served
that was closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

from moorings.errors import ConnectionNotReady

from .alphabet import possible
from .run import Run, deterministically
from .walk import uncollected

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .model import Model
    from .run import Result
    from .walk import Exploration

WHILE = 16.0
"""Virtual seconds in which all that was begun comes to its end, and a ping comes in `ready`."""
SEEDS = (0, 1)
"""Of trio's order of tasks, for each pair."""


def pairs(model: Model) -> Iterator[tuple[str, str]]:
    """The pairs of different events that may be given here, in either order."""
    events = [event for event in possible(model) if event not in {"begin", "stray"}]
    for first in events:
        for second in events:
            if _call(first) != _call(second):
                yield first, second


def _call(event: str) -> str:
    """What an answer ends: nothing is answered twice."""
    return event.rstrip("+-#!")


class Together(Run):
    """A path of single events, by the model; then two at once, and a while of good weather."""

    def __init__(
        self, path: Sequence[str], pair: tuple[str, str], intensity: int, *, quiet: bool
    ) -> None:
        super().__init__(path, intensity, quiet=quiet, remember=False)
        self.pair = pair
        self.result.path = (*path, "&".join(pair))

    async def _follow(self) -> None:
        await super()._follow()
        if self.result.violations:
            return
        self.log(f"[{' & '.join(self.pair)}]")
        client, new, commands = self.model.client, self.model.new, list(self.model.commands)
        for event in self.pair:
            if event == "abort":
                self.scope.cancel()
            elif event == "time":
                self.clock.jump(self.model.due()[0][0] - self.model.now)
            else:
                self._give(event, client, new, commands)
                self.model.asked += event in {"start", "stop", "restart"}
        await wait_all_tasks_blocked()
        self._check_served("at once")
        self.backend.heal()
        self.clock.autojump_threshold = 0
        await trio.sleep(WHILE)
        await self._check_back()

    async def _check_back(self) -> None:
        connection = self.connection
        if connection.state.value == "failed":  # over its budget of crashes
            self.log("[restart]")
            await connection.restart()
        elif connection.state.value == "stopped":
            self.log("[start]")
            await connection.start()
        await trio.sleep(WHILE)
        if connection.state.value != "ready":
            self.violated(f"all is well, and it is {connection.state}")
        self._check_served("a while later")
        left = [native.number for native in self.backend.clients if not native.closing]
        if left != [self._served()]:
            self.violated(f"clients {left} are open, and {self._served()} serves")
        for waiter in self.waiters:
            if waiter.outcome is None:
                self.violated("somebody still waits for the database")
        if len(self.outcomes) != self.model.asked:
            self.violated(f"of {self.model.asked} commands came {self.outcomes}")

    def _served(self) -> int | None:
        try:
            number: int = self.connection.database()[1]
        except ConnectionNotReady:
            return None
        return number

    def _check_served(self, when: str) -> None:
        """What is handed out is pinged, has its generation and its hooks, and is open."""
        for breach in self.backend.breaches:
            self.violated(f"{when}: {breach}")
        served = self._served()
        if served is None:
            return
        if self.backend.clients[served - 1].closing:
            self.violated(f"{when}: client {served} serves, and is closed")
        actor = self.connection._actor
        if actor is None or actor.client is None or actor.client.database[1] != served:
            self.violated(f"{when}: client {served} serves, and another one is pinged")
        elif not actor.client.counted:
            self.violated(f"{when}: client {served} serves, and has no generation")
        done = {hook for hook, client in self.backend.hooks_done if client == served}
        if len(done) != len(self.connection.hooks):
            self.violated(f"{when}: client {served} serves, and of its hooks {done} have run")


def go_together(
    path: Sequence[str], pair: tuple[str, str], intensity: int, *, seed: int = 0, quiet: bool = True
) -> Result:
    """Go a path, and give a pair of events at its end; arguments as `run.go`."""
    return deterministically(Together(path, pair, intensity, quiet=quiet), seed)


@dataclass
class Pairs:
    """What came of all pairs at the end of every path that was explored.

    Attributes:
        given: how many pairs there were, in either order.
        runs: how many times they were given, by the order of tasks.
        violation: the first run that broke something.
        seed: its order of tasks.
    """

    explored: Exploration
    given: int = 0
    runs: int = 0
    violation: Result | None = None
    seed: int = 0

    def explore(self) -> None:
        """All pairs after each situation's shortest path."""
        with uncollected() as ran:
            for path, model in self.explored.paths:
                for pair in pairs(model):
                    self.given += 1
                    for self.seed in SEEDS:
                        result = go_together(path, pair, self.explored.intensity, seed=self.seed)
                        self.runs += 1
                        ran()
                        if result.violations:
                            self.violation = result
                            return
