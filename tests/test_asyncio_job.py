"""Work in a client's threads, awaited in asyncio."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from moorings.providers.asyncio_job import AsyncioJob
from moorings.providers.threads import ClientExecutor, ExecutorClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asyncio_fixtures import Run

PATIENCE = 30.0


@pytest.fixture
def executor(nothing_left: None) -> Iterator[ClientExecutor]:
    executor = ClientExecutor("tested", 1)
    yield executor
    executor.close()


def begin(
    executor: ClientExecutor, work: Callable[[], Any], *, keep: bool = False
) -> asyncio.Future[Any]:
    return AsyncioJob(asyncio.get_running_loop(), executor, work, keep=keep).start()


async def occupy(executor: ClientExecutor) -> threading.Event:
    """Keep the executor's only thread busy until the event is set."""
    begun, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def job() -> None:
        loop.call_soon_threadsafe(begun.set)
        release.wait(PATIENCE)

    executor.submit(job)
    await begun.wait()
    return release


def test_the_result_or_the_error_comes_to_who_awaits_it(
    executor: ClientExecutor, on_asyncio: Run
) -> None:
    async def main() -> None:
        assert await begin(executor, lambda: 42) == 42
        with pytest.raises(ZeroDivisionError):
            await begin(executor, lambda: 1 / 0)

    on_asyncio(main)


def test_an_error_that_no_future_takes_comes_as_another(
    executor: ClientExecutor, on_asyncio: Run
) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError) as caught:
            await begin(executor, lambda: next(iter(())))
        assert isinstance(caught.value.__cause__, StopIteration)

    on_asyncio(main)


@pytest.mark.parametrize("keep", [False, True])
def test_queued_work_is_taken_back_when_its_waiter_is_cancelled_unless_it_is_kept(
    keep: bool, executor: ClientExecutor, on_asyncio: Run
) -> None:
    ran = threading.Event()

    async def main() -> None:
        release = await occupy(executor)
        job = begin(executor, ran.set, keep=keep)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await job
        assert executor.statistics().queued == (1 if keep else 0)
        release.set()
        await begin(executor, lambda: None)

    on_asyncio(main)
    assert ran.is_set() == keep


def test_a_cancelled_waiter_is_free_at_once_and_the_work_goes_on(
    executor: ClientExecutor, on_asyncio: Run
) -> None:
    release, outcomes = threading.Event(), []

    def work(fails: bool) -> None:
        release.wait(PATIENCE)
        outcomes.append(fails)
        if fails:
            raise LookupError

    async def main() -> None:
        for fails in (False, True):
            release.clear()
            job = begin(executor, lambda: work(fails))  # noqa: B023 - awaited in this turn
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await job
            assert executor.statistics().busy == 1
            release.set()
            await begin(executor, lambda: None)
            await asyncio.sleep(0)  # what came too late is dropped in silence

    on_asyncio(main)
    assert outcomes == [False, True]


def test_a_result_that_comes_after_its_loop_was_closed_is_dropped_in_silence(
    executor: ClientExecutor, on_asyncio: Run
) -> None:
    release = threading.Event()

    async def main() -> None:
        begin(executor, lambda: release.wait(PATIENCE))

    on_asyncio(main)
    release.set()
    assert executor.wait_quiet(PATIENCE)


def test_a_closed_executor_says_so_at_once(executor: ClientExecutor, on_asyncio: Run) -> None:
    async def main() -> None:
        executor.close()
        with pytest.raises(ExecutorClosed):
            begin(executor, lambda: None)

    on_asyncio(main)


def test_who_keeps_an_error_does_not_keep_the_job_it_came_from(
    executor: ClientExecutor, on_asyncio: Run
) -> None:
    def fail() -> None:
        raise LookupError

    async def main() -> None:
        job = AsyncioJob(asyncio.get_running_loop(), executor, fail, keep=False)
        gone, future = weakref.ref(job), job.start()
        del job
        await asyncio.wait([future])
        error = future.exception()
        assert isinstance(error, LookupError)
        del future
        await begin(executor, lambda: None)
        gc.collect()
        assert gone() is None

    on_asyncio(main)
