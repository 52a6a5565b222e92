"""What is done alike in both worlds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import trio

from moorings.runtime.hosts import clock, first_of, pause
from moorings.runtime.opening import open_connections

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Runs an async function on each of the two hosts."""

    def begin(function: Callable[[], Awaitable[None]]) -> None:
        if request.param == "trio":
            trio.run(function)
            return
        asyncio.run(_as_coroutine(function))

    return begin


async def _as_coroutine(function: Callable[[], Awaitable[None]]) -> None:
    await function()


async def for_ever() -> None:
    await pause(3600)


def test_the_first_to_return_ends_the_others_which_may_clean_up(run: Any) -> None:
    ended = []

    async def other() -> None:
        try:
            await for_ever()
        finally:
            ended.append("other")

    async def main() -> None:
        await first_of(other, lambda: pause(0))
        ended.append("all")

    run(main)
    assert ended == ["other", "all"]


def test_what_the_first_raises_is_raised_bare(run: Any) -> None:
    async def fails() -> None:
        raise LookupError

    async def main() -> None:
        with pytest.raises(LookupError):
            await first_of(for_ever, fails)

    run(main)


def test_cancellation_reaches_all_of_them(run: Any) -> None:
    ended = []

    async def other() -> None:
        try:
            await for_ever()
        finally:
            ended.append("other")

    async def main() -> None:
        async def both() -> None:
            await first_of(other, other)
            ended.append("never")

        await first_of(both, lambda: pause(0.01))

    run(main)
    assert ended == ["other", "other"]


async def test_from_another_thread_a_change_is_not_waited_for_but_looked_for() -> None:
    """Events belong to the host's thread: setting one for another would corrupt its loop."""
    local = {"default": {"database": {"documents": {"main": {"backend": "local"}}}}}

    def elsewhere() -> float:
        async def main() -> float:
            began = clock()
            await manager.change_within(0.05)
            return clock() - began

        return asyncio.run(main())

    async with open_connections(local) as manager:
        waiting = trio.Event()

        async def change() -> None:
            await manager.wait_ready("main")
            await manager.stop("main")
            waiting.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            assert await trio.to_thread.run_sync(elsewhere) >= 0.05
        await waiting.wait()


async def test_in_its_own_thread_a_change_ends_the_wait() -> None:
    local = {"default": {"database": {"documents": {"main": {"backend": "local"}}}}}
    async with open_connections(local) as manager:
        await manager.wait_ready("main")
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(manager.stop, "main")
                await manager.change_within(3600)
