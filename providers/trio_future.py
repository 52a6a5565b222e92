"""A future between driver threads and trio tasks.

Completed once, from any thread; awaited by any number of tasks, any number of times, in any
`trio.run`. It counts as a coroutine, so that `nursery.start_soon(collection.find_one, {...})`
works with methods that return one.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import trio
from trio.lowlevel import Abort, Task, TrioToken

if TYPE_CHECKING:
    from types import TracebackType

    from .threads import ClientExecutor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Success(Generic[T]):
    value: T

    def unwrap(self) -> T:
        return self.value


@dataclass(frozen=True, slots=True)
class _Failure:
    error: BaseException
    traceback: TracebackType | None

    def unwrap(self) -> NoReturn:
        try:
            # The thread's own traceback: else it would grow with every waiter.
            raise self.error.with_traceback(self.traceback)
        finally:
            del self  # see `TrioFuture.result`


class TrioFuture(Coroutine[Any, Any, T], Generic[T]):
    """A result that is yet to come.

    Awaiting it is a checkpoint. Cancelling a task that waits frees the task and nobody else; when
    it was the only one, the future is abandoned, so that work in several steps stops at the next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcome: _Success[T] | _Failure | None = None
        self._callbacks: list[Callable[[TrioFuture[T]], object]] = []
        self._waiters: dict[Task, TrioToken] = {}
        self._abandoned = False
        self._coroutine: Coroutine[Any, Any, T] | None = None

    def __repr__(self) -> str:
        match self._outcome:
            case None:
                state = "abandoned" if self._abandoned else "pending"
            case _Failure():
                state = "failed"
            case _:
                state = "done"
        return f"<{type(self).__name__} {state}>"

    def done(self) -> bool:
        """Whether there is nothing left to do: completed, or nobody wants it any more."""
        return self._outcome is not None or self._abandoned

    def result(self) -> T:
        """The result, or the error raised; only when completed."""
        done = self._completed()
        try:
            return done.unwrap()
        finally:
            # Here and below: an error's traceback holds the frames it came through, and a frame
            # its names. Whoever keeps the error must not keep us, in a cycle at that.
            del self, done

    def exception(self) -> BaseException | None:
        """The error, if it was one; only when completed."""
        done = self._completed()
        return done.error if isinstance(done, _Failure) else None

    def set_result(self, result: T) -> None:
        """Complete it, from any thread. Without effect when it is completed already."""
        self._complete(_Success(result))

    def set_exception(self, error: BaseException) -> None:
        """Complete it with an error, from any thread."""
        self._complete(_Failure(error, error.__traceback__))

    def copy_from(self, other: TrioFuture[T]) -> None:
        """Complete it as `other` was."""
        self._complete(other._completed())

    def add_done_callback(self, callback: Callable[[TrioFuture[T]], object]) -> None:
        """Call `callback(self)` on completion, in whatever thread that happens; now if it has."""
        with self._lock:
            if self._outcome is None:
                self._callbacks.append(callback)
                return
        callback(self)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    # The rest of the coroutine protocol: for whoever drives this object by hand.

    def send(self, value: Any, /) -> Any:
        """Drive it as a coroutine."""
        return self._driven().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise within it, as in a coroutine."""
        return self._driven().throw(*error)

    def close(self) -> None:
        """Let go of it, as of a coroutine. The work goes on."""
        if self._coroutine is not None:
            self._coroutine.close()

    def _driven(self) -> Coroutine[Any, Any, T]:
        if self._coroutine is None:
            self._coroutine = self._wait()
        return self._coroutine

    def _completed(self) -> _Success[T] | _Failure:
        if self._outcome is None:
            raise RuntimeError(f"{self!r} has no result yet")
        return self._outcome

    def _complete(self, result: _Success[T] | _Failure) -> None:
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = result
            callbacks, self._callbacks = self._callbacks, []
            # A copy: who waits is taken off in trio's thread alone, see `_wake`.
            waiters = list(self._waiters.items())
        for task, token in waiters:
            self._wake_soon(task, token)
        for callback in callbacks:
            callback(self)

    def _wake_soon(self, task: Task, token: TrioToken) -> None:
        try:
            token.run_sync_soon(self._wake, task)
        except trio.RunFinishedError:
            # That run was left meanwhile, and its tasks with it.
            with self._lock:
                self._waiters.pop(task, None)

    def _wake(self, task: Task) -> None:
        # Cancellation removes a task in this same thread, so one that is still here is parked.
        with self._lock:
            waiting = self._waiters.pop(task, None) is not None
        if waiting:
            trio.lowlevel.reschedule(task)

    async def _wait(self) -> T:
        task = trio.lowlevel.current_task()
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self._park(task, trio.lowlevel.current_trio_token()):
                await trio.lowlevel.wait_task_rescheduled(functools.partial(self._abort, task))
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
            return self.result()
        finally:
            del self, task

    def _park(self, task: Task, token: TrioToken) -> bool:
        """Enter `task` as waiting; False when there is nothing to wait for."""
        with self._lock:
            if self._outcome is not None:
                return False
            self._resume()
            self._waiters[task] = token
            return True

    def _abort(self, task: Task, _raise_cancel: Callable[[], NoReturn]) -> Abort:
        with self._lock:
            self._waiters.pop(task, None)
            if not self._waiters and self._outcome is None:
                self._abandon()
        return Abort.SUCCEEDED

    def _abandon(self) -> None:
        """The last waiter is gone. Called with the lock held."""
        self._abandoned = True

    def _resume(self) -> None:
        """There is a waiter (again). Called with the lock held."""
        if self._abandoned:
            raise RuntimeError("this call was given up when the task that waited was cancelled")


class StepsFuture(TrioFuture[T]):
    """The result of several jobs, one after the other: `to_list`, say.

    Its executor is not quiet before it is completed or given up, although between two jobs no
    thread is at work: a client that is closed lets it finish.

    Args:
        executor: runs the jobs.
    """

    def __init__(self, executor: ClientExecutor) -> None:
        super().__init__()
        self._executor: ClientExecutor | None = executor
        executor.hold()
        self.add_done_callback(lambda _: self._release())

    def _release(self) -> None:
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.release()

    def _abandon(self) -> None:
        super()._abandon()
        self._release()


class JobFuture(TrioFuture[T]):
    """The result of work in an executor's thread.

    When its only waiter is cancelled while the work is still queued, the work is taken back: a
    backlog that nobody waits for must not hit a server that has just recovered. Work that has
    begun goes on, and so does all that `keep` says.

    Args:
        executor: runs the work.
        work: what to run.
        keep: never take it back.
    """

    def __init__(self, executor: ClientExecutor, work: Callable[[], T], *, keep: bool) -> None:
        super().__init__()
        self._executor = executor
        self._work: Callable[[], T] | None = work
        self._keep = keep
        self._withdrawn = False

    def start(self) -> None:
        """Queue the work."""
        self._executor.submit(self._run)

    def _run(self) -> None:
        work, self._work = self._work, None
        assert work is not None  # noqa: S101 - an invariant: an executor runs a job once
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the waiter
            self.set_exception(error)
        else:
            self.set_result(result)
        finally:
            del self, work

    def _abandon(self) -> None:
        # Somebody who chained a callback still wants it.
        if not self._keep and not self._callbacks:
            self._withdrawn = self._executor.withdraw(self._run)

    def _resume(self) -> None:
        if self._withdrawn:
            self._withdrawn = False
            self.start()
