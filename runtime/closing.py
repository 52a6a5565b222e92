"""How clients are closed: each within its bound, at the end all of them within one."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

    from .client import Client
    from .connection import Connection
    from .kernel import Kernel

logger = logging.getLogger("moorings")

LINGER = 2.0
"""How long a client that was replaced is kept for those who hold a handle of it, in seconds: a
request that waits for something else between two calls finishes on the client it began with."""


class Closer:
    """Closes the clients of one kernel's connections.

    Attributes:
        nursery: where clients that were replaced are closed; set as the kernel begins.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.nursery: trio.Nursery
        self._kernel = kernel
        self._by = math.inf  # on trio's clock: when all have to be closed
        self._retired: list[tuple[float, Connection, Client]] = []

    def retire(self, connection: Connection, client: Client) -> None:
        """Close a client that has been replaced, at a heartbeat: recovery comes first.

        One that was handed out is kept for a while, unless the kernel closes.
        """
        client.actor = None
        if client.native is not None:
            due = self._kernel.now() + (LINGER if client.counted else 0.0)
            self._retired.append((due, connection, client))

    def close_retired(self) -> None:
        """Begin to close the replaced clients whose time has come; all, once the kernel closes."""
        if not self._retired:
            return
        retired, self._retired, now = self._retired, [], self._kernel.now()
        for entry in retired:
            due, connection, client = entry
            if due > now and not self._kernel.closing:
                self._retired.append(entry)
            else:
                # Not guarded: it shields itself, is bounded, and lets nothing out.
                self.nursery.start_soon(self.close, connection, client)

    def close_soon(self, connection: Connection, client: Client) -> None:
        """Begin to close a client that nobody has been handed; not once the kernel has ended."""
        self.nursery.start_soon(self.close, connection, client)

    def forget_retired(self) -> None:
        """Close none of the replaced clients: there is no task any more that could."""
        self._retired.clear()

    def close_within(self, seconds: float) -> None:
        """Let all clients together have so many seconds to close, from now on."""
        self._by = min(self._by, self._kernel.now() + seconds)

    def deadline(self, connection: Connection) -> float:
        """When a client that is closed from now on has to be closed, on trio's clock."""
        return min(self._kernel.now() + connection.settings.supervision.shutdown, self._by)

    async def close(self, connection: Connection, client: Client, *, bounded: bool = False) -> None:
        """Close a client; say so where that fails or takes too long.

        Args:
            connection: whose client it is.
            client: nobody uses it any more.
            bounded: the caller's scope bounds this. False: it is bounded here, and shielded.
        """
        kernel = self._kernel
        try:
            if bounded:
                in_time = await client.close_unbounded(kernel)
            else:
                in_time = await client.close(kernel, self.deadline(connection))
        except Exception as error:  # noqa: BLE001 - nothing may keep the others from closing
            text = kernel.describe(connection.provider, error)
            logger.warning("connection %r: closing its client failed: %s", connection.name, text)
            return
        if not in_time:
            self.too_late(connection)

    @staticmethod
    def too_late(connection: Connection) -> None:
        """Count and tell that a client had to be given up."""
        connection.measurements.close_timeouts += 1
        logger.error(
            "connection %r did not close within %g s",
            connection.name,
            connection.settings.supervision.shutdown,
        )
