"""A provider that does what a test tells it, call by call, and remembers what it was asked.

A fixture module: tests take the fixture `world`, they do not import from here.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import sniffio
import trio
from prometheus_client import CollectorRegistry
from pydantic import BaseModel, ConfigDict

from moorings.errors import FailureReason
from moorings.providers.contract import DocumentsDatabaseBase, Notify, Signal
from moorings.providers.local_host import checkpoint, event, sleep
from moorings.providers.references import Secret  # noqa: TC001 - pydantic reads it
from moorings.providers.registry import DocumentDatabaseRegistry
from moorings.runtime.opening import open_connections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from moorings.runtime.connection import Connection
    from moorings.runtime.manager import ConnectionManager
    from moorings.runtime.state import State

Behaviour = Callable[[], Awaitable[object]]


class Fault(Exception):
    """An error that the provider knows, and what it takes it for."""

    def __init__(self, reason: FailureReason = FailureReason.REFUSED, text: str = "") -> None:
        super().__init__(text or f"scripted {reason}")
        self.reason = reason


class Bug(Exception):
    """An error that no provider knows."""


@dataclass(eq=False)
class Client:
    """A native client: who opened it, with what, and how often it was closed."""

    number: int
    settings: Any
    notify: Notify
    closed: int = 0

    def tell(self, signal: Signal) -> None:
        """What the driver's monitor would say."""
        self.notify(signal)


@dataclass
class Server:
    """What one connection's provider does; `then` is used up call by call, `always` stays."""

    then: defaultdict[str, deque[Behaviour]] = field(default_factory=lambda: defaultdict(deque))
    always: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[tuple[str, float]] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    busy: int = 0

    def next(self, call: str, *behaviours: Behaviour) -> None:
        """The next calls do this, one after the other."""
        self.then[call].extend(behaviours)

    def from_now_on(self, call: str, behaviour: Behaviour | None = None) -> None:
        """Every call does this once `next` is used up; None: it succeeds."""
        if behaviour is None:
            self.always.pop(call, None)
        else:
            self.always[call] = behaviour

    def refuse(self, reason: FailureReason = FailureReason.REFUSED) -> None:
        """From now on no ping succeeds."""
        self.from_now_on("ping", fail(reason))

    def heal(self) -> None:
        """All is well from now on."""
        self.then.clear()
        self.always.clear()

    def count(self, call: str) -> int:
        """How often it was asked."""
        return sum(name == call for name, _ in self.calls)

    def times(self, call: str) -> list[float]:
        """When it was asked, on the host's clock."""
        return [when for name, when in self.calls if name == call]

    @property
    def client(self) -> Client:
        """The newest client."""
        return self.clients[-1]

    async def act(self, call: str) -> None:
        """One call."""
        self.calls.append((call, _now()))
        queue = self.then[call]
        behaviour = queue.popleft() if queue else self.always.get(call)
        self.busy += 1
        try:
            await checkpoint()
            if behaviour is not None:
                await behaviour()
        finally:
            self.busy -= 1


def fail(reason: FailureReason = FailureReason.REFUSED, text: str = "") -> Behaviour:
    """Raise an error that is classified as `reason`."""

    async def behave() -> None:
        raise Fault(reason, text)

    return behave


def bug(text: str = "scripted bug") -> Behaviour:
    """Raise an error that nobody knows."""

    async def behave() -> None:
        raise Bug(text)

    return behave


def hang() -> Behaviour:
    """Never answer."""
    return lambda: event().wait()


def take(seconds: float) -> Behaviour:
    """Answer late."""

    async def behave() -> None:
        await sleep(seconds)

    return behave


def stubborn(seconds: float) -> Behaviour:
    """Answer late, and ignore cancellation until then."""

    async def behave() -> None:
        if _on_trio():
            with trio.CancelScope(shield=True):
                await trio.sleep(seconds)
            return
        napping = asyncio.ensure_future(asyncio.sleep(seconds))
        while not napping.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(napping)

    return behave


async def succeed() -> None:
    """Do nothing more."""


def _on_trio() -> bool:
    return sniffio.current_async_library() == "trio"


def _now() -> float:
    return trio.current_time() if _on_trio() else asyncio.get_running_loop().time()


class ScriptedSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str = "server"
    password: Secret | None = None


