"""The iterators that `watch()` returns. Objects, not generators: dropping one costs nothing."""

# ruff: noqa: SLF001 - the other half of what they watch

from __future__ import annotations

from typing import TYPE_CHECKING

from .state import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .kernel import Kernel
    from .standing import Standing
    from .status import ConnectionStatus


class Watch:
    """The iterator that `Connection.watch` returns: the connection's other half."""

    __slots__ = ("_connection", "_seen")

    def __init__(self, connection: Standing) -> None:
        self._connection = connection
        self._seen: object = None

    def __aiter__(self) -> AsyncIterator[ConnectionStatus]:
        return self

    async def __anext__(self) -> ConnectionStatus:
        """Wait for a status that was not seen yet. Cancellation loses none."""
        connection = self._connection
        while connection._facts is self._seen:
            left = connection.gone and connection.state is State.STOPPED
            if left or connection._kernel.closed:
                raise StopAsyncIteration
            await connection.next_change()
        self._seen = connection._facts
        return connection.status


class ManagerWatch:
    """The iterator that `ConnectionManager.watch` returns."""

    __slots__ = ("_kernel", "_seen")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._seen: dict[str, object] = {}

    def __aiter__(self) -> ManagerWatch:
        return self

    async def __anext__(self) -> ConnectionStatus:
        """Wait for a status that was not seen yet. Cancellation loses none."""
        while True:
            for name, connection in self._kernel.connections.items():
                facts = connection.facts
                if self._seen.get(name) is not facts:
                    self._seen[name] = facts
                    return connection.status
            if self._kernel.closed:
                raise StopAsyncIteration
            await self._kernel.next_change()
