"""Waiting for a server: in the naps of an episode, and in the long backoff.

Drivers look for a server every 10 s, but every 0.5 s while an operation waits for one. That
operation is the ping of the sentinel, the one connection per endpoint that watches for all.
"""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

from ..providers.contract import Signal
from .client import failure_of

if TYPE_CHECKING:
    from .actor import Actor
    from .client import Client

LOOK = 0.25
"""The sentinel's rest between two pings that have failed, in seconds.

Half of the 0.5 s after which MongoDB's drivers look again, and only where somebody has asked for
that meanwhile: who rested longer would miss every other turn. It also holds up what succeeds in a
sentinel's ping, and fails in the next attempt's: those take turns no faster.
"""


async def wait_for_server(actor: Actor, seconds: float) -> None:
    """Wait so long. A command ends it, and, where the cause heals by itself, a usable server."""
    _set_until(actor, seconds)
    reason, client = actor.connection._reason, actor.client
    if client is not None and reason is not None and reason.heals_by_itself:
        await _watch(actor, client)
        return
    while not _waited_enough(actor):
        await actor.park(actor.until)
        actor.signal = None


async def _watch(actor: Actor, client: Client) -> None:
    """Wait as one of those who hear of it when the sentinel has found the server."""
    endpoint = actor.kernel.gate(actor.connection.provider.endpoint(client.settings))
    endpoint.begin_waiting(actor)
    look_at = actor.kernel.now() + LOOK
    try:
        while not _waited_enough(actor):
            if endpoint.sentinel is actor and actor.kernel.now() >= look_at:
                if await _server_answers(actor, client):
                    endpoint.server_is_back(actor)
                    return
                look_at = actor.kernel.now() + LOOK
            watching = endpoint.sentinel is actor
            await actor.park(min(look_at, actor.until) if watching else actor.until)
            usable, actor.signal = actor.signal is Signal.USABLE, None
            if usable:
                return
    finally:
        endpoint.end_waiting(actor)


async def _server_answers(actor: Actor, client: Client) -> bool:
    """One ping, bounded by its timeout and by the end of the wait; `rouse` gives it up."""
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
    """End the wait within so many seconds, at a moment of its own: no herd."""
    delay = actor.kernel.random.uniform(0.0, within)
    if actor.kernel.now() + delay < actor.until:
        _set_until(actor, delay)
        actor.rouse()


def _set_until(actor: Actor, delay: float) -> None:
    actor.until = actor.kernel.now() + delay
    actor.connection.measurements.retry_delay = delay
    actor.connection._note(next_attempt_at=time.time() + delay)


def _waited_enough(actor: Actor) -> bool:
    # Or our scope was cancelled, and the provider has swallowed it.
    return actor.nudged or actor.stopping or actor._cut or actor.kernel.now() >= actor.until
