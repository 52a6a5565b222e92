"""What a connection says of itself: the frozen snapshot, and the event that changed it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..errors import FailureReason
    from .state import Event, State


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """A snapshot of one connection. Replaced, never mutated: readable from any thread.

    Attributes:
        name: the connection's name in the settings.
        backend: the registry's key of its provider.
        required: whether it gates readiness.
        state: where it is in its life.
        since: when it entered `state`, in Unix seconds.
        generation: how many clients became ready so far; 0 before the first.
        attempt: the attempt under way within this connecting episode, from 1; 0 outside one.
        reason: why it is not ready, or why the last attempt failed; None while all is well.
        error: the last error's text, without credentials; None while all is well.
        last_ping_seconds: how long the last successful ping took, in seconds; None before it.
        next_attempt_at: when the next attempt begins, in Unix seconds; None when none is set.
    """

    name: str
    backend: str
    required: bool
    state: State
    since: float
    generation: int = 0
    attempt: int = 0
    reason: FailureReason | None = None
    error: str | None = None
    last_ping_seconds: float | None = None
    next_attempt_at: float | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of the state machine, as observers see it.

    Attributes:
        connection: the connection's name.
        source: the state that was left.
        event: what happened.
        target: the state that was entered.
        status: the snapshot after the step.
        cause: the error behind the step, where there was one. Its text may hold credentials:
            show `status.error` instead, as this object's own `repr` does.
    """

    connection: str
    source: State
    event: Event
    target: State
    status: ConnectionStatus
    cause: BaseException | None = field(default=None, repr=False)
