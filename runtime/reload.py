"""Reload: other settings for a running manager, of which only the difference is applied.

Everything is validated before anything is done. What needs no waiting is then done in one go, so
that nobody sees half of it; new clients and closing ones follow, each connection on its own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..errors import ConnectionNotReady
from ..providers.factory import DocumentsDatabaseFactory
from ..providers.references import references
from .changes import LIVE, InForce, compare, enabled
from .connection import Connection
from .guard import check_host
from .hosts import KernelEnded, current_task, in_thread
from .loading import load_settings
from .reconfiguration import choose_default, let_go, move, reconfigure, regroup, remove
from .replacement import renew
from .secrets_registry import secrets_backend
from .settings import Settings
from .state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..providers.contract import DocumentsDatabaseBase
    from ..providers.registry import DocumentDatabaseRegistry
    from .changes import Changes
    from .kernel import Kernel
    from .loading import LoadedSettings, Source
    from .settings import ConnectionSettings

    Providers = Mapping[str, DocumentsDatabaseBase]

logger = logging.getLogger("moorings")


class Reloader:
    """What a manager goes by, and how that is changed. One reload at a time.

    Attributes:
        loaded: the settings that were accepted last.
    """

    def __init__(
        self, kernel: Kernel, loaded: LoadedSettings, registry: DocumentDatabaseRegistry
    ) -> None:
        self.loaded = loaded
        self._kernel = kernel
        self._registry = registry
        self._factory = DocumentsDatabaseFactory(registry)
        self._runtime = loaded.settings.runtime
        self._turn = trio.Lock()
        self._under_way: dict[str, trio.Event] = {}  # what a cancelled reload has left to finish
        self._owed: set[str] = set()

    async def reload(self, source: Source | None) -> Changes:
        """`ConnectionManager.reload`, from either world."""
        kernel = self._kernel
        check_host(kernel, "the manager")
        if kernel.hooking.get(current_task()) is not None:
            raise RuntimeError("a hook reloads the settings, which would wait for the hook")
        try:
            return await kernel.host.command(self._in_turn, source)
        except KernelEnded as ended:
            raise self._closing() from ended

    async def _in_turn(self, source: Source | None) -> Changes:
        async with self._turn:
            loaded = await self._load(source)
            wanted = enabled(loaded.settings)
            await self._until_done(wanted)
            changes = compare(self._in_force(), loaded.settings)
            providers = self._providers(changes, wanted)
            if self._kernel.closing:
                raise self._closing()
            self._adopt(loaded, changes, providers)
            return await self._carried_out(changes, wanted, providers)

    def _closing(self) -> ConnectionNotReady:
        error = ConnectionNotReady("the reload was not completed: the manager is closing")
        error.__cause__ = self._kernel.failure
        return error

    # -- before anything changes --------------------------------------------------------------

    async def _load(self, source: Source | None) -> LoadedSettings:
        again = self.loaded.again
        if source is not None:
            again = partial(load_settings, source, env=self.loaded.env, registry=self._registry)
        if isinstance(source, Settings | Mapping) or (source is None and not self.loaded.files):
            return again()
        return await in_thread(again)  # a file may lie where reading it takes a while

    async def _until_done(self, names: Mapping[str, object]) -> None:
        """Wait for what an earlier reload, which was cancelled, has begun with these names."""
        for name in names:
            if name in self._under_way:
                await self._under_way[name].wait()

    def _in_force(self) -> InForce:
        kernel, settings = self._kernel, self.loaded.settings
        return InForce(
            connections={name: c.settings for name, c in kernel.connections.items()},
            default=kernel.default,
            secrets=settings.security.secrets,
            runtime=self._runtime,
            owed=frozenset(self._owed),
        )

    def _providers(self, changes: Changes, wanted: Mapping[str, ConnectionSettings]) -> Providers:
        """A provider for each connection that gets a new one."""
        kept = self._kernel.connections
        moved = [n for n in changes.restarted if kept[n].backend != wanted[n].backend]
        host = self._kernel.host.name
        return {
            name: self._factory.create(name, wanted[name], host=host)
            for name in (*changes.added, *moved)
        }

    # -- in one go ----------------------------------------------------------------------------

    def _adopt(self, loaded: LoadedSettings, changes: Changes, providers: Providers) -> None:
        kernel, settings, wanted = self._kernel, loaded.settings, enabled(loaded.settings)
        if settings.security.secrets != self.loaded.settings.security.secrets:
            kernel.go_by(secrets_backend(settings.security.secrets), settings.security.secrets)
            self._owed |= {name for name, c in wanted.items() if references(c.provider)}
        for tables in wanted.values():
            kernel.learn(tables)  # before a new client may fail, and say with what
        self.loaded = loaded
        live = {name: getattr(settings.runtime, name) for name in LIVE}
        self._runtime = self._runtime.model_copy(update=live)
        kernel.ready_timeout = settings.runtime.ready_timeout
        kernel.hook_timeout = settings.runtime.hook_timeout
        for name in changes.removed:
            leaving = kernel.connections[name]
            let_go(leaving)
            self._begin(name, partial(remove, leaving))
        added = [Connection(n, wanted[n], providers[n], kernel) for n in changes.added]
        regroup(kernel, {**kernel.connections, **{c.name: c for c in added}}, tuple(wanted))
        choose_default(kernel, settings.database.default_document_connection)
        for connection in added:
            kernel.configure(connection)
        kernel.supervisor.start_children_nowait([kernel.spec(c) for c in added])
        for name in changes.updated:
            if name in wanted:
                reconfigure(kernel.connections[name], wanted[name])
        self._owed &= wanted.keys() - changes.added
        kernel.wake()

    def _begin(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Do what has to be finished once it has begun, whoever is cancelled meanwhile."""
        done = self._under_way[name] = trio.Event()

        async def finish() -> None:
            try:
                await function()
            except ConnectionNotReady:
                pass  # the manager closes: all is stopped
            finally:
                done.set()
                del self._under_way[name]

        self._kernel.spawn(finish)

    # -- and what takes its time --------------------------------------------------------------

    async def _carried_out(
        self, changes: Changes, wanted: Mapping[str, ConnectionSettings], providers: Providers
    ) -> Changes:
        """Let clients go and come; the changes as they turned out."""
        kept, failed, stopped = self._kernel.connections, set[str](), set[str]()

        async def renew_one(name: str) -> None:
            connection = kept[name]
            if connection.state is State.STOPPED:
                stopped.add(name)
            try:
                await connection.turns.take(partial(renew, connection, wanted[name]))
                self._owed.discard(name)
            except ConnectionNotReady as error:
                failed.add(name)
                logger.warning("%s", error)

        async with trio.open_nursery() as nursery:
            for name in changes.restarted:
                if name in providers:
                    going = partial(move, kept[name], wanted[name], providers[name])
                    self._begin(name, partial(kept[name].turns.take, going))
                    self._owed.discard(name)
                else:
                    nursery.start_soon(renew_one, name)
            await self._until_done(dict.fromkeys((*changes.removed, *changes.restarted)))
        return replace(
            changes,
            restarted=tuple(n for n in changes.restarted if n not in failed | stopped),
            updated=(*(n for n in changes.restarted if n in stopped - failed), *changes.updated),
            failed=tuple(n for n in changes.restarted if n in failed),
        )
