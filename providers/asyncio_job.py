"""Work in a client's threads, awaited in asyncio.

What `loop.run_in_executor` does, for a `ClientExecutor`: asyncio's own accepts nothing but an
executor from `concurrent.futures`, whose threads the interpreter's exit waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .threads import ClientExecutor

T = TypeVar("T")


class AsyncioJob(Generic[T]):
    """One piece of work and the future of its result.

    Cancelling the future frees whoever waits at once. Work that is still queued is then taken
    back: a backlog that nobody waits for must not hit a server that has just recovered. Work that
    has begun goes on, and so does all that `keep` says.

    Args:
        loop: whose future it is; a job is begun in that loop's thread.
        executor: runs the work.
        work: what to run.
        keep: never take it back.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        executor: ClientExecutor,
        work: Callable[[], T],
        *,
        keep: bool,
    ) -> None:
        self.future: asyncio.Future[T] = loop.create_future()
        self._loop = loop
        self._executor = executor
        self._work: Callable[[], T] | None = work
        self._keep = keep

    def start(self) -> asyncio.Future[T]:
        """Queue the work, and return the future.

        Raises:
            ExecutorClosed: the executor takes no more work.
            RuntimeError: the system gave us no thread.
        """
        self._executor.submit(self._run)
        if not self._keep:
            self.future.add_done_callback(self._take_back)
        return self.future

    def _take_back(self, future: asyncio.Future[T]) -> None:
        if future.cancelled():
            self._executor.withdraw(self._run)

    def _run(self) -> None:
        work, self._work = self._work, None
        assert work is not None  # noqa: S101 - an invariant: an executor runs a job once
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the waiter
            self._soon(self._fail, error)
        else:
            self._soon(self._succeed, result)
        finally:
            # An error's traceback holds this frame: whoever keeps the error must not keep us.
            del self, work

    def _soon(self, end: Callable[[Any], None], what: object) -> None:
        try:
            self._loop.call_soon_threadsafe(end, what)
        except RuntimeError:
            # The loop was closed while a thread was at work. Whoever waited is gone with it.
            return

    def _succeed(self, result: T) -> None:
        if not self.future.done():
            self.future.set_result(result)

    def _fail(self, error: BaseException) -> None:
        if self.future.done():
            return
        if isinstance(error, StopIteration):
            # No future takes one: it would end the generator that awaits it.
            error, cause = RuntimeError("a call in a thread raised StopIteration"), error
            error.__cause__ = cause
        self.future.set_exception(error)
