"""What `run` runs: one function with its connections around it, whichever loop they run on."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from .hangup import Hangups
from .opening import opened
from .shutdown import Shutdown
from .systemd import ServiceManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .loading import LoadedSettings
    from .manager import ConnectionManager
    from .redaction import Redactor

    Function = Callable[[ConnectionManager], Awaitable[Any]]


class Program:
    """One run of a function.

    Attributes:
        shutdown: how it ends.
        hangups: how it takes other settings.
        error: what it ended with; None: in order.
        function_failed: whether the function itself raised.
    """

    def __init__(
        self,
        function: Function | None,
        loaded: LoadedSettings,
        redactor: Redactor,
        wired: Callable[[ConnectionManager], object] | None,
    ) -> None:
        self._service = ServiceManager()
        self.shutdown = Shutdown(loaded.settings.runtime, self._service.stopping)
        self.hangups = Hangups(redactor, self._service.reloading)
        self.error: BaseException | None = None
        self.function_failed = False
        self._function = function
        self._loaded = loaded
        self._redactor = redactor
        self._told_wired = wired

    @property
    def failure(self) -> BaseException | None:
        """What ended the runtime, if the program did not."""
        manager = self.shutdown.manager
        return None if manager is None else manager.kernel.failure

    async def run(self, forever: Callable[[], Awaitable[object]]) -> None:
        """Connections and exporter around the function; returns when all of them have ended.

        Args:
            forever: what to wait for where there is no function.

        Cancellation reaches the function, then stops the connections, and is raised.
        """
        async with opened(
            self._loaded,
            observers=(self._service.observe,),
            redactor=self._redactor,
            exporter=True,
            wired=self._wired,
        ) as manager:
            try:
                self._service.ready()
                await self.hangups.began(manager)
                await self._call(manager, forever)
            finally:
                self.shutdown.begin()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep what the block raises as `error`, all but a cancellation.

        Raised, the tasks' owners would wrap it, or end the loop with it. To be put around the
        scope that is cancelled: only that one can tell its cancellation from errors in a group.
        """
        try:
            yield
        except (trio.Cancelled, asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the loop has ended
            self.error = _wish_to_exit(error) or error

    def _wired(self, manager: ConnectionManager) -> None:
        # Before the start is over: a signal may come while it still waits for a database.
        self.shutdown.manager = manager
        self._service.attach(manager)
        if self._told_wired is not None:
            self._told_wired(manager)

    async def _call(
        self, manager: ConnectionManager, forever: Callable[[], Awaitable[object]]
    ) -> None:
        try:
            await (forever() if self._function is None else self._function(manager))
        except Exception:
            self.function_failed = True
            raise


def _wish_to_exit(error: BaseException) -> BaseException | None:
    """The `sys.exit()` of a task of the program's own, which its nurseries wrap in groups."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        (error,) = error.exceptions
    return error if isinstance(error, SystemExit | KeyboardInterrupt) else None
