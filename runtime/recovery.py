"""Failed: the long backoff, then the next episode."""

# ruff: noqa: SLF001 - the connection's own side

from __future__ import annotations

from typing import TYPE_CHECKING

from .backoff import decorrelated
from .lookout import wait_for_server
from .state import Event

if TYPE_CHECKING:
    from .actor import Actor


async def back_off(actor: Actor) -> None:
    """Wait the long backoff out, or until a usable server or a command ends it; then retry."""
    supervision = actor.connection.settings.supervision
    actor.signal = None
    actor.backoff = decorrelated(
        actor.backoff, supervision.backoff_initial, supervision.backoff_max, actor.kernel.random
    )
    await wait_for_server(actor, actor.backoff)
    if not actor.stopping:
        actor.signal, actor.nudged = None, False
        actor.connection._step(Event.RETRY)
