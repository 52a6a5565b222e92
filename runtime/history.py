"""What the connections went through lately: kept for whoever shows it, and only for them.

An observer, and nothing of the connection's own: where nobody serves a page, nothing is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ..errors import FailureReason
    from .state import Event, State
    from .status import Transition

DEPTH = 20
"""How many steps of a connection are kept."""
SHALLOW = 5
"""How many are kept at least, where there are more connections than `BUDGET` allows for."""
BUDGET = 10_000
"""How many steps are kept of all connections together, as long as `SHALLOW` leaves a choice."""
MAX_TEXT = 200
"""How much of an error's text a step keeps, in characters; the status has all of the last one."""


class Step(NamedTuple):
    """One transition that is over. Its text is redacted, as the status's own is.

    Attributes:
        at: when, in Unix seconds.
        source: the state that was left.
        event: what happened.
        target: the state that was entered.
        reason: why the connection was not ready then; None while all was well.
        error: the beginning of the error's text.
    """

    at: float
    source: State
    event: Event
    target: State
    reason: FailureReason | None
    error: str | None


class _Ring:
    """The last steps of one connection. A list: most have taken two steps, for days."""

    __slots__ = ("steps", "total")

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.total = 0

    def add(self, step: Step, depth: int) -> None:
        self.steps.append(step)
        self.total += 1
        if len(self.steps) > depth:
            # In one go, for those who read it in another thread.
            self.steps = self.steps[-depth:]


class History:
    """The last steps of each connection. Written in the kernel's thread, read from any.

    Args:
        names: the connections that there are now; those that a reload removed are forgotten.
    """

    def __init__(self, names: Callable[[], Collection[str]]) -> None:
        self._names = names
        self._rings: dict[str, _Ring] = {}

    def note(self, transition: Transition) -> None:
        """Keep a transition; an observer."""
        ring = self._rings.get(transition.connection)
        if ring is None:
            ring = self._rings[transition.connection] = _Ring()
            self._forget_removed()
        status = transition.status
        error = status.error and status.error[:MAX_TEXT]
        if ring.steps and ring.steps[-1].error == error:
            error = ring.steps[-1].error  # an outage says the same all night: once is enough
        ring.add(
            Step(
                status.since,
                transition.source,
                transition.event,
                transition.target,
                status.reason,
                error,
            ),
            self._depth(),
        )

    def of(self, name: str, after: int = 0) -> tuple[Step, ...]:
        """The steps of a connection, the oldest first.

        Args:
            name: the connection.
            after: leave out so many that were ever taken: `total`, as it was then.
        """
        ring = self._rings.get(name)
        if ring is None:
            return ()
        steps, total = ring.steps, ring.total
        return tuple(steps[max(len(steps) - max(total - after, 0), 0) :])

    def total(self, name: str) -> int:
        """How many steps a connection has taken since this began."""
        ring = self._rings.get(name)
        return 0 if ring is None else ring.total

    def _depth(self) -> int:
        return max(SHALLOW, min(DEPTH, BUDGET // max(len(self._names()), 1)))

    def _forget_removed(self) -> None:
        # Now and then, so that a thousand that start do not look a thousand others through.
        names = self._names()
        if len(self._rings) > 2 * len(names) + DEPTH:
            self._rings = {name: ring for name, ring in self._rings.items() if name in names}
