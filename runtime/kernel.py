"""What the connections of one manager share: timers, observers, limits, and their supervisor.

The kernel is always trio. `running` (lifecycle.py) holds the order in which its parts start
and stop. What could have a room of its own has one (timers, closing, rotation, announcer,
endpoint, resolver); what is left is one class because each part of it reads the others' state.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from random import Random
from threading import get_ident
from typing import TYPE_CHECKING, Any

import trio

from ..errors import SupervisorError
from ..providers.references import secrets as secrets_in
from ..supervisors.policy import RestartWindow
from ..supervisors.spec import ChildSpec
from .announcer import Announcer
from .closing import Closer
from .endpoint import Endpoint
from .guard import forget_after_fork
from .hosts import HostEvent, TrioHost
from .measurements import Histogram
from .resolver import Resolver
from .rotation import Rotation
from .state import Event, State
from .timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from ..providers.contract import DocumentsDatabaseBase
    from ..supervisors.supervisor import Supervisor
    from .announcer import Observer
    from .connection import Connection
    from .hosts import Host
    from .redaction import Redactor
    from .secrets import SecretsBackend
    from .settings import ConnectionSettings, RuntimeSettings, SecretsSettings

logger = logging.getLogger("moorings")

HEARTBEAT = 0.25
"""How often the kernel proves that it is alive, and looks for stale connections, in seconds."""
STALLED_AFTER = 5.0
"""A heartbeat that is older than this, in seconds, means that the kernel is not running."""
ROOT_INTENSITY, ROOT_PERIOD = 3, 60.0
# The actor closes its client within `supervision.shutdown`; only a task that is stuck beyond its
# own bound is the supervisor's to report.
_CLOSING_GRACE = 0.5


class Kernel:
    """The shared parts, and the connections' way to them. Belongs to the trio thread."""

    def __init__(
        self,
        settings: RuntimeSettings,
        *,
        secrets: SecretsBackend,
        redactor: Redactor,
        observers: Iterable[Observer],
    ) -> None:
        self.name = settings.name
        self.ready_timeout = settings.ready_timeout
        self.hook_timeout = settings.hook_timeout
        self.host: Host = TrioHost()
        self.thread = get_ident()
        self.process = os.getpid()
        self.random = Random()  # noqa: S311 - jitter, not cryptography
        self.timers = Timers()
        self.now: Callable[[], float] = trio.current_time  # trio's clock
        self.closing = False  # no waiter may begin to wait
        self.draining = False  # probes say 503, connections still serve
        self.closed = False  # no status will change any more
        self.failure: BaseException | None = None  # why the kernel died, if it did
        self.connections: dict[str, Connection] = {}
        self.leaving: set[Connection] = set()  # a reload has removed them, and they still stop
        self.serving: dict[str | None, Any] = {}  # the databases that may be used now
        self.default: str | None = None
        self.supervisor: Supervisor  # once the connections run
        self.beat_at = time.time()  # Unix seconds
        self.lag = Histogram()
        self._beat = time.monotonic()
        self.on_beat: Callable[[], object] | None = None  # for a service manager's watchdog
        self.hooking: dict[object, Connection] = {}  # by the task that runs its hook
        self._limit = settings.max_concurrent_connects
        self._endpoints: dict[str, Endpoint] = {}
        self.secrets = Resolver(secrets, redactor)
        self.redactor = redactor
        self.announcer = Announcer(observers, redactor)
        self.changed: HostEvent | None = None  # while anybody waits for any change
        self.closer = Closer(self)
        self.rotation = Rotation(self)
        self._scopes: set[trio.CancelScope] = set()
        self._nursery: trio.Nursery
        self._token: trio.lowlevel.TrioToken
        self.body = trio.CancelScope()
        forget_after_fork(self)

    def add(self, connection: Connection) -> None:
        """Take a connection in; it starts with the kernel."""
        self.connections[connection.name] = connection
        self.configure(connection)

    def configure(self, connection: Connection) -> None:
        """Tell a connection's provider, and the redactor, what its settings say."""
        provider, settings = connection.provider, connection.settings
        if settings.health.timeout != provider.command_timeout:
            provider.command_timeout = settings.health.timeout
        if settings.supervision.shutdown != provider.close_timeout:
            provider.close_timeout = settings.supervision.shutdown
        self.learn(settings)
        self.rotation.review()

    def learn(self, settings: ConnectionSettings) -> None:
        """Let no text show the secrets of a connection's settings from now on."""
        if secrets := secrets_in(settings.provider):
            self.redactor.learn(*secrets)

    def go_by(self, secrets: SecretsBackend, settings: SecretsSettings) -> None:
        """Resolve references by another secrets backend from now on."""
        self.redactor.learn(*secrets_in(settings.provider))
        self.secrets.replace(secrets)
        self.rotation.review()

    def is_alive(self) -> bool:
        """Whether the kernel runs: a fresh heartbeat and no failure. From any thread."""
        return (
            self.failure is None
            and not self.closed
            and time.monotonic() - self._beat < STALLED_AFTER
        )

    # -- what actors and connections ask ------------------------------------------------------

    def serve(self, name: str, database: Any) -> None:
        """Let the hot path find `database` under `name`; None: not any more."""
        names = (name, None) if name == self.default else (name,)
        for key in names:
            if database is None:
                self.serving.pop(key, None)
            else:
                self.serving[key] = database

    def gate(self, endpoint: str) -> Endpoint:
        """What all connections to `endpoint` share."""
        found = self._endpoints.get(endpoint)
        if found is None:
            found = self._endpoints[endpoint] = Endpoint(self._limit)
        return found

    def describe(self, provider: DocumentsDatabaseBase, error: BaseException) -> str:
        """One line about `error`, without credentials."""
        try:
            text = provider.describe(error)
        except Exception:
            # Asked on the way out of a crash: its own bug must not hide that one.
            logger.exception("provider %r cannot describe its errors", type(provider).__name__)
            text = type(error).__name__
        text = self.redactor.redact(text)
        # A server's own words end up on terminals, where control characters act.
        return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Run `function` in the trio thread, from any thread; silently not, once that is over."""
        # A driver's thread may outlive us: nobody is left to hear it then.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function, *args)

    def spawn(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """Run a side task that the kernel owns: it may finish while the kernel closes."""
        self._nursery.start_soon(self._guarded, function, *args, name=function.__qualname__)

    # -- changes of any connection ------------------------------------------------------------

    def wake(self) -> None:
        """Wake those who wait for a change of any connection."""
        changed, self.changed = self.changed, None
        if changed is not None:
            changed.set()

    async def next_change(self) -> None:
        """Wait for the next change of any connection."""
        if self.changed is None:
            self.changed = HostEvent()
        await self.changed.wait()

    # -- commands -----------------------------------------------------------------------------

    def spec(self, connection: Connection) -> ChildSpec:
        """How the supervisor runs a connection: for ever, on a budget of its own."""
        supervision = connection.settings.supervision
        intensity = supervision.intensity
        if not connection.required:
            connection.crashes = RestartWindow(intensity, supervision.period)
            intensity = sys.maxsize  # it parks over its budget, however often it is restarted
        return ChildSpec(
            connection.name,
            connection.run,
            shutdown=supervision.shutdown + _CLOSING_GRACE,
            intensity=intensity,
            period=supervision.period,
            ask=connection.ask,
        )

    async def start(self, connection: Connection) -> None:
        """Run a connection that was stopped; returns at `connecting`."""
        try:
            # A stop whose caller was cancelled may still be closing the client.
            await self.supervisor.terminate_child(connection.name)
            await self.supervisor.restart_child(connection.name)
        except SupervisorError as error:
            raise connection.not_ready("was not started") from error

    async def stop(self, connection: Connection) -> None:
        """Stop a connection; returns when its client is closed."""
        await self.supervisor.terminate_child(connection.name)
        self._settle(connection)

    @staticmethod
    def _settle(connection: Connection) -> None:
        """A connection whose task ended between two incarnations is stopped all the same."""
        if connection.state is not State.STOPPED:
            connection._step(Event.STOP)  # noqa: SLF001

    # -- the kernel's own tasks ---------------------------------------------------------------

    def begin(self, nursery: trio.Nursery) -> None:
        """Start the parts that every connection needs."""
        self._nursery = self.closer.nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        # Asked for several times a ping: straight to the clock is three calls shorter.
        self.now = trio.lowlevel.current_clock().current_time
        self.spawn(self.timers.run)
        self.spawn(self.heartbeat)
        self.spawn(self.rotation.run)

    async def heartbeat(self) -> None:
        """Prove life, measure the loop's lag, and lose connections that went stale."""
        while True:
            due = trio.current_time() + HEARTBEAT
            await trio.sleep_until(due)
            now = trio.current_time()
            self.lag.observe(max(now - due, 0.0))
            self._beat, self.beat_at = time.monotonic(), time.time()
            for connection in self.connections.values():
                actor = connection._actor  # noqa: SLF001
                if actor is not None and now > actor.proof + actor.stale_after:
                    actor.check_proof(now)
            self.closer.close_retired()
            self.announcer.summarise(self._beat)
            if self.on_beat is not None:
                self.on_beat()

    def fail(self, error: BaseException) -> None:
        """The kernel is dead: tell every waiter, then end the block."""
        self._note_failure(error)
        self.begin_closing()
        self.body.cancel()

    def die(self, error: BaseException) -> None:
        """Trio's run is over, and all in it: nothing can be stopped any more, only told."""
        self._note_failure(error)
        self.begin_closing()
        self._scopes.clear()
        self.closer.forget_retired()
        self.end()

    def _note_failure(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
            self.announcer.flush_log()
            logger.critical("runtime %r failed: %s", self.name, error)

    def begin_closing(self, seconds: float = math.inf) -> None:
        """From now on nobody is handed a database, and nobody waits for one.

        All clients together have `seconds` to close.
        """
        self.closer.close_within(seconds)
        self.closing = True
        self.serving.clear()
        for connection in self.connections.values():
            connection._database = None  # noqa: SLF001
            connection.release_waiters()
            connection._wake()  # noqa: SLF001

    def end(self) -> None:
        """The connections are stopped: no status changes any more, and the side tasks end."""
        self.closer.close_retired()
        for scope in tuple(self._scopes):
            scope.cancel()  # clients that are still being closed are shielded, and have a bound
        connections = (*self.connections.values(), *self.leaving)
        for connection in connections:
            self._settle(connection)
        if not self.closed:
            self.secrets.close()
        self.closed = True
        self.announcer.flush_log()
        for connection in connections:
            connection._wake()  # noqa: SLF001
        self.wake()  # there may be no connection that would

    async def _guarded(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """A task of the kernel's: shielded from the outside, fatal when it fails."""
        with trio.CancelScope(shield=True) as scope:
            self._scopes.add(scope)
            if self.closed:
                scope.cancel()  # spawned just before the end
            try:
                await function(*args)
            except Exception as error:  # noqa: BLE001 - told to everybody, and raised at the end
                self.fail(error)
            finally:
                self._scopes.discard(scope)
