"""A program on asyncio: how a signal reaches it, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from .guest import undisturbed
from .hangup import heeding_hangups

if TYPE_CHECKING:
    from .program import Program


def run_on_asyncio(program: Program) -> None:
    """Run `program` until it has ended; raises what asks for the process's end."""
    run = _AsyncioRun(program)
    # Around the loop's own end, too: it waits for threads and tasks that were left behind.
    with heeding_hangups(run.heed_hangup), program.shutdown.heeding(run.heed):
        asyncio.run(run.main())


class _AsyncioRun:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._shutdown = program.shutdown
        self._job: asyncio.Task[None]
        self._drain_job: asyncio.Task[None] | None = None
        self._reloads: set[asyncio.Task[None]] = set()  # a loop holds its tasks weakly
        self._ended_by_us = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: int | None = None

    def heed(self, number: int) -> None:
        """The first signal, from inside its handler: before, in or after the loop's life."""
        self._early = number
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(self._begin_drain)

    def heed_hangup(self) -> None:
        """A SIGHUP, from inside its handler: as `heed`."""
        if self._loop is None:
            self._program.hangups.wanted = True
        else:
            with contextlib.suppress(RuntimeError):  # closed
                self._loop.call_soon_threadsafe(self._begin_reload)

    async def main(self) -> None:
        """Everything, in order; ends when the connections and the exporter have."""
        # A task of its own: only the function and what is around it shall meet the cancellation.
        self._job = asyncio.create_task(self._run(), name="moorings: program")
        self._loop = asyncio.get_running_loop()
        self._begin_drain()
        try:
            await asyncio.wait([self._job])
        except asyncio.CancelledError:  # the loop is wound up: by a task's sys.exit(), say
            if not self._job.cancelling():  # twice would cut its clean-up short
                self._job.cancel()
            await undisturbed(self._job)
        if self._drain_job is not None:
            self._drain_job.cancel()
        if not (self._ended_by_us and self._job.cancelled()):
            self._job.result()

    async def _run(self) -> None:
        with self._program.keeping():
            await self._program.run(_forever)

    def _begin_drain(self) -> None:
        number, self._early = self._early, None
        if number is not None and not self._job.done():  # in the very last moment
            self._drain_job = asyncio.create_task(self._drain(number), name="moorings: drain")

    def _begin_reload(self) -> None:
        if not self._job.done():
            reload = asyncio.create_task(self._program.hangups.reload(), name="moorings: reload")
            self._reloads.add(reload)
            reload.add_done_callback(self._reloads.discard)

    async def _drain(self, number: int) -> None:
        self._shutdown.drain(number)
        await asyncio.sleep(self._shutdown.drain_delay)
        # A function that swallows this is the watchdog's business.
        self._ended_by_us = self._job.cancel()


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()
