"""Starting: who starts children is told how that went, and of what failed nothing is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from .batches import batches
from .child import STOPPED
from .starts import Starting
from .stopping import stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .child import Child
    from .runner import Runner
    from .spec import ChildSpec


async def start(runner: Runner, child: Child) -> Any:
    """Run a child that is not running; wait until it says `started`, and give its value.

    Raises:
        ChildStartFailed: it ended before that.

    Cancellation stops the child again, unless another has started it since.
    """
    starting = child.starting = child.starter = child.starting or Starting()
    runner.spawn(child)
    runner.significance.wait_for(child, starting)
    try:
        await starting.over.wait()
    except BaseException:  # cancelled, or Ctrl-C
        if child.starter is starting:  # else it came up and ended, and is another's by now
            child.end_pending = None  # it did so in the instant of our cancellation
            await stop(runner, [child])
        raise
    finally:
        runner.significance.decide(starting)
    starting.check()
    return starting.values[child]


async def start_new(runner: Runner, specs: Sequence[ChildSpec]) -> list[Any]:
    """Start children of these specs, in order or all at once; their values when all are up.

    Raises:
        ChildStartFailed: one ended before that.
        SupervisorError: one is not admitted, at first or when it is its turn.

    Nothing of them is left then, nor after a cancellation.
    """
    runner.check_admission(specs)
    starting = Starting(specs)
    runner.significance.calls.add(starting)
    try:
        await (_start_in_order if runner.ordered else _start_together)(runner, starting)
    except BaseException:
        await _take_back(runner, starting.children)
        raise
    finally:
        runner.significance.calls.discard(starting)
        runner.significance.decide(starting)
    return [starting.values[child] for child in starting.children]


async def _start_in_order(runner: Runner, starting: Starting) -> None:
    """Each when the one before it is up."""
    for spec in starting.specs:
        if starting.children:
            runner.check_admission([spec])  # without turns somebody else may have been first
        starting.expect(1)
        _begin(runner, spec, starting)
        await starting.over.wait()
        starting.check()


async def _start_together(runner: Runner, starting: Starting) -> None:
    starting.expect(len(starting.specs))
    for batch in batches(starting.specs):
        if starting.children:
            await trio.lowlevel.checkpoint()
            starting.check()
            runner.check_admission(batch)  # meanwhile somebody else may have been first
        for spec in batch:
            _begin(runner, spec, starting)
    await starting.over.wait()
    starting.check()


def _begin(runner: Runner, spec: ChildSpec, starting: Starting) -> None:
    child = runner.add(spec)
    starting.children.append(child)
    child.starting, child.kept = starting, False
    runner.spawn(child)


async def _take_back(runner: Runner, children: Sequence[Child]) -> None:
    """Stop children whose start is not wanted any more, the last first or together; forget them.

    Until the last has ended: nobody can start them, and whoever ends by itself stays down.
    """
    for child in children:
        child.kept, child.unwanted = False, True
        child.end_pending = None
        if child.state is STOPPED:  # else when it ends
            runner.forget(child)
    await stop(runner, children)
    for child in children:
        runner.forget(child)
