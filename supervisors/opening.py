"""How a supervisor lives: for as long as a block runs, its children shielded from the outside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .spec import AutoShutdown, Strategy, check_budget
from .supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from ..errors import RestartIntensityExceeded
    from .spec import SupervisorObserver


@asynccontextmanager
async def open_supervisor(
    *,
    name: str,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: int = 1,
    period: float = 5.0,
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ordered: bool = True,
    observers: Iterable[SupervisorObserver] = (),
) -> AsyncGenerator[Supervisor, None]:
    """Run a supervisor for as long as the block runs; stop its children when the block ends.

    Children live in shielded scopes: cancellation from outside reaches the block, and then begins
    the same ordered stop as its normal end.

    Args:
        name: what events and errors call it.
        strategy: which children are restarted when one ends.
        intensity: more than this many restarts within `period` seconds end the supervisor.
        period: that window, in seconds.
        auto_shutdown: whether the end of significant children ends the supervisor.
        ordered: False: children start and stop together, each on its own budget (OTP's
            simple_one_for_one).
        observers: called with each event; one that raises is removed and logged.

    Raises:
        RestartIntensityExceeded: bare, from the child's last error; together with the block's own
            error, in one group, if the block failed as well.
        ValueError: an argument is out of range.
    """
    check_budget(f"supervisor {name!r}", intensity, period)
    if strategy is not Strategy.ONE_FOR_ONE or auto_shutdown is not AutoShutdown.NEVER:
        raise NotImplementedError(
            f"supervisor {name!r}: only {Strategy.ONE_FOR_ONE} without auto_shutdown is built yet"
        )
    block_error: BaseException | None = None
    async with trio.open_nursery() as host:
        # One shield for all children: the block stays cancellable, they are not.
        # Shielded as well: in a cancelled scope `start` leaves the task where it is and waits for
        # its end, which would be never.
        with trio.CancelScope(shield=True):
            nursery, over = await host.start(_shielded_nursery)
        try:
            supervisor = Supervisor(
                nursery,
                name=name,
                intensity=intensity,
                period=period,
                ordered=ordered,
                observers=observers,
            )
            try:
                with supervisor.body:
                    yield supervisor
            except BaseException as exc:  # noqa: BLE001 - raised below, outside all groups
                block_error = exc
            await supervisor.stop_children()
        finally:
            over.set()
    _raise_outcome(block_error, supervisor.escalation)


async def _shielded_nursery(
    *, task_status: trio.TaskStatus[tuple[trio.Nursery, trio.Event]]
) -> None:
    over = trio.Event()
    with trio.CancelScope(shield=True):
        async with trio.open_nursery() as nursery:
            task_status.started((nursery, over))
            await over.wait()


def _raise_outcome(
    block_error: BaseException | None, escalation: RestartIntensityExceeded | None
) -> None:
    """Let the block's own error through as it is; escalation bare; both in one group."""
    if block_error is not None and escalation is not None:
        if isinstance(block_error, trio.Cancelled):
            # Cancellation must stay recognisable to the scope it belongs to.
            raise block_error from escalation
        raise BaseExceptionGroup(
            "the block failed and its supervisor gave up", [block_error, escalation]
        ) from None
    if block_error is not None:
        raise block_error
    if escalation is not None:
        raise escalation
