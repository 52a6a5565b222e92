"""`open_connections`: from settings to a running manager, and back."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from ..providers.factory import DocumentsDatabaseFactory
from ..providers.references import secrets as secrets_in
from ..providers.registry import DocumentDatabaseRegistry
from .connection import Connection
from .hosts import current_host
from .kernel import Kernel
from .lifecycle import exporting, running
from .loading import load_settings
from .manager import ConnectionManager
from .metrics import Exposition, expose
from .redaction import Redactor
from .secrets_registry import secrets_backend

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from prometheus_client import CollectorRegistry

    from .announcer import Observer
    from .hosting import Living
    from .loading import LoadedSettings, Source


def open_connections(
    settings: Source | None = None,
    *,
    env: str | None = None,
    registry: DocumentDatabaseRegistry | None = None,
    metrics: CollectorRegistry | None = None,
    observers: Sequence[Observer] = (),
) -> AbstractAsyncContextManager[ConnectionManager]:
    """Run every connection that the settings name, supervised, for as long as the block runs.

    Args:
        settings: a `Settings`, a path, several paths, or a mapping of the TOML's shape. None:
            `MOORINGS_SETTINGS`, else `./settings.toml`.
        env: the settings' layer; None: `MOORINGS_ENV`.
        registry: where backends are looked up; None: what is installed.
        metrics: where the collector is registered; None: prometheus_client's `REGISTRY`.
        observers: called with every `Transition`; one that raises is removed and logged.

    Raises:
        SettingsError: the settings cannot be used; nothing was started.
        ConnectionNotReady: `runtime.startup` is not `background`, and a required connection did
            not come up.
        RestartIntensityExceeded: a bug kept crashing a connection. Waiters were told first.
        HostMismatch: entered neither in a trio nor in an asyncio program, or this thread is
            occupied by another loop's connections.

    The block's own error passes as it is. Cancellation reaches the block, and then stops the
    connections in order. No signal is touched. In an asyncio program, a runtime that dies cancels
    the task that entered the block; the end of the block raises the reason, whatever task it is in.
    """
    load = partial(load_settings, settings, env=env, registry=registry)
    return Opening(load, registry=registry, metrics=metrics, observers=observers)


class Opening(AbstractAsyncContextManager["ConnectionManager"]):
    """What `open_connections` returns.

    Args:
        load: gives the settings, once the block is entered.
        registry: where backends are looked up; None: what is installed.
        metrics: where the collector is registered; None: prometheus_client's `REGISTRY`.
        observers: called with every `Transition`.
        redactor: knows the secrets; None: a new one.
        exporter: whether to serve HTTP where the settings leave that open.
        wired: called with the manager before anything of it runs.
    """

    # Not a generator: see `hosting.Hosted`.

    def __init__(
        self,
        load: Callable[[], LoadedSettings],
        *,
        registry: DocumentDatabaseRegistry | None = None,
        metrics: CollectorRegistry | None = None,
        observers: Sequence[Observer] = (),
        redactor: Redactor | None = None,
        exporter: bool = False,
        wired: Callable[[ConnectionManager], object] | None = None,
    ) -> None:
        self._load = load
        self._registry = registry
        self._metrics = metrics
        self._observers = observers
        self._redactor = redactor
        self._exporter = exporter
        self._wired = wired
        self._entered = False
        self._manager: ConnectionManager | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> ConnectionManager:
        """Run the connections; errors as `open_connections`.

        Raises:
            RuntimeError: it was entered before.
        """
        if self._entered:
            raise RuntimeError("what open_connections returns can be entered once: call it again")
        self._entered = True
        loaded, host = self._load(), current_host()
        manager = build(
            loaded,
            self._registry or DocumentDatabaseRegistry.default(),
            host,
            self._observers,
            self._redactor or Redactor(),
        )
        manager.metrics = Exposition(self._metrics)
        if self._wired is not None:
            self._wired(manager)
        enabled = loaded.settings.runtime.exporter.enabled
        living = partial(_living, manager, self._exporter if enabled is None else enabled)
        async with self._stack as stack:
            stack.enter_context(expose(manager.kernel, self._metrics))
            await stack.enter_async_context(_in_host(host, manager, living))
            self._stack = stack.pop_all()
        self._manager = manager
        return manager

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Stop the connections.

        Raises:
            HostMismatch: this is not the loop that the block was entered in; nothing has changed.
        """
        if self._manager is not None:
            self._manager.kernel.host.check_leaving()
        return await self._stack.__aexit__(kind, error, traceback)


def opened(
    loaded: LoadedSettings,
    *,
    observers: Sequence[Observer] = (),
    redactor: Redactor | None = None,
    exporter: bool = False,
    wired: Callable[[ConnectionManager], object] | None = None,
) -> Opening:
    """`open_connections` with settings that are loaded already; arguments as `Opening`."""
    return Opening(
        lambda: loaded, observers=observers, redactor=redactor, exporter=exporter, wired=wired
    )


@asynccontextmanager
async def _living(manager: ConnectionManager, exporter: bool) -> AsyncGenerator[None, None]:
    """The kernel, and the exporter around it, in trio."""
    settings = manager.settings.runtime
    async with AsyncExitStack() as stack:
        if exporter:
            await stack.enter_async_context(exporting(manager, settings.exporter))
        await stack.enter_async_context(running(manager.kernel, settings))
        yield


def _in_host(
    host: str, manager: ConnectionManager, living: Living
) -> AbstractAsyncContextManager[None]:
    if host == "trio":
        return living()
    from .hosting import Hosted  # noqa: PLC0415 - asyncio is for those who live in it

    return Hosted(manager.kernel, living)


def build(
    loaded: LoadedSettings,
    registry: DocumentDatabaseRegistry,
    host: str,
    observers: Sequence[Observer],
    redactor: Redactor,
) -> ConnectionManager:
    """Wire settings, providers and connections together; nothing runs yet."""
    settings = loaded.settings
    redactor.learn(*secrets_in(settings.security.secrets.provider))
    kernel = Kernel(
        settings.runtime,
        secrets=secrets_backend(settings.security.secrets),
        redactor=redactor,
        observers=observers,
    )
    factory = DocumentsDatabaseFactory(registry)
    for name, connection in settings.database.documents.items():
        if connection.enabled:
            provider = factory.create(name, connection, host=host)
            kernel.add(Connection(name, connection, provider, kernel))
    kernel.default = settings.database.default_document_connection
    return ConnectionManager(loaded, kernel, registry)
