"""The three ways to a MongoDB: Motor on trio, Motor on asyncio, PyMongo on asyncio.

For tests that go through `open_connections`. The asyncio ones are among the slow tests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest
import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


@dataclass(frozen=True)
class Stack:
    """A backend, and the host that runs it."""

    backend: str
    host: str

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """`main()` in that host."""
        return trio.run(main) if self.host == "trio" else asyncio.run(main())


STACKS: Final = (
    pytest.param(Stack("mongo", "trio"), id="motor-trio"),
    pytest.param(Stack("mongo", "asyncio"), id="motor-asyncio", marks=pytest.mark.slow),
    pytest.param(Stack("pymongo", "asyncio"), id="pymongo-asyncio", marks=pytest.mark.slow),
)
