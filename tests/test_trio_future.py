"""The future between driver threads and trio, and the framework functions that Motor calls."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import threading
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from moorings.providers import threads, trio_framework
from moorings.providers.threads import ClientExecutor
from moorings.providers.trio_future import JobFuture, StepsFuture, TrioFuture

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

PATIENCE = 30.0


@pytest.fixture
def executor() -> Iterator[ClientExecutor]:
    executor = ClientExecutor("tested", 1)
    yield executor
    executor.close()


class ByHand:
    """Awaits a coroutine object as an event loop would: by `send` and `throw`."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Any]:
        step, value = self._coroutine.send, None
        while True:
            try:
                trap = step(value)
            except StopIteration as stop:
                return stop.value
            try:
                step, value = self._coroutine.send, (yield trap)
            except BaseException as error:  # noqa: BLE001 - handed on
                step, value = self._coroutine.throw, error


async def test_a_result_set_before_or_while_waiting_is_what_every_waiter_gets() -> None:
    early: TrioFuture[int] = TrioFuture()
    early.set_result(1)
    early.set_result(2)  # too late
    assert await early == await early == early.result() == 1
    assert early.exception() is None
    late: TrioFuture[int] = TrioFuture()
    got: list[int] = []

    async def wait() -> None:
        got.append(await late)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        threading.Thread(target=late.set_result, args=(3,)).start()
    assert got == [3, 3]


async def test_an_error_is_raised_again_for_every_waiter_with_the_same_traceback() -> None:
    failed: TrioFuture[int] = TrioFuture()
    failed.set_exception(KeyError("lost"))
    lengths = []
    for _ in range(3):
        with pytest.raises(KeyError) as caught:
            await failed
        lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1
    assert isinstance(failed.exception(), KeyError)


async def test_states_show_in_the_repr_and_a_result_that_is_not_there_is_an_error() -> None:
    future: TrioFuture[int] = TrioFuture()
    assert repr(future) == "<TrioFuture pending>"
    assert not future.done()
    with pytest.raises(RuntimeError, match="no result yet"):
        future.result()
    with trio.move_on_after(0):
        await future
    assert not future.done()  # cancelled before it waited: nobody gave it up
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: future)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert future.done()
    assert repr(future) == "<TrioFuture abandoned>"
    with pytest.raises(RuntimeError, match="given up"):
        await future
    future.set_result(1)
    assert repr(future) == "<TrioFuture done>"
    failed: TrioFuture[int] = TrioFuture()
    failed.set_exception(KeyError())
    assert repr(failed) == "<TrioFuture failed>"


async def test_cancelling_one_of_two_waiters_disturbs_neither_the_other_nor_the_work() -> None:
    future: TrioFuture[int] = TrioFuture()
    got = []

    async def wait() -> None:
        got.append(await future)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        async with trio.open_nursery() as doomed:
            doomed.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            doomed.cancel_scope.cancel()
        assert not future.done()
        future.set_result(1)
    assert got == [1]


async def test_a_waiter_that_is_cancelled_as_the_result_arrives_is_woken_once() -> None:
    future: TrioFuture[int] = TrioFuture()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: future)
        await trio.testing.wait_all_tasks_blocked()
        future.set_result(1)  # the wake-up is on its way ...
        nursery.cancel_scope.cancel()  # ... and the task is taken off before it comes
    await trio.testing.wait_all_tasks_blocked()
    assert await future == 1


async def test_it_passes_for_a_coroutine() -> None:
    future: TrioFuture[int] = TrioFuture()
    assert isinstance(future, Coroutine)
    future.close()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: future)  # trio takes nothing else
        await trio.testing.wait_all_tasks_blocked()
        future.set_result(1)
    driven: TrioFuture[int] = TrioFuture()
    driven.set_result(2)
    assert await ByHand(driven) == 2
    cancelled: TrioFuture[int] = TrioFuture()
    with trio.move_on_after(0) as scope:
        await ByHand(cancelled)
    assert scope.cancelled_caught
    cancelled.close()
    with pytest.raises(KeyError):
        TrioFuture[int]().throw(KeyError("from outside"))


async def test_callbacks_come_at_completion_or_at_once_after_it() -> None:
    future: TrioFuture[int] = TrioFuture()
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    assert seen == []
    future.set_result(1)
    future.add_done_callback(seen.append)
    assert seen == [future, future]


async def test_a_wait_in_a_trio_run_that_has_ended_is_forgotten() -> None:
    """A guest run that its host forgot never unwinds: its tasks are never woken again."""
    future: TrioFuture[int] = TrioFuture()
    tokens = []

    async def token() -> None:
        tokens.append(trio.lowlevel.current_trio_token())

    await trio.to_thread.run_sync(trio.run, token)
    future._waiters[trio.lowlevel.current_task()] = tokens[0]
    future.set_result(1)
    assert not future._waiters


