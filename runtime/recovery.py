"""Failed: the long backoff, and the one connection per endpoint that watches for the server."""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from ..providers.contract import Signal
from .backoff import decorrelated
from .client import failure_of
from .state import Event

if TYPE_CHECKING:
    from .actor import Actor
    from .client import Client


async def back_off(actor: Actor) -> None:
    """Wait the long backoff out, or until a usable server or a command ends it; then retry."""
    connection, supervision = actor.connection, actor.connection.settings.supervision
    actor.signal = None
    actor.backoff = decorrelated(
        actor.backoff, supervision.backoff_initial, supervision.backoff_max, actor.kernel.random
    )
    _set_until(actor, actor.backoff)
    heals = connection._reason is not None and connection._reason.heals_by_itself
    client = actor.client
    if heals and client is not None:
        await _watch_for_server(actor, client)
    else:
        while not _waited_enough(actor):
            await actor.park(actor.until)
            actor.signal = None
    if not actor.stopping:
        actor.signal, actor.nudged = None, False
        connection._step(Event.RETRY)


def _waited_enough(actor: Actor) -> bool:
    return actor.nudged or actor.stopping or actor.kernel.now() >= actor.until


def _set_until(actor: Actor, delay: float) -> None:
    actor.until = actor.kernel.now() + delay
    actor.connection.measurements.retry_delay = delay
    actor.connection._note(next_attempt_at=time.time() + delay)


async def _watch_for_server(actor: Actor, client: Client) -> None:
    """The backoff of a reason that heals by itself: a driver's event ends it.

    Drivers look every 10 s, but every 0.5 s while an operation waits for a server: the sentinel's
    bounded pings are that operation, for all connections to its endpoint.
    """
    endpoint = actor.kernel.gate(actor.connection.provider.endpoint(client.settings))
    endpoint.join_backoff(actor)
    try:
        while not _waited_enough(actor):
            next_look = actor.until
            if endpoint.sentinel is actor:
                # Providers that refuse at once are not asked more often than those that wait.
                next_look = actor.kernel.now() + actor.connection.settings.health.timeout
                if await _server_answers(actor, client):
                    endpoint.server_is_back(actor)
                    return
            await actor.park(min(next_look, actor.until))
            usable, actor.signal = actor.signal is Signal.USABLE, None
            if usable:
                return
    finally:
        endpoint.leave_backoff(actor)


async def _server_answers(actor: Actor, client: Client) -> bool:
    """One ping, bounded by its timeout and by the end of the backoff; `rouse` gives it up."""
    connection = actor.connection
    bound = min(connection.settings.health.timeout, actor.until - actor.kernel.now())
    try:
        with trio.move_on_after(max(bound, 0.0)) as actor.watching:
            await actor.kernel.host.visit(connection.provider.ping, client.native)
            return True
    except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
        failure_of(actor.kernel, connection, error)
    finally:
        actor.watching = None
    return False


def hasten(actor: Actor, within: float = 1.0) -> None:
    """End the long backoff within so many seconds, at a moment of its own: no herd."""
    delay = actor.kernel.random.uniform(0.0, within)
    if actor.kernel.now() + delay < actor.until:
        _set_until(actor, delay)
        actor.rouse()
