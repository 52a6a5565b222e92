"""Running a test's coroutine in asyncio: plain and uvloop, in debug mode, with nothing left behind.

A fixture module: tests take the fixture `on_asyncio`, they do not import from here.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import leftovers
import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    Main = Callable[[], Coroutine[Any, Any, Any]]
    Run = Callable[[Main], Any]

SECONDS = 5.0
"""How long what was told to end may take."""

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


# uvloop is among the slow tests: every promise is kept twice, and `make test` is to stay short.
@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.slow)])
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes an event loop of one kind or the other."""
    return LOOPS[request.param]


@pytest.fixture
def on_asyncio(new_loop: Callable[[], asyncio.AbstractEventLoop], nothing_left: None) -> Run:
    """`on_asyncio(main)` is `asyncio.run(main(), debug=True)`, on either kind of loop.

    The loop has to be left without a task, and the process without further threads or files.
    """

    def run(main: Main) -> Any:
        with asyncio.Runner(debug=True, loop_factory=new_loop) as runner:
            runner.get_loop().slow_callback_duration = 10.0  # says nothing of correctness
            return runner.run(_alone_at_the_end(main))

    return run


async def _alone_at_the_end(main: Main) -> Any:
    result = await main()
    # A task whose end we were just told of is still there until the loop's next turn.
    await asyncio.sleep(0)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, f"tasks are left behind: {others}"
    return result


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No thread, no file and no socket more than before."""
    for new_loop in LOOPS.values():
        new_loop().close()  # uvloop keeps what its first loop has opened
    gc.collect()
    files, before = len(leftovers.open_files()), _threads()
    yield
    gc.collect()
    deadline = time.monotonic() + SECONDS
    for thread in _threads() - before:
        while thread in threading.enumerate() and not thread.is_alive():
            os.sched_yield()  # it is about to run, and cannot be joined yet
        thread.join(max(deadline - time.monotonic(), 0.0))
    assert not _threads() - before, "threads are left behind"
    # A thread that stays in trio's cache may be closing the last ones. No one tells when a
    # descriptor is closed, so they are counted again.
    while len(leftovers.open_files()) > files and time.monotonic() < deadline:
        os.sched_yield()
    assert len(leftovers.open_files()) <= files, "files or sockets are left open"


def _threads() -> set[threading.Thread]:
    return {thread for thread in leftovers.threads() if not _is_told_to_end(thread)}


def _is_told_to_end(thread: threading.Thread) -> bool:
    """PyMongo's monitors look twice a second whether their client was closed: no need to wait."""
    executor = getattr(getattr(thread, "_target", None), "__self__", None)
    return type(executor).__module__.startswith("pymongo.") and executor._stopped
