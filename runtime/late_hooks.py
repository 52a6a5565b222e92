"""Hooks that are registered on a ready connection: they run at once, and others wait for them."""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

from typing import TYPE_CHECKING

from .client import AttemptFailed
from .state import State

if TYPE_CHECKING:
    from .actor import Actor
    from .client import Client


def run_late_hooks(actor: Actor) -> None:
    """Run what has not run on the present client; until then nobody is handed its database."""
    connection, client = actor.connection, actor.client
    if client is not None and connection.hooks_pending is not client:
        connection.hooks_pending = client
        connection._serve(None)
        actor.kernel.spawn(_run, actor, client)


async def _run(actor: Actor, client: Client) -> None:
    connection = actor.connection
    failure: AttemptFailed | None = None
    bug: Exception | None = None
    try:
        await client.run_hooks(connection, actor.kernel)
    except AttemptFailed as error:
        failure = error
    except Exception as error:  # noqa: BLE001 - a bug in the hook: the actor raises it
        bug = error
    finally:
        if connection.hooks_pending is client:
            connection.hooks_pending = None
    if connection._actor is not actor or actor.client is not client:
        return  # the hooks have run, or will run, on the client that took over
    if bug is not None:
        actor.inject(bug)
    elif connection.state is not State.READY:
        return  # the next episode runs what is left
    elif failure is not None:
        actor.lose(failure.reason, failure.text, failure.__cause__)
        actor.wake()
    else:
        connection._serve(client.database)
        connection._wake()
