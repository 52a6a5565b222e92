"""What a document-database backend has to do. It knows no states, no retries and no clock.

The runtime calls a provider from one connection's actor, one call at a time per client (an old
client may be closed while its successor is opened, and `probe` runs beside the others), bounds
every call, and decides what an error means only by asking `classify`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from moorings.errors import FailureReason


class Signal(StrEnum):
    """What a driver's own monitoring tells the runtime, from whatever thread it runs in."""

    SUSPECT = "suspect"
    """Something looks wrong (a failed heartbeat, a cleared pool): one ping decides, now."""
    LOST = "lost"
    """No server is usable: the connection is lost at once."""
    USABLE = "usable"
    """A usable server was seen: a long backoff may end now."""
    REFUSED = "refused"
    """A new connection was turned away, while a server is usable: the credentials may be others by
    now, which connections that were opened before do not notice. References are resolved again,
    and a new client takes over if they lead elsewhere; no state changes."""


class Notify(Protocol):
    """The runtime's ear: callable from any thread, never blocks, never raises."""

    def __call__(self, signal: Signal = Signal.SUSPECT, /) -> None:
        """Take `signal` in."""


class DocumentsDatabaseBase(ABC):
    """The contract of a backend; subclass it and register the class under a name.

    Coroutines run in the host's own world (`hosts` says which are supported) and are bounded by
    the runtime: they are cancelled when their time is up, and must let that happen. Blocking work
    belongs into threads that may be abandoned on cancellation.

    Attributes:
        settings_model: validates the `[….provider]` table. Fields of type `Secret` accept
            references; `open` gets them resolved.
        hosts: `"trio"`, `"asyncio"`, or both.
        instead: for a host that is not supported, the backend to name in the error.
        name: the connection's name in the settings.
        command_timeout: how long `ping` and `verify` may take, in seconds. The runtime sets it
            from `health.timeout`, and cancels what takes longer; a driver that stops a little
            earlier can still say why.
        close_timeout: how long `close` may take, in seconds; from `supervision.shutdown`.
    """

    settings_model: ClassVar[type[BaseModel]]
    hosts: ClassVar[frozenset[str]] = frozenset({"trio"})
    instead: ClassVar[Mapping[str, str]] = {}
    command_timeout: float = 2.0
    close_timeout: float = 5.0

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def endpoint(self, settings: Any) -> str:
        """The server or cluster that `settings` speak of, without credentials.

        Connections to one endpoint share the limit on concurrent attempts. `settings` may still
        hold unresolved references: answer then with what is known.
        """

    @abstractmethod
    async def open(self, settings: Any, notify: Notify) -> Any:
        """Make a client from resolved settings. Cheap: `ping` finds out whether it works.

        Args:
            settings: an instance of `settings_model` without references.
            notify: to be called with a `Signal`, from any thread, while the client lives.
        """

    @abstractmethod
    async def ping(self, client: Any) -> None:
        """Return if the server answers; raise what the driver raises if it does not.

        May wait for one, up to `command_timeout`, as long as one may still answer: what is raised
        early is known early. While connections wait for their next attempt, one of them per
        endpoint is pinged again a quarter of a second after each failure.
        """

    @abstractmethod
    async def verify(self, client: Any) -> None:
        """Return if the configured database may be used (credentials included), else raise."""

    async def probe(self, client: Any) -> None:  # noqa: B027 - optional: there may be nothing
        """Open one fresh connection with the client's settings, use it as `verify` does, close it.

        Called now and then on a ready connection whose provider overrides this, beside pings, and
        bounded as they are: connections that were opened before hide a changed password. Nothing
        of `client` may be disturbed by its failure, which changes no state. By default there is
        nothing to try.
        """

    async def is_current(self, client: Any) -> bool:
        """Whether a client that is made now would be made of the same: of the same files, say.

        Asked on each attempt with a client that is kept, and after each probe; bounded as a ping
        is. False: a new client takes its place. By default nothing else can have changed.
        """
        del client
        return True

    @abstractmethod
    def database(self, client: Any) -> Any:
        """The native database object that applications use. No I/O."""

    @abstractmethod
    async def close(self, client: Any) -> None:
        """Let what is under way finish, then close the client and everything it holds.

        Never raises because the server is gone.

        Raises:
            TimeoutError: something was still under way after `close_timeout`; it was given up.
        """

    @abstractmethod
    def classify(self, error: BaseException) -> FailureReason | None:
        """The reason an error stands for, or None when it is a bug rather than an outage."""

    def describe(self, error: BaseException) -> str:
        """One line about `error` for people, without credentials. Override to redact more."""
        return f"{type(error).__name__}: {error}"
