"""The state machine of a connection: this file owns every transition.

One table holds every legal edge, every state has its row, and an illegal event raises and changes
nothing. No I/O and no clock: the actor (`actor.py`) does the I/O and asks here what follows.
The diagram in the docs and `moorings states` are drawn from `TRANSITIONS`.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from ..errors import IllegalTransition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class State(StrEnum):
    """Where a connection is in its life."""

    INIT = "init"
    CONNECTING = "connecting"
    READY = "ready"
    FAILED = "failed"
    STOPPED = "stopped"

    # Enum's own is a Python function: a transition looks four members up.
    __hash__ = str.__hash__


class Event(StrEnum):
    """What happened to a connection."""

    START = "start"
    ESTABLISHED = "established"
    GAVE_UP = "gave_up"
    LOST = "lost"
    RETRY = "retry"
    CRASHED = "crashed"
    STOP = "stop"

    __hash__ = str.__hash__


# Annotated row by row: an edge that is missing here does not exist.
TRANSITIONS: Mapping[State, Mapping[Event, State]] = MappingProxyType(
    {
        State.INIT: MappingProxyType(
            {
                Event.START: State.CONNECTING,
                Event.STOP: State.STOPPED,
            }
        ),
        State.CONNECTING: MappingProxyType(
            {
                # opened, pinged, verified, hooks run
                Event.ESTABLISHED: State.READY,
                # the episode's attempts are used up, or the cause needs a human
                Event.GAVE_UP: State.FAILED,
                # an unexpected exception left the actor: no state outlives its task
                Event.CRASHED: State.FAILED,
                Event.STOP: State.STOPPED,
            }
        ),
        State.READY: MappingProxyType(
            {
                # proof of life is missing
                Event.LOST: State.CONNECTING,
                Event.CRASHED: State.FAILED,
                Event.STOP: State.STOPPED,
            }
        ),
        State.FAILED: MappingProxyType(
            {
                # the long backoff is over, or was cut short by a driver's event or `restart()`
                Event.RETRY: State.CONNECTING,
                Event.STOP: State.STOPPED,
            }
        ),
        State.STOPPED: MappingProxyType(
            {
                Event.START: State.CONNECTING,
            }
        ),
    }
)


_NEXT = {
    (source, event): target for source, row in TRANSITIONS.items() for event, target in row.items()
}


def transition(state: State, event: Event) -> State:
    """The state that follows `event` in `state`.

    Raises:
        IllegalTransition: there is no such edge.
    """
    try:
        return _NEXT[state, event]
    except KeyError:
        legal = ", ".join(TRANSITIONS[state])
        raise IllegalTransition(
            f"no {event.value!r} in state {state.value!r} (legal: {legal})"
        ) from None


def edges() -> Iterator[tuple[State, Event, State]]:
    """Every legal edge, in the table's order."""
    for source, row in TRANSITIONS.items():
        for event, target in row.items():
            yield source, event, target
