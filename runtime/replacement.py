"""`restart()` on a ready connection: a second client is built beside the first, then swapped in."""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..errors import ConnectionNotReady
from ..providers.references import references
from .client import Client, timed_out
from .episode import deadline_of, resolved
from .measurements import EDGE_INDEX
from .reconfiguration import reconfigure
from .state import State

if TYPE_CHECKING:
    from .actor import Actor
    from .connection import Connection
    from .settings import ConnectionSettings

_RETRY = EDGE_INDEX[State.FAILED, State.CONNECTING]


async def replace(
    actor: Actor, settings: ConnectionSettings | None = None, *, gives_way: bool = False
) -> None:
    """Swap the client of a ready connection; begin a new episode of any other.

    Args:
        actor: the connection's.
        settings: what it goes by as soon as (and only if) the new client takes over, or the new
            episode begins; None: its present ones.
        gives_way: when cancelled, leave the closing of what was built to the kernel: a command
            waits for its turn.

    Runs in the task of the one who asks: the actor goes on pinging the old client meanwhile.
    Cancellation before the swap leaves the old client in place.

    Raises:
        ConnectionNotReady: the new client did not come up, and the old one stays; or the
            connection was stopped, or crashed, in the meantime.
    """
    if actor.connection.state is not State.READY:
        if settings is not None:
            reconfigure(actor.connection, settings)
        actor.fresh = True
        actor.nudge()
        await _begun(actor)
        return
    fresh = await _built_beside(actor, settings or actor.connection.settings, gives_way)
    if actor.connection._actor is not actor or actor.client is None:  # or crashed, and parked
        await actor.kernel.closer.close(actor.connection, fresh)
        raise _stopped_meanwhile(actor)
    if settings is not None:
        reconfigure(actor.connection, settings)
    _install(actor, fresh)
    await _begun(actor)


async def _begun(actor: Actor) -> None:
    """Wait until a failed connection is `connecting`; one that is parked is started anew first."""
    connection = actor.connection
    # By the edge, not by the state: the new episode may be over before we are looked after.
    edges = connection.measurements.transitions
    before = edges[_RETRY]
    while connection.state is State.FAILED and edges[_RETRY] == before:
        await connection.next_change()
    if connection.state is State.STOPPED:
        raise _stopped_meanwhile(actor)


async def renew(connection: Connection, settings: ConnectionSettings) -> None:
    """Go by other settings with a new client; a stopped connection goes by them, and stays so.

    In trio, as a command; errors and cancellation as `replace`.
    """
    connection.check_kept()
    if connection._actor is not None:
        await replace(connection._actor, settings)
        return
    reconfigure(connection, settings)
    if connection.state is not State.STOPPED:
        await connection._restart()


async def _built_beside(actor: Actor, settings: ConnectionSettings, gives_way: bool) -> Client:
    connection = actor.connection
    fresh = Client(actor, settings.provider)
    try:
        with trio.CancelScope() as actor.replacing, trio.CancelScope() as scope:
            if references(fresh.settings):
                fresh.settings = await resolved(actor, fresh.settings)
                fresh.resolved_at = actor.kernel.now()
            await fresh.bring_up(connection, actor.kernel, deadline_of(scope))
        _refuse_cut_off(actor, scope, fresh)
    except BaseException as error:
        kernel = actor.kernel
        if gives_way and isinstance(error, trio.Cancelled) and not kernel.closed:
            kernel.closer.close_soon(connection, fresh)
        else:
            # Here, not in the background: the kernel's own tasks may be over by now.
            await kernel.closer.close(connection, fresh)
        if isinstance(error, ConnectionNotReady):
            raise
        if isinstance(error, Exception):
            raise _not_restarted(actor, error) from error
        raise
    else:
        return fresh
    finally:
        actor.replacing = None


def _stopped_meanwhile(actor: Actor) -> ConnectionNotReady:
    return actor.connection.not_ready("was stopped while it was restarted")


def _refuse_cut_off(actor: Actor, scope: trio.CancelScope, fresh: Client) -> None:
    if actor.replacing is not None and actor.replacing.cancelled_caught:
        raise _stopped_meanwhile(actor)
    if scope.cancelled_caught:
        raise timed_out(fresh.step, actor.connection.settings.health.timeout)


def _not_restarted(actor: Actor, error: Exception) -> ConnectionNotReady:
    connection = actor.connection
    text = actor.kernel.describe(connection.provider, error.__cause__ or error)
    return ConnectionNotReady(
        f"connection {connection.name!r} was not restarted, the old client stays: {text}",
        connection.status,
    )


def _install(actor: Actor, fresh: Client) -> None:
    """Let `fresh` take over without leaving `ready`; the old client is closed in the background."""
    connection = actor.connection
    old = actor.client
    actor.adopt(fresh)
    if connection.state is State.READY:
        fresh.counted = True
        connection._generation += 1
        connection.hooks_pending = None  # those of the old client withhold the new one no longer
        connection._serve(fresh.database)
        connection._refresh()
    else:
        actor.nudge()  # lost in the meantime: the episode goes on with the new client
    if old is not None:
        actor.kernel.closer.retire(connection, old)
