"""Motor's documented framework interface, for trio.

Motor calls the module-level functions below by name. Its `io_loop`, which every database,
collection and cursor inherits from its client, is here the client's `ClientExecutor`: that is how
an executor per client reaches each call.

What Motor needs to hold:

* `run_on_executor` starts the work at once: `to_list`, `aggregate` and GridFS chain callbacks to
  it and never await it.
* Callbacks run in trio's thread, in the context of whoever chained them (`pymongo.timeout`).
* trio is found anew for every wait and every callback, so a client may outlive one `trio.run`.
"""

from __future__ import annotations

import contextvars
import functools
import logging
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import trio
from pymongo.errors import InvalidOperation

from .session_order import in_session_order, tidies_up
from .threads import ClientExecutor, ExecutorClosed
from .trio_future import JobFuture, StepsFuture, TrioFuture

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

_log = logging.getLogger("moorings.providers")

T = TypeVar("T")
P = ParamSpec("P")

CLASS_PREFIX: Final = "Trio"

DEFAULT_THREADS: Final = 64


def is_event_loop(loop: object) -> bool:
    """Whether `loop` is what this framework takes for one."""
    return isinstance(loop, ClientExecutor)


def check_event_loop(loop: object) -> None:
    """Refuse anything else as `io_loop`.

    Raises:
        TypeError: it is not a `ClientExecutor`.
    """
    if not is_event_loop(loop):
        raise TypeError(f"io_loop must be a ClientExecutor, not {loop!r}")


def get_event_loop() -> ClientExecutor:
    """An executor for a client that was made without one."""
    return ClientExecutor("mongo", DEFAULT_THREADS)


def get_future(loop: ClientExecutor) -> TrioFuture[Any]:
    """A future that Motor completes itself."""
    return StepsFuture(loop)


def run_on_executor(
    loop: ClientExecutor, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> TrioFuture[T]:
    """Start `fn` in a thread, in a copy of the caller's context."""
    context = contextvars.copy_context()
    call = functools.partial(fn, *args, **kwargs)
    work = functools.partial(context.run, in_session_order, call, args, kwargs)
    future: JobFuture[T] = JobFuture(loop, work, keep=tidies_up(fn))
    try:
        future.start()
    except ExecutorClosed:
        # In the future and not at once: Motor calls this from callbacks, where nothing catches it.
        future.set_exception(InvalidOperation("Cannot use a client after close"))
    except RuntimeError as error:
        future.set_exception(error)
    return future


def add_future(
    loop: ClientExecutor, future: TrioFuture[T], callback: Callable[..., object], *args: object
) -> None:
    """Call `callback(*args, future)` in trio's thread, when `future` is done."""
    del loop
    token = trio.lowlevel.current_trio_token()
    context = contextvars.copy_context()
    call = functools.partial(context.run, _guarded, callback, *args, future)
    future.add_done_callback(lambda _future: run_sync_soon(token, call))


def chain_future(a: TrioFuture[T], b: TrioFuture[T]) -> None:
    """Let `b` end as `a` does."""
    a.add_done_callback(b.copy_from)


def chain_return_value(future: TrioFuture[Any], loop: ClientExecutor, value: T) -> TrioFuture[T]:
    """A future that ends when `future` does, with `value` if that was a success."""
    del loop
    chained: TrioFuture[T] = TrioFuture()

    def copy(done: TrioFuture[Any]) -> None:
        error = done.exception()
        if error is not None:
            chained.set_exception(error)
        else:
            chained.set_result(value)

    future.add_done_callback(copy)
    return chained


def is_future(f: object) -> bool:
    """Whether `f` is one of ours."""
    return isinstance(f, TrioFuture)


def call_soon(
    loop: ClientExecutor, callback: Callable[..., object], *args: object, **kwargs: object
) -> None:
    """Call `callback` in trio's thread, in its next turn."""
    del loop
    call = functools.partial(_guarded, callback, *args, **kwargs)
    run_sync_soon(trio.lowlevel.current_trio_token(), call)


def pymongo_class_wrapper(
    f: Callable[..., Awaitable[Any]], pymongo_class: type
) -> Callable[..., Awaitable[Any]]:
    """Wrap the result of the method `f` in Motor's class when it is a `pymongo_class`."""

    @functools.wraps(f)
    async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = await f(self, *args, **kwargs)
        # The exact class: a subclass is not ours to wrap. (Motor's own rule.)
        return self.wrap(result) if result.__class__ is pymongo_class else result

    return wrapper


def yieldable(future: TrioFuture[T]) -> Generator[Any, Any, T]:
    """What a generator-based coroutine would yield from."""
    return future.__await__()


def platform_info() -> str:
    """For the handshake that the server logs."""
    return f"trio {trio.__version__}"


def run_sync_soon(token: trio.lowlevel.TrioToken, call: Callable[[], object]) -> None:
    """Call in trio's thread, from any thread; nothing happens when that trio has ended."""
    try:
        token.run_sync_soon(call)
    except trio.RunFinishedError:
        # The run was left while a thread was at work. Whoever waited is gone with it.
        return


def _guarded(callback: Callable[..., object], *args: object, **kwargs: object) -> None:
    """An error here would end the whole trio run. Motor's callbacks raise none; users' may."""
    try:
        callback(*args, **kwargs)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("a cursor's callback failed")
