"""Motor's own classes for asyncio, with threads of its own for each client.

Motor for asyncio has one thread pool for all clients of a process, so that calls to a dead server
starve those to a healthy one, and the interpreter's exit waits for them all. What a client is
given as `io_loop` reaches each of its databases, collections and cursors: here that is the real
loop in all respects but that its threads are the client's.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from motor import motor_asyncio
from pymongo.errors import InvalidOperation

from .asyncio_job import AsyncioJob
from .session_order import in_session_order, tidies_up
from .threads import ClientExecutor, ExecutorClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_OURS: Final = frozenset(
    {"__class__", "__dict__", "_executor", "_loop", "create_future", "run_in_executor"}
)


class ClientLoop(asyncio.AbstractEventLoop):
    """An event loop as one client sees it: the real one, with the client's own threads.

    Motor asks for an `AbstractEventLoop`, and a loop of uvloop's cannot be subclassed. So nothing
    is listed here: whatever the real loop has is found there, and the base class only lends its
    name.

    Args:
        loop: the real one.
        executor: the client's threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, executor: ClientExecutor) -> None:
        self._loop = loop
        self._executor = executor

    def __getattribute__(self, name: str) -> Any:
        # Not `__getattr__`: the base class has every method of a loop already, each of which
        # raises NotImplementedError.
        if name in _OURS:
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_loop"), name)

    def __repr__(self) -> str:
        return f"<ClientLoop {self._executor.name!r} of {self._loop!r}>"

    def create_future(self) -> asyncio.Future[Any]:
        """A future that Motor completes itself, after several jobs: `to_list`, say.

        The executor is not quiet before that, although between two jobs no thread is at work: a
        client that is closed lets it finish.
        """
        future = self._loop.create_future()
        executor = self._executor
        executor.hold()
        future.add_done_callback(lambda _: executor.release())
        return future

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Begin `func` in one of the client's threads, whatever `executor` is.

        Errors of beginning it are in the future, too: Motor calls this from callbacks, where
        nothing would catch them.
        """
        del executor
        function, arguments, keywords = _called(func, args)
        call = functools.partial(func, *args)
        work = functools.partial(in_session_order, call, arguments, keywords)
        job = AsyncioJob(self._loop, self._executor, work, keep=tidies_up(function))
        try:
            return job.start()
        except ExecutorClosed:
            job.future.set_exception(InvalidOperation("Cannot use a client after close"))
        except RuntimeError as error:
            job.future.set_exception(error)
        return job.future


class AsyncIOMotorClientSession(motor_asyncio.AsyncIOMotorClientSession):
    """Motor's session, which ends in a thread when that means to talk to the server.

    Motor's own aborts an open transaction in the loop's thread: with a frozen server the whole
    loop would stand still.
    """

    # Motor's stubs take its properties for methods: hence `Any`.
    async def __aexit__(self: Any, exc_type: object, exc: object, traceback: object) -> None:
        """End the session."""
        del exc_type, exc, traceback
        if self.in_transaction:
            await self.end_session()
        else:
            self.delegate.end_session()


class AsyncIOMotorClient(motor_asyncio.AsyncIOMotorClient[dict[str, Any]]):
    """Motor's client, whose sessions are those above, and whose calls run in `executor`.

    Args:
        loop: the loop that its calls are awaited in.
        executor: the client's threads.
    """

    # Motor makes the classes of databases and collections anew for each module that a client's
    # class says it is from. They have to be the genuine ones.
    __module__ = motor_asyncio.__name__

    def __init__(
        self,
        url: str,
        *,
        loop: asyncio.AbstractEventLoop,
        executor: ClientExecutor,
        **options: Any,
    ) -> None:
        client_loop = ClientLoop(loop, executor)  # type: ignore[abstract]  # it has all, see there
        super().__init__(url, io_loop=client_loop, **options)

    def wrap(self, obj: Any) -> Any:
        """Motor's object for one of PyMongo's."""
        wrapped = super().wrap(obj)
        if type(wrapped) is motor_asyncio.AsyncIOMotorClientSession:
            return AsyncIOMotorClientSession(obj, self)
        return wrapped


def _called(
    func: Callable[..., object], args: tuple[Any, ...]
) -> tuple[object, tuple[Any, ...], dict[str, Any]]:
    """The PyMongo function that Motor wants called, and its arguments.

    Motor wraps it, to run in the caller's context, as `partial(context.run, function, *args, …)`.
    """
    if isinstance(func, functools.partial) and func.args:
        return func.args[0], (*func.args[1:], *args), func.keywords
    return func, args, {}
