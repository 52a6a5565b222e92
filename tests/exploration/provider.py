"""A provider whose pings and hooks wait until they are told how to end, and that remembers all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import trio
from pydantic import BaseModel

from moorings.errors import FailureReason
from moorings.providers.contract import DocumentsDatabaseBase

from .model import CLOSE

if TYPE_CHECKING:
    from moorings.providers.contract import Notify


class Fault(Exception):
    """An error that the provider knows."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(f"scripted {reason}")
        self.reason = reason


class Bug(Exception):
    """An error that nobody knows."""


class Decision:
    """A call that waits for its end."""

    def __init__(self, *, made: bool) -> None:
        self._made = trio.Event()
        self.answer = ""
        if made:
            self.make("ok")

    async def wait(self) -> None:
        """Until it is made; raises what it says."""
        await self._made.wait()
        match self.answer:
            case "refused":
                raise Fault(FailureReason.REFUSED)
            case "auth":
                raise Fault(FailureReason.AUTH)
            case "bug":
                raise Bug("scripted")

    def make(self, answer: str) -> None:
        """Decide, once."""
        self.answer = self.answer or answer
        self._made.set()


@dataclass(eq=False)
class Native:
    """A native client."""

    number: int
    notify: Notify
    closing: bool = False
    closed: int = 0


class Backend:
    """What the provider is asked, by client; breaches of the provider's contract are kept."""

    def __init__(self) -> None:
        self.clients: list[Native] = []
        self.pings: dict[int, Decision] = {}
        self.hooks: dict[tuple[int, int], Decision] = {}  # hook, client
        self.hook_calls: list[tuple[int, int]] = []
        self.hooks_done: list[tuple[int, int]] = []
        self.busy: set[int] = set()
        self.breaches: list[str] = []
        self.well = False

    def heal(self) -> None:
        """From now on all calls succeed, and those that wait."""
        self.well = True
        for decision in (*self.pings.values(), *self.hooks.values()):
            decision.make("ok")

    def breach(self, text: str) -> None:
        """Something was done that must not be."""
        self.breaches.append(text)

    def hook(self, number: int) -> Any:
        """A hook: the how-manieth it is."""

        async def hook(database: tuple[str, int]) -> None:
            client = database[1]
            key = number, client
            self.hook_calls.append(key)
            if key in self.hooks:
                self.breach(f"hook {number} runs twice at a time on client {client}")
            self.hooks[key] = decision = Decision(made=self.well)
            try:
                await decision.wait()
                self.hooks_done.append(key)
            finally:
                del self.hooks[key]

        return hook


class Settings(BaseModel):
    """None: there is one server."""


class DecidedProvider(DocumentsDatabaseBase):
    """Opens and verifies at once; a ping waits for its decision, closing takes `CLOSE` seconds."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    backend: ClassVar[Backend]

    def endpoint(self, settings: Settings) -> str:
        return "server"

    def _use(self, client: Native, what: str) -> None:
        if client.closing:
            self.backend.breach(f"{what} of client {client.number}, which is closed")
        if client.number in self.backend.busy:
            self.backend.breach(f"{what} of client {client.number} during another call")

    async def open(self, settings: Settings, notify: Notify) -> Native:
        client = Native(len(self.backend.clients) + 1, notify)
        self.backend.clients.append(client)
        return client

    async def ping(self, client: Native) -> None:
        self._use(client, "ping")
        backend = self.backend
        backend.busy.add(client.number)
        backend.pings[client.number] = decision = Decision(made=backend.well)
        try:
            await decision.wait()
        finally:
            del backend.pings[client.number]
            backend.busy.discard(client.number)

    async def verify(self, client: Native) -> None:
        self._use(client, "verify")

    def database(self, client: Native) -> tuple[str, int]:
        return ("database", client.number)

    async def close(self, client: Native) -> None:
        self._use(client, "close")
        client.closing = True
        await trio.sleep(CLOSE)
        client.closed += 1

    def classify(self, error: BaseException) -> FailureReason | None:
        return error.reason if isinstance(error, Fault) else None
