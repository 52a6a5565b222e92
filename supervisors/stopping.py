"""Stopping: in reverse start order, each child on its own budget, and who does not stop is named.

No child can be abandoned: a trio task ends when it ends. So a budget that is over is reported,
with the stack of the child, and waiting goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from .child import STOPPED
from .spec import ChildUnstopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .child import Child
    from .runner import Runner

logger = logging.getLogger("moorings.supervisors")

BATCH = 100
"""So many children are stopped before they and all others get their turn to run.

What they need to end is freed again before the garbage collector looks for it, and is still in the
processor's cache: 10,000 end in half the time (by `tests.bench children`; 32 to 200 are alike).
"""


async def stop_all(runner: Runner) -> None:
    """Stop every child: the last started first, or all together when unordered."""
    runner.stopping = True
    try:
        with trio.CancelScope(shield=True):
            await (_stop_in_order if runner.ordered else _stop_together)(runner)
    except BaseException:  # Ctrl-C: nobody else would ever stop the rest
        for child in tuple(runner.children.values()):
            child.stop()
        raise


async def _stop_in_order(runner: Runner) -> None:
    for child in reversed(list(runner.children.values())):
        child.stop()
        await wait_stopped(runner, [child])


async def _stop_together(runner: Runner) -> None:
    children = [c for c in runner.children.values() if c.state is not STOPPED]
    for number, child in enumerate(children):
        if number and number % BATCH == 0:
            await trio.lowlevel.cancel_shielded_checkpoint()
        child.stop()
    await wait_stopped(runner, children)


async def wait_stopped(runner: Runner, children: Sequence[Child]) -> None:
    """Wait for the end of `children`, reporting each at the end of its own budget."""
    began = trio.current_time()
    for budget in sorted({c.spec.shutdown for c in children}):
        with trio.move_on_at(began + budget) as deadline:
            await _wait_all_ended(runner, children)
        if not deadline.cancelled_caught:
            return
        for child in children:
            if child.spec.shutdown == budget and child.is_overdue():
                _report_unstopped(runner, child)
    await _wait_all_ended(runner, children)


async def _wait_all_ended(runner: Runner, children: Sequence[Child]) -> None:
    left = [child for child in children if child.state is not STOPPED]
    if len(left) > 1 and len(left) == runner.active:
        await runner.wait_quiet()  # an event for all of them
        return
    for child in left:
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
