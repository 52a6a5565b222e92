"""The driver's own monitoring, turned into the runtime's signals.

Listeners run in the driver's threads (with PyMongo's asynchronous client: in the event loop's) and
hold them up, so all that happens here is a look at data
in memory and a call of `notify`, which never blocks. Heartbeat and pool events come at once, the
driver's topology events up to a second later: so the former are the trigger, and the topology is
read from the client. What that shows depends on the event:

* `pool_cleared` comes after the topology was changed: it is up to date.
* Heartbeats come before: a failure is judged by the topology as it was (`pool_cleared` follows if
  the server had been usable), a success by the server's reply.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from pymongo import ReadPreference
from pymongo.monitoring import (
    ConnectionCheckOutFailedReason,
    ConnectionPoolListener,
    ServerHeartbeatListener,
)

from .contract import Signal
from .pools import CheckoutFailure, PoolStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo import AsyncMongoClient, MongoClient, monitoring
    from pymongo.hello import Hello

    from .contract import Notify
    from .pools import PoolCounter

    Driver = MongoClient[Any] | AsyncMongoClient[Any]

_FAILURES: Final = {
    ConnectionCheckOutFailedReason.TIMEOUT: CheckoutFailure.TIMEOUT,
    ConnectionCheckOutFailedReason.CONN_ERROR: CheckoutFailure.CONNECTION_ERROR,
    ConnectionCheckOutFailedReason.POOL_CLOSED: CheckoutFailure.POOL_CLOSED,
}
"""All that the drivers' specification of pools knows."""


def usable_servers(client: Driver) -> frozenset[tuple[str, int | None]]:
    """The servers that may serve a read under the client's read preference, as known now.

    "Usable" follows the read preference: with `secondaryPreferred` a set without a primary is.
    """
    description = client.topology_description
    servers = description.apply_selector(client.read_preference)
    return frozenset(server.address for server in servers)


def serves(reply: Hello[Any], client: Driver, replica_set: str | None) -> bool:
    """Whether a server that replied so is usable; tags and staleness are left to the ping."""
    if replica_set is not None and reply.replica_set_name != replica_set:
        return False
    if client.read_preference == ReadPreference.PRIMARY:
        return reply.is_writable
    return reply.is_readable


class MongoMonitor(ServerHeartbeatListener, ConnectionPoolListener):
    """Listens to one client's driver. Every method is called from the driver's threads.

    Args:
        notify: the runtime's ear.
        counter: counts for this client and others of its provider.
    """

    def __init__(self, notify: Notify, counter: PoolCounter) -> None:
        self._notify = notify
        self._counter = counter
        self._client: Driver | None = None
        self._replica_set: str | None = None
        self._lock = threading.Lock()
        self._opening: set[tuple[Any, int]] = set()
        self._open = self._in_use = 0
        self._when_idle: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"<MongoMonitor {'mute' if self._client is None else 'listening'}>"

    def attend(self, client: Driver, replica_set: str | None) -> None:
        """Judge by this client's topology. Called once, before the client is used."""
        self._client = client
        self._replica_set = replica_set

    def mute(self) -> None:
        """Say nothing any more: the client is being closed, and its pools with it."""
        # It refers to us, too: so that it goes when it is let go of.
        self._client = None

    def statistics(self) -> PoolStatistics:
        """A consistent snapshot, from any thread."""
        with self._lock:
            # A call that is cancelled while it gives its connection back is never told of.
            return PoolStatistics(max(self._open - self._in_use, 0), self._in_use)

    def when_idle(self, call: Callable[[], object]) -> None:
        """Call `call` once no call has a connection: now, or from a driver's thread."""
        with self._lock:
            if self._in_use:
                self._when_idle.append(call)
                return
        call()

    # Heartbeats

    def started(self, event: monitoring.ServerHeartbeatStartedEvent) -> None:
        """A heartbeat is sent: nothing is known yet."""

    def succeeded(self, event: monitoring.ServerHeartbeatSucceededEvent) -> None:
        """A server answered: it may have become usable, or have ceased to be (a step-down)."""
        client = self._client
        if client is None:
            return
        before = usable_servers(client)
        if serves(event.reply, client, self._replica_set):
            if not before:
                self._notify(Signal.USABLE)
        elif before == {event.connection_id}:
            self._notify(Signal.LOST)

    def failed(self, event: monitoring.ServerHeartbeatFailedEvent) -> None:
        """A server did not answer."""
        del event
        self._judge()

    # Pools

    def pool_cleared(self, event: monitoring.PoolClearedEvent) -> None:
        """A server failed: its connections were thrown away."""
        del event
        self._counter.cleared()
        self._judge()

    def connection_created(self, event: monitoring.ConnectionCreatedEvent) -> None:
        """A socket is about to be opened."""
        with self._lock:
            self._opening.add((event.address, event.connection_id))

    def connection_ready(self, event: monitoring.ConnectionReadyEvent) -> None:
        """A socket was opened, and logged in."""
        with self._lock:
            self._opening.discard((event.address, event.connection_id))
            self._open += 1

    def connection_closed(self, event: monitoring.ConnectionClosedEvent) -> None:
        """A socket was closed; or never opened."""
        key = (event.address, event.connection_id)
        with self._lock:
            if key in self._opening:
                self._opening.remove(key)
            else:
                self._open -= 1

    def connection_checked_out(self, event: monitoring.ConnectionCheckedOutEvent) -> None:
        """A call got a connection."""
        with self._lock:
            self._in_use += 1
        self._counter.checked_out(event.duration or 0.0)

    def connection_checked_in(self, event: monitoring.ConnectionCheckedInEvent) -> None:
        """A call gave its connection back."""
        del event
        with self._lock:
            self._in_use -= 1
            idle: list[Callable[[], object]] = []
            if not self._in_use:
                idle, self._when_idle = self._when_idle, idle
        for call in idle:
            call()

    def connection_check_out_failed(self, event: monitoring.ConnectionCheckOutFailedEvent) -> None:
        """A call got no connection: it could not be opened, say, or not be logged in."""
        reason = _FAILURES[event.reason]
        self._counter.failed(reason)
        if reason is not CheckoutFailure.CONNECTION_ERROR:
            return
        client = self._client
        # Where no server is usable, there is more to say, and others say it.
        if client is not None and usable_servers(client):
            self._notify(Signal.REFUSED)

    def pool_created(self, event: monitoring.PoolCreatedEvent) -> None:
        """Not needed."""

    def pool_ready(self, event: monitoring.PoolReadyEvent) -> None:
        """Not needed: the heartbeat before it said so."""

    def pool_closed(self, event: monitoring.PoolClosedEvent) -> None:
        """Not needed."""

    def connection_check_out_started(
        self, event: monitoring.ConnectionCheckOutStartedEvent
    ) -> None:
        """Not needed."""

    def _judge(self) -> None:
        client = self._client
        if client is not None:
            self._notify(Signal.SUSPECT if usable_servers(client) else Signal.LOST)
