"""What calls that run in threads owe to the session they belong to.

A session is not thread-safe. Its owner uses it in order, but a cancelled call goes on in its
thread while the owner's `async with` already aborts: each call has to wait for the last.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from pymongo.client_session import ClientSession
from pymongo.command_cursor import CommandCursor
from pymongo.cursor import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_TIDYING: Final = frozenset({"__exit__", "abort", "abort_transaction", "close", "end_session"})

_locks: WeakKeyDictionary[ClientSession, threading.Lock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def tidies_up(function: object) -> bool:
    """Whether a call of `function` runs even when nobody waits for it any more.

    A cancelled task's last calls are such: they must not vanish from the queue together with it.
    """
    return getattr(function, "__name__", "") in _TIDYING


def in_session_order(call: Callable[[], T], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> T:
    """Run `call`, a PyMongo call with these arguments, after its session's earlier ones."""
    session = _session_of(args, kwargs)
    if session is None:
        return call()
    with _locks_guard:
        lock = _locks.setdefault(session, threading.Lock())
    with lock:
        return call()


def _session_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> ClientSession | None:
    """The explicit session of a PyMongo call: passed, called, or behind the cursor it is for."""
    if isinstance(session := kwargs.get("session"), ClientSession):
        return session
    for argument in args:
        if isinstance(argument, ClientSession):
            return argument
    if args and isinstance(args[0], Cursor | CommandCursor):
        return args[0].session
    return None