class ScriptedProvider(DocumentsDatabaseBase):
    settings_model: ClassVar[type[BaseModel]] = ScriptedSettings
    hosts: ClassVar[frozenset[str]] = frozenset({"trio", "asyncio"})
    world: ClassVar[World]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.server = self.world[name]

    def endpoint(self, settings: ScriptedSettings) -> str:
        return settings.endpoint

    async def open(self, settings: ScriptedSettings, notify: Notify) -> Client:
        await self.server.act("open")
        client = Client(next(self.world.numbers), settings, notify)
        self.server.clients.append(client)
        return client

    async def ping(self, client: Client) -> None:
        assert not client.closed, "a closed client was pinged"
        await self.server.act("ping")

    async def verify(self, client: Client) -> None:
        assert not client.closed, "a closed client was verified"
        await self.server.act("verify")

    def database(self, client: Client) -> Any:
        return ("database", client.number)

    async def close(self, client: Client) -> None:
        client.closed += 1
        await self.server.act("close")

    def classify(self, error: BaseException) -> FailureReason | None:
        return error.reason if isinstance(error, Fault) else None


class World:
    """The scripted servers, and the settings that lead to them."""

    # Tests reach the vocabulary through the fixture.
    fail = staticmethod(fail)
    bug = staticmethod(bug)
    hang = staticmethod(hang)
    take = staticmethod(take)
    stubborn = staticmethod(stubborn)
    succeed = staticmethod(succeed)
    Fault = Fault
    Bug = Bug

    def __init__(self) -> None:
        self.servers: dict[str, Server] = {}
        self.numbers = itertools.count(1)
        self.metrics = CollectorRegistry()
        self.transitions: list[Any] = []
        provider = type("Provider", (ScriptedProvider,), {"world": self})
        self.registry = DocumentDatabaseRegistry()
        self.registry.register("scripted", provider)

    def __getitem__(self, name: str) -> Server:
        return self.servers.setdefault(name, Server())

    def settings(
        self, *names: str, runtime: dict[str, Any] | None = None, **every: Any
    ) -> dict[str, Any]:
        """The TOML's shape: connections of these names, each with the tables of `every`."""
        documents = {name: {"backend": "scripted", **every} for name in names or ("db",)}
        return {
            "default": {
                "database": {
                    "documents": documents,
                    "default_document_connection": next(iter(documents)),
                },
                "runtime": runtime or {},
            }
        }

    def open(
        self,
        *names: str,
        observers: tuple[Any, ...] = (),
        runtime: dict[str, Any] | None = None,
        **every: Any,
    ) -> AbstractAsyncContextManager[ConnectionManager]:
        """`open_connections` with `settings(...)`; transitions are kept in `transitions`."""
        return self.open_settings(
            self.settings(*names, runtime=runtime, **every), observers=observers
        )

    def open_settings(
        self, settings: Any, *, observers: tuple[Any, ...] = ()
    ) -> AbstractAsyncContextManager[ConnectionManager]:
        """`open_connections` with this world's registry, metrics and ear."""
        return open_connections(
            settings,
            registry=self.registry,
            metrics=self.metrics,
            observers=(self.transitions.append, *observers),
        )

    def path(self, name: str = "db") -> list[str]:
        """The events of a connection so far."""
        return [t.event.value for t in self.transitions if t.connection == name]

    @staticmethod
    async def until(connection: Connection, state: State, seconds: float = 300.0) -> None:
        """Wait for a state that lasts."""

        async def watch() -> None:
            async for status in connection.watch():
                if status.state is state:
                    return
            raise AssertionError(f"{connection!r} closed before it was {state}")

        if _on_trio():
            with trio.fail_after(seconds):
                await watch()
        else:
            await asyncio.wait_for(watch(), seconds)

    def assert_all_closed(self) -> None:
        """Every client that was opened has been closed once."""
        for name, server in self.servers.items():
            closed = [client.closed for client in server.clients]
            assert closed == [1] * len(closed), f"{name}: clients were closed {closed} times"
            assert server.busy == 0, f"{name}: calls are left behind"


@pytest.fixture
def world() -> Iterator[World]:
    """Scripted servers; at the end every client has to be closed, exactly once."""
    made = World()
    yield made
    made.assert_all_closed()
