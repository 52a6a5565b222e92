"""The manager: the connections of one `open_connections` block, by name. It only wires."""

from __future__ import annotations

import threading
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ..errors import UnknownConnection, did_you_mean
from .guard import check_host
from .history import History
from .hosts import give_up_after, pause
from .http_probes import KERNEL
from .lifecycle import wait_ready
from .metrics import Exposition
from .reload import Reloader
from .watching import ManagerWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..providers.registry import DocumentDatabaseRegistry
    from .changes import Changes
    from .connection import Connection
    from .kernel import Kernel
    from .loading import LoadedSettings, Source
    from .settings import Settings
    from .status import ConnectionStatus

    Check = Callable[[], object]


class ConnectionManager:
    """The connections by name: `manager[name]`, `iter`, `len`, `in`.

    `statuses` and `is_ready` may be called from any thread; all else belongs to the host's.
    """

    def __init__(
        self, loaded: LoadedSettings, kernel: Kernel, registry: DocumentDatabaseRegistry
    ) -> None:
        self.kernel = kernel
        self.checks: dict[str, Check] = {}
        self.metrics = Exposition(None)
        self.urls: tuple[str, ...] = ()  # where the exporter listens
        self._reloader = Reloader(kernel, loaded, registry)
        self._history: History | None = None
        # One look-up checks the thread as well: others find no `serving` here.
        self._here = threading.local()
        self._here.serving = kernel.serving

    @property
    def settings(self) -> Settings:
        """The settings that were accepted last; each connection's own `settings` are in force."""
        return self._reloader.loaded.settings

    # -- by name ------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Connection:
        found = self.kernel.connections.get(name)
        if found is None:
            raise self._unknown(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.kernel.connections)

    def __len__(self) -> int:
        return len(self.kernel.connections)

    def __contains__(self, name: object) -> bool:
        return name in self.kernel.connections

    def __repr__(self) -> str:
        ready = sum(c.is_ready() for c in self.kernel.connections.values())
        return f"<ConnectionManager {self.kernel.name!r}: {ready} of {len(self)} ready>"

    def get_document_db(self, name: str | None = None) -> Connection:
        """The connection called `name`; None: the default one.

        Raises:
            UnknownConnection: there is none; names the known ones and the nearest.
        """
        return self[self._default() if name is None else name]

    # -- the native databases -----------------------------------------------------------------

    async def get_database(
        self,
        name: str | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - part of the contract, like a queue's
    ) -> Any:
        """The native database object of a connection, as soon as it is ready.

        Not a checkpoint when it is ready already.

        Args:
            name: the connection; None: the default one.
            timeout: how many seconds to wait; None: `runtime.ready_timeout`; `math.inf`: for ever.

        Raises:
            UnknownConnection: no connection has this name.
            ConnectionNotReady: not ready in time, or stopped, or the manager is closing.
            HostMismatch: called from another thread or process than the one it was opened in.
        """
        try:
            return self._here.serving[name]
        except (KeyError, AttributeError):  # not ready; or not here, which the slow path tells
            return await self.get_document_db(name).get_database(timeout=timeout)

    def database(self, name: str | None = None) -> Any:
        """The native database object, now; errors as `get_database`, without the waiting."""
        try:
            return self._here.serving[name]
        except (KeyError, AttributeError):
            return self.get_document_db(name).database()

    # -- readiness ----------------------------------------------------------------------------

    def is_ready(self) -> bool:
        """Whether all required connections are ready. From any thread."""
        return not self.kernel.closing and all(
            c.is_ready() for c in tuple(self.kernel.connections.values()) if c.required
        )

    async def wait_ready(
        self,
        *names: str,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> None:
        """Wait until the named connections are ready together; without names, all required ones.

        Raises:
            UnknownConnection: no connection has such a name.
            ConnectionNotReady: not in time, or one of them is stopped, or the manager is closing.
        """
        check_host(self.kernel, "the manager")
        if names:
            wanted = [self[name] for name in names]
        else:
            wanted = [c for c in self.kernel.connections.values() if c.required]
        seconds = self.kernel.ready_timeout if timeout is None else timeout
        await wait_ready(self.kernel, wanted, seconds)

    def statuses(self) -> tuple[ConnectionStatus, ...]:
        """Every connection's present status, in the settings' order. From any thread."""
        return tuple(c.status for c in tuple(self.kernel.connections.values()))

    def watch(self) -> ManagerWatch:
        """An async iterator over the newest statuses: all present ones, then each after a change.

        Changes that come faster than they are asked for are skipped, except the newest of each
        connection. It ends when the manager closes.
        """
        check_host(self.kernel, "the manager")
        return ManagerWatch(self.kernel)

    def add_check(self, name: str, fn: Check) -> None:
        """Let /readyz show a check of the application's own.

        Args:
            name: what the page calls it; not a connection's name.
            fn: synchronous and quick; returning False, or raising, fails the check.

        Raises:
            ValueError: the name is taken.
            TypeError: `fn` cannot be called.
        """
        if not callable(fn):
            raise TypeError(f"the check {name!r} cannot be called: {fn!r}")
        if name in self.kernel.connections or name in self.checks or name == KERNEL:
            raise ValueError(f"{name!r} is taken: give the check a name of its own")
        self.checks[name] = fn

    # -- commands -----------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """`Connection.start` by name."""
        await self[name].start()

    async def stop(self, name: str) -> None:
        """`Connection.stop` by name."""
        await self[name].stop()

    async def restart(self, name: str) -> None:
        """`Connection.restart` by name."""
        await self[name].restart()

    async def reload(self, settings: Source | None = None) -> Changes:
        """Go by other settings; only the difference is applied.

        - Connections that are new are started; those that are gone or disabled are stopped: who
          waits for one gets `ConnectionNotReady` at once, and its name is unknown from then on.
        - Another `provider` table, or another `security.secrets` where it holds references: a new
          client, as by `restart`. A ready connection stays ready; if its new client does not come
          up, it keeps the old one and all of its old settings, and is named in `failed`.
        - Another `backend`: stopped, and started with the other provider. The `Connection` stays
          the same, with its hooks.
        - Anything else of a connection: changed in place, from the next ping or episode on. A
          stopped connection stays stopped, whatever changes.
        - What is read only when a program begins is named in `needs_restart`.

        Returns when new clients have taken over, and what was removed is closed. Concurrent
        reloads wait for each other. Cancellation leaves each connection with either its old or its
        new settings, and what was to be stopped goes on stopping; the next reload does what is
        left.

        Args:
            settings: as `open_connections` takes them, in the same environment; None: the same
                sources as last time, read again.

        Raises:
            SettingsError: they cannot be used; nothing has changed.
            ConnectionNotReady: the manager is closing.
            HostMismatch: called from another thread or process than the one it was opened in.
            RuntimeError: called by a hook.
        """
        return await self._reloader.reload(settings)

    # -- what probes and pages ask ------------------------------------------------------------

    @property
    def closing(self) -> bool:
        """Whether the manager is closing or drains: probes say 503 from here on."""
        return self.kernel.closing or self.kernel.draining

    @property
    def closed(self) -> bool:
        """Whether everything is over, so that no status changes any more. From any thread."""
        return self.kernel.closed

    @property
    def name(self) -> str:
        """`runtime.name`, which metrics have as the label `runtime`."""
        return self.kernel.name

    def keep_history(self) -> History:
        """The connections' last transitions, kept from the first time that this is called."""
        if self._history is None:
            self._history = History(lambda: self.kernel.connections)
            self.kernel.announcer.observe(self._history.note)
        return self._history

    async def change_within(self, seconds: float) -> None:
        """Wait for the next change of any connection, `seconds` at most.

        From another thread than the host's it takes `seconds`: changes are not told there.
        """
        if get_ident() == self.kernel.thread:
            await give_up_after(seconds, self.kernel.next_change)
        else:
            await pause(seconds)

    def is_alive(self) -> bool:
        """Whether the kernel runs. From any thread."""
        return self.kernel.is_alive()

    def is_started(self) -> bool:
        """Whether every connection has left `init`. From any thread."""
        return all(c.state != "init" for c in tuple(self.kernel.connections.values()))

    def _default(self) -> str:
        if self.kernel.default is None:
            raise UnknownConnection(
                "no name was given and database.default_document_connection is not set. "
                f"{did_you_mean('', self.kernel.connections)}"
            )
        return self.kernel.default

    def _unknown(self, name: str) -> UnknownConnection:
        key = f"database.documents.{name}"
        if name in self.settings.database.documents:
            return UnknownConnection(f"{key} is disabled: set enabled = true to use it")
        return UnknownConnection(
            f"there is no {key} in the settings. {did_you_mean(str(name), self.kernel.connections)}"
        )
