"""Ready: a ping at every interval proves life, and at once after a miss."""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

import time
from time import perf_counter
from typing import TYPE_CHECKING

from ..providers.contract import Signal
from .backoff import jittered
from .client import failure_of
from .probing import begin_probe
from .state import State

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .actor import Actor
    from .client import AttemptFailed, Client


def keep(actor: Actor) -> Awaitable[object]:
    """What to do next, to be awaited: wait until a ping is due, or ping."""
    # Not itself a coroutine function: a thousand parked actors would each keep its frame.
    if actor.rested or actor.misses:
        return _ping(actor)
    actor.rested = True
    health, kernel = actor.connection.settings.health, actor.kernel
    return actor.park(kernel.now() + jittered(health.interval, health.jitter, kernel.random))


async def _ping(actor: Actor) -> None:
    connection, client, kernel = actor.connection, actor.client, actor.kernel
    assert client is not None  # noqa: S101 - ready means that there is one
    if actor.rested:
        actor.rested = False
        actor.suspected, actor.signal = actor.signal is not None, None
    began, now = perf_counter(), kernel.now()
    actor.calling = "ping"
    kernel.timers.set(actor, now + connection.settings.health.timeout, now)
    try:
        await kernel.host.visit(connection.provider.ping, client.native)
    except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
        actor.calling = None
        failure = failure_of(kernel, connection, error)
        if _still(actor, client):
            missed(actor, failure)
    else:
        actor.calling = None
        _proved(actor, perf_counter() - began)
        if now >= actor.probe_at and _still(actor, client):
            begin_probe(actor, client)


def _still(actor: Actor, client: Client) -> bool:
    return actor.connection.state is State.READY and actor.client is client and not actor.stopping


def missed(actor: Actor, failure: AttemptFailed) -> None:
    """A ping was not answered: `lost` after too many, or at once if the driver suspects it."""
    connection = actor.connection
    connection.measurements.ping_failed(failure.reason)
    actor.misses += 1
    suspicion = actor.suspected or actor.signal is Signal.SUSPECT
    if suspicion or actor.misses >= connection.settings.health.failures:
        actor.lose(failure.reason, failure.text, failure.__cause__)


def _proved(actor: Actor, seconds: float) -> None:
    actor.misses = 0
    actor.suspected = False
    actor.proof = actor.kernel.now()
    connection = actor.connection
    connection._last_ping = seconds
    measurements = connection.measurements
    measurements.pings += 1
    measurements.ping_seconds.observe(seconds)
    measurements.last_ping_at = time.time()
