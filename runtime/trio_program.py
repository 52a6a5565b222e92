"""A program on trio: how a signal reaches it, and ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .hangup import heeding_hangups

if TYPE_CHECKING:
    from .program import Program


def run_on_trio(program: Program) -> None:
    """Run `program` until it has ended; raises what asks for the process's end."""
    trio.run(_TrioRun(program).main)


class _TrioRun:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._shutdown = program.shutdown
        self._scope = trio.CancelScope()
        self._over = False

    async def main(self) -> None:
        """Everything, in order; ends when the connections and the exporter have."""
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:

            def begin_drain(number: int) -> None:
                token.run_sync_soon(self._begin_drain, nursery, number)

            def begin_reload() -> None:
                token.run_sync_soon(self._begin_reload, nursery)

            with (
                heeding_hangups(begin_reload),
                self._shutdown.heeding(begin_drain),
                self._program.keeping(),
                self._scope,
            ):
                await self._program.run(trio.sleep_forever)
            self._over = True
            nursery.cancel_scope.cancel()

    def _begin_drain(self, nursery: trio.Nursery, number: int) -> None:
        if not self._over:  # a signal may come in the very last moment
            nursery.start_soon(self._drain, number)

    def _begin_reload(self, nursery: trio.Nursery) -> None:
        if not self._over:
            nursery.start_soon(self._program.hangups.reload)

    async def _drain(self, number: int) -> None:
        self._shutdown.drain(number)
        await trio.sleep(self._shutdown.drain_delay)
        self._scope.cancel()
