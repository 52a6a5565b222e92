"""What an application of `moorings.runtime.http` serves: a manager of plain attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moorings.runtime.history import History
from moorings.runtime.hosts import HostEvent, give_up_after
from moorings.runtime.state import State, transition
from moorings.runtime.status import ConnectionStatus, Transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from moorings.runtime.state import Event


class FakeMetrics:
    """Metrics that say which format they were asked for."""

    broken = False

    async def render(self, openmetrics: bool) -> bytes:
        if self.broken:
            raise RuntimeError("mongodb://user:secret@host")
        return b"# EOF\n" if openmetrics else b"up 1\n"


@dataclass
class FakeManager:
    """What the application asks of a manager, as plain attributes; `changed` after a change."""

    connections: list[ConnectionStatus] = field(default_factory=list)
    closing: bool = False
    closed: bool = False
    alive: bool = True
    started: bool = True
    checks: dict[str, Callable[[], object]] = field(default_factory=dict)
    metrics: FakeMetrics = field(default_factory=FakeMetrics)
    name: str = "moorings"

    def __post_init__(self) -> None:
        self.history = History(lambda: [status.name for status in self.connections])
        self._changed = HostEvent()

    def statuses(self) -> tuple[ConnectionStatus, ...]:
        return tuple(self.connections)

    def is_alive(self) -> bool:
        return self.alive

    def is_started(self) -> bool:
        return self.started

    def keep_history(self) -> History:
        return self.history

    async def change_within(self, seconds: float) -> None:
        await give_up_after(seconds, self._until_changed)

    async def _until_changed(self) -> None:
        await self._changed.wait()

    def changed(self) -> None:
        """Wake those who wait for a change."""
        event, self._changed = self._changed, HostEvent()
        event.set()

    def step(self, index: int, event: Event, **values: Any) -> None:
        """Take one edge, as a connection does."""
        before = self.connections[index]
        target = transition(before.state, event)
        after = connection(before.name, target, **values)
        self.connections[index] = after
        self.history.note(Transition(before.name, before.state, event, target, after))
        self.changed()


def connection(name: str, state: State = State.READY, **values: Any) -> ConnectionStatus:
    values = {"backend": "local", "required": True, "since": 1.0} | values
    return ConnectionStatus(name=name, state=state, **values)
