"""The order in which a kernel's parts start and stop.

Timers and heartbeat, then the connections under their supervisor, then the block. On the way out
the connections stop first, clients that are still being closed get their time, and the timers
end last.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ..errors import ConnectionNotReady, RestartIntensityExceeded
from ..supervisors.opening import open_supervisor
from .backoff import decorrelated
from .hosts import give_up_after
from .http import create_app
from .kernel import ROOT_INTENSITY, ROOT_PERIOD
from .net import is_loopback
from .settings import StartupMode
from .state import State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from .connection import Connection
    from .kernel import Kernel
    from .manager import ConnectionManager
    from .settings import ExporterSettings, RuntimeSettings

logger = logging.getLogger("moorings")


@asynccontextmanager
async def running(kernel: Kernel, settings: RuntimeSettings) -> AsyncGenerator[None, None]:
    """Run `kernel` and its connections for as long as the block runs.

    The block's own error passes as it is; the kernel's failure is raised bare, or in one group
    with the block's.
    """
    block_error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        kernel.begin(nursery)
        try:
            async with open_supervisor(
                name=kernel.name,
                intensity=ROOT_INTENSITY,
                period=ROOT_PERIOD,
                ordered=False,
            ) as kernel.supervisor:
                kernel.supervisor.before_escalation = kernel.fail  # the waiters are told first
                connections = tuple(kernel.connections.values())
                kernel.supervisor.start_children_nowait([kernel.spec(c) for c in connections])
                try:
                    with kernel.body:
                        await _started(kernel, settings)
                        yield
                except BaseException as error:  # noqa: BLE001 - raised below, outside all groups
                    block_error = error
                kernel.begin_closing(settings.shutdown_timeout)
        except RestartIntensityExceeded:
            pass  # the kernel was told first, and holds it as its failure
        finally:
            kernel.end()
    if kernel.failure is not None and trio.current_effective_deadline() > -math.inf:
        # Escalation cancels the block from two nested scopes, and only the outer one, which is
        # behind us, would have taken its cancellation. Nobody outside has cancelled us (in a guest
        # that is the guest itself, as it ends), so that nobody waits for it.
        block_error = without_cancellation(block_error)
    raise_outcome(block_error, kernel.failure)


def without_cancellation(error: BaseException | None) -> BaseException | None:
    """What of `error` is not trio's own cancellation; None: nothing."""
    match error:
        case trio.Cancelled():
            return None
        case BaseExceptionGroup():
            return error.split(trio.Cancelled)[1]
        case _:
            return error


@asynccontextmanager
async def exporting(
    manager: ConnectionManager, settings: ExporterSettings
) -> AsyncGenerator[None, None]:
    """Serve probes and metrics for as long as the block runs; the block's error passes as it is.

    Raises:
        SettingsError: the address cannot be bound.
    """
    block_error: BaseException | None = None
    scope = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        try:
            # In a cancelled scope `start` would wait for the end of this task, which is shielded.
            with trio.CancelScope(shield=True):
                manager.urls = await nursery.start(_export, manager, settings, scope)
            for url in manager.urls:
                logger.info("serving %s/ , %s/readyz and %s/metrics", url, url, url)
            yield
        except BaseException as error:  # noqa: BLE001 - raised below, outside the nursery's group
            block_error = error
        scope.cancel()
    if block_error is not None:
        raise block_error


async def _export(
    manager: ConnectionManager,
    settings: ExporterSettings,
    scope: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[tuple[str, ...]],
) -> None:
    """Serve, and serve again after a failure: that never takes the databases along."""
    from .exporter import serve  # noqa: PLC0415 - hypercorn is for those who serve

    app = create_app(manager, pages=is_loopback(settings.host) or settings.pages)
    starting = _Starting(task_status)
    delay = 0.0
    with scope:
        while True:
            try:
                await serve(app, settings.host, settings.port, task_status=starting)
            except Exception:
                if not starting.said:
                    raise
                delay = decorrelated(delay, 1.0, 30.0, manager.kernel.random)
                logger.exception("the exporter failed; it is back in %.1f s", delay)
            await trio.sleep(delay)


class _Starting:
    """Passes the first `started` on, and swallows those of later incarnations."""

    def __init__(self, task_status: trio.TaskStatus[tuple[str, ...]]) -> None:
        self._task_status = task_status
        self.said = False

    def started(self, value: Any = None) -> None:
        if not self.said:
            self.said = True
            self._task_status.started(value)


async def _started(kernel: Kernel, settings: RuntimeSettings) -> None:
    """Wait as `runtime.startup` says."""
    required = [c for c in kernel.connections.values() if c.required]
    match settings.startup:
        case StartupMode.BACKGROUND:
            return
        case StartupMode.WAIT:
            await wait_ready(kernel, required, settings.startup_timeout)
        case StartupMode.FAIL_FAST:
            await wait_ready(kernel, required, settings.startup_timeout, fail_fast=True)


async def wait_ready(
    kernel: Kernel,
    connections: Sequence[Connection],
    seconds: float,
    *,
    fail_fast: bool = False,
) -> None:
    """Wait until all of `connections` are ready at the same time.

    Raises:
        ConnectionNotReady: not within `seconds`; or one is stopped, or the manager closes; or,
            with `fail_fast`, one has given up.
        RuntimeError: called by a hook of one of them.
    """
    for connection in connections:
        connection.check_not_in_hook()

    async def until_ready() -> None:
        while (waiting := first_unready(connections)) is not None:
            if fail_fast and waiting.state is State.FAILED:
                raise waiting.not_ready("could not be established")
            waiting.check_waitable()
            await kernel.next_change()

    await give_up_after(seconds, until_ready)
    waiting = first_unready(connections)
    if waiting is not None:
        raise waiting.not_ready(f"was not ready within {seconds:g} s")


def first_unready(connections: Sequence[Connection]) -> Connection | None:
    """The first that is not ready; one that has failed before any other."""
    unready = [c for c in connections if not c.is_ready()]
    return next((c for c in unready if c.state is State.FAILED), next(iter(unready), None))


def raise_outcome(block_error: BaseException | None, failure: BaseException | None) -> None:
    """Let the block's error through as it is, the kernel's failure bare, both in one group."""
    if block_error is None or failure is None:
        error = block_error or failure
    elif isinstance(block_error, ConnectionNotReady) and block_error.__cause__ is failure:
        error = failure  # the block only passed on what the kernel told its waiters
    elif isinstance(block_error, trio.Cancelled | asyncio.CancelledError | GeneratorExit):
        error = block_error  # has to reach the one it belongs to
    else:
        error = BaseExceptionGroup("the block and its runtime failed", [block_error, failure])
    if error is not None:
        raise error