async def test_work_that_raises_gives_the_error_to_the_waiter(executor: ClientExecutor) -> None:
    def work() -> None:
        raise KeyError("lost")

    future = JobFuture(executor, work, keep=False)
    future.start()
    with pytest.raises(KeyError):
        await future


@pytest.mark.parametrize("fails", [False, True])
async def test_a_call_is_gone_when_nobody_holds_it(
    *, fails: bool, executor: ClientExecutor
) -> None:
    """No reference cycle keeps it, and its result, until the garbage collector comes by."""

    def work() -> None:
        if fails:
            raise KeyError("lost")

    ghosts: list[weakref.ref[TrioFuture[None]]] = []

    def begin() -> TrioFuture[None]:
        future = trio_framework.run_on_executor(executor, work)
        ghosts.append(weakref.ref(future))
        return future

    async def call() -> None:
        with contextlib.suppress(KeyError):
            await begin()

    gc.disable()
    try:
        await call()
        while executor.statistics().busy:
            await trio.lowlevel.checkpoint()
        assert ghosts[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["end_session", "find_one"])
async def test_tidying_stays_in_the_queue_when_its_waiter_is_cancelled(
    name: str, executor: ClientExecutor
) -> None:
    release, ran = threading.Event(), threading.Event()
    executor.submit(lambda: release.wait(PATIENCE) and None)

    def work() -> None:
        ran.set()

    work.__name__ = name
    future = trio_framework.run_on_executor(executor, work)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: future)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    release.set()
    if name == "end_session":
        await future
        assert ran.is_set()
    else:
        await trio_framework.run_on_executor(executor, print, end="")
        assert not ran.is_set()


async def test_a_system_without_threads_fails_the_call_and_not_the_caller(
    executor: ClientExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(_worker: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads._Worker, "start", no_thread)
    future = trio_framework.run_on_executor(executor, print)
    with pytest.raises(RuntimeError, match="new thread"):
        await future


async def test_callbacks_run_in_trios_thread_and_in_the_context_of_who_chained_them(
    executor: ClientExecutor,
) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("mine")
    seen: TrioFuture[Any] = TrioFuture()

    def callback(extra: str, done: TrioFuture[str]) -> None:
        seen.set_result((extra, done.result(), variable.get(), threading.current_thread()))

    call = trio_framework.run_on_executor(executor, variable.get)
    trio_framework.add_future(executor, call, callback, "extra")
    variable.set("another's")
    assert await seen == ("extra", "mine", "mine", threading.current_thread())


async def test_a_callback_that_fails_is_logged_and_ends_nothing(
    executor: ClientExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    called = trio.Event()

    def callback(*, bad: bool) -> None:
        called.set()
        if bad:
            raise KeyError("a user's bug")

    trio_framework.call_soon(executor, callback, bad=True)
    await called.wait()
    assert "callback failed" in caplog.text


async def test_chains_hand_on_results_and_errors(executor: ClientExecutor) -> None:
    first, second, failed = (TrioFuture[Any]() for _ in range(3))
    trio_framework.chain_future(first, second)
    value = trio_framework.chain_return_value(first, executor, "instead")
    error = trio_framework.chain_return_value(failed, executor, "instead")
    first.set_result("own")
    failed.set_exception(KeyError())
    assert (await second, await value) == ("own", "instead")
    with pytest.raises(KeyError):
        await error


async def test_the_rest_of_motors_framework_interface() -> None:
    loop = trio_framework.get_event_loop()
    assert loop.limit == trio_framework.DEFAULT_THREADS
    future = trio_framework.get_future(loop)
    assert trio_framework.is_future(future)
    assert not trio_framework.is_future(loop)
    future.set_result(1)

    class Yielding:
        def __await__(self) -> Generator[Any, Any, int]:
            return (yield from trio_framework.yieldable(future))

    assert await Yielding() == 1
    assert trio_framework.platform_info() == f"trio {trio.__version__}"


# Several jobs


async def test_an_operation_of_several_jobs_is_under_way_until_it_ends_or_is_given_up() -> None:
    executor = ClientExecutor("test", 1)
    completed: StepsFuture[int] = StepsFuture(executor)
    abandoned: StepsFuture[int] = StepsFuture(executor)
    completed.set_result(1)
    assert not executor.wait_quiet(0.0)
    with trio.move_on_after(0.01):
        await abandoned
    assert executor.wait_quiet(0.0)
    abandoned.set_result(1)  # its last job ends all the same, and is not counted twice
    assert executor.wait_quiet(0.0)
    executor.close()
