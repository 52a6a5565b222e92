"""How a supervisor lives: for as long as a block runs, its children shielded from the outside."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from .ends import without_cancelled
from .observers import Observers
from .runner import Runner
from .spec import AutoShutdown, Strategy, check_budget, member
from .stopping import stop_all
from .supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from .spec import SupervisorObserver


@asynccontextmanager
async def open_supervisor(
    *,
    name: str,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: float = 1,
    period: float = 5.0,
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ordered: bool = True,
    observers: Iterable[SupervisorObserver] = (),
) -> AsyncGenerator[Supervisor, None]:
    """Run a supervisor for as long as the block runs; stop its children when the block ends.

    Children live in shielded scopes: cancellation from outside reaches the block, and then begins
    the same ordered stop as its normal end.

    A supervisor that ends by itself cancels the block: with an error if it gave up, without one if
    the work of its significant children was done (the block then ends like one that returned).

    Args:
        name: what events and errors call it.
        strategy: which children are restarted when one ends. The others are stopped in reverse
            start order and then all are started in order, terminated ones too; temporary ones are
            stopped and forgotten. One that fails to start then counts as another restart.
        intensity: more than this many restarts within `period` seconds end the supervisor: 0, and
            the first crash does; `math.inf`, and none ever does.
        period: that window, in seconds.
        auto_shutdown: whether the end of significant children ends the supervisor. Make it a
            transient or temporary child of its parent: a permanent one would be restarted.
        ordered: False: children start and stop together, each on its own budget (OTP's
            simple_one_for_one); only with ONE_FOR_ONE.
        observers: plain functions, called with each event as it happens; they must not block. One
            that raises is removed and logged.

    Yields:
        The `Supervisor`. Its children run in copies of the context (`contextvars`) of this call.

    Raises:
        RestartIntensityExceeded: bare, from the child's last error; together with the block's own
            error, in one group, if the block failed or was cancelled as well.
        BaseException: what a child raised that is no `Exception` (KeyboardInterrupt, SystemExit):
            it ends all children, and the block, with the same ordered stop.
        ValueError: an argument is out of range.
        TypeError: `intensity` is neither an integer nor infinite, or an observer no plain function.
    """
    owner = f"supervisor {name!r}"
    check_budget(owner, intensity, period)
    strategy = member(Strategy, strategy, f"{owner}: strategy")
    auto_shutdown = member(AutoShutdown, auto_shutdown, f"{owner}: auto_shutdown")
    told = Observers(observers)
    if strategy is not Strategy.ONE_FOR_ONE and not ordered:
        raise ValueError(f"{owner}: {strategy} needs an order")
    block_error: BaseException | None = None
    crash: BaseException | None = None
    runner: Runner | None = None
    try:
        async with trio.open_nursery() as host:
            # One shield for all children: the block stays cancellable, they are not.
            shelter = _Shelter()
            host.start_soon(shelter.run)
            try:
                # Shielded: who is cancelled already runs the block up to its first checkpoint.
                with trio.CancelScope(shield=True):
                    await shelter.open.wait()
                runner = Runner(
                    shelter.nursery,
                    name=name,
                    strategy=strategy,
                    intensity=intensity,
                    period=period,
                    auto_shutdown=auto_shutdown,
                    ordered=ordered,
                    observers=told,
                )
                try:
                    with runner.body:
                        yield Supervisor(runner)
                except BaseException as exc:  # noqa: BLE001 - raised below, outside all groups
                    block_error = exc
                await stop_all(runner)
            finally:
                shelter.over.set()
    except BaseException as exc:  # noqa: BLE001 - so is this: a second Ctrl-C, say
        crash = exc
    if crash is not None:
        block_error, crash = _disentangled(block_error, crash)
    if runner is None:
        _raise_outcome(crash)
    else:
        _raise_outcome(block_error, runner.fatal, runner.escalation, crash)


class _Shelter:
    """A shielded nursery, in a task of its own: in the caller's it would shield the block, too."""

    nursery: trio.Nursery  # once open

    def __init__(self) -> None:
        self.open = trio.Event()
        self.over = trio.Event()

    async def run(self) -> None:
        try:
            async with trio.open_nursery() as self.nursery:
                self.nursery.cancel_scope.shield = True
                self.open.set()
                await self.over.wait()
        finally:
            self.open.set()  # Ctrl-C came first: let nobody wait for it


def _disentangled(
    block_error: BaseException | None, crash: BaseException
) -> tuple[BaseException | None, BaseException | None]:
    """What the block has raised, and what our own nursery, without a `Cancelled` too many.

    A nursery that fails cancels the block; one that was cancelled from outside says so once more.
    """
    failure = without_cancelled(crash)
    if block_error is None:
        return None, crash
    if failure is None:
        return block_error, None
    return without_cancelled(block_error), failure


def _raise_outcome(*outcomes: BaseException | None) -> None:
    """Raise one error as it is, several in one group: scopes find their `Cancelled` in there."""
    errors = [error for error in outcomes if error is not None]
    if len(errors) > 1:
        raise BaseExceptionGroup("the block failed, and so did its supervisor", errors) from None
    for error in errors:
        raise error
