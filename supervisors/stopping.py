"""Stopping: in reverse start order, each child on its own budget, and who does not stop is named.

No child can be abandoned: a trio task ends when it ends. So a budget that is over is reported,
with the stack of the child, and waiting goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from .batches import batches
from .child import STOPPED, STOPPING
from .spec import ChildUnstopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .child import Child
    from .runner import Runner

logger = logging.getLogger("moorings.supervisors")


async def stop_all(runner: Runner) -> None:
    """Stop every child."""
    runner.stopping = True
    if runner.group is not None:
        runner.group.turns.release()  # children may wait for theirs before they end
    await stop(runner, tuple(runner.children.values()))


async def stop(runner: Runner, children: Sequence[Child]) -> None:
    """Stop these children, the last first, or all together when unordered; wait for their ends.

    Shielded.
    """
    with trio.CancelScope(shield=True):
        try:
            await (_stop_in_order if runner.ordered else _stop_together)(runner, children)
        except BaseException:  # Ctrl-C: nobody else would ever stop the rest
            for child in children:
                child.stop()
            raise


async def stop_one(runner: Runner, child: Child) -> None:
    """Stop one child and wait for its end.

    Who is cancelled while it waits leaves the watch over the budget to the supervisor.
    """
    child.stop()
    if child.state is not STOPPING:
        await trio.lowlevel.checkpoint()
        return
    began = trio.current_time()
    try:
        await wait_stopped(runner, [child], began)
    except BaseException:
        watch(runner, child, began)
        raise


def watch(runner: Runner, child: Child, began: float) -> None:
    """See to it that a child that stops is reported, whoever waits for its end.

    `began`: when it was told to, on trio's clock.
    """
    if child.state is STOPPING and not child.watched:
        child.watched = True
        name = f"{child.spec.id}: stop"
        runner.nursery.start_soon(wait_stopped, runner, [child], began, name=name)


async def _stop_in_order(runner: Runner, children: Sequence[Child]) -> None:
    for child in reversed(children):
        child.stop()
        await wait_stopped(runner, [child])


async def _stop_together(runner: Runner, children: Sequence[Child]) -> None:
    running = [child for child in children if child.state is not STOPPED]
    for number, batch in enumerate(batches(running)):
        if number:
            await trio.lowlevel.cancel_shielded_checkpoint()
        for child in batch:
            child.stop()
    await wait_stopped(runner, running)


async def wait_stopped(
    runner: Runner, children: Sequence[Child], began: float | None = None
) -> None:
    """Wait for the end of `children`, reporting each at the end of its own budget.

    `began`: when they were told to stop, on trio's clock; by default now.
    """
    if began is None:
        began = trio.current_time()
    for budget in sorted({c.spec.shutdown for c in children}):
        with trio.move_on_at(began + budget) as deadline:
            await _wait_all_ended(children)
        if not deadline.cancelled_caught:
            return
        for child in children:
            if child.spec.shutdown == budget and child.is_overdue():
                _report_unstopped(runner, child)
    await _wait_all_ended(children)


async def _wait_all_ended(children: Sequence[Child]) -> None:
    for child in children:
        await child.wait_ended()


def _report_unstopped(runner: Runner, child: Child) -> None:
    shutdown = child.spec.shutdown
    stack = child.stack()
    logger.error(
        "child %r of supervisor %r did not stop within %g s; still waiting for it, at:\n%s",
        child.spec.id,
        runner.name,
        shutdown,
        stack,
    )
    runner.observers.tell(ChildUnstopped(runner.name, child.spec.id, shutdown, stack))
