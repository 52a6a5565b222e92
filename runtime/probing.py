"""A probe: one fresh connection now and then, since pooled ones hide a changed password.

Pooled sockets were let in once and stay in: pings over them succeed after the password was changed
or the certificate has expired, until the pool has to grow and the driver throws all of it away. So
after a ping, when it is time again, a connection is opened, logged in, and closed. What it finds
changes no state, as what is in use works; newer secrets are looked for, and gone by.
"""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import trio

from ..providers.contract import DocumentsDatabaseBase
from .backoff import jittered
from .client import AttemptFailed, failure_of, timed_out
from .state import State

if TYPE_CHECKING:
    from .actor import Actor
    from .client import Client

logger = logging.getLogger("moorings")

JITTER = 0.1
"""The share by which the interval varies, so that connections do not probe together."""


def schedule_probe(actor: Actor) -> None:
    """Let the next probe come an interval from now; never, where there is none."""
    interval = actor.connection.settings.health.probe_interval
    if interval == 0 or type(actor.connection.provider).probe is DocumentsDatabaseBase.probe:
        actor.probe_at = math.inf
        forget_refusal(actor)  # nobody would ever take it back
    else:
        actor.probe_at = actor.kernel.now() + jittered(interval, JITTER, actor.kernel.random)


def forget_refusal(actor: Actor) -> None:
    """What the last probes have found is over: it was about another client.

    Not after an outage: a client that is kept may have come back on sockets that it had before.
    """
    actor.connection.measurements.probe_refused = None


def begin_probe(actor: Actor, client: Client) -> None:
    """Probe beside all else; the kernel owns the task."""
    if actor.probing:
        return  # it waits, or hangs: more of them would take the slots of those who reconnect
    schedule_probe(actor)
    actor.probing = True
    actor.kernel.spawn(_one_probe, actor, client)


async def _one_probe(actor: Actor, client: Client) -> None:
    try:
        await _probe(actor, client)
    finally:
        actor.probing = False


async def _probe(actor: Actor, client: Client) -> None:
    connection, kernel = actor.connection, actor.kernel
    gate = kernel.gate(connection.provider.endpoint(client.settings))
    await gate.enter_soon()
    try:
        if not _still(actor, client):
            return  # others were before us for that long
        failure = await _tried(actor, client)
        outdated = await _is_outdated(actor, client)
    except Exception as bug:  # noqa: BLE001 - in the provider: the actor raises it
        if _still(actor, client):
            actor.inject(bug)
        return
    finally:
        gate.leave()
    if not _still(actor, client) or actor.probe_at == math.inf:
        return  # it said something of a client that has gone by now, or nobody asks any more
    connection.measurements.probed(failure.reason if failure else None)
    if outdated:
        # The probe was made of files that the client has never seen: it says nothing of that one.
        kernel.rotation.renew(connection)
    else:
        await _judge(actor, client, failure)


async def _judge(actor: Actor, client: Client, failure: AttemptFailed | None) -> None:
    """Tell what a probe has found, unless newer secrets are found that may mend it."""
    connection, kernel = actor.connection, actor.kernel
    if failure is None:
        if client.refused:
            logger.info("connection %r: fresh connections are accepted again", connection.name)
        client.refused = False
    elif not failure.reason.needs_human:
        logger.debug("connection %r: probe: %s", connection.name, failure.text)
    elif await kernel.rotation.has_newer(connection) or not _still(actor, client):
        return  # others are tried, or have taken over by now
    elif not client.refused:
        client.refused = True
        logger.warning(
            "connection %r: fresh connections are refused (%s), while the open ones still work: "
            "%s. Mend its credentials or certificates before they are needed",
            connection.name,
            failure.reason,
            failure.text,
        )


async def _tried(actor: Actor, client: Client) -> AttemptFailed | None:
    """What keeps a fresh connection from being made, or None."""
    connection, kernel = actor.connection, actor.kernel
    seconds = connection.settings.health.timeout
    with trio.move_on_after(seconds):
        try:
            await kernel.host.visit(client.provider.probe, client.native)
        except Exception as error:  # noqa: BLE001 - re-raised unless the provider knows it
            return failure_of(kernel, connection, error)
        return None
    return timed_out("probe", seconds)


async def _is_outdated(actor: Actor, client: Client) -> bool:
    """Whether a new client would be made of other files; not known is no."""
    if not client.may_be_outdated():
        return False
    with trio.move_on_after(actor.connection.settings.health.timeout):
        return not await actor.kernel.host.visit(client.provider.is_current, client.native)
    return False


def _still(actor: Actor, client: Client) -> bool:
    connection = actor.connection
    return (
        connection._actor is actor
        and actor.client is client
        and connection.state is State.READY
        and not actor.stopping
    )
