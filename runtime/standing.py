"""What a connection says of itself: its status, to those who ask and to those who watch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..errors import ConnectionNotReady
from .guard import check_host
from .hosts import HostEvent
from .state import State
from .status import ConnectionStatus
from .watching import Watch

if TYPE_CHECKING:
    from ..errors import FailureReason
    from .kernel import Kernel


class Standing:
    """Where a connection stands. The facts are replaced, never mutated: any thread may look."""

    __slots__ = (
        "__weakref__",
        "_attempt",
        "_changed",
        "_database",
        "_error",
        "_facts",
        "_generation",
        "_kernel",
        "_last_ping",
        "_next_attempt_at",
        "_reason",
        "_since",
        "backend",
        "gone",
        "name",
        "required",
        "state",
    )

    def __init__(self, name: str, backend: str, kernel: Kernel, *, required: bool) -> None:
        self.name = name
        self.backend = backend
        self.required = required
        self.state = State.INIT
        self.gone = False  # a reload has removed it: it never comes back
        self._kernel = kernel
        self._database: Any = None
        self._changed: HostEvent | None = None  # for those who watch
        self._since = time.time()
        self._generation = 0
        self._attempt = 0
        self._reason: FailureReason | None = None
        self._error: str | None = None
        self._next_attempt_at: float | None = None
        self._last_ping: float | None = None
        self._refresh()

    def __repr__(self) -> str:
        why = f" ({self._reason})" if self._reason else ""
        return f"<Connection {self.name!r} [{self.backend}]: {self.state}{why}>"

    @property
    def status(self) -> ConnectionStatus:
        """The present snapshot. From any thread."""
        # Made when somebody looks: most changes of a thousand connections are never looked at.
        # One read of `_facts`, which is replaced as a whole, so that no thread sees half a change.
        state, since, generation, attempt, reason, error, next_attempt_at = self._facts
        return ConnectionStatus(
            self.name,
            self.backend,
            self.required,
            state,
            since,
            generation,
            attempt,
            reason,
            error,
            self._last_ping,
            next_attempt_at,
        )

    @property
    def facts(self) -> object:
        """What the status is made of: the same object until the next change."""
        return self._facts

    @property
    def generation(self) -> int:
        """How many clients became ready so far."""
        return self._generation

    def is_ready(self) -> bool:
        """Whether `database()` would answer now. From any thread."""
        return self._database is not None

    def watch(self) -> Watch:
        """An async iterator: the present status, then the newest after each change.

        Changes that come faster than they are asked for are skipped, except the newest. It ends
        when the manager closes, or a reload has removed the connection. Dropping it costs nothing.
        """
        self._check_host()
        return Watch(self)

    async def next_change(self) -> None:
        """Wait for the next change of the status. Cancelling it disturbs nobody else."""
        if self._changed is None:
            self._changed = HostEvent()
        await self._changed.wait()

    def not_ready(self, what: str) -> ConnectionNotReady:
        """The error for this connection's present status, with the kernel's own end as cause."""
        status = self.status
        why = f", reason: {status.reason}" if status.reason else ""
        detail = f": {status.error}" if status.error else ""
        error = ConnectionNotReady(
            f"connection {self.name!r} {what} (state: {status.state}{why}){detail}", status
        )
        error.__cause__ = self._kernel.failure
        return error

    def _check_host(self) -> None:
        check_host(self._kernel, f"connection {self.name!r}")

    # -- what the connection notes ------------------------------------------------------------

    def _note(self, **changes: Any) -> None:
        """Change what the status says without a transition (attempt, reason, next attempt)."""
        for field, value in changes.items():
            setattr(self, f"_{field}", value)
        self._refresh()

    def _refresh(self) -> None:
        """Replace the facts that the status is made of, and wake those who wait for a change."""
        self._facts = (
            self.state,
            self._since,
            self._generation,
            self._attempt,
            self._reason,
            self._error,
            self._next_attempt_at,
        )
        if self._changed is not None or self._kernel.changed is not None:
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()
        self._kernel.wake()
